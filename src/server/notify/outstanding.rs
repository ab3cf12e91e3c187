//! How many NOTIFYs of all processes wait for their answer. Answers come in a crowd after the NOTIFYs, and what the
//! sockets cannot keep until a worker reads it is lost: so all processes together run only so far ahead of the answers.
//!
//! NOTIFYs are counted by the half second in which they went out. One that has been silent for longer is not waited
//! for, and when nothing at all is answered for a while, nothing is.
use crate::shm_safe::shm_safe;
use std::sync::atomic::{AtomicU64, Ordering};

/// The smallest window: what the smallest receive buffers of Linux keep.
pub const LEAST_WINDOW: u64 = 96;

/// The largest window.
pub const MOST_WINDOW: u64 = 4_096;

/// Bytes of a receive buffer that an answer takes, with what the kernel keeps beside it, and as much again for
/// requests.
const BYTES_PER_ANSWER: u64 = 2_048;

/// After so many microseconds without any answer those that are missing are not waited for.
pub const PATIENCE_MICROS: u64 = 20_000;

/// A period is so many microseconds, as a power of two: about half a second.
const PERIOD_BITS: u32 = 19;

/// Periods that are kept: this one and the one before it count.
const PERIODS: usize = 4;

/// NOTIFYs under way, of all processes.
#[derive(Debug, Default)]
pub struct Outstanding {
    /// The number of a period in the upper half, how many of its NOTIFYs wait in the lower.
    periods: [AtomicU64; PERIODS],
    /// When the last answer came, or the first NOTIFY after a rest went out, in microseconds.
    moved_at: AtomicU64,
    /// How many may wait; 0: [`LEAST_WINDOW`].
    window: AtomicU64,
}

shm_safe!(Outstanding { periods, moved_at, window });

fn period(at: u64) -> u64 {
    (at >> PERIOD_BITS) & 0xffff_ffff
}

impl Outstanding {
    /// As many may wait as the smallest receive buffer keeps answers, in bytes; call before the processes fork.
    pub fn fit(&self, receive_buffer: u64) {
        self.window.store((receive_buffer / BYTES_PER_ANSWER).clamp(LEAST_WINDOW, MOST_WINDOW), Ordering::Relaxed);
    }

    /// How many may wait.
    pub fn window(&self) -> u64 {
        self.window.load(Ordering::Relaxed).max(LEAST_WINDOW)
    }

    /// A NOTIFY was sent at that time.
    pub fn note_sent(&self, at: u64) {
        let period = period(at);
        let add = |old: u64| Some(if old >> 32 == period { old + 1 } else { (period << 32) | 1 });
        let before = self.of(period).fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).unwrap_or_default();
        if before >> 32 != period || before & 0xffff_ffff == 0 {
            self.moved_at.store(at, Ordering::Relaxed);
        }
    }

    /// One that was sent at `sent_at` has been answered, or given up.
    pub fn note_done(&self, sent_at: u64, now: u64) {
        let period = period(sent_at);
        let less = |old: u64| (old >> 32 == period && old & 0xffff_ffff > 0).then(|| old - 1);
        let _ = self.of(period).fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        self.moved_at.store(now, Ordering::Relaxed);
    }

    fn of(&self, period: u64) -> &AtomicU64 {
        &self.periods[period as usize % PERIODS]
    }

    /// How many wait.
    pub fn count(&self, now: u64) -> u64 {
        let (this, counted) = (period(now), |slot: &AtomicU64| slot.load(Ordering::Relaxed));
        let recent = |value: &u64| this.wrapping_sub(*value >> 32) <= 1;
        self.periods.iter().map(counted).filter(recent).map(|value| value & 0xffff_ffff).sum()
    }

    /// Whether so many wait that no crowd should join them. `now` is asked for where that is not plain.
    pub fn are_many(&self, now: impl FnOnce() -> u64) -> bool {
        let all: u64 = self.periods.iter().map(|slot| slot.load(Ordering::Relaxed) & 0xffff_ffff).sum();
        if all < self.window() {
            return false;
        }
        let now = now();
        if self.count(now) < self.window() {
            return false;
        }
        let is_silent = now.saturating_sub(self.moved_at.load(Ordering::Relaxed)) > PATIENCE_MICROS;
        if is_silent {
            self.periods.iter().for_each(|slot| slot.store(0, Ordering::Relaxed));
        }
        !is_silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn sent(many: u64, at: u64) -> Outstanding {
        let outstanding = Outstanding::default();
        (0..many).for_each(|_| outstanding.note_sent(at));
        outstanding
    }

    #[test]
    fn what_is_answered_waits_no_more() {
        let outstanding = sent(LEAST_WINDOW, 7 * SECOND);
        assert!(outstanding.are_many(|| 7 * SECOND));
        outstanding.note_done(7 * SECOND, 7 * SECOND + 1_000);
        assert_eq!(outstanding.count(7 * SECOND + 1_000), LEAST_WINDOW - 1);
        assert!(!outstanding.are_many(|| panic!("few are few at any time")));
        (0..2 * LEAST_WINDOW).for_each(|_| outstanding.note_done(7 * SECOND, 7 * SECOND));
        assert_eq!(outstanding.count(7 * SECOND), 0, "an answer counts once at most");
    }

    #[test]
    fn what_stays_silent_is_not_waited_for() {
        let outstanding = sent(LEAST_WINDOW, SECOND);
        assert!(outstanding.are_many(|| SECOND + PATIENCE_MICROS));
        assert!(!outstanding.are_many(|| SECOND + PATIENCE_MICROS + 1), "nothing is answered");
        assert_eq!(outstanding.count(SECOND + PATIENCE_MICROS + 1), 0);
        // Where others are answered all the time, those that are silent are forgotten after a second.
        let outstanding = sent(LEAST_WINDOW, SECOND);
        outstanding.note_sent(SECOND);
        outstanding.note_done(SECOND, 3 * SECOND);
        assert!(!outstanding.are_many(|| 3 * SECOND));
        // A late answer does not count for NOTIFYs of another period.
        (0..5).for_each(|_| outstanding.note_sent(3 * SECOND));
        outstanding.note_done(SECOND, 3 * SECOND);
        assert_eq!(outstanding.count(3 * SECOND), 5);
    }

    #[test]
    fn the_window_is_what_the_receive_buffers_keep() {
        let outstanding = Outstanding::default();
        for (bytes, window) in [(0, LEAST_WINDOW), (212_992, 104), (4 << 20, 2_048), (1 << 30, MOST_WINDOW)] {
            outstanding.fit(bytes);
            assert_eq!(outstanding.window(), window);
        }
    }
}
