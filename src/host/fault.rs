//! Faults on purpose, in test builds only: a request asks for one (`X-Fault: panic-at-compose`), and the next process
//! that comes by that point panics, finds no shared memory once, has its statement refused, is killed, ends or stops
//! there. What is asked for lies in shared memory, so that any process finds it.
use super::db::DbError;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

/// What is asked for: where (a hash of the name), how often, and what happens there.
struct Armed {
    point: AtomicU64,
    times: AtomicU64,
    action: AtomicU64,
}

/// Whether the next allocation of this process fails, and those after it do not.
pub static FAILS_ONCE: AtomicBool = AtomicBool::new(false);

static ARMED: OnceLock<&'static Armed> = OnceLock::new();

const ACTIONS: [&str; 6] = ["panic-at-", "kill-at-", "exit-at-", "stop-at-", "memory-at-", "refuse-at-"];
const MEMORY: u64 = 4;
const REFUSE: u64 = 5;

/// Call once, before the processes fork.
pub fn install() {
    let (size, access) = (size_of::<Armed>(), libc::PROT_READ | libc::PROT_WRITE);
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: a fresh mapping of our own, at an address that the system chooses.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), size, access, flags, -1, 0) };
    if page != libc::MAP_FAILED {
        // SAFETY: the mapping is aligned to a page, lives as long as the process and its children, and zeroes are
        // valid atomics.
        let _ = ARMED.set(unsafe { &*page.cast::<Armed>() });
    }
}

/// `panic-at-compose`, `panic-at-compose*3`: `false` where the text is something else.
pub fn arm(text: &str) -> bool {
    let Some(armed) = ARMED.get() else { return false };
    let Some((action, rest)) = ACTIONS.iter().enumerate().find_map(|(i, a)| Some((i, text.strip_prefix(a)?))) else {
        return false;
    };
    let (point, times) = rest.split_once('*').unwrap_or((rest, "1"));
    armed.action.store(action as u64, Relaxed);
    armed.point.store(hash(point), Relaxed);
    armed.times.store(times.parse().unwrap_or(1), Relaxed);
    true
}

/// A point at which a fault may be asked for.
///
/// # Panics
///
/// Panics when that is asked for.
pub fn at(point: &str) {
    let Some(action) = asked_for(point, |action| action != REFUSE) else { return };
    log_action(action, point);
    let signal = match action {
        0 => panic!("asked for at {point}"),
        1 => libc::SIGKILL,
        // SAFETY: the process ends here; that nothing is cleaned up is the point.
        2 => unsafe { libc::_exit(0) },
        MEMORY => return FAILS_ONCE.store(true, Relaxed),
        _ => libc::SIGSTOP,
    };
    // SAFETY: a signal to this process itself.
    unsafe { libc::raise(signal) };
}

/// A point in a statement: besides what may be asked for elsewhere, it may be refused.
///
/// # Errors
///
/// Fails when that is asked for.
///
/// # Panics
///
/// Panics when that is asked for, as [`at`] does.
pub fn at_statement(point: &str) -> Result<(), DbError> {
    at(point);
    asked_for(point, |action| action == REFUSE).map_or(Ok(()), |action| {
        log_action(action, point);
        Err(DbError::Refused)
    })
}

/// What happens now is in the log: a fault that nobody has come by is none.
fn log_action(action: u64, point: &str) {
    let action = ACTIONS.get(action as usize).copied().unwrap_or_default();
    crate::log!(Error, "fault: {action}{point}");
}

/// What is asked for at this point, if it is one of those `wanted`; it is asked for once less then.
fn asked_for(point: &str, wanted: impl Fn(u64) -> bool) -> Option<u64> {
    let armed = ARMED.get()?;
    if armed.times.load(Relaxed) == 0 || armed.point.load(Relaxed) != hash(point) {
        return None;
    }
    let action = Some(armed.action.load(Relaxed)).filter(|action| wanted(*action))?;
    let is_first = armed.times.fetch_update(Relaxed, Relaxed, |times| times.checked_sub(1)).is_ok();
    is_first.then_some(action)
}

/// The points behind each lock, by the type of what it guards, and by that of what is listed there: `lock-Shard`,
/// `lock-Vec` and `lock-Node`.
pub fn at_lock<T>() {
    let name = std::any::type_name::<T>();
    for part in name.split(['<', ',']).take(2) {
        let part = part.trim_end_matches('>');
        at(&format!("lock-{}", part.rsplit("::").next().unwrap_or(part)));
    }
}

fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
