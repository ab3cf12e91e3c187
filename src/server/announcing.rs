//! What this node says to the others: how its subscriptions are, to those that hold them; whose a subscription is; and
//! whether this node may speak at all.
