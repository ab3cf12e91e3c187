//! A node that was frozen asks the others what it has missed before it sends NOTIFYs.
use crate::cluster::clock::Stamp;
use crate::cluster::lease::{ANSWERS_AFTER, LeaseState};
use crate::host::clock;
use crate::limited;
use crate::presence::replication::comparison::RecordKind;
use crate::server::announcing::{holders, sending, texts};
use crate::server::nodes::known_nodes::Wait;
use crate::server::shared::Parts;
use crate::time::Millis;
use std::sync::atomic::Ordering;

/// Stamps of others may not have reached a node for this long before it was frozen, in milliseconds of
/// the wall clock.
pub(crate) const ASK_MARGIN: Millis = Millis(15_000);

/// How long a node that was frozen waits for the documents of its share (`cluster_replicas`).
const DOCUMENTS_AFTER: Millis = Millis(5_000);

/// Whether this node may send NOTIFYs now. A node that finds that it was frozen asks the others first.
pub(crate) fn may_speak(parts: &Parts) -> bool {
    if !parts.config.shares_subscriptions {
        return true;
    }
    let now = clock::instant();
    let is_held = !parts.config.has_arbiter() || parts.shared.cluster_state.arbitration.is_held(now);
    if !is_held {
        parts.shared.nodes.joining.note_waiting();
    }
    // A node that waits for its lease runs, and looks at the clock all the same.
    match parts.shared.cluster_state.lease.look(now) {
        LeaseState::Speaks => is_held,
        LeaseState::Asks => false,
        LeaseState::WasAway(time) => {
            limited!(Notice, "this node did not run for {} ms: it asks the others before it sends NOTIFYs", time.0);
            parts.shared.nodes.on_freeze(clock::now(), time.seconds());
            ask_for_share(parts);
            ask_others(parts);
            false
        }
    }
}

/// The node runs: what happens from now on is stamped later.
pub(crate) fn note_running(parts: &Parts) {
    let cluster_state = &parts.shared.cluster_state;
    cluster_state.seen_running.store(cluster_state.tick().0, Ordering::Relaxed);
}

/// Where not every node holds everything others serve what this one holds, until it has learnt what it missed.
fn ask_for_share(parts: &Parts) {
    if parts.config.replicas().is_some() {
        parts.shared.cluster_state.placing.note_away(clock::instant());
        parts.shared.nodes.clear_filled();
        holders::placement_settings(parts).into_iter().for_each(|settings| sending::send_to_nodes(parts, &settings));
    }
}

fn ask_others(parts: &Parts) {
    let since = Stamp(parts.shared.cluster_state.seen_running.load(Ordering::Relaxed)).before(ASK_MARGIN);
    for kind in kinds_asked_for(parts) {
        for (id, address) in parts.shared.nodes.asked(kind) {
            let pull = parts.shared.nodes.begin_pull(id, kind, since);
            sending::send_to_node(parts, &address, &texts::comparison_text(parts, kind, &pull));
        }
    }
}

/// What this node shows, and to whom, it asks for when it was frozen.
fn kinds_asked_for(parts: &Parts) -> impl Iterator<Item = RecordKind> {
    let documents = parts.config.compares_publications().then_some(RecordKind::Publications);
    std::iter::once(RecordKind::Subscriptions).chain(documents)
}

/// Whether the node has just been allowed to speak again, because all others have answered or are not there.
pub(crate) fn has_resumed(parts: &Parts) -> bool {
    let lease = &parts.shared.cluster_state.lease;
    let Some(since) = lease.asking_since() else { return false };
    let now = clock::instant();
    let has_answers = |wait| kinds_asked_for(parts).all(|kind| parts.shared.nodes.has_answers(kind, since, wait));
    if !has_waited(now.since(since), has_answers, || holders::has_documents(parts)) || !lease.resume(now) {
        return false;
    }
    crate::log!(Notice, "the other nodes have said what this one missed: it sends NOTIFYs again");
    true
}

/// Whether a node that began to ask the others `waited` ago sends NOTIFYs again: all that are there have answered, and
/// the documents of its share are known, or it has waited long enough.
fn has_waited(waited: Millis, has_answers: impl Fn(Wait) -> bool, has_documents: impl Fn() -> bool) -> bool {
    let wait = if waited >= ANSWERS_AFTER { Wait::Ended } else { Wait::GoesOn };
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
            let has_answers = |wait| if wait == Wait::Ended { those_there } else { all };
            let waits = (0..60_000).find(|waited| has_waited(Millis(*waited), has_answers, || documents));
            assert_eq!(waits.unwrap_or(60_000), longest.0, "{all} {those_there} {documents}");
        }
    }
}
