//! Private memory of the host (pkg): what is handed to C code that frees it, and what C code hands to us to be freed.
use crate::host::bytes::view;
use crate::sys;
use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// The function by which a module has the texts freed that it made.
pub type FreeText = unsafe extern "C" fn(*mut libc::c_char);

/// A block of private memory, given back when it is dropped.
pub struct PkgBlock(NonNull<c_void>);

impl PkgBlock {
    /// `None` without memory.
    pub fn new(size: usize) -> Option<PkgBlock> {
        // SAFETY: the host returns a block of this size, or null; any size will do.
        NonNull::new(unsafe { sys::kr_pkg_malloc(size) }).map(PkgBlock)
    }

    /// A block that the host, or a module, made and that is ours from now on; `None` for null.
    ///
    /// # Safety
    /// `block` is null, or private memory that nobody else frees.
    pub unsafe fn from_raw<T>(block: *mut T) -> Option<PkgBlock> {
        NonNull::new(block as *mut c_void).map(PkgBlock)
    }

    /// The block with one value; `None` without memory.
    pub fn of<T: Copy>(value: T) -> Option<PkgBlock> {
        let block = PkgBlock::new(size_of::<T>())?;
        // SAFETY: the block has the size of the value, and the host aligns blocks for whatever C code puts there.
        unsafe { block.0.cast::<T>().write(value) };
        Some(block)
    }

    /// For C code that frees it.
    pub fn into_raw<T>(self) -> *mut T {
        ManuallyDrop::new(self).0.as_ptr() as *mut T
    }
}

impl Drop for PkgBlock {
    fn drop(&mut self) {
        // SAFETY: the block is private memory and ours: `into_raw` takes it away from this guard.
        unsafe { sys::kr_pkg_free(self.0.as_ptr()) };
    }
}

/// A text in private memory, with a NUL behind it.
pub struct PkgText {
    start: PkgBlock,
    length: usize,
}

impl PkgText {
    /// A copy of `text`; `None` without memory.
    pub fn new(text: &[u8]) -> Option<PkgText> {
        let start = PkgBlock::new(text.len() + 1)?;
        let to = start.0.as_ptr() as *mut u8;
        // SAFETY: the block is one byte longer than the text.
        unsafe { to.write_bytes(0, text.len() + 1) };
        // SAFETY: the block is longer than the text, and new: they cannot overlap.
        unsafe { to.copy_from_nonoverlapping(text.as_ptr(), text.len()) };
        Some(PkgText { start, length: text.len() })
    }

    /// For C code that frees it.
    pub fn into_raw(self) -> sys::_str {
        sys::_str { s: self.start.into_raw(), len: self.length as i32 }
    }
}

/// A `str` in private memory with a text that is freed by its own function, or private memory, too.
pub struct PkgStr {
    whole: NonNull<sys::_str>,
    free: Option<FreeText>,
}

impl PkgStr {
    /// A copy of `text`; `None` without memory.
    pub fn new(text: &[u8]) -> Option<PkgStr> {
        let whole = PkgBlock::new(size_of::<sys::_str>())?;
        let text = PkgText::new(text)?;
        let whole = NonNull::new(whole.into_raw::<sys::_str>())?;
        // SAFETY: the block has the size of a `str`, and is ours until it is dropped.
        unsafe { whole.write(text.into_raw()) };
        Some(PkgStr { whole, free: None })
    }

    /// A text that a module made; `None` for null. `free` frees its characters; without it they are private memory.
    ///
    /// # Safety
    /// `whole` is null, or a `str` in private memory that nobody else frees, with characters as `free` wants them.
    pub unsafe fn from_raw(whole: *mut sys::_str, free: Option<FreeText>) -> Option<PkgStr> {
        NonNull::new(whole).map(|whole| PkgStr { whole, free })
    }

    /// The text.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the `str` is ours (`from_raw`), and freed by `drop` alone.
        let text = unsafe { self.whole.as_ref() };
        // SAFETY: as the `str`, its characters live as long as this value.
        unsafe { view(text) }
    }

    /// For C code that reads it while this value lives.
    pub fn as_ptr(&self) -> *mut sys::_str {
        self.whole.as_ptr()
    }

    /// For C code that frees it.
    pub fn into_raw(self) -> *mut sys::_str {
        ManuallyDrop::new(self).whole.as_ptr()
    }
}

impl Drop for PkgStr {
    fn drop(&mut self) {
        // SAFETY: the `str` is ours and not freed yet.
        let text = unsafe { self.whole.read() }.s;
        match self.free {
            _ if text.is_null() => {}
            // SAFETY: `from_raw` was promised that this function frees the characters.
            Some(free) => unsafe { free(text) },
            // SAFETY: without such a function they are private memory.
            None => unsafe { sys::kr_pkg_free(text as *mut c_void) },
        }
        // SAFETY: private memory, and the last use of it.
        unsafe { sys::kr_pkg_free(self.whole.as_ptr() as *mut c_void) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        static FREED: Cell<u32> = const { Cell::new(0) };
    }

    #[test]
    fn a_text_has_a_nul_behind_it_and_is_freed_by_its_owner() {
        let text = PkgText::new(b"closed").unwrap().into_raw();
        // SAFETY: the text was made above, with a NUL.
        assert_eq!(unsafe { std::ffi::CStr::from_ptr(text.s) }.to_bytes(), b"closed");
        assert_eq!(text.len, 6);
        // SAFETY: private memory, handed over by `into_raw`.
        drop(unsafe { PkgBlock::from_raw(text.s) });
    }

    #[test]
    fn a_string_of_a_module_is_freed_by_its_function_once() {
        unsafe extern "C" fn free(text: *mut libc::c_char) {
            entry!(free, {
                FREED.set(FREED.get() + 1);
                // SAFETY: the test made it in private memory.
                drop(unsafe { PkgBlock::from_raw(text) });
            })
        }
        let made = PkgStr::new(b"<presence/>").unwrap().into_raw();
        // SAFETY: handed over by the line above.
        let again = unsafe { PkgStr::from_raw(made, Some(free)) }.unwrap();
        assert_eq!(again.bytes(), b"<presence/>");
        drop(again);
        assert_eq!(FREED.get(), 1);
        // SAFETY: `from_raw` takes null for no string, and follows no pointer then.
        assert!(unsafe { PkgStr::from_raw(std::ptr::null_mut(), None) }.is_none());
    }
}
