//! How many NOTIFYs of all processes that went out over UDP wait for their answer. Answers come in a crowd after the
//! NOTIFYs, and what the sockets cannot keep until a worker reads it is lost: so the sender processes run only so far
//! ahead of the answers.
//!
//! NOTIFYs are counted by the period in which they went out, and by nothing else. One that has been silent for longer
//! than [`LONGEST_WAIT`] is not waited for: neither a watcher that is gone, nor an answer that was lost, nor
//! what others answer meanwhile changes that.
use crate::shm_safe::shm_safe;
use crate::time::{MicroTick, Micros};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

/// The smallest window: what the smallest receive buffers of Linux keep.
pub const LEAST_WINDOW: u64 = 96;

/// The largest window.
pub const MOST_WINDOW: u64 = 4_096;

/// Bytes of a receive buffer that an answer takes, with what the kernel keeps beside it, and as much again for
/// requests.
const BYTES_PER_ANSWER: u64 = 2_048;

/// A period is this many microseconds long, as a power of two: about 33 milliseconds.
const PERIOD_BITS: u32 = 15;

/// Periods that are kept.
const PERIODS: usize = 4;

/// Periods whose NOTIFYs count: this one and those before it.
const RECENT: u64 = 3;

/// How long a NOTIFY counts at most.
pub const LONGEST_WAIT: Micros = Micros(RECENT << PERIOD_BITS);

/// NOTIFYs under way over UDP, of all processes.
#[derive(Debug, Default)]
pub struct UnansweredNotifies {
    /// The number of a period in the upper half, how many of its NOTIFYs wait in the lower.
    periods: [AtomicU64; PERIODS],
    window: Window,
}

shm_safe!(UnansweredNotifies { periods, window });

/// How many may wait; `None`: any number. It is set before the processes fork.
#[derive(Debug, Default)]
struct Window(AtomicU64);

shm_safe!(Window(number));

impl Window {
    fn set(&self, window: Option<NonZeroU64>) {
        self.0.store(window.map_or(0, NonZeroU64::get), Ordering::Relaxed);
    }

    fn get(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.0.load(Ordering::Relaxed))
    }
}

fn period(at: MicroTick) -> u64 {
    (at.micros() >> PERIOD_BITS) & 0xffff_ffff
}

/// Whether a slot is free, or that of an earlier period. Numbers of periods begin anew after four years.
fn is_before(slot: u64, period: u64) -> bool {
    slot == 0 || ((slot >> 32) as u32).wrapping_sub(period as u32) > u32::MAX / 2
}

impl UnansweredNotifies {
    /// As many may wait as the smallest receive buffer keeps answers, in bytes; `None`: the server has no UDP socket,
    /// and any number may. Call it before the processes fork.
    pub fn fit(&self, receive_buffer: Option<u64>) {
        let fitting = |bytes: u64| NonZeroU64::new((bytes / BYTES_PER_ANSWER).clamp(LEAST_WINDOW, MOST_WINDOW));
        self.window.set(receive_buffer.and_then(fitting));
    }

    /// How many may wait; `None`: any number.
    pub fn window(&self) -> Option<u64> {
        self.window.get().map(NonZeroU64::get)
    }

    /// A NOTIFY is about to be sent over UDP, at that time: its answer may come before this process goes on. One that
    /// comes late itself does not take the place of those that were sent since.
    pub fn note_sent(&self, at: MicroTick) {
        let period = period(at);
        let add = |old: u64| match old >> 32 == period {
            true => Some(old + 1),
            false => is_before(old, period).then_some((period << 32) | 1),
        };
        let _ = self.count_in(period).fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// One that was noted at `sent_at` has been answered, or did not go out.
    pub fn note_done(&self, sent_at: MicroTick) {
        let period = period(sent_at);
        let less = |old: u64| (old >> 32 == period && old & 0xffff_ffff > 0).then(|| old - 1);
        let _ = self.count_in(period).fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    fn count_in(&self, period: u64) -> &AtomicU64 {
        &self.periods[period as usize % PERIODS]
    }

    /// How many wait.
    pub fn count(&self, now: MicroTick) -> u64 {
        let (this, counted) = (period(now), |slot: &AtomicU64| slot.load(Ordering::Relaxed));
        // Another process may have begun the next period since.
        let recent = |value: &u64| (this + 1).wrapping_sub(value >> 32) & 0xffff_ffff <= RECENT;
        self.periods.iter().map(counted).filter(recent).map(|value| value & 0xffff_ffff).sum()
    }

    /// Whether too many wait for a crowd to join them. `now` is asked for where that is not plain.
    pub fn are_many(&self, now: impl FnOnce() -> MicroTick) -> bool {
        let Some(window) = self.window() else { return false };
        let all: u64 = self.periods.iter().map(|slot| slot.load(Ordering::Relaxed) & 0xffff_ffff).sum();
        all >= window && self.count(now()) >= window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;
    const PERIOD: u64 = 1 << PERIOD_BITS;

    fn sent(many: u64, at: u64) -> UnansweredNotifies {
        let outstanding = UnansweredNotifies::default();
        outstanding.fit(Some(0));
        (0..many).for_each(|_| outstanding.note_sent(MicroTick::at(at)));
        outstanding
    }

    #[test]
    fn what_is_answered_waits_no_more() {
        let outstanding = sent(LEAST_WINDOW, 7 * SECOND);
        assert!(outstanding.are_many(|| MicroTick::at(7 * SECOND)));
        outstanding.note_done(MicroTick::at(7 * SECOND));
        assert_eq!(outstanding.count(MicroTick::at(7 * SECOND + 1_000)), LEAST_WINDOW - 1);
        assert!(!outstanding.are_many(|| panic!("few are few at any time")));
        (0..2 * LEAST_WINDOW).for_each(|_| outstanding.note_done(MicroTick::at(7 * SECOND)));
        assert_eq!(outstanding.count(MicroTick::at(7 * SECOND)), 0, "an answer counts once at most");
    }

    #[test]
    fn silence_ends_by_itself_whatever_others_answer() {
        for begin in [SECOND, 77 * SECOND + 31_000, 2 * PERIOD, (1 << 47) - PERIOD] {
            let outstanding = sent(2 * LEAST_WINDOW, begin);
            let many = (0..LONGEST_WAIT.0).step_by(500).filter(|waited| {
                // Another NOTIFY goes out and is answered, and the answer to one of long ago comes.
                outstanding.note_sent(MicroTick::at(begin + waited));
                outstanding.note_done(MicroTick::at(begin + waited));
                outstanding.note_done(MicroTick::at(begin.saturating_sub(30 * SECOND)));
                outstanding.are_many(|| MicroTick::at(begin + waited))
            });
            assert!(many.last().unwrap() >= LONGEST_WAIT.0 - PERIOD - 500, "{begin}");
            assert!(!outstanding.are_many(|| MicroTick::at(begin + LONGEST_WAIT.0)));
            assert_eq!(outstanding.count(MicroTick::at(begin + LONGEST_WAIT.0)), 0);
        }
    }

    #[test]
    fn those_that_are_noted_late_do_not_take_the_place_of_later_ones() {
        let now = 40 * PERIOD;
        for late in 0..40 {
            let outstanding = sent(5, now);
            outstanding.note_sent(MicroTick::at(late * PERIOD));
            let counts = 5 + u64::from(40 - late < RECENT);
            assert_eq!(outstanding.count(MicroTick::at(now)), counts, "{late}");
            outstanding.note_done(MicroTick::at(late * PERIOD));
            assert_eq!(outstanding.count(MicroTick::at(now)), 5, "{late}");
            // A late answer does not count for NOTIFYs of another period.
            outstanding.note_done(MicroTick::at(late * PERIOD));
            assert_eq!(outstanding.count(MicroTick::at(now)), 5, "{late}");
        }
    }

    #[test]
    fn what_other_processes_sent_a_moment_later_counts() {
        let outstanding = sent(5, 40 * PERIOD);
        assert_eq!(outstanding.count(MicroTick::at(40 * PERIOD - 1)), 5);
        assert_eq!(outstanding.count(MicroTick::at(39 * PERIOD - 1)), 0, "a clock is not wrong by a whole period");
    }

    #[test]
    fn the_count_is_that_of_a_list_of_times() {
        // A process may note what it sends later than it says, and answers come in any order, or never.
        let (mut state, mut list) = (0x9e37_79b9_7f4a_7c15_u64, Vec::new());
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let (outstanding, mut now) = (sent(0, 0), SECOND);
        for _ in 0..20_000 {
            now += random(2_000);
            match random(3) {
                0 | 1 => {
                    // By less than a period: the slot is its own still.
                    let at = now - random(PERIOD);
                    outstanding.note_sent(MicroTick::at(at));
                    list.push(at);
                }
                _ if list.is_empty() => {}
                _ => outstanding.note_done(MicroTick::at(list.swap_remove(random(list.len() as u64) as usize))),
            }
            list.retain(|at| period(MicroTick::at(now)) - period(MicroTick::at(*at)) < RECENT);
            assert_eq!(outstanding.count(MicroTick::at(now)), list.len() as u64);
            assert_eq!(outstanding.are_many(|| MicroTick::at(now)), list.len() as u64 >= LEAST_WINDOW);
        }
    }

    #[test]
    fn the_window_is_what_the_receive_buffers_keep() {
        let outstanding = UnansweredNotifies::default();
        for (bytes, window) in [(0, LEAST_WINDOW), (212_992, 104), (4 << 20, 2_048), (1 << 30, MOST_WINDOW)] {
            outstanding.fit(Some(bytes));
            assert_eq!(outstanding.window(), Some(window));
        }
        outstanding.fit(None);
        assert_eq!(outstanding.window(), None);
        (0..2 * MOST_WINDOW).for_each(|_| outstanding.note_sent(MicroTick::at(SECOND)));
        assert!(!outstanding.are_many(|| MicroTick::at(SECOND)), "without UDP any number may wait");
    }
}
