//! The only place that reads the wall clock.

/// Seconds since 1970, as every expiry in the tables is written.
pub fn now() -> i64 {
    // SAFETY: time() accepts a null pointer.
    unsafe { libc::time(std::ptr::null_mut()) as i64 }
}

/// Microseconds on a clock that never goes back; for measuring only.
pub fn micros() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
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
