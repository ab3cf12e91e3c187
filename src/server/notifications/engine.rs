//! NOTIFYs without tm (`notify_engine`): which may go out so, how they are written, and what becomes of their answers.
use crate::common::counters::{Counter, count};
use crate::host::datagram::{self, Datagram};
use crate::host::direct::{self, Destination, Onlooker};
use crate::host::msg::SipMsg;
use crate::host::no_memory::NoMemory;
use crate::host::shared_bytes::SharedBytes;
use crate::host::shm::{self, ShmBox};
use crate::host::tm::{Completed, TransactionOutcome};
use crate::host::{clock, script};
use crate::log;
use crate::presence::config::NotifyEngine;
use crate::presence::subscription::Subscription;
use crate::presence::subscription::field::Field;
use crate::server::notifications::joined_writes::JoinedWrites;
use crate::server::notifications::transactions::{Answered, Transactions};
use crate::server::notifications::under_way::UnderWay;
use crate::shm_safe::shm_safe;
use crate::sip::answer::{self, Success};
use crate::sip::branch::{Branch, BranchOrigin, BranchSecret, TransactionKey};
use crate::sip::client_transaction::{ClientTransaction, Reliability, Timers, TransportError};
use crate::sip::request::{Head, Lines};
use crate::sip::sane_answer::is_sane;
use crate::sip::target::{Carrier, NextHop, Target};
use crate::time::{MicroTick, MilliTick};
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is kept of a NOTIFY until it is answered.
pub struct Pending {
    head: ShmBox<[u8]>,
    lines: Lines,
    /// Shared with the other NOTIFYs of the same change.
    body: Option<SharedBytes>,
    destination: Destination,
    /// What the answer is noted under.
    under_way: UnderWay,
}

shm_safe!(Pending { head, lines, body, destination, under_way });

/// What a NOTIFY shows its watcher.
#[derive(Clone, Copy)]
pub struct Content<'a> {
    /// Header lines, each ending in CRLF.
    pub headers: &'a [u8],
    /// The body; `None` sends none.
    pub body: Option<&'a [u8]>,
}

impl Pending {
    /// What tm would call a completed transaction, and what it has carried.
    pub fn completed<'a>(&'a self, outcome: TransactionOutcome<'a>) -> (Completed<'a>, UnderWay) {
        (Completed::without_tm(&self.head, self.lines.of_dialog(), outcome), self.under_way)
    }

    /// How many bytes the request has.
    fn len(&self) -> usize {
        self.head.len() + self.body.as_deref().map_or(0, <[u8]>::len)
    }

    /// The whole request.
    fn request(&self) -> Vec<u8> {
        [&self.head[..], self.body.as_deref().unwrap_or_default()].concat()
    }
}

/// The NOTIFYs of all processes that are under way without tm.
pub struct Engine {
    mode: NotifyEngine,
    secret: BranchSecret,
    transactions: Transactions<Pending>,
    /// Whether the configuration leaves all NOTIFYs to tm.
    is_off: AtomicBool,
    /// Whether something that comes and goes watches tm's requests, as was last said in the log.
    is_watched: AtomicBool,
    /// Whether the configuration checks each answer, so that only sane ones are taken from their datagrams.
    answers_are_checked: AtomicBool,
}

shm_safe!(Engine { mode, secret, transactions, is_off, is_watched, answers_are_checked });

impl Engine {
    /// Makes an engine with free slots, where tm serves; call before the processes fork.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn new(mode: NotifyEngine, slots: usize) -> Result<Engine, NoMemory> {
        let mut secret = [0; 16];
        clock::random(&mut secret);
        let half = |at: usize| secret[at..at + 8].iter().fold(0, |number, byte| (number << 8) | u64::from(*byte));
        Ok(Engine {
            mode,
            secret: BranchSecret([half(0), half(8)]),
            transactions: Transactions::new(if mode == NotifyEngine::Tm { 0 } else { slots })?,
            is_off: AtomicBool::new(true),
            is_watched: AtomicBool::new(false),
            answers_are_checked: AtomicBool::new(false),
        })
    }

    /// Chooses who serves, and says so in the log; call once the configuration was read, before the processes fork.
    pub fn choose(&self, notify_reply: Option<script::EventRoute>, slots: usize) {
        let mode = String::from_utf8_lossy(self.mode.name());
        if self.mode == NotifyEngine::Tm {
            return;
        }
        let reason = if !direct::load() {
            Some("this tm does not show its settings")
        } else if notify_reply.is_some_and(|route| route.exists()) {
            Some("event_route[presence:notify-reply] is run on tm's transactions")
        } else if slots == 0 {
            Some("notify_slots is 0")
        } else {
            None
        };
        if let Some(reason) = reason {
            return log!(Notice, "NOTIFYs go out through tm: {reason} (notify_engine {mode})");
        }
        match (Onlooker::find(), self.mode) {
            (Some(onlooker), NotifyEngine::Auto) => {
                // One that may come and go is looked for at each NOTIFY.
                self.is_off.store(!onlooker.is_passing(), Ordering::Relaxed);
                self.is_watched.store(onlooker.is_passing(), Ordering::Relaxed);
                return log!(Notice, "NOTIFYs go out through tm: {} sees them (notify_engine {mode})", onlooker.name());
            }
            (Some(onlooker), _) => {
                let name = onlooker.name();
                log!(Warn, "NOTIFYs go out without tm, and {name} does not see them (notify_engine {mode})");
            }
            (None, _) => log!(Notice, "NOTIFYs to addresses go out without tm (notify_engine {mode})"),
        }
        self.is_off.store(false, Ordering::Relaxed);
    }

    /// Whether NOTIFYs may go out without tm at some time.
    pub fn may_serve(&self) -> bool {
        !self.is_off.load(Ordering::Relaxed)
    }

    /// Has the host show datagrams to `take`, unless something of the configuration would miss the messages that are
    /// not made of answers then, and says so in the log; call it after [`Engine::choose`].
    pub fn choose_datagrams(&self, take: datagram::DatagramCallback) {
        if !self.may_serve() {
            return;
        }
        let are_checked = datagram::needs_sane_answers();
        self.answers_are_checked.store(are_checked, Ordering::Relaxed);
        match datagram::onlooker() {
            Some(onlooker) => log!(Info, "answers to NOTIFYs without tm are read as messages: {onlooker} sees them"),
            None if !datagram::take(take) => {
                log!(
                    Info,
                    "answers to NOTIFYs without tm are read as messages: another module is shown datagrams first"
                )
            }
            None => {
                let which = if are_checked { " where the sanity_check of reply_route passes them" } else { "" };
                log!(Info, "2xx to NOTIFYs without tm are taken before a message is made of them{which}")
            }
        }
    }

    /// How many NOTIFYs are under way without tm.
    pub fn under_way(&self) -> usize {
        self.transactions.under_way()
    }

    /// Whether NOTIFYs may go out without tm now.
    fn serves(&self) -> bool {
        if self.is_off.load(Ordering::Relaxed) {
            return false;
        }
        if self.mode == NotifyEngine::Direct {
            return true;
        }
        let onlooker = Onlooker::passing();
        if onlooker.is_some() != self.is_watched.load(Ordering::Relaxed) {
            self.note_watched(onlooker);
        }
        onlooker.is_none()
    }

    #[cold]
    fn note_watched(&self, onlooker: Option<Onlooker>) {
        if self.is_watched.swap(onlooker.is_some(), Ordering::Relaxed) == onlooker.is_some() {
            return;
        }
        match onlooker {
            Some(onlooker) => {
                log!(
                    Notice,
                    "NOTIFYs go out through tm from now on: {} sees them (notify_engine auto)",
                    onlooker.name()
                )
            }
            None => log!(Notice, "NOTIFYs to addresses go out without tm from now on (notify_engine auto)"),
        }
    }

    /// Sends a NOTIFY to the target of its subscription; `under_way` comes back with its answer. `false`: it has not
    /// been sent, and tm has to.
    pub fn send(&self, subscription: &Subscription, hop: NextHop, content: Content<'_>, under_way: UnderWay) -> bool {
        let Some(target) = target_of(subscription, hop).filter(|_| self.serves()) else { return false };
        let send = |scratch: &mut Scratch| self.send_with(scratch, subscription, content, &target, under_way);
        SCRATCH.with_borrow_mut(send).is_some()
    }

    fn send_with(
        &self,
        scratch: &mut Scratch,
        subscription: &Subscription,
        content: Content<'_>,
        target: &Target<'_>,
        under_way: UnderWay,
    ) -> Option<()> {
        let destination = Destination::of(target.address, target.carrier as u8, subscription.get(Field::Socket))?;
        let Some(claim) = self.transactions.claim() else {
            count(Counter::NotifySlotsFull);
            return None;
        };
        let key = claim.key();
        let lines = scratch.write(subscription, content, &target.request_uri, &destination, self.secret.branch(key))?;
        let head = shm::copy(&scratch.text).ok()?;
        let body = match content.body {
            Some(body) => Some(scratch.share(body)?),
            None => None,
        };
        let now = MilliTick::from(under_way.sent_at);
        let reliability = match target.carrier {
            Carrier::Udp => Reliability::Unreliable,
            _ => Reliability::Reliable,
        };
        let transaction = ClientTransaction::start(now, timers(), reliability);
        let pending = || Pending { head, lines, body, destination: destination.clone(), under_way };
        if !claim.start(transaction, pending, now) {
            return None;
        }
        // It can be answered by now.
        scratch.text.extend_from_slice(content.body.unwrap_or_default());
        if reliability == Reliability::Reliable && scratch.joined.is_open && destination.joins() {
            scratch.joined.push(&destination, &scratch.text);
            return Some(());
        }
        if destination.send(&scratch.text).is_err() {
            count(Counter::NotifyTransportErrors);
            // What a connection does not take is tm's to send, unless it was answered all the same; what the network
            // does not take is tried once more when timer E fires, as by tm.
            let taken_back = || self.transactions.answer(key, TAKEN_BACK, now, |_| (), |_, _| ());
            if reliability == Reliability::Reliable && taken_back() == Answered::Final {
                return None;
            }
        }
        Some(())
    }

    /// The NOTIFYs that follow may go out together, several to one connection in a write, until [`Engine::part`].
    pub fn join(&self) {
        SCRATCH.with_borrow_mut(|scratch| scratch.joined.is_open = true);
    }

    /// Sends what has been joined.
    pub fn part(&self) {
        SCRATCH.with_borrow_mut(|scratch| scratch.joined.part());
    }

    /// Looks at a reply of the network. `false`: it is none to a NOTIFY of ours, and others look at it. `completed` is
    /// given what has its final answer, the status, and the time.
    pub fn receive(&self, reply: SipMsg<'_>, completed: impl FnOnce(&Pending, u16, MicroTick)) -> bool {
        if self.is_off.load(Ordering::Relaxed) {
            return false;
        }
        let Some((branch, status)) = direct::branch_and_status(reply) else { return false };
        let key = match self.secret.origin(branch) {
            BranchOrigin::Foreign => return false,
            BranchOrigin::Ours(key) if direct::answers_notify(reply) => key,
            BranchOrigin::Ours(_) | BranchOrigin::Forged => {
                count(Counter::NotifyAnswersForeign);
                return false;
            }
        };
        self.answered(key, status, |destination| destination.sent(reply), completed);
        true
    }

    /// Looks at a datagram before the host makes a message of it. `false`: it is no plain 2xx to a NOTIFY of ours, and
    /// the host goes on with it. `completed` is given what has its final answer, the status, and the time.
    pub fn receive_datagram(&self, datagram: Datagram<'_>, completed: impl FnOnce(&Pending, u16, MicroTick)) -> bool {
        let Some(Success { status, branch }) = answer::success_to_notify(datagram.text()) else { return false };
        let BranchOrigin::Ours(key) = self.secret.origin(branch) else { return false };
        let is_refused = || self.answers_are_checked.load(Ordering::Relaxed) && !is_sane(datagram.text());
        if datagram::is_watched() || is_refused() {
            return false;
        }
        datagram::count();
        count(Counter::NotifyAnswersEarly);
        self.answered(key, status, |destination| datagram.is_from(destination), completed);
        true
    }

    /// An answer to the transaction of this key. A peer may answer from another address (RFC 3261 17.1.3 asks for the
    /// branch alone): that is counted.
    fn answered(
        &self,
        key: TransactionKey,
        status: u16,
        is_from: impl FnOnce(&Destination) -> bool,
        completed: impl FnOnce(&Pending, u16, MicroTick),
    ) {
        let (mut is_elsewhere, now) = (false, clock::micro_tick());
        let seen = |pending: &Pending| is_elsewhere = !is_from(&pending.destination);
        let over = |pending: &Pending, _| completed(pending, status, now);
        let answered = self.transactions.answer(key, status, now.into(), seen, over);
        if is_elsewhere {
            count(Counter::NotifyAnswersElsewhere);
        }
        match answered {
            Answered::Final | Answered::Provisional => {}
            Answered::Late | Answered::Busy => count(Counter::NotifyAnswersLate),
        }
    }

    /// Sends again what has not been answered: a turn of the wheel.
    pub fn resend(&self) {
        let copy = |pending: &Pending| (pending.destination.clone(), pending.request());
        self.transactions.turn(clock::milli_tick(), copy, |(destination, request)| {
            count(Counter::NotifyResent);
            destination.send(&request).map_err(|errno| {
                count(Counter::NotifyTransportErrors);
                TransportError(errno)
            })
        });
    }

    /// Takes the NOTIFYs that were not answered in time or could not be sent, with what they have come to.
    pub fn take_timed_out(&self, mut each: impl FnMut(&Pending, TransactionOutcome<'_>)) {
        self.transactions.take_timed_out(clock::milli_tick(), |pending, failed| {
            let unsent = |why: TransportError| TransactionOutcome::Unsent { errno: why.0, bytes: pending.len() };
            each(pending, failed.map_or(TransactionOutcome::Silence, unsent));
        });
    }
}

/// tm's timers, as they are now.
fn timers() -> Timers {
    let direct::TimerSettings { retr_timer1, retr_timer2, fr_timer } = direct::timer_settings();
    Timers { t1: retr_timer1, t2: retr_timer2, timeout: fr_timer }
}

/// Where the NOTIFYs of a subscription go that need nothing of what tm does and this does not: a route set, a name to
/// look up, a connection to be opened, a tag that is still to be made.
fn target_of(subscription: &Subscription, hop: NextHop) -> Option<Target<'_>> {
    hop.target(subscription.get(Field::Contact)).filter(|_| !subscription.get(Field::ToTag).is_empty())
}

/// The status that ends a transaction whose request nobody was sent.
const TAKEN_BACK: u16 = 699;

/// What a process uses again for each NOTIFY.
#[derive(Default)]
struct Scratch {
    text: Vec<u8>,
    /// The body of the last NOTIFY: those of one change are the same.
    body: Option<SharedBytes>,
    joined: JoinedWrites,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Scratch {
    fn write(
        &mut self,
        subscription: &Subscription,
        content: Content<'_>,
        request_uri: &[u8],
        destination: &Destination,
        branch: Branch,
    ) -> Option<Lines> {
        self.text.clear();
        destination.with_via(|before, behind| {
            let head = Head {
                request_uri,
                via: (before, behind),
                branch: branch.bytes(),
                to: subscription.remote_uri(),
                to_tag: subscription.get(Field::FromTag),
                from: subscription.local_uri(),
                from_tag: subscription.get(Field::ToTag),
                cseq: subscription.state.local_cseq + 1,
                call_id: subscription.get(Field::CallId),
                signature: direct::signature(),
                headers: content.headers,
                content_length: content.body.map_or(0, <[u8]>::len),
            };
            head.write(&mut self.text)
        })
    }

    /// The body in shared memory. `None`: there is no memory for it.
    fn share(&mut self, body: &[u8]) -> Option<SharedBytes> {
        if self.body.as_deref() != Some(body) {
            self.body = None;
            self.body = Some(SharedBytes::copy(body).ok()?);
        }
        let share = self.body.clone();
        fault_point!("body");
        share
    }
}
