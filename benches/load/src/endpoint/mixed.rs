//! The endpoint sends a mix: whatever the server does, each request goes out when it is due, and its time counts from
//! then on.
use super::{Endpoint, Tally};
use crate::latency::Latencies;
use crate::mix::{Kinds, Mix};
use crate::work::{Kind, Work};
use serde_json::{Value, json};
use std::time::Instant;

/// The place of each kind in its turn.
#[derive(Default)]
struct Cursors {
    refreshed: usize,
    changed: usize,
    ended: usize,
}

impl Endpoint {
    /// Sends the mix; returns its figures.
    pub fn carry_out_mix(&mut self, mix: &Mix) -> Value {
        self.tally = Tally::default();
        self.resources.resize_with(self.resources.len().max(mix.presentities), Default::default);
        let (mut kinds, mut cursors, mut late) = (Kinds::default(), Cursors::default(), Latencies::default());
        let (start, mut next, mut skipped) = (Instant::now(), 0, 0);
        while next < mix.count() && self.pending_requests.len() < mix.window() {
            let due = start + mix.due(next);
            if Instant::now() < due {
                self.listen();
                continue;
            }
            late.add(due.elapsed());
            skipped += usize::from(!self.send_one_of(mix, kinds.draw(), &mut cursors, due));
            next += 1;
            // What has arrived is answered between any two requests: a late answer is the server's then.
            self.take_in_what_is_there();
        }
        let seconds = start.elapsed().as_secs_f64();
        let (behind, unanswered) = self.wait_for_all(mix);
        let tally = &mut self.tally;
        json!({
            "do": "mix",
            "count": mix.count(),
            "sent": next - skipped,
            "done": tally.done,
            "seconds": seconds,
            "latency": tally.latency.summary(),
            "notified": tally.notified_within.summary(),
            "late": late.summary(),
            "unanswered": unanswered,
            "behind": behind,
            "refused": tally.codes.iter().filter(|(code, _)| **code >= 300).map(|(_, n)| n).sum::<u64>(),
            "sent_again": tally.sent_again,
            "notifies": tally.notifies,
            "notified_again": tally.notified_again,
            "out_of_order": tally.out_of_order,
            "unknown": tally.unknown,
        })
    }

    /// Sends a request of a kind; says whether there was anybody to send it for.
    fn send_one_of(&mut self, mix: &Mix, kind: Kind, cursors: &mut Cursors, due: Instant) -> bool {
        let found = match kind {
            Kind::Subscribe => {
                self.watchers.push(Default::default());
                Some(self.watchers.len() - 1)
            }
            Kind::Refresh => self.next_watcher(&mut cursors.refreshed),
            Kind::Unsubscribe => self.next_watcher(&mut cursors.ended),
            Kind::Publish | Kind::Modify | Kind::Remove => self.next_resource(mix, &mut cursors.changed),
        };
        let Some(index) = found else { return false };
        let work = Work::one(kind, index, mix.presentities, mix.package);
        self.send_request_due(&work, index, due);
        true
    }

    /// The next watcher that is subscribed and waits for nothing.
    fn next_watcher(&self, cursor: &mut usize) -> Option<usize> {
        let count = self.watchers.len();
        let found = (0..count)
            .map(|step| (*cursor + step) % count)
            .find(|index| self.watchers[*index].subscribed && !self.waiting.contains_key(index))?;
        *cursor = found + 1;
        Some(found)
    }

    /// The next presentity whose last document is answered.
    fn next_resource(&self, mix: &Mix, cursor: &mut usize) -> Option<usize> {
        let found = (0..mix.presentities).map(|step| (*cursor + step) % mix.presentities).find(|index| {
            let resource = &self.resources[*index];
            !resource.etag.is_empty() && !resource.in_flight
        })?;
        *cursor = found + 1;
        Some(found)
    }

    /// Waits until all is answered and all watchers know the newest document, or for as long as the mix allows; returns
    /// how many watchers do not know it, and how many requests are not answered.
    fn wait_for_all(&mut self, mix: &Mix) -> (usize, usize) {
        let until = Instant::now() + mix.timeout;
        loop {
            let behind = self.resources.iter().map(|resource| resource.behind).sum();
            if (behind == 0 && self.pending_requests.is_empty()) || Instant::now() > until {
                let unanswered = self.pending_requests.len();
                self.forget_pending();
                return (behind, unanswered);
            }
            self.listen();
        }
    }
}
