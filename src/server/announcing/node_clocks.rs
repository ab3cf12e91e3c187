//! The clocks of other nodes, as far as their messages say them.
use crate::cluster::clock::{MOST_AHEAD, Stamp};
use crate::host::{clock, log};
use crate::limited;
use crate::server::nodes::cluster_state::local_time;
use crate::server::nodes::known_node::NodeTime;
use crate::server::shared::Parts;

/// Another node has stamped something so: the cluster's clock is as late here from now on.
pub(crate) fn observe(parts: &Parts, node: &[u8], stamp: Stamp) {
    if !parts.shared.cluster_state.clock.observe(stamp, local_time()) {
        limited!(Warn, "the clock of {} is more than 5 minutes ahead of ours", log::show(node));
    }
}

/// Another node says its clock.
pub fn note(parts: &Parts, node: &[u8], stamp: Stamp) {
    let ours = parts.shared.cluster_state.clock.time(local_time());
    observe(parts, node, stamp);
    if let Ok(id) = parts.shared.nodes.of_name(node, clock::now()) {
        let is_other = stamp != Stamp::default() && stamp.time().distance(ours) > MOST_AHEAD;
        parts.shared.nodes.note_time(id, if is_other { NodeTime::Other } else { NodeTime::Shared });
    }
}
