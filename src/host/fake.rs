//! Rust definitions of the shim symbols for unit tests: memory that counts its blocks and fails on demand, locks that
//! notice a double lock, a log that is thrown away. Everything else answers "not available".
use crate::sys;
use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static FAIL_AT: Cell<Option<usize>> = const { Cell::new(None) };
    static LOCKS: Cell<isize> = const { Cell::new(0) };
}

/// How many blocks of shared and private memory this thread holds.
pub fn live_blocks() -> isize {
    LIVE.get()
}

/// How many locks this thread holds.
pub fn held_locks() -> isize {
    LOCKS.get()
}

/// Runs `work` with the `n`-th allocation from now failing (counted from 0), and all after it; says whether it came to
/// that.
pub fn failing_at<T>(n: usize, work: impl FnOnce() -> T) -> (T, bool) {
    FAIL_AT.set(Some(n));
    let value = work();
    let failed = FAIL_AT.replace(None) == Some(usize::MAX);
    (value, failed)
}

fn may_allocate() -> bool {
    match FAIL_AT.get() {
        None => true,
        Some(0 | usize::MAX) => {
            FAIL_AT.set(Some(usize::MAX));
            false
        }
        Some(n) => {
            FAIL_AT.set(Some(n - 1));
            true
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn kr_shm_malloc(size: usize) -> *mut c_void {
    if !may_allocate() {
        return std::ptr::null_mut();
    }
    LIVE.set(LIVE.get() + 1);
    // SAFETY: `malloc` may be asked for any number of bytes.
    unsafe { libc::malloc(size.max(1)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn kr_shm_free(block: *mut c_void) {
    LIVE.set(LIVE.get() - 1);
    // SAFETY: the block is null, or comes from `kr_shm_malloc` above, which takes all of them from `malloc`.
    unsafe { libc::free(block) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn kr_pkg_malloc(size: usize) -> *mut c_void {
    // SAFETY: `kr_shm_malloc` may be asked for any number of bytes.
    unsafe { kr_shm_malloc(size) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn kr_pkg_free(block: *mut c_void) {
    // SAFETY: the caller hands back a block that `kr_shm_malloc` has made for it.
    unsafe { kr_shm_free(block) }
}

#[unsafe(no_mangle)]
extern "C" fn kr_lock_size() -> usize {
    8
}

/// The word of a lock: 1 while it is held.
///
/// # Safety
/// `lock` leads to as many bytes as `kr_lock_size` says, which the thread alone uses while it has the word.
unsafe fn lock_word<'a>(lock: *mut c_void) -> &'a mut u64 {
    // SAFETY: as the caller vouches.
    unsafe { &mut *(lock as *mut u64) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn kr_lock_init(lock: *mut c_void) -> c_int {
    // SAFETY: a lock is made before anybody else knows it.
    *unsafe { lock_word(lock) } = 0;
    1
}

#[unsafe(no_mangle)]
unsafe extern "C" fn kr_lock_get(lock: *mut c_void) {
    // SAFETY: tests have one thread for a lock.
    let word = unsafe { lock_word(lock) };
    assert_eq!(*word, 0, "the lock is held already: in the real host this process would hang");
    *word = 1;
    LOCKS.set(LOCKS.get() + 1);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn kr_lock_try(lock: *mut c_void) -> c_int {
    // SAFETY: no other thread looks at the lock, as for `kr_lock_get`.
    let word = unsafe { lock_word(lock) };
    if *word != 0 {
        return -1;
    }
    *word = 1;
    LOCKS.set(LOCKS.get() + 1);
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn kr_lock_release(lock: *mut c_void) {
    // SAFETY: the holder gives it back, which nobody but this thread can be.
    *unsafe { lock_word(lock) } = 0;
    LOCKS.set(LOCKS.get() - 1);
}

#[unsafe(no_mangle)]
extern "C" fn kr_log_enabled(_level: c_int) -> c_int {
    1
}

#[unsafe(no_mangle)]
extern "C" fn kr_log(_facility: c_int, _level: c_int, _module: *const c_char, _text: *const c_char, _len: c_int) {}

macro_rules! unavailable {
    ($($name:ident)*) => { $( #[unsafe(no_mangle)] extern "C" fn $name() -> isize { -1 } )* };
}
macro_rules! nothing {
    ($($name:ident)*) => { $( #[unsafe(no_mangle)] extern "C" fn $name() -> isize { 0 } )* };
}

/// Called for a request that is completed; requests of unit tests never are.
///
/// # Safety
/// Nothing is asked of the arguments: they are not looked at.
pub unsafe extern "C" fn on_completed(_: *mut sys::cell, _: c_int, _: *mut sys::tmcb_params) {}

thread_local! {
    static WRITES: std::cell::RefCell<Vec<usize>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// The lengths of what was sent past tm since this was last asked.
pub fn taken_writes() -> Vec<usize> {
    WRITES.take()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn kr_direct_send(_: *const sys::kr_destination, _: *mut c_char, length: c_int) -> c_int {
    WRITES.with_borrow_mut(|writes| writes.push(length as usize));
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn kr_direct_is_same(one: *const sys::kr_destination, other: *const sys::kr_destination) -> c_int {
    // SAFETY: the caller lends a structure.
    let one = unsafe { (*one).to.sin6_port };
    // SAFETY: and another one.
    let other = unsafe { (*other).to.sin6_port };
    (one == other).into()
}

unavailable! {
    kr_log_facility kr_register_timer kr_wtimer_add kr_register_basic_timers kr_fork_basic_timer_us kr_parse_headers
    kr_parse_ruri kr_parse_uri kr_event_parser kr_parse_from kr_parse_to kr_first_contact kr_cseq_number
    kr_get_body kr_parse_rr_body kr_sl_load kr_sl_reply kr_sl_totag kr_add_reply_header
    kr_tm_load kr_tm_request_within kr_tm_relay kr_tm_send_on kr_dmq_uri
    kr_db_statement_size kr_db_bind kr_db_table_version kr_event_route
    kr_run_event_route kr_xavp_int kr_pv_null kr_pv_str kr_counter_register kr_counter_computed kr_xhttp_load
    kr_xhttp_reply kr_dmq_load kr_dmq_join kr_dmq_broadcast kr_dmq_send kr_parse_expires kr_tm_new_ids kr_pv_uint
    kr_pv_inner kr_proto_name kr_source kr_register_procs kr_cfg_child_init kr_fork_process kr_direct_load
    kr_direct_destination kr_direct_branch kr_direct_timer kr_raise_receive_buffers
}
nothing! {
    kr_counter_add kr_counter_value kr_is_http kr_dmq_each_node kr_dmq_node_address kr_log_default_facility kr_pid
    kr_find_socket kr_free_rr kr_tm_cell_ids kr_tm_is_answered kr_make_reply kr_free_reply kr_pv_parse
    kr_branch_flags kr_case_hash
    kr_cfg_register_child kr_cfg_update kr_shm_available kr_shm_manager kr_pkg_manager kr_shm_size kr_pkg_available
    kr_direct_has_local_request_callback kr_direct_has_local_request_watchers kr_direct_has_onsend_route
    kr_direct_timers kr_direct_via kr_direct_signature kr_direct_is_from kr_direct_is_of_notify
    kr_direct_joins kr_direct_note_configuration kr_direct_sending_is_seen
    kr_direct_has_blocklist kr_direct_answers_first kr_reply_route kr_datagram_onlooker kr_datagram_is_watched
    kr_datagram_take kr_datagram_text kr_datagram_is_from kr_datagram_find_counters kr_datagram_count
}
