//! Faults on purpose, in test builds only: a request asks for one (`X-Fault: panic-at-compose`), and the next process
//! that comes by that point panics, is killed, ends or stops there. What is asked for lies in shared memory, so that
//! any process finds it.
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// What is asked for: where (a hash of the name), how often, and what happens there.
struct Armed {
    point: AtomicU64,
    times: AtomicU64,
    action: AtomicU64,
}

static ARMED: OnceLock<&'static Armed> = OnceLock::new();

const ACTIONS: [&str; 4] = ["panic-at-", "kill-at-", "exit-at-", "stop-at-"];

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
pub fn at(point: &str) {
    let Some(armed) = ARMED.get() else { return };
    if armed.times.load(Relaxed) == 0 || armed.point.load(Relaxed) != hash(point) {
        return;
    }
    armed.times.fetch_sub(1, Relaxed);
    let signal = match armed.action.load(Relaxed) {
        0 => panic!("asked for at {point}"),
        1 => libc::SIGKILL,
        // SAFETY: the process ends here; that nothing is cleaned up is the point.
        2 => unsafe { libc::_exit(0) },
        _ => libc::SIGSTOP,
    };
    // SAFETY: a signal to this process itself.
    unsafe { libc::raise(signal) };
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
