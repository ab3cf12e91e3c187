//! The dialog of a subscription (RFC 6665 4.4.1), seen from the notifier's side.

/// A dialog from the watcher's first SUBSCRIBE: `to_tag` is ours, `from_tag` the watcher's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DialogId<'a> {
    /// Call-ID.
    pub call_id: &'a [u8],
    /// Our tag.
    pub to_tag: &'a [u8],
    /// The watcher's tag.
    pub from_tag: &'a [u8],
}
