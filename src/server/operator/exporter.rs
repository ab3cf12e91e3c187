//! The page of the presence server for Prometheus. Every family is on it, with or without samples; an event package has
//! samples from its first request on.
use crate::common::counters::{self, Counter};
use crate::common::metrics::families::Family;
use crate::common::metrics::page::{MetricsPage, Samples};
use crate::common::metrics::{self, ByCode, Count, END_REASONS, EVENTS, Metrics, NOTIFY_REASONS, OfEvent, Owner};
use crate::host::histogram::Histogram;
use crate::host::measured::{self, Measured};
use crate::host::{clock, log, shm};
use crate::presence::event_package::PackageId;
use crate::reference::setting::ParameterValue;
use crate::server::inventory::Inventory;
use crate::server::operator::statistics;
use crate::server::operator::statistics::{Counts, Statistics};

/// Codes that are shown from the start, so that their first occurrence is seen as a rise.
const OF_PUBLISH: [u16; 9] = [200, 400, 403, 412, 413, 415, 423, 500, 503];
const OF_SUBSCRIBE: [u16; 8] = [200, 400, 403, 423, 481, 489, 500, 503];
const OF_NOTIFY: [u16; 3] = [200, 481, 500];

/// What is counted of one package, and its name.
type NamedCounts<'a> = (String, &'a OfEvent);

/// Adds everything that is known of the presence server.
pub fn add_metrics(inventory: &Inventory, page: &mut MetricsPage) {
    let (Some(metrics), Some(measured)) = (metrics::metrics(), measured::measured()) else { return };
    let events = named_events(inventory, metrics);
    add_identity(inventory, page);
    add_requests(page, &events);
    let statistics = statistics::count(inventory);
    add_subscriptions(inventory, page, &events, &statistics);
    add_fan_outs(inventory, page);
    add_waits(page, measured);
    add_database(page, metrics);
    let waiting: i64 = statistics.iter().map(|counts| counts.rows_waiting).sum();
    number(page, Family::RowsWaiting, waiting.max(0) as u64);
    add_rest(inventory, page, measured);
}

/// The packages that anything was counted of.
fn named_events<'m>(inventory: &Inventory, metrics: &'m Metrics) -> Vec<NamedCounts<'m>> {
    let known = inventory.packages().0.iter().take(EVENTS).enumerate();
    let known = known.map(|(at, package)| (log::show(package.name).into_owned(), Some(PackageId(at as u16))));
    let all = known.chain([("other".to_string(), None)]).map(|(name, id)| (name, metrics.event(id)));
    all.filter(|(_, of)| !of.is_untouched()).collect()
}

fn add_identity(inventory: &Inventory, page: &mut MetricsPage) {
    let values = inventory.config.identity().into_iter().map(|(_, value)| match value {
        ParameterValue::Text(text) => log::show(text).into_owned(),
        ParameterValue::Number(number) => number.to_string(),
    });
    let values: Vec<String> = values.collect();
    let labels: Vec<&str> = values.iter().map(String::as_str).collect();
    page.family(Family::BuildInfo).number(&labels, 1);
    number(page, Family::StartTime, inventory.config.started.seconds().unsigned_abs());
}

fn add_subscriptions(
    inventory: &Inventory,
    page: &mut MetricsPage,
    events: &[NamedCounts<'_>],
    statistics: &Statistics,
) {
    let names = || inventory.packages().0.iter().map(|package| log::show(package.name)).zip(statistics);
    let gauge = |page: &mut MetricsPage, family, value: fn(&Counts) -> i64| {
        let mut samples = page.family(family);
        names().for_each(|(name, counts)| samples.number(&[&name], value(counts).max(0) as u64));
    };
    let mut samples = page.family(Family::Subscriptions);
    for (name, counts) in names() {
        let active = (counts.subscriptions - counts.pending).max(0) as u64;
        samples.number(&[&name, "active"], active);
        samples.number(&[&name, "pending"], counts.pending.max(0) as u64);
    }
    gauge(page, Family::Replicas, |counts| counts.replicas);
    let mut samples = page.family(Family::Ended);
    events.iter().for_each(|(name, of)| add_places(&mut samples, name, &END_REASONS, &of.ended));
    number(page, Family::TakenOver, counters::value(Counter::TakenOver));
    gauge(page, Family::Publications, |counts| counts.publications);
    gauge(page, Family::Presentities, |counts| counts.presentities);
    number(page, Family::PublicationsExpired, counters::value(Counter::PublicationsExpired));
    number(page, Family::DocumentsUnreadable, counters::value(Counter::DocumentsUnreadable));
    number(page, Family::BodiesUnexpected, counters::value(Counter::Mispredicted));
}

fn add_fan_outs(inventory: &Inventory, page: &mut MetricsPage) {
    let senders = inventory.shared.senders;
    number(page, Family::ChangesCollapsed, counters::value(Counter::Collapsed));
    number(page, Family::FanoutsHandedOver, counters::value(Counter::HandedOver));
    number(page, Family::FanoutsWaiting, senders.waiting() as u64);
    number(page, Family::FanoutOldestAge, senders.oldest_age().0 as u64);
}

fn add_rest(inventory: &Inventory, page: &mut MetricsPage, measured: &Measured) {
    number(page, Family::DmqSent, counters::value(Counter::DmqSent));
    number(page, Family::DmqReceived, counters::value(Counter::DmqReceived));
    number(page, Family::DmqRejected, counters::value(Counter::DmqRejected));
    number(page, Family::DmqLimited, counters::value(Counter::DmqLimited));
    number(page, Family::RequestsRelayed, counters::value(Counter::RequestsRelayed));
    let mut nodes = page.family(Family::NodeUp);
    for (name, is_up) in inventory.shared.nodes.known() {
        nodes.number(&[&log::show(&name)], u64::from(is_up));
    }
    let is_held = inventory.shared.cluster_state.arbitration.is_held(clock::instant());
    number(page, Family::LeaseHeld, u64::from(is_held));
    number(page, Family::LeaseRenewals, counters::value(Counter::LeaseBeats));
    number(page, Family::LeasesLost, counters::value(Counter::LeasesLost));
    number(page, Family::LeasesTakenOver, counters::value(Counter::LeasesTakenOver));
    number(page, Family::LeaseFailures, counters::value(Counter::LeaseFailures));
    number(page, Family::SharedMemorySize, shm::size() as u64);
    number(page, Family::SharedMemoryFree, shm::available() as u64);
    let left_out = measured.lines_left_out.load(std::sync::atomic::Ordering::Relaxed);
    number(page, Family::LogLinesLeftOut, left_out);
}

fn add_requests(page: &mut MetricsPage, events: &[NamedCounts<'_>]) {
    let answers = |page: &mut MetricsPage, family, always: &[u16], of: fn(&OfEvent) -> &ByCode| {
        let mut samples = page.family(family);
        for (name, event) in events {
            of(event).seen(always).iter().for_each(|(code, count)| samples.number(&[name, code], *count));
        }
    };
    let durations = |page: &mut MetricsPage, family, of: fn(&OfEvent) -> &Histogram| {
        let mut samples = page.family(family);
        events.iter().for_each(|(name, event)| samples.histogram(&[name], &of(event).read()));
    };
    answers(page, Family::PublishResponses, &OF_PUBLISH, |of| &of.publish);
    answers(page, Family::SubscribeResponses, &OF_SUBSCRIBE, |of| &of.subscribe);
    let mut sent = page.family(Family::NotifySent);
    events.iter().for_each(|(name, of)| add_places(&mut sent, name, &NOTIFY_REASONS, &of.sent));
    let mut unsent = page.family(Family::NotifyUnsent);
    events.iter().for_each(|(name, of)| unsent.number(&[name], of.unsent.get()));
    answers(page, Family::NotifyResponses, &OF_NOTIFY, |of| &of.notify);
    durations(page, Family::NotifyRoundTrip, |of| &of.round_trip);
    durations(page, Family::ChangeNotified, |of| &of.change);
}

fn add_waits(page: &mut MetricsPage, measured: &Measured) {
    let mut waits = page.family(Family::LockWait);
    waits.histogram(&["memory"], &measured.memory_locks.read());
    waits.histogram(&["database"], &measured.database_locks.read());
}

fn add_database(page: &mut MetricsPage, metrics: &Metrics) {
    let of = metrics.database(Owner::Presence);
    let mut times = page.family(Family::Database);
    times.histogram(&["read"], &of.read.read());
    times.histogram(&["write"], &of.write.read());
    number(page, Family::DatabaseErrors, of.errors.get());
    number(page, Family::RowGroups, counters::value(Counter::DbGroups));
    number(page, Family::RowGroupRows, counters::value(Counter::DbGroupRows));
    number(page, Family::RowsRefused, counters::value(Counter::DbRowsRefused));
}

fn number(page: &mut MetricsPage, family: Family, value: u64) {
    page.family(family).number(&[], value);
}

/// One sample for each reason.
fn add_places(samples: &mut Samples<'_>, name: &str, reasons: &[&str], counts: &[Count]) {
    for (reason, count) in reasons.iter().zip(counts) {
        samples.number(&[name, reason], count.get());
    }
}
