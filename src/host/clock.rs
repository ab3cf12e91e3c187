//! The only place that reads the wall clock.

/// Seconds since 1970, as every expiry in the tables is written.
pub fn now() -> i64 {
    // SAFETY: time() accepts a null pointer.
    unsafe { libc::time(std::ptr::null_mut()) as i64 }
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

/// Seconds of a clock that nobody sets, from some moment in the past; it also goes on while the machine sleeps.
pub fn monotonic() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a local structure that the call fills; the clock exists on every Linux that the host runs on.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut now) };
    now.tv_sec as u64
}
