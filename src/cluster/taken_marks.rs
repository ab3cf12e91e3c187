//! Which marks of requests that nodes have sent on ([`super::mark`]) were taken lately: each is good once. Those that
//! had to be forgotten are not taken again either.
use super::clock::Stamp;
use crate::shm_safe::shm_safe;
use crate::time::{Instant, Millis};

/// At most this many marks are known.
pub const MOST_MARKS: usize = 65_536;

/// Marks are looked for in this many places.
const WAYS: usize = 16;

/// A request may come again for this long after it came first, as a transaction sends it until it is answered.
pub const SENT_AGAIN: Millis = Millis(4_000);

/// A mark that was taken.
#[derive(Debug, Clone, Copy, Default)]
pub struct TakenMark {
    /// A digest of who has made it, and when.
    mark: u64,
    made_at: Stamp,
    taken_at: Option<Instant>,
}

shm_safe!(TakenMark { mark, made_at, taken_at });

/// Takes a mark; `false`: it was taken before. `marks` has [`MOST_MARKS`] places, or none: then all are taken. What was
/// made before `floor` and is not known is not taken.
pub fn take(marks: &mut [TakenMark], floor: &mut Stamp, (mark, made_at): (u64, Stamp), now: Instant) -> bool {
    let places = (marks.len() / WAYS).max(1) as u64;
    let first = (mark % places) as usize * WAYS;
    let Some(places) = marks.get_mut(first..first + WAYS) else { return true };
    let known = places.iter().find(|known| known.mark == mark && known.made_at == made_at);
    if let Some(taken_at) = known.and_then(|known| known.taken_at) {
        return now.since(taken_at) <= SENT_AGAIN;
    }
    if made_at <= *floor {
        return false;
    }
    let Some(oldest) = places.iter_mut().min_by_key(|known| known.made_at) else { return true };
    // One of the two is forgotten.
    *floor = (*floor).max(made_at.min(oldest.made_at));
    if oldest.made_at < made_at {
        *oldest = TakenMark { mark, made_at, taken_at: Some(now) };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::digest::mixed;
    use super::*;
    use crate::time::UnixMillis;

    const NOW: Instant = Instant::at(1_000_000);

    fn made_at(number: u64) -> Stamp {
        Stamp::of_time(UnixMillis(1_700_000_000_000 + number))
    }

    #[test]
    fn a_mark_is_taken_once_and_again_while_its_request_is_sent_again() {
        let (mut marks, mut floor) = (vec![TakenMark::default(); MOST_MARKS], Stamp::default());
        let mut take =
            |mark, number, millis| take(&mut marks, &mut floor, (mark, made_at(number)), NOW + Millis(millis));
        assert!(take(7, 5, 0) && take(7, 5, SENT_AGAIN.0) && !take(7, 5, SENT_AGAIN.0 + 1));
        assert!(take(7, 4, 0) && take(8, 5, 0), "another mark");
    }

    #[test]
    fn a_mark_that_was_forgotten_is_not_taken_again() {
        let (mut marks, mut floor) = (vec![TakenMark::default(); MOST_MARKS], Stamp::default());
        let many = 3 * MOST_MARKS as u64;
        let of = |number: u64| (mixed(number), made_at(number));
        assert!((1..=many).all(|number| take(&mut marks, &mut floor, of(number), NOW)), "in the order they were made");
        let late = NOW + SENT_AGAIN + Millis(1);
        let again = (1..=many).filter(|number| take(&mut marks, &mut floor, of(*number), late)).count();
        assert_eq!(again, 0);
        assert!(
            floor < made_at(many - MOST_MARKS as u64 / 4),
            "what was made lately is still taken for the first time"
        );
    }

    #[test]
    fn what_was_made_before_the_floor_is_not_taken_and_without_room_all_is() {
        let (mut marks, mut floor) = (vec![TakenMark::default(); MOST_MARKS], made_at(10));
        assert!(!take(&mut marks, &mut floor, (1, made_at(10)), NOW));
        assert!(take(&mut marks, &mut floor, (1, made_at(11)), NOW));
        assert!(take(&mut [], &mut floor, (1, made_at(1)), NOW));
    }
}
