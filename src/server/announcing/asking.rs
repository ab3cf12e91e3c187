//! A node that was frozen asks the others what it has missed before it sends NOTIFYs.
use crate::cluster::clock::Stamp;
use crate::cluster::lease::{ANSWERS_AFTER, LeaseState};
use crate::host::clock;
use crate::limited;
use crate::presence::comparison::RecordKind;
use crate::server::nodes::known_nodes::Wait;
use crate::server::shared::Parts;
use crate::time::Millis;
use std::sync::atomic::Ordering;

/// Stamps of others may not have reached a node for so long before it was frozen, in milliseconds of
/// the wall clock.
pub(crate) const ASK_MARGIN: Millis = Millis(15_000);

/// How long a node that was frozen waits for the documents of its share (`cluster_replicas`).
const DOCUMENTS_AFTER: Millis = Millis(5_000);

impl Parts {
    /// Whether this node may send NOTIFYs now. A node that finds that it was frozen asks the others first.
    pub(crate) fn may_speak(&self) -> bool {
        if !self.config.shares_subscriptions {
            return true;
        }
        let now = clock::instant();
        let is_held = !self.config.has_arbiter() || self.shared.cluster_state.arbitration.is_held(now);
        if !is_held {
            self.shared.nodes.joining.note_waiting();
        }
        // A node that waits for its lease runs, and looks at the clock all the same.
        match self.shared.cluster_state.lease.look(now) {
            LeaseState::Speaks => is_held,
            LeaseState::Asks => false,
            LeaseState::WasAway(time) => {
                limited!(Notice, "this node did not run for {} ms: it asks the others before it sends NOTIFYs", time.0);
                self.shared.nodes.on_freeze(clock::now(), time.seconds());
                self.ask_for_share();
                self.ask_others();
                false
            }
        }
    }

    /// The node runs: what happens from now on is stamped later.
    pub(crate) fn note_running(&self) {
        let cluster_state = &self.shared.cluster_state;
        cluster_state.seen_running.store(cluster_state.tick().0, Ordering::Relaxed);
    }

    /// Where not every node holds everything others serve what this one holds, until it has learnt what it missed.
    fn ask_for_share(&self) {
        if self.config.replicas().is_some() {
            self.shared.cluster_state.placing.note_away(clock::instant());
            self.shared.nodes.clear_filled();
            self.placement_settings().into_iter().for_each(|settings| self.send_to_nodes(&settings));
        }
    }

    fn ask_others(&self) {
        let since = Stamp(self.shared.cluster_state.seen_running.load(Ordering::Relaxed)).before(ASK_MARGIN);
        for kind in self.kinds_asked_for() {
            for (id, address) in self.shared.nodes.asked(kind) {
                let pull = self.shared.nodes.begin_pull(id, kind, since);
                self.send_to_node(&address, &self.comparison_text(kind, &pull));
            }
        }
    }

    /// What this node shows, and to whom, it asks for when it was frozen.
    fn kinds_asked_for(&self) -> impl Iterator<Item = RecordKind> {
        let documents = self.config.compares_publications().then_some(RecordKind::Publications);
        std::iter::once(RecordKind::Subscriptions).chain(documents)
    }

    /// Whether the node has just been allowed to speak again, because all others have answered or are not there.
    pub(crate) fn has_resumed(&self) -> bool {
        let lease = &self.shared.cluster_state.lease;
        let Some(since) = lease.asking_since() else { return false };
        let now = clock::instant();
        let has_answers = |wait| self.kinds_asked_for().all(|kind| self.shared.nodes.has_answers(kind, since, wait));
        if !has_waited(now.since(since), has_answers, || self.has_documents()) || !lease.resume(now) {
            return false;
        }
        crate::log!(Notice, "the other nodes have said what this one missed: it sends NOTIFYs again");
        true
    }
}

/// Whether a node that has asked the others for so long sends NOTIFYs again: all that are there have answered, and the
/// documents of its share are known, or it has waited long enough.
fn has_waited(waited: Millis, has_answers: impl Fn(Wait) -> bool, has_documents: impl Fn() -> bool) -> bool {
    let wait = if waited >= ANSWERS_AFTER { Wait::Over } else { Wait::GoesOn };
    has_answers(wait) && (waited >= DOCUMENTS_AFTER || has_documents())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_frozen_waits_no_longer_than_it_should() {
        // Whether all have answered, whether those that are there have, whether the documents are known; how long the
        // node waits.
        for (all, those_there, documents, longest) in [
            (true, true, true, Millis(0)),
            (false, true, true, ANSWERS_AFTER),
            (false, true, false, DOCUMENTS_AFTER),
            (true, true, false, DOCUMENTS_AFTER),
            (false, false, true, Millis(60_000)),
        ] {
            let has_answers = |wait| if wait == Wait::Over { those_there } else { all };
            let waits = (0..60_000).find(|waited| has_waited(Millis(*waited), has_answers, || documents));
            assert_eq!(waits.unwrap_or(60_000), longest.0, "{all} {those_there} {documents}");
        }
    }
}
