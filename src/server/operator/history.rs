//! The latest ends of subscriptions, in shared memory: a ring of `history_size` entries of a fixed size.
use crate::host::lock::Lock;
use crate::host::no_memory::NoMemory;
use crate::host::shm::{Shm, ShmVec};
use crate::presence::ended::{Cause, Ended};
use crate::presence::event_package::PackageId;
use crate::presence::subscription::{Field, Subscription};

/// Bytes for the four texts of an entry; longer ones are cut.
const TEXT: usize = 384;
/// Bytes for each of the first three, so that one of them leaves room for the others.
const SHARE: usize = 112;

#[derive(Clone, Copy)]
struct Entry {
    at: i64,
    cause: Cause,
    cseq: u32,
    event: PackageId,
    ends: [u16; 4],
    text: [u8; TEXT],
}

struct Ring {
    entries: ShmVec<Entry>,
    /// Where the next one goes once the ring is full.
    next: usize,
}

/// What has ended.
pub struct History {
    ring: Lock<Ring>,
    size: usize,
}

impl History {
    /// Room for `size` entries; call before the processes fork.
    pub fn new(size: usize) -> Result<History, NoMemory> {
        let mut entries = ShmVec::new_in(Shm);
        entries.try_reserve_exact(size).map_err(|_| NoMemory)?;
        Ok(History { ring: Lock::new(Ring { entries, next: 0 }), size })
    }

    /// Remembers an end; the oldest one is forgotten when the ring is full.
    pub fn note(&self, subscription: &Subscription, cause: Cause, at: i64) {
        if self.size == 0 {
            return;
        }
        let (user, host) = (subscription.get(Field::WatcherUser), subscription.get(Field::WatcherDomain));
        // Its URI, written where it stays.
        let watcher: [&[u8]; 4] = [b"sip:", user, if user.is_empty() { b"" } else { b"@" }, host];
        let fields = [Field::PresUri, Field::Contact, Field::CallId];
        let state = &subscription.state;
        let mut entry = Entry { at, cause, cseq: state.local_cseq, event: state.event, ends: [0; 4], text: [0; TEXT] };
        let mut end = 0;
        let mut push = |text: &[u8], most: usize| {
            let part = &text[..text.len().min(most - end)];
            entry.text[end..end + part.len()].copy_from_slice(part);
            end += part.len();
            end
        };
        for part in watcher {
            entry.ends[0] = push(part, SHARE) as u16;
        }
        for (index, field) in (1..).zip(fields) {
            let most = if index < 3 { usize::from(entry.ends[index - 1]) + SHARE } else { TEXT };
            entry.ends[index] = push(subscription.get(field), most) as u16;
        }
        let mut ring = self.ring.lock();
        if ring.entries.len() < self.size {
            // The room was reserved at start.
            ring.entries.push(entry);
        } else {
            let next = ring.next;
            ring.entries[next] = entry;
            ring.next = (next + 1) % self.size;
        }
    }

    /// The latest ends that are `wanted`, the newest first, at most `limit`.
    pub fn latest(&self, limit: usize, wanted: impl Fn(&Ended) -> bool) -> Vec<Ended> {
        let copied: Vec<Entry> = {
            let ring = self.ring.lock();
            let (newer, older) = (&ring.entries[..ring.next], &ring.entries[ring.next..]);
            older.iter().chain(newer).copied().collect()
        };
        copied.iter().rev().map(Entry::read).filter(wanted).take(limit).collect()
    }
}

impl Entry {
    fn read(&self) -> Ended {
        let part = |index: usize| {
            let start = if index == 0 { 0 } else { usize::from(self.ends[index - 1]) };
            self.text[start..usize::from(self.ends[index])].to_vec()
        };
        Ended {
            at: self.at,
            cause: self.cause,
            cseq: self.cseq,
            event: self.event,
            watcher: part(0),
            presentity: part(1),
            contact: part(2),
            call_id: part(3),
        }
    }
}
