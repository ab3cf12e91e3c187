//! Rows of ended subscriptions that could not be removed while the database was away: what was ended stays ended (RFC
//! 6665 4.4.1), also after a restart.
use crate::host::lock::Lock;
use crate::host::shm::{self, Shm, ShmBox, ShmVec};
use crate::presence::subscription::dialog::DialogId;
use crate::shm_safe::shm_safe;
use crate::sip::packed::Strings;

/// How many are remembered, and how many bytes of names.
const MOST_DELETIONS: usize = 8192;
const MOST_BYTES: usize = 1 << 20;

/// The strings of a dialog: Call-ID, To tag, From tag.
pub struct EndedSubscriptionRow(Strings<2>);

impl EndedSubscriptionRow {
    /// The dialog.
    pub fn dialog(&self) -> DialogId<'_> {
        let [call_id, to_tag, from_tag] = self.0.all();
        DialogId { call_id, to_tag, from_tag }
    }
}

struct List {
    dialogs: ShmVec<Strings<2, ShmBox<[u8]>>>,
    bytes: usize,
}

shm_safe!(List { dialogs, bytes });

/// The dialogs whose rows have to go.
pub struct PendingDeletions(Lock<List>);

shm_safe!(PendingDeletions(value));

impl PendingDeletions {
    /// None; call before the processes fork.
    pub fn new() -> PendingDeletions {
        PendingDeletions(Lock::new(List { dialogs: ShmVec::new_in(Shm), bytes: 0 }))
    }

    /// Remembers a dialog; `false` when there is no more place.
    pub fn note(&self, dialog: DialogId<'_>) -> bool {
        let packed = Strings::new(&[dialog.call_id, dialog.to_tag, dialog.from_tag]);
        let length: usize = packed.len();
        let Ok(shared) = packed.map(shm::copy) else { return false };
        let mut list = self.0.lock();
        let has_room = list.dialogs.len() < MOST_DELETIONS && list.bytes + length <= MOST_BYTES;
        let is_noted = has_room && shm::push(&mut list.dialogs, shared).is_ok();
        if is_noted {
            list.bytes += length;
        }
        is_noted
    }

    /// Takes up to `most` of those noted last.
    pub fn take(&self, most: usize) -> Vec<EndedSubscriptionRow> {
        let mut list = self.0.lock();
        let from = list.dialogs.len().saturating_sub(most);
        let taken: Vec<EndedSubscriptionRow> =
            list.dialogs.drain(from..).map(|shared| EndedSubscriptionRow(shared.to_private())).collect();
        let bytes: usize = taken.iter().map(|row| row.0.len()).sum();
        list.bytes -= bytes;
        taken
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.0.lock().dialogs.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for PendingDeletions {
    fn default() -> Self {
        PendingDeletions::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deletions_are_remembered_within_bounds() {
        let deletions = PendingDeletions::new();
        let note = |call_id: &[u8]| deletions.note(DialogId { call_id, to_tag: b"t", from_tag: b"f" });
        assert!(note(b"1") && note(b"2") && note(b"3"));
        let taken = deletions.take(2);
        assert_eq!(taken.iter().map(|row| row.dialog().call_id).collect::<Vec<_>>(), [b"2", b"3"]);
        assert_eq!(deletions.len(), 1);
        let long = vec![b'x'; 1024];
        let noted = (0..2 * MOST_DELETIONS).filter(|_| note(&long)).count();
        assert!(noted < MOST_DELETIONS && (noted + 1) * 1024 >= MOST_BYTES - 2048, "{noted}");
        assert_eq!(deletions.take(usize::MAX).len(), noted + 1);
        assert_eq!((0..2 * MOST_DELETIONS).filter(|_| note(b"x")).count(), MOST_DELETIONS);
    }
}
