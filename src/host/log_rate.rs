//! Log lines of one cause are limited in rate: a client that loops, or a database that is away, would fill the disk.
//! Each place in the sources that writes such lines has a [`LogCause`]; refusals, which are all written in one place,
//! have one for each reason ([`Causes`]). Each process counts for itself.
use super::clock;
use super::measured::measured;
use crate::time::{Moment, Seconds};
use foldhash::quality::FixedState;
use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::atomic::Ordering;

/// At most this many lines of one cause are written in one window.
pub const MOST_LINES: u32 = 10;
/// How long a window is.
pub const WINDOW: Seconds = Seconds(10);
/// At most this many causes of refusals are distinguished at a time.
pub const CAUSES: usize = 64;

/// What has been written of one cause.
#[derive(Default)]
pub struct LogCause {
    began: Cell<Option<Moment>>,
    written: Cell<u32>,
    left_out: Cell<u64>,
}

/// Whether a line is written, and what is added to it.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The line is written as it is.
    Write,
    /// The line is written, and says how many were left out before it, and in which time.
    WriteAfter(u64, Seconds),
    /// The line is left out.
    LeaveOut,
}

impl LogCause {
    /// A cause of which no line has been written yet.
    pub const fn new() -> LogCause {
        LogCause { began: Cell::new(None), written: Cell::new(0), left_out: Cell::new(0) }
    }

    /// Counts a line.
    pub fn verdict(&self) -> Verdict {
        self.verdict_at(clock::now())
    }

    fn verdict_at(&self, now: Moment) -> Verdict {
        let age = self.age(now);
        if age >= WINDOW {
            let left_out = self.left_out.replace(0);
            self.began.set(Some(now));
            self.written.set(1);
            return if left_out > 0 { Verdict::WriteAfter(left_out, age) } else { Verdict::Write };
        }
        if self.written.get() < MOST_LINES {
            self.written.set(self.written.get() + 1);
            return Verdict::Write;
        }
        self.left_out.set(self.left_out.get() + 1);
        if let Some(measured) = measured() {
            measured.lines_left_out.fetch_add(1, Ordering::Relaxed);
        }
        Verdict::LeaveOut
    }

    /// How long ago its window began; for ever where none has.
    fn age(&self, now: Moment) -> Seconds {
        self.began.get().map_or(Seconds::MAX, |began| now - began)
    }

    /// Whether its window has ended and no lines of it are left to be counted.
    fn is_over(&self, now: Moment) -> bool {
        self.age(now) >= WINDOW && self.left_out.get() == 0
    }
}

/// What has been written of each cause of a refusal, at most [`CAUSES`] of them; all further ones share one limit.
#[derive(Default)]
pub struct Causes {
    /// Digests of causes.
    known: RefCell<Vec<(u64, LogCause)>>,
    others: LogCause,
}

impl Causes {
    /// None yet.
    pub const fn new() -> Causes {
        Causes { known: RefCell::new(Vec::new()), others: LogCause::new() }
    }

    /// Counts a line about a request of this method that was answered with `code` because of `why`.
    pub fn verdict(&self, method: &str, code: u16, why: &str) -> Verdict {
        self.verdict_at(clock::now(), digest(method, code, why))
    }

    fn verdict_at(&self, now: Moment, cause: u64) -> Verdict {
        let mut known = self.known.borrow_mut();
        if let Some((_, limit)) = known.iter().find(|(digest, _)| *digest == cause) {
            return limit.verdict_at(now);
        }
        let limit = LogCause::new();
        if known.len() < CAUSES {
            known.push((cause, limit));
        } else {
            let Some(old) = known.iter_mut().find(|(_, limit)| limit.is_over(now)) else {
                return self.others.verdict_at(now);
            };
            *old = (cause, limit);
        }
        known.iter().find(|(digest, _)| *digest == cause).map_or(Verdict::LeaveOut, |(_, limit)| limit.verdict_at(now))
    }
}

/// A cause without what varies from request to request: numbers, and what follows a colon.
fn digest(method: &str, code: u16, why: &str) -> u64 {
    let constant = why.split(':').next().unwrap_or_default();
    let mut hasher = FixedState::default().build_hasher();
    (method, code).hash(&mut hasher);
    constant.bytes().filter(|byte| !byte.is_ascii_digit()).for_each(|byte| byte.hash(&mut hasher));
    hasher.finish()
}

/// A number with commas between the thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

thread_local! {
    /// The causes of this process's refusals.
    pub static REFUSALS: Causes = const { Causes::new() };
}

/// As `log!`, for what one client or one broken service can cause many times: ten lines of one place in ten seconds and
/// process, then a count of those left out with the next one.
#[macro_export]
macro_rules! limited {
    ($level:ident, $($arg:tt)*) => {{
        thread_local! {
            static CAUSE: $crate::host::log_rate::LogCause = const { $crate::host::log_rate::LogCause::new() };
        }
        $crate::log_as_limited!($level, CAUSE.with($crate::host::log_rate::LogCause::verdict), $($arg)*)
    }};
}

/// As `limited!`, for a refused request: the limit is that of its method, code and reason, wherever it is written.
#[macro_export]
macro_rules! limited_refusal {
    ($level:ident, ($method:expr, $code:expr, $why:expr), $($arg:tt)*) => {
        $crate::log_as_limited!(
            $level, $crate::host::log_rate::REFUSALS.with(|causes| causes.verdict($method, $code, $why)), $($arg)*
        )
    };
}

/// Writes a line as a verdict says, which is asked for where the level is on.
#[macro_export]
macro_rules! log_as_limited {
    ($level:ident, $verdict:expr, $($arg:tt)*) => {{
        use $crate::host::log_rate::{Verdict, grouped};
        if $crate::host::log::enabled($crate::host::log::Level::$level as i32) {
            match $verdict {
                Verdict::Write => $crate::log!($level, $($arg)*),
                Verdict::WriteAfter(count, within) => $crate::log!(
                    $level, "{} ... and {} more like this in {} s", format!($($arg)*), grouped(count), within.0
                ),
                Verdict::LeaveOut => {}
            }
        }
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_becomes_ten_lines_and_a_count() {
        let cause = LogCause::new();
        let verdicts: Vec<Verdict> = (0..1244).map(|_| cause.verdict_at(Moment::at(100))).collect();
        assert_eq!(verdicts.iter().filter(|v| **v == Verdict::Write).count(), MOST_LINES as usize);
        assert_eq!(cause.verdict_at(Moment::at(100) + WINDOW - Seconds(1)), Verdict::LeaveOut);
        assert_eq!(cause.verdict_at(Moment::at(100) + WINDOW), Verdict::WriteAfter(1235, WINDOW));
        assert_eq!(cause.verdict_at(Moment::at(100) + WINDOW), Verdict::Write);
        assert_eq!(cause.verdict_at(Moment::at(500)), Verdict::Write);
    }

    #[test]
    fn each_cause_of_a_refusal_has_its_own_limit() {
        let causes = Causes::new();
        let flood = |why: &str| (0..100).filter(|_| causes.verdict("SUBSCRIBE", 403, why) == Verdict::Write).count();
        assert_eq!(flood("the presentity has 7 watchers"), MOST_LINES as usize);
        assert_eq!(flood("the presentity has 8 watchers"), 0);
        assert_eq!(flood("the watcher has 7 subscriptions"), MOST_LINES as usize);
        assert_eq!(causes.verdict("PUBLISH", 403, "the presentity has 7 watchers"), Verdict::Write);
        assert_eq!(causes.verdict("SUBSCRIBE", 400, "the sender is no URI: a"), Verdict::Write);
        assert_eq!(digest("A", 400, "no URI: a"), digest("A", 400, "no URI: b"));
        assert_ne!(digest("A", 400, "no URI: a"), digest("A", 414, "no URI: a"));
    }

    #[test]
    fn causes_are_bounded_and_make_room() {
        let causes = Causes::new();
        (0..CAUSES as u64).for_each(|cause| assert_eq!(causes.verdict_at(Moment::at(100), cause), Verdict::Write));
        let shared =
            (1_000..1_100).filter(|cause| causes.verdict_at(Moment::at(101), *cause) == Verdict::Write).count();
        assert_eq!(shared, MOST_LINES as usize);
        assert_eq!(causes.verdict_at(Moment::at(100) + WINDOW, 2_000), Verdict::Write);
        assert_eq!(causes.known.borrow().len(), CAUSES);
        assert!(causes.known.borrow().iter().any(|(digest, _)| *digest == 2_000));
    }

    #[test]
    fn numbers_are_read_easily() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
