//! A signal that ends the server and reaches a process that has just been forked.
//!
//! Until a forked process knows that it is not the main one, the host's handler takes SIGTERM in it for the main
//! process's own and only notes it: the process goes on, the main process waits for it, and after a minute the server
//! is aborted without having written what is only in memory. A SIGTERM right after the start, or during it, does that
//! easily, since a new process often runs for the first time when the signal is there already. So the signals wait
//! until the new process can take them.
use std::sync::atomic::{AtomicBool, Ordering};

/// The signals by which the host ends its processes.
const ENDING: [libc::c_int; 2] = [libc::SIGTERM, libc::SIGINT];

/// The ending signals wait while it lives; the process that is forked meanwhile inherits that.
pub struct HeldSignals(libc::sigset_t);

impl HeldSignals {
    /// Lets the ending signals of this process wait.
    pub fn begin() -> Self {
        let mut before = empty();
        // SAFETY: both sets are whole and live during the call.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &ending(), &mut before) };
        Self(before)
    }
}

impl Drop for HeldSignals {
    fn drop(&mut self) {
        // SAFETY: the set was filled when the guard was made.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

/// Lets this process take ending signals from now on, those that wait first. For a process that the host forked and in
/// which no guard can be dropped: call it in each round, it costs something in the first one only.
pub fn take() {
    static IS_READY: AtomicBool = AtomicBool::new(false);
    if !IS_READY.swap(true, Ordering::Relaxed) {
        // SAFETY: the set is whole and lives during the call.
        unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &ending(), std::ptr::null_mut()) };
    }
}

fn empty() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: local memory, which the call may leave as it likes.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: sigemptyset fills the whole set; it cannot fail for memory that is there.
    unsafe { set.assume_init() }
}

fn ending() -> libc::sigset_t {
    let mut set = empty();
    for signal in ENDING {
        // SAFETY: the set is whole, and the signals exist.
        unsafe { libc::sigaddset(&mut set, signal) };
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What ends a child that is sent SIGTERM before it is ready, and whether it was ready then.
    fn end_of_a_child(ready: impl Fn()) -> libc::c_int {
        let held = HeldSignals::begin();
        // SAFETY: the child calls functions that are safe after a fork, and leaves by `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: it sends itself the signal, as the main process may before the child runs.
            unsafe { libc::raise(libc::SIGTERM) };
            ready();
            // SAFETY: it ends without running what the parent has registered.
            unsafe { libc::_exit(7) }
        }
        drop(held);
        let mut status = 0;
        // SAFETY: `waitpid` writes to `status` alone, which lives until it returns.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        status
    }

    #[test]
    fn a_signal_waits_until_the_process_is_ready() {
        let never = end_of_a_child(|| ());
        assert!(libc::WIFEXITED(never) && libc::WEXITSTATUS(never) == 7, "it is held back");
        let ready = end_of_a_child(take);
        assert!(libc::WIFSIGNALED(ready) && libc::WTERMSIG(ready) == libc::SIGTERM, "it is not lost");
    }

    #[test]
    fn afterwards_all_is_as_before() {
        let is_blocked = |signal| {
            let mut now = empty();
            // SAFETY: only reads this thread's set.
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &mut now) };
            // SAFETY: the line above has filled the set, a local variable.
            unsafe { libc::sigismember(&now, signal) == 1 }
        };
        let held = HeldSignals::begin();
        assert!(ENDING.iter().all(|signal| is_blocked(*signal)));
        drop(held);
        assert!(!ENDING.iter().any(|signal| is_blocked(*signal)));
    }
}
