//! The page of the user agent for Prometheus.
use crate::agent::context::AgentProcess;
use crate::agent::records::RecordCounts;
use crate::common::counters::{self, Counter};
use crate::common::metrics::families::Family;
use crate::common::metrics::page::MetricsPage;
use crate::common::metrics::{self, METHODS, Owner};

/// Codes that are shown from the start, so that their first occurrence is seen as a rise.
const SHOWN: [u16; 3] = [200, 412, 500];

/// Adds everything that is known of the user agent.
pub fn add_metrics(process: &AgentProcess, page: &mut MetricsPage) {
    let Some(metrics) = metrics::metrics() else { return };
    let number = |page: &mut MetricsPage, family, value: u64| page.family(family).number(&[], value);
    page.family(Family::PuaBuildInfo).number(&[env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")], 1);
    let mut sent = page.family(Family::PuaSent);
    for (method, counter) in METHODS.iter().zip([Counter::PuaPublish, Counter::PuaSubscribe]) {
        sent.number(&[method], counters::value(counter));
    }
    number(page, Family::PuaUnsent, counters::value(Counter::PuaUnsent));
    let mut answers = page.family(Family::PuaResponses);
    for (method, by_code) in METHODS.iter().zip(metrics.pua()) {
        by_code.seen(&SHOWN).iter().for_each(|(code, count)| answers.number(&[method, code], *count));
    }
    number(page, Family::PuaQueued, counters::value(Counter::PuaQueued));
    number(page, Family::PuaRetried, counters::value(Counter::PuaRetried));
    number(page, Family::PuaPending, process.shared.pending_requests.count() as u64);
    let RecordCounts { publications, subscriptions } = process.records.count();
    number(page, Family::PuaPublications, publications as u64);
    number(page, Family::PuaSubscriptions, subscriptions as u64);
    let of = metrics.database(Owner::Pua);
    let mut times = page.family(Family::PuaDatabase);
    times.histogram(&["read"], &of.read.read());
    times.histogram(&["write"], &of.write.read());
    number(page, Family::PuaDatabaseErrors, of.errors.get());
}
