//! Kamailio's counted strings (`str` of `core/str.h`) as byte slices, and back.
use crate::sys;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// Bytes that C code shows us: the one place where a length of C becomes one of ours.
///
/// # Safety
/// `length` bytes from `start` on stay readable and unchanged for `'a`.
#[allow(clippy::disallowed_methods, reason = "everything else goes through here")]
pub unsafe fn slice<'a>(start: *const u8, length: usize) -> &'a [u8] {
    // SAFETY: the caller vouches for the text: `length` bytes, which live as long as the result.
    unsafe { std::slice::from_raw_parts(start, length) }
}

/// A view of a `str`. A null pointer or a length below one is an empty slice.
///
/// # Safety
/// `text` must describe memory that stays readable and unchanged for `'a`.
pub unsafe fn view<'a>(text: &sys::_str) -> &'a [u8] {
    if text.s.is_null() || text.len <= 0 {
        return &[];
    }
    // SAFETY: the caller vouches for pointer and length; null and negative lengths were handled above.
    unsafe { slice(text.s as *const u8, text.len as usize) }
}

/// A view of the `str` behind a pointer that may be null.
///
/// # Safety
/// `text` is null or points at a `str` as [`view`] wants it.
pub unsafe fn view_ptr<'a>(text: *const sys::_str) -> Option<&'a [u8]> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not null, and the caller vouches for what it points at.
    let text = unsafe { text.read() };
    // SAFETY: the caller vouches for the bytes of the `str` as for the `str` itself.
    Some(unsafe { view(&text) })
}

/// A `str` that borrows its text: for host calls that only read it, or copy it.
pub struct Lent<'a> {
    text: sys::_str,
    bytes: PhantomData<&'a [u8]>,
}

/// A `str` that borrows `bytes`.
pub fn lend(bytes: &[u8]) -> Lent<'_> {
    Lent { text: sys::_str { s: bytes.as_ptr() as *mut _, len: bytes.len() as i32 }, bytes: PhantomData }
}

impl Lent<'_> {
    /// The `str` for a structure of the host, whose type does not say how long the text lives: who has the structure
    /// read knows it.
    pub fn unbound(self) -> sys::_str {
        self.text
    }
}

impl Deref for Lent<'_> {
    type Target = sys::_str;
    fn deref(&self) -> &sys::_str {
        &self.text
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut sys::_str {
        &mut self.text
    }
}

/// The empty `str` with a null pointer.
pub fn null() -> sys::_str {
    sys::_str { s: std::ptr::null_mut(), len: 0 }
}

/// A NUL-terminated string as bytes; null is empty.
///
/// # Safety
/// `text` is null or NUL-terminated and lives for `'a`.
pub unsafe fn c_text<'a>(text: *const libc::c_char) -> &'a [u8] {
    if text.is_null() {
        return &[];
    }
    // SAFETY: not null, and the caller vouches for the terminating NUL.
    unsafe { std::ffi::CStr::from_ptr(text) }.to_bytes()
}
