//! The only place that reads the clocks.
//!
//! Intervals belong to a clock that nobody sets: who is granted an hour has an hour, whatever NTP or an
//! administrator does to the wall clock meanwhile. So time here, [`now`], is that of the wall clock when the server
//! started, and goes on by the steady clock. What leaves the server as a time of day (rows, other modules, pages) is
//! converted at the edge, by [`to_wall`] and [`from_wall`].
use crate::time::{Instant, MicroMoment, MicroTick, MilliTick, Moment, Seconds, Tick, UnixMillis, UnixTime};
use std::sync::OnceLock;

/// How far the wall clock was ahead of the steady one when the server started, in microseconds.
static AHEAD: OnceLock<i64> = OnceLock::new();

/// The wall clock's differences below this are its rounding.
const ROUNDING: Seconds = Seconds(2);

/// What one of the system's clocks shows; 0 where there is no such clock.
fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the system writes nothing but the local structure, whatever number the clock has.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time
}

fn micros_of(clock: libc::clockid_t) -> i64 {
    let time = read(clock);
    time.tv_sec * 1_000_000 + time.tv_nsec / 1000
}

/// Ties the steady clock to the wall clock. Call before the processes fork: all of them have the same time then.
pub fn start() {
    ahead();
}

fn ahead() -> i64 {
    *AHEAD.get_or_init(|| micros_of(libc::CLOCK_REALTIME) - micros_of(libc::CLOCK_BOOTTIME))
}

/// The moment by the steady clock: every expiry in memory.
pub fn now() -> Moment {
    micro_moment().moment()
}

/// The same to the microsecond: for the order of what happens.
pub fn micro_moment() -> MicroMoment {
    MicroMoment(micros_of(libc::CLOCK_BOOTTIME) + ahead())
}

/// The time of day: for other programs and modules.
pub fn wall() -> UnixTime {
    to_wall(now())
}

/// By how much the wall clock was set forward since the server started; negative for back.
pub fn set_by() -> Seconds {
    let micros = micros_of(libc::CLOCK_REALTIME) - micro_moment().0;
    let seconds = Seconds((micros + 500_000).div_euclid(1_000_000));
    if seconds.abs() < ROUNDING { Seconds::ZERO } else { seconds }
}

/// The time of day of a moment.
pub fn to_wall(at: Moment) -> UnixTime {
    UnixTime((at + set_by()).seconds())
}

/// The moment of a time of day.
pub fn from_wall(at: UnixTime) -> Moment {
    Moment::at(at.0) - set_by()
}

/// The second of a clock that nobody sets: for intervals.
pub fn ticks() -> Tick {
    Tick(read(libc::CLOCK_MONOTONIC).tv_sec)
}

/// The microsecond of a clock that nobody sets: for measuring.
pub fn micro_tick() -> MicroTick {
    let time = read(libc::CLOCK_MONOTONIC);
    MicroTick::at(time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000)
}

/// The time of day to the millisecond: for what nodes stamp their messages with, whose clocks may differ.
pub fn wall_millis() -> UnixMillis {
    UnixMillis(millis_of(libc::CLOCK_REALTIME))
}

/// What the wall clock would show to the millisecond if nobody had set it since the server started.
pub fn steady_millis() -> UnixMillis {
    UnixMillis((micro_moment().0 / 1_000) as u64)
}

/// The millisecond of a clock that nobody sets, and that goes on while the machine sleeps.
pub fn instant() -> Instant {
    Instant::at(millis_of(libc::CLOCK_BOOTTIME))
}

/// The millisecond of a clock that nobody sets, to within a few: for the timers of transactions.
pub fn milli_tick() -> MilliTick {
    MilliTick::at(millis_of(libc::CLOCK_MONOTONIC_COARSE))
}

fn millis_of(clock: libc::clockid_t) -> u64 {
    let now = read(clock);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// The time of the wall clock after this interval: when a wait of the system's own ends.
pub fn system_time_in(interval: Seconds) -> libc::timespec {
    let mut time = read(libc::CLOCK_REALTIME);
    time.tv_sec += interval.0;
    time
}

/// Fills `buffer` with random bytes from the kernel.
pub fn random(buffer: &mut [u8]) {
    let mut done = 0;
    while done < buffer.len() {
        // SAFETY: the pointer and length name the unfilled rest of `buffer`.
        let got = unsafe { libc::getrandom(buffer[done..].as_mut_ptr() as *mut _, buffer.len() - done, 0) };
        if got > 0 {
            done += got as usize;
        }
    }
}

/// A number that nobody can guess.
pub fn random_number() -> u64 {
    let mut number = [0; 8];
    random(&mut number);
    u64::from_ne_bytes(number)
}

/// A moment as the server's own time zone writes it: `2026-11-25 15:22:44 +0100`.
pub fn local(at: Moment) -> String {
    let mut text = [0u8; 32];
    // SAFETY: a structure of numbers and a pointer, for which zeroes are valid.
    let (mut parts, time) = (unsafe { std::mem::zeroed::<libc::tm>() }, to_wall(at).0 as libc::time_t);
    // SAFETY: reads one local variable and fills the other.
    let is_known = !unsafe { libc::localtime_r(&time, &mut parts) }.is_null();
    let (place, room, format) = (text.as_mut_ptr().cast(), text.len(), c"%Y-%m-%d %H:%M:%S %z");
    // SAFETY: writes at most `room` bytes; the parts were filled, and the format ends with a NUL.
    let length = if is_known { unsafe { libc::strftime(place, room, format.as_ptr(), &parts) } } else { 0 };
    String::from_utf8_lossy(&text[..length]).into_owned()
}
