//! What Prometheus sees: counters by event package and status code, and durations, in shared memory. What the host's
//! statistics count as well is counted here with them. Nothing waits for a lock, and every set of labels is bounded.
pub mod codes;
pub mod families;
pub mod page;

use crate::common::counters::{self, Counter};
use crate::host::histogram::Histogram;
use crate::host::measured::{self, Measured};
use crate::host::no_memory::NoMemory;
use crate::host::shm;
use crate::presence::event_package::PackageId;
use crate::presence::history::ended::Cause;
use crate::presence::notification::NotifyReason;
use crate::shm_safe::shm_safe;
use crate::time::Micros;
use codes::CODES;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// At most this many event packages have labels of their own; those registered later, and those nobody knows, share
/// `other`.
pub const EVENTS: usize = 32;

/// The label `reason` of NOTIFYs that were sent, by the place of the reason.
pub const NOTIFY_REASONS: [&str; 4] = ["change", "subscribe", "unsubscribe", "ended"];

/// The label `reason` of subscriptions that have ended, by the place of the cause.
pub const END_REASONS: [&str; 7] =
    ["unsubscribed", "expired", "notify_timeout", "notify_refused", "rules", "operator", "replaced"];

/// The label `method` of pua's requests, by its place.
pub const METHODS: [&str; 2] = ["PUBLISH", "SUBSCRIBE"];

/// A counter that all processes add to.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

shm_safe!(Count(value));

impl Count {
    fn add(&self, many: u64) {
        self.0.fetch_add(many, Ordering::Relaxed);
    }

    /// The counter's value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Answers by the place of their code.
#[derive(Debug)]
pub struct ByCode([Count; CODES]);

shm_safe!(ByCode(value));

impl Default for ByCode {
    fn default() -> Self {
        ByCode([const { Count(AtomicU64::new(0)) }; CODES])
    }
}

impl ByCode {
    fn count(&self, place: usize) {
        self.0[place].add(1);
    }

    /// Label and value of each code that has been seen, and of those in `always`.
    pub fn seen(&self, always: &[u16]) -> Vec<(String, u64)> {
        let wanted = |(place, count): (usize, &Count)| {
            let number = count.get();
            let shown = number > 0 || always.iter().any(|code| codes::place(*code) == place);
            shown.then(|| (codes::label(place), number))
        };
        self.0.iter().enumerate().filter_map(wanted).collect()
    }

    fn is_untouched(&self) -> bool {
        self.0.iter().all(|count| count.get() == 0)
    }
}

/// What is counted of one event package.
#[derive(Debug, Default)]
pub struct OfEvent {
    /// PUBLISH requests by their answer.
    pub publish: ByCode,
    /// SUBSCRIBE requests by their answer.
    pub subscribe: ByCode,
    /// NOTIFY requests by their answer.
    pub notify: ByCode,
    /// NOTIFYs sent, by reason.
    pub sent: [Count; NOTIFY_REASONS.len()],
    /// NOTIFYs that could not be sent.
    pub unsent: Count,
    /// Subscriptions that have ended, by reason.
    pub ended: [Count; END_REASONS.len()],
    /// From a NOTIFY to its answer.
    pub round_trip: Histogram,
    /// From a change to its last NOTIFY.
    pub change: Histogram,
}

shm_safe!(OfEvent { publish, subscribe, notify, sent, unsent, ended, round_trip, change });

impl OfEvent {
    /// Whether nothing was ever counted.
    pub fn is_untouched(&self) -> bool {
        let requests = [&self.publish, &self.subscribe, &self.notify];
        let single = self.sent.iter().chain(&self.ended).chain([&self.unsent]);
        requests.iter().all(|answers| answers.is_untouched()) && single.into_iter().all(|count| count.get() == 0)
    }
}

/// The part of the server that uses the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The presence server.
    Presence,
    /// The user agent.
    Pua,
}

/// What the database is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// The table is read.
    Read,
    /// The table is written.
    Write,
}

/// What is counted of one user of the database.
#[derive(Debug, Default)]
pub struct OfDatabase {
    /// Reading.
    pub read: Histogram,
    /// Writing.
    pub write: Histogram,
    /// What failed.
    pub errors: Count,
}

shm_safe!(OfDatabase { read, write, errors });

/// Everything that is counted here, in shared memory.
#[derive(Debug)]
pub struct Metrics {
    events: [OfEvent; EVENTS + 1],
    database: [OfDatabase; 2],
    pua: [ByCode; METHODS.len()],
}

shm_safe!(Metrics { events, database, pua });

impl Default for Metrics {
    /// Counters that all are zero.
    fn default() -> Metrics {
        Metrics {
            events: std::array::from_fn(|_| OfEvent::default()),
            database: Default::default(),
            pua: Default::default(),
        }
    }
}

static METRICS: OnceLock<&'static Metrics> = OnceLock::new();

/// Makes what is counted; call in `mod_init` of each module. The first call does it.
///
/// # Errors
///
/// Fails when shared memory runs out.
pub fn start() -> Result<(), NoMemory> {
    if METRICS.get().is_some() {
        return Ok(());
    }
    measured::keep_in(shm::leak(Measured::default())?);
    let _ = METRICS.set(shm::leak(Metrics::default())?);
    Ok(())
}

/// What is counted; `None` before [`start`].
pub fn metrics() -> Option<&'static Metrics> {
    METRICS.get().copied()
}

impl Metrics {
    /// What is counted of a package; `None` stands for a package nobody knows.
    pub fn event(&self, event: Option<PackageId>) -> &OfEvent {
        &self.events[event.map_or(EVENTS, |id| usize::from(id.0).min(EVENTS))]
    }

    /// What is counted of a user of the database.
    pub fn database(&self, owner: Owner) -> &OfDatabase {
        &self.database[owner as usize]
    }

    /// Answers to pua's requests, by the place of their method.
    pub fn pua(&self) -> &[ByCode; METHODS.len()] {
        &self.pua
    }
}

/// A PUBLISH was answered. `event`: the package it names, where there is one.
pub fn publish_answered(event: Option<PackageId>, code: u16) {
    counters::count(counters::of_publish(code));
    if let Some(metrics) = metrics() {
        metrics.event(event).publish.count(codes::place(code));
    }
}

/// A SUBSCRIBE was answered.
pub fn subscribe_answered(event: Option<PackageId>, code: u16) {
    counters::count(counters::of_subscribe(code));
    if let Some(metrics) = metrics() {
        metrics.event(event).subscribe.count(codes::place(code));
    }
}

/// A NOTIFY was sent.
pub fn notify_sent(event: PackageId, reason: NotifyReason) {
    counters::count(Counter::NotifySent);
    let place = match reason {
        NotifyReason::Change => 0,
        NotifyReason::Subscribe => 1,
        NotifyReason::Unsubscribe => 2,
        NotifyReason::Ended => 3,
    };
    if let Some(metrics) = metrics() {
        metrics.event(Some(event)).sent[place].add(1);
    }
}

/// `many` NOTIFYs could not be sent.
pub fn notify_unsent(event: PackageId, many: usize) {
    counters::count_many(Counter::NotifyUnsent, many);
    if let Some(metrics) = metrics() {
        metrics.event(Some(event)).unsent.add(many as u64);
    }
}

/// A NOTIFY was answered, or was not.
#[derive(Debug, Clone, Copy)]
pub struct NotifyAnswer {
    /// The NOTIFY's event package, where that is known.
    pub event: Option<PackageId>,
    /// The status code; `None` where no answer came.
    pub code: Option<u16>,
    /// How long the answer took, where that is known.
    pub waited: Option<Micros>,
}

/// Call where the answer to a NOTIFY arrives, whatever carried it, or where it is given up.
pub fn notify_answered(answer: NotifyAnswer) {
    counters::count(counters::of_notify(answer.code));
    let Some(metrics) = metrics() else { return };
    let of = metrics.event(answer.event);
    let Some(code) = answer.code else { return of.notify.count(codes::TIMEOUT) };
    of.notify.count(codes::place(code));
    if let Some(waited) = answer.waited {
        of.round_trip.record(waited);
    }
}

/// The last watcher's NOTIFY of a change was sent, `after` the change came in.
pub fn change_notified(event: PackageId, after: Micros) {
    if let Some(metrics) = metrics() {
        metrics.event(Some(event)).change.record(after);
    }
}

/// A subscription has ended.
pub fn subscription_ended(event: PackageId, cause: Cause) {
    let place = match cause {
        Cause::Unsubscribed => 0,
        Cause::RanOut => 1,
        Cause::Notify(408) => 2,
        Cause::Notify(_) => 3,
        Cause::Rules => 4,
        Cause::Operator => 5,
        Cause::Replaced => 6,
    };
    if let Some(metrics) = metrics() {
        metrics.event(Some(event)).ended[place].add(1);
    }
}

/// How an operation of the database ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseOutcome {
    /// The operation was carried out.
    Done,
    /// The operation failed.
    Failed,
}

/// The database has done something, in this time.
pub fn database_done(owner: Owner, operation: Operation, duration: Micros, outcome: DatabaseOutcome) {
    let Some(metrics) = metrics() else { return };
    let of = metrics.database(owner);
    match operation {
        Operation::Read => of.read.record(duration),
        Operation::Write => of.write.record(duration),
    }
    of.errors.add(u64::from(outcome == DatabaseOutcome::Failed));
}

/// A request of pua was answered with this status, or was not; `method` is its place in [`METHODS`].
pub fn pua_answered(method: usize, code: Option<u16>) {
    if let Some(metrics) = metrics() {
        metrics.pua[method.min(METHODS.len() - 1)].count(code.map_or(codes::TIMEOUT, codes::place));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_beyond_the_last_label_share_one() {
        let metrics = Metrics::default();
        let place = |event: Option<u16>| std::ptr::from_ref(metrics.event(event.map(PackageId)));
        let own: std::collections::BTreeSet<_> = (0..EVENTS as u16).map(|id| place(Some(id))).collect();
        assert!(own.len() == EVENTS && !own.contains(&place(None)));
        assert_eq!([EVENTS as u16, u16::MAX].map(|id| place(Some(id))), [place(None); 2]);
    }

    #[test]
    fn its_size_is_what_the_documentation_says() {
        let kilobytes = (size_of::<Metrics>() + size_of::<Measured>()).div_ceil(1024);
        assert_eq!(kilobytes, 43);
    }
}
