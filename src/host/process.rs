//! The processes of the server and its timers (`core/pt.h`, `core/timer.h`, `core/timer_proc.h`).
use super::fork_signals;
use crate::sys;
use crate::time::{Micros, Millis, Seconds};
use std::ffi::{CStr, c_int, c_uint, c_void};

/// `child_init` rank of the main process before anything is forked.
pub const RANK_INIT: i32 = -127;
/// `child_init` rank of the main process.
pub const RANK_MAIN: i32 = 0;
/// `child_init` rank of the TCP main process.
pub const RANK_TCP_MAIN: i32 = -4;
/// `child_init` rank of timer processes.
pub const RANK_TIMER: i32 = -1;

/// A function the host's timer calls.
pub type TimerFn = unsafe extern "C" fn(c_uint, *mut c_void);

/// Returns the id of this process.
pub fn pid() -> i32 {
    // SAFETY: reads a variable of the host.
    unsafe { sys::kr_pid() }
}

/// Which of the host's timer processes calls a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimerProcess {
    /// The main one.
    Main,
    /// The secondary one.
    Secondary,
}

/// Calls `f` once in `period` in a timer process.
pub fn every(period: Seconds, process: TimerProcess, f: TimerFn) -> bool {
    let seconds = i32::try_from(period.0).unwrap_or(i32::MAX);
    match process {
        // SAFETY: the host keeps the function pointer, which lives as long as the module, and hands it a null.
        TimerProcess::Secondary => unsafe { sys::kr_wtimer_add(Some(f), std::ptr::null_mut(), seconds) >= 0 },
        // SAFETY: the main process keeps the function for its timer, and hands it the same null.
        TimerProcess::Main => unsafe { sys::kr_register_timer(Some(f), std::ptr::null_mut(), seconds as c_uint) >= 0 },
    }
}

/// Reserves `count` processes for [`fork_timer`]; call in `mod_init`.
pub fn reserve_timers(count: i32) -> bool {
    // SAFETY: the host adds to a number of its own, before its processes fork.
    unsafe { sys::kr_register_basic_timers(count) >= 0 }
}

/// Starts a process that calls `f(_, param)` once in `period`; call in `child_init` of the main process. `f` begins
/// with [`fork_signals::take`].
pub fn fork_timer(name: &'static CStr, period: Micros, f: TimerFn, param: usize) -> bool {
    let _held = fork_signals::HeldSignals::begin();
    let micros = c_int::try_from(period.0).unwrap_or(c_int::MAX);
    // SAFETY: name and function live as long as the module; `param` is a plain number for `f`.
    unsafe { sys::kr_fork_basic_timer_us(name.as_ptr() as *mut _, Some(f), param as *mut c_void, micros) >= 0 }
}

/// Reserves `count` processes for [`fork_worker`]; call in `mod_init`.
pub fn reserve_workers(count: i32) -> bool {
    // SAFETY: the host adds to a counter of its own.
    unsafe { sys::kr_cfg_register_child(count) };
    // SAFETY: the host adds to the number of processes that it has not forked yet.
    unsafe { sys::kr_register_procs(count) >= 0 }
}

/// Starts a process that runs `work` for ever; call in `child_init` of the main process. `false`: there is no process.
pub fn fork_worker(name: &'static CStr, work: impl FnMut()) -> bool {
    let held = fork_signals::HeldSignals::begin();
    // SAFETY: the name lives as long as the module, and the process is forked by the main process, as the host wants
    // it.
    match unsafe { sys::kr_fork_process(RANK_TIMER, name.as_ptr() as *mut _, 1) } {
        0 => {
            drop(held);
            run_worker(work)
        }
        pid => pid > 0,
    }
}

/// What the child does. It must never come back to what the main process goes on with: where it cannot run it ends, and
/// the host stops the server, as after the end of any of its processes.
fn run_worker(mut work: impl FnMut()) -> ! {
    // SAFETY: the host's own initialisation of a forked process, called once.
    if unsafe { sys::kr_cfg_child_init() } != 0 {
        crate::log!(Error, "a process cannot be initialised, and ends");
        leave();
    }
    loop {
        let turn = || {
            // SAFETY: takes over changed settings of the host; no pointer is involved.
            unsafe { sys::kr_cfg_update() };
            work();
        };
        // A panic that nothing else has caught must not unwind into the code of the main process.
        crate::caught::guarded("process", (), || sleep(Millis(100)), turn);
    }
}

/// Ends this process at once: none of the main process's own clean-up is done in a child.
fn leave() -> ! {
    // SAFETY: never returns, and runs nothing of ours.
    unsafe { libc::_exit(1) }
}

/// Sleeps; only in processes of our own.
pub fn sleep(time: Millis) {
    std::thread::sleep(std::time::Duration::from_millis(time.0));
}

/// Lets other processes have this processor.
pub fn give_way() {
    // SAFETY: the call takes nothing and touches no memory of this process.
    unsafe { libc::sched_yield() };
}
