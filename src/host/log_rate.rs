//! Log lines of one cause are limited in rate: a client that loops, or a database that is away, would fill the disk.
//! Each place
//! in the sources that writes such lines has a [`Cause`]; each process counts for itself.
use super::clock;
use std::cell::Cell;

/// So many lines of one cause are written in one window.
pub const MOST: u32 = 10;
/// How long a window is, in seconds.
pub const WINDOW: u64 = 10;

/// What has been written of one cause.
#[derive(Default)]
pub struct Cause {
    began: Cell<u64>,
    written: Cell<u32>,
    left_out: Cell<u64>,
}

/// Whether a line is written, and what is added to it.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is written as it is.
    Write,
    /// It is written, after so many that were left out in so many seconds.
    WriteAfter(u64, u64),
    /// It is left out.
    LeaveOut,
}

impl Cause {
    /// Nothing has been written yet.
    pub const fn new() -> Cause {
        Cause { began: Cell::new(0), written: Cell::new(0), left_out: Cell::new(0) }
    }

    /// Counts a line.
    pub fn verdict(&self) -> Verdict {
        self.verdict_at(clock::monotonic())
    }

    fn verdict_at(&self, now: u64) -> Verdict {
        let age = now.saturating_sub(self.began.get());
        if age >= WINDOW {
            let left_out = self.left_out.replace(0);
            self.began.set(now);
            self.written.set(1);
            return if left_out > 0 { Verdict::WriteAfter(left_out, age) } else { Verdict::Write };
        }
        if self.written.get() < MOST {
            self.written.set(self.written.get() + 1);
            return Verdict::Write;
        }
        self.left_out.set(self.left_out.get() + 1);
        Verdict::LeaveOut
    }
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

/// As `log!`, for what one client or one broken service can cause many times: ten lines of one place in ten seconds and
/// process, then a count of those left out with the next one.
#[macro_export]
macro_rules! limited {
    ($level:ident, $($arg:tt)*) => {{
        use $crate::host::log_rate::{Cause, Verdict, grouped};
        thread_local! { static CAUSE: Cause = const { Cause::new() }; }
        if $crate::host::log::enabled($crate::host::log::Level::$level as i32) {
            match CAUSE.with(Cause::verdict) {
                Verdict::Write => $crate::log!($level, $($arg)*),
                Verdict::WriteAfter(count, seconds) => $crate::log!(
                    $level, "{} ... and {} more like this in {seconds} s", format!($($arg)*), grouped(count)
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
        let cause = Cause::new();
        let verdicts: Vec<Verdict> = (0..1244).map(|_| cause.verdict_at(100)).collect();
        assert_eq!(verdicts.iter().filter(|v| **v == Verdict::Write).count(), MOST as usize);
        assert_eq!(cause.verdict_at(100 + WINDOW - 1), Verdict::LeaveOut);
        assert_eq!(cause.verdict_at(100 + WINDOW), Verdict::WriteAfter(1235, WINDOW));
        assert_eq!(cause.verdict_at(100 + WINDOW), Verdict::Write);
        assert_eq!(cause.verdict_at(500), Verdict::Write);
    }

    #[test]
    fn numbers_are_read_easily() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
