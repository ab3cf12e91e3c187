//! The dialogs that ended last: the first SUBSCRIBE of one of them that comes late makes no other subscription with its
//! To tag, whose NOTIFYs would count from 1 again (RFC 3261 12.2.2).
use crate::host::no_memory::NoMemory;
use crate::host::shm::{Shm, ShmVec};
use crate::time::{Moment, Seconds, ShortMoment};
use std::sync::atomic::{AtomicU64, Ordering};

/// How many are remembered: 16 bytes each. One is forgotten when another falls on its place.
const PLACES: usize = 8192;

/// How long a copy may be on its way: twice the 64 T1 for which a client sends it again (RFC 3261 17.1.2.2).
pub const LATEST_COPY: Seconds = Seconds(64);

/// One dialog. Two processes may write one place side by side, and a third may read it between their steps: what they
/// leave then is neither's, and matches no dialog.
#[derive(Default)]
struct EndedDialog {
    /// The hash of the dialog, combined with the other word.
    hash_and_rest: AtomicU64,
    /// When it ended, as [`ShortMoment`] counts, and the CSeq of its last SUBSCRIBE.
    at_and_cseq: AtomicU64,
}

/// Hashes of dialogs, when they ended and the last CSeq of their watchers, in shared memory.
pub struct EndedDialogs(ShmVec<EndedDialog>);

impl EndedDialogs {
    /// None yet; call before the processes fork.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn new() -> Result<EndedDialogs, NoMemory> {
        let mut places = ShmVec::new_in(Shm);
        places.try_reserve_exact(PLACES).map_err(|_| NoMemory)?;
        places.extend((0..PLACES).map(|_| EndedDialog::default()));
        Ok(EndedDialogs(places))
    }

    /// Remembers that a dialog has ended.
    pub fn note(&self, hash: u64, remote_cseq: u32, now: Moment) {
        let place = &self.0[hash as usize % PLACES];
        let noted = (u64::from(ShortMoment::from(now).seconds()) << 32) | u64::from(remote_cseq);
        place.at_and_cseq.store(noted, Ordering::Relaxed);
        place.hash_and_rest.store(hash ^ noted, Ordering::Relaxed);
    }

    /// Whether a SUBSCRIBE with this CSeq is one that a dialog has had before it ended.
    pub fn is_of_ended(&self, hash: u64, cseq: u32, now: Moment) -> bool {
        let place = &self.0[hash as usize % PLACES];
        let noted = place.at_and_cseq.load(Ordering::Relaxed);
        if place.hash_and_rest.load(Ordering::Relaxed) ^ noted != hash {
            return false;
        }
        let age = now - Moment::at((noted >> 32) as i64);
        age <= LATEST_COPY && u64::from(cseq) <= noted & u64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_lately_is_known_by_its_numbers() {
        let ended = EndedDialogs::new().unwrap();
        assert!(!ended.is_of_ended(7, 1, Moment::at(100)));
        ended.note(7, 5, Moment::at(100));
        for (hash, cseq, now, known) in
            [(7, 1, 100, true), (7, 5, 164, true), (7, 6, 100, false), (7, 1, 165, false), (8, 1, 100, false)]
        {
            assert_eq!(ended.is_of_ended(hash, cseq, Moment::at(now)), known, "{hash} {cseq} {now}");
        }
        ended.note(7 + PLACES as u64, 5, Moment::at(100));
        assert!(!ended.is_of_ended(7, 1, Moment::at(100)));
    }

    #[test]
    fn what_two_processes_have_half_written_is_no_dialog_s() {
        let other = 7 + PLACES as u64;
        let (ended, of_other) = (EndedDialogs::new().unwrap(), EndedDialogs::new().unwrap());
        ended.note(7, 5, Moment::at(100));
        of_other.note(other, 900, Moment::at(100));
        let word = |ended: &EndedDialogs, of: fn(&EndedDialog) -> &AtomicU64| of(&ended.0[7]).load(Ordering::Relaxed);
        for of in [(|place| &place.at_and_cseq) as fn(&EndedDialog) -> &AtomicU64, |place| &place.hash_and_rest] {
            let before = word(&ended, of);
            of(&ended.0[7]).store(word(&of_other, of), Ordering::Relaxed);
            assert!(!ended.is_of_ended(7, 6, Moment::at(100)) && !ended.is_of_ended(7, 5, Moment::at(100)));
            assert!(!ended.is_of_ended(other, 6, Moment::at(100)) && !ended.is_of_ended(other, 900, Moment::at(100)));
            of(&ended.0[7]).store(before, Ordering::Relaxed);
        }
        assert!(ended.is_of_ended(7, 5, Moment::at(100)));
    }
}
