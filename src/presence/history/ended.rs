//! Subscriptions that have ended: what is remembered of them for the question why a lamp is dark.
use super::remembered::SentNotify;
use crate::presence::event_package::PackageId;
use crate::presence::notification::NotifyHistory;
use crate::shm_safe::shm_safe;
use crate::time::MicroMoment;

/// What ended a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The watcher asked for it (`Expires: 0`).
    Unsubscribed,
    /// The watcher did not refresh it in time.
    RanOut,
    /// A NOTIFY was answered with this status; 408: nobody answered.
    Notify(u16),
    /// The presentity's rules refuse the watcher.
    Rules,
    /// An operator ended it (`presence.subscription_end`, `presence.drain`).
    Operator,
    /// A newer subscription of the same call took its place (`delete_same_subs`).
    Replaced,
}

shm_safe!(
    enum Cause {
        Unsubscribed,
        RanOut,
        Notify(value),
        Rules,
        Operator,
        Replaced,
    }
);

impl Cause {
    /// In a sentence.
    pub fn sentence(self) -> String {
        match self {
            Cause::Unsubscribed => "the watcher ended it (Expires: 0)".into(),
            Cause::RanOut => "it ran out: the watcher did not refresh it".into(),
            Cause::Notify(408) => "its NOTIFY was not answered (408)".into(),
            Cause::Notify(code) => format!("its NOTIFY was answered {code}"),
            Cause::Rules => "the presentity's rules refuse the watcher".into(),
            Cause::Operator => "an operator ended it".into(),
            Cause::Replaced => "a newer subscription of the same call took its place".into(),
        }
    }

    /// The one thing to do next.
    pub fn advice(self) -> &'static str {
        match self {
            Cause::Unsubscribed => "look at the phone: it does not want this lamp any more",
            Cause::RanOut => "look whether the phone is registered and reachable: it stopped refreshing",
            Cause::Notify(408) => "look at NAT, the firewall and the contact: the phone cannot be reached there",
            Cause::Notify(404 | 481) => {
                "restart the phone or wait until it subscribes again: it had forgotten the subscription"
            }
            Cause::Notify(_) => "look at the phone's own log: it refused the NOTIFY",
            Cause::Rules => "change the presentity's rules, then: presence.refreshWatchers URI EVENT 0",
            Cause::Operator => "wait until the phone subscribes again, or restart it",
            Cause::Replaced => "look at the newer subscription: presence.subscriptions",
        }
    }
}

/// One subscription that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// When the subscription ended.
    pub at: MicroMoment,
    /// Why the subscription ended.
    pub cause: Cause,
    /// The CSeq of its last NOTIFY but the final NOTIFY.
    pub cseq: u32,
    /// The event package.
    pub event: PackageId,
    /// The hash of its dialog.
    pub dialog: u64,
    /// What had become of its NOTIFYs.
    pub notify_history: NotifyHistory,
    /// The watcher.
    pub watcher: Vec<u8>,
    /// The presentity that was watched.
    pub presentity: Vec<u8>,
    /// Where NOTIFYs went.
    pub contact: Vec<u8>,
    /// The Call-ID of the dialog.
    pub call_id: Vec<u8>,
    /// The socket they were sent from; empty: the host chose it.
    pub socket: Vec<u8>,
}

impl Ended {
    /// How its last NOTIFY was answered, `sent` where that one is remembered.
    pub fn last_answer(&self, sent: Option<&SentNotify>, now: MicroMoment) -> String {
        match (self.cause, sent) {
            (_, Some(sent)) => sent.answer_in_words(now),
            (Cause::Notify(code), None) => code.to_string(),
            (_, None) => self.notify_history.answer(self.cseq, now.moment()),
        }
    }

    /// The way its NOTIFYs went: from our socket to its contact.
    pub fn flow(&self) -> Vec<u8> {
        let from: &[u8] = if self.socket.is_empty() { b"a socket the host chose" } else { &self.socket };
        [from, b" to ", &self.contact].concat()
    }
}
