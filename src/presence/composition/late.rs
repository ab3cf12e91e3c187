//! Late state of a call that has ended (docs/composition.md): it is held back while it may have been overtaken, and
//! shows when nothing has followed it. What was answered 200 is what watchers see in the end (RFC 3903 4.3).
use crate::presence::publication::LATE_SECONDS;
use crate::presence::resource::Resource;
use crate::sip::entity_tag::EntityTag;
use crate::time::Seconds;

/// How long a late document is held back.
pub const HELD_FOR: Seconds = LATE_SECONDS;

/// The longest time between two tries to show one that cannot be stored.
const LONGEST_PAUSE: Seconds = Seconds(320);

/// When one that was tried `tries` times is tried again: what the database refuses costs it less and less.
pub fn pause(tries: u8) -> Seconds {
    LONGEST_PAUSE.min(Seconds(HELD_FOR.0 << tries.saturating_sub(1).min(16)))
}

/// Which of the documents that are held back are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LateSelection {
    /// The documents that have been held back long enough: their watchers are notified.
    Due,
    /// All of them, for the server ends: without a word to the watchers.
    All,
}

/// A document that was published over the end of its call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Late {
    /// Whose it is.
    pub resource: Resource,
    /// The entity tag of its publication, which shows the end of the call for now.
    pub etag: EntityTag,
    /// The document.
    pub body: Vec<u8>,
    /// How often its time has come before.
    pub tries: u8,
    /// Whether a panic has kept it from being shown before: a second one gives it up. What a store refuses, or cannot
    /// take now, does not count.
    pub is_broken_off: bool,
}
