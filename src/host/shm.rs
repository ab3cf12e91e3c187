//! Shared memory as a Rust allocator: collections that every process of the server sees at the same address.
use super::no_memory::NoMemory;
use super::slab::{self, Supply};
use crate::shm_safe::ShmSafe;
use crate::sys;
use allocator_api2::alloc::{AllocError, Allocator, Layout};
use std::marker::PhantomData;
use std::ptr::NonNull;

/// The allocator of Kamailio's shared memory. Every allocation can fail and is handled by its caller.
#[derive(Clone, Copy, Default, Debug)]
pub struct Shm;

/// How many allocations this process may still make before it finds no shared memory: only test builds can set it.
#[cfg(feature = "fault-injection")]
pub static LEFT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(usize::MAX);

/// Memory of the host, or cut from it; or null.
fn raw_allocate(size: usize) -> *mut u8 {
    #[cfg(feature = "fault-injection")]
    {
        use std::sync::atomic::Ordering::Relaxed;
        if super::fault::FAILS_ONCE.swap(false, Relaxed) {
            return std::ptr::null_mut();
        }
        match LEFT.load(Relaxed) {
            0 => return std::ptr::null_mut(),
            usize::MAX => {}
            left => LEFT.store(left - 1, Relaxed),
        }
    }
    match size {
        ..=slab::LARGEST => slab::allocate(size),
        _ => slab::large(size),
    }
}

/// # Safety
/// The block came from [`raw_allocate`] with this size, and nobody uses it any more.
unsafe fn raw_free(block: *mut u8, size: usize) {
    match size {
        // SAFETY: the caller vouches for block and size, and `raw_allocate` took blocks of this size there.
        ..=slab::LARGEST => unsafe { slab::free(block, size) },
        // SAFETY: `raw_allocate` takes blocks that are larger than the slab's from the host itself.
        _ => unsafe { sys::kr_shm_free(block as *mut _) },
    }
}

/// How much is taken from the host for a layout whose alignment the host does not give by itself.
fn padded(layout: Layout) -> Option<usize> {
    layout.size().checked_add(layout.align())
}

/// What the host aligns to by itself, and what is cut from its blocks too.
const NATURAL: usize = 8;

// SAFETY: blocks come from the host's shared memory, stay put until freed, and are handed out once; `Shm` has no state,
// so clones are interchangeable.
unsafe impl Allocator for Shm {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            let dangling = NonNull::new(layout.align() as *mut u8).ok_or(AllocError)?;
            return Ok(NonNull::slice_from_raw_parts(dangling, 0));
        }
        if layout.align() <= NATURAL {
            let block = raw_allocate(layout.size());
            return Ok(NonNull::slice_from_raw_parts(NonNull::new(block).ok_or(AllocError)?, layout.size()));
        }
        let block = NonNull::new(raw_allocate(padded(layout).ok_or(AllocError)?)).ok_or(AllocError)?.as_ptr();
        // At least NATURAL bytes lie between the block and the aligned address: there the start of the block is kept.
        let aligned = block.wrapping_add(layout.align() - block as usize % layout.align());
        let kept = aligned.wrapping_sub(NATURAL) as *mut *mut u8;
        // SAFETY: the host aligns to NATURAL, and so is this address. It lies in the block, before what is given out.
        unsafe { kept.write(block) };
        Ok(NonNull::slice_from_raw_parts(NonNull::new(aligned).ok_or(AllocError)?, layout.size()))
    }

    unsafe fn deallocate(&self, pointer: NonNull<u8>, layout: Layout) {
        if layout.size() == 0 {
            return;
        }
        if layout.align() <= NATURAL {
            // SAFETY: `pointer` came from `allocate` with this layout, and is the block itself.
            return unsafe { raw_free(pointer.as_ptr(), layout.size()) };
        }
        let kept = pointer.as_ptr().wrapping_sub(NATURAL) as *const *mut u8;
        // SAFETY: `allocate` has kept the start of the block before what it gave out.
        let block = unsafe { kept.read() };
        // SAFETY: the block was taken with this size.
        unsafe { raw_free(block, padded(layout).unwrap_or(usize::MAX)) };
    }
}

/// A value in shared memory.
pub type ShmBox<T> = allocator_api2::boxed::Box<T, Shm>;
/// A vector in shared memory. Grow it with `try_reserve` only.
pub type ShmVec<T> = allocator_api2::vec::Vec<T, Shm>;

// SAFETY: its allocator makes the value in shared memory, and the value may live there.
unsafe impl<T: ShmSafe + ?Sized> ShmSafe for ShmBox<T> {}
// SAFETY: as a box of its values.
unsafe impl<T: ShmSafe> ShmSafe for ShmVec<T> {}
// SAFETY: as a box of its values; what it keeps beside them are bytes.
unsafe impl<T: ShmSafe> ShmSafe for hashbrown::HashTable<T, Shm> {}
// SAFETY: it has no state.
unsafe impl ShmSafe for Shm {}
// SAFETY: a structure of the host for event packages: what it leads to is text and code that every process has at the
// same address, or shared memory.
unsafe impl ShmSafe for sys::event {}
// SAFETY: as `sys::event`, which it leads to.
unsafe impl ShmSafe for sys::pres_ev {}

/// How many bytes of shared memory are free.
pub fn available() -> usize {
    // SAFETY: reads a counter of the host.
    unsafe { sys::kr_shm_available() }
}

/// How many bytes of shared memory there are.
pub fn size() -> usize {
    // SAFETY: reads a number of the host that is set before modules are loaded.
    unsafe { sys::kr_shm_size() }
}

/// Where less than this share of shared memory is free, all spare chunks go back to the host at once.
const SHORT_SHARE: usize = 8;

/// Gives chunks back that were not needed in the last second; call once a second.
pub fn return_spare_chunks() {
    let is_short = available() < size() / SHORT_SHARE;
    slab::return_spare_chunks(if is_short { Supply::Short } else { Supply::Plenty });
}

/// Puts a value into shared memory.
///
/// # Errors
///
/// Fails when shared memory runs out.
pub fn boxed<T: ShmSafe>(value: T) -> Result<ShmBox<T>, NoMemory> {
    ShmBox::try_new_in(value, Shm).map_err(|_| NoMemory)
}

/// Copies bytes into shared memory.
///
/// # Errors
///
/// Fails when shared memory runs out.
pub fn copy(bytes: &[u8]) -> Result<ShmBox<[u8]>, NoMemory> {
    concat(&[bytes])
}

/// Copies parts, one after the other, into one block of shared memory.
///
/// # Errors
///
/// Fails when shared memory runs out.
pub fn concat(parts: &[&[u8]]) -> Result<ShmBox<[u8]>, NoMemory> {
    let length = parts.iter().map(|part| part.len()).sum();
    let mut block = ShmBox::<[u8]>::try_new_uninit_slice_in(length, Shm).map_err(|_| NoMemory)?;
    let mut at = block.as_mut_ptr() as *mut u8;
    for part in parts {
        // SAFETY: the block is as long as all parts together, so each part fits behind the one before, and is new.
        unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), at, part.len()) };
        at = at.wrapping_add(part.len());
    }
    // SAFETY: every byte was written above.
    Ok(unsafe { block.assume_init() })
}

/// Pushes without ever aborting.
///
/// # Errors
///
/// Fails when shared memory runs out; the list is as before and the value is dropped.
pub fn push<T: ShmSafe>(vec: &mut ShmVec<T>, value: T) -> Result<(), NoMemory> {
    if vec.len() == vec.capacity() {
        vec.try_reserve(vec.len().max(3)).map_err(|_| NoMemory)?;
    }
    vec.push(value);
    Ok(())
}

/// What goes through the host in the one word that it carries for us: a value in shared memory, a number in its place,
/// or nothing. A value is freed with it, unless the host has the word or the value was taken back.
#[derive(Debug)]
pub struct CallbackParam<T> {
    word: usize,
    kept: PhantomData<ShmBox<T>>,
}

/// What a [`CallbackParam`] keeps that is always a number.
#[derive(Debug)]
pub struct NumberOnly;

impl<T> CallbackParam<T> {
    /// Puts a value away.
    pub fn of(value: ShmBox<T>) -> Self {
        CallbackParam::from_word(ShmBox::into_raw_with_allocator(value).0 as usize)
    }

    /// A number in place of a value, of 63 bits: blocks lie at even addresses, so the lowest bit distinguishes them.
    pub fn number(number: u64) -> Self {
        CallbackParam::from_word(((number << 1) | 1) as usize)
    }

    /// A word that carries nothing.
    pub fn none() -> Self {
        CallbackParam::from_word(0)
    }

    fn from_word(word: usize) -> Self {
        CallbackParam { word, kept: PhantomData }
    }

    /// What the host hands back.
    ///
    /// # Safety
    /// The word is 0, or that of a `CallbackParam<T>` which was handed over, and the host hands it back for the first
    /// time.
    pub(super) unsafe fn handed_back(word: usize) -> Self {
        CallbackParam::from_word(word)
    }

    /// The word, which stays ours.
    pub(super) fn word(&self) -> usize {
        self.word
    }

    /// The host has the word from now on.
    pub(super) fn hand_over(self) {
        std::mem::forget(self);
    }

    /// The number, where it is one.
    pub fn as_number(&self) -> Option<u64> {
        (self.word & 1 == 1).then_some(self.word as u64 >> 1)
    }

    /// Takes the value back; `None` where there is none, or a number.
    pub fn redeem(mut self) -> Option<ShmBox<T>> {
        self.take()
    }

    fn take(&mut self) -> Option<ShmBox<T>> {
        let word = std::mem::take(&mut self.word);
        // SAFETY: a word that is neither 0 nor a number is the address of the value that `of` put away, or that the
        // host has handed back; it is 0 from now on, so that the value is taken once.
        (word != 0 && word & 1 == 0).then(|| unsafe { ShmBox::from_raw_in(word as *mut T, Shm) })
    }
}

impl<T> Drop for CallbackParam<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// Puts a value into shared memory for the life of the server: made once at start-up, before the processes fork.
///
/// # Errors
///
/// Fails when shared memory runs out.
pub fn leak<T: ShmSafe>(value: T) -> Result<&'static mut T, NoMemory> {
    Ok(ShmBox::leak(boxed(value)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake;

    #[test]
    fn what_is_not_handed_over_or_taken_back_is_freed() {
        let before = fake::live_blocks();
        drop(CallbackParam::of(boxed(7u64).unwrap()));
        assert_eq!(fake::live_blocks(), before);
        let carried = CallbackParam::of(boxed(7u64).unwrap());
        let word = carried.word();
        carried.hand_over();
        // SAFETY: the word of a `CallbackParam<u64>`, which comes back once.
        let back = unsafe { CallbackParam::<u64>::handed_back(word) };
        assert_eq!((back.as_number(), back.redeem().map(|value| *value)), (None, Some(7)));
        assert_eq!(fake::live_blocks(), before);
    }

    #[test]
    fn a_number_is_no_address() {
        let carried = CallbackParam::<u64>::number((1 << 63) - 1);
        assert_eq!(carried.as_number(), Some((1 << 63) - 1));
        assert!(carried.redeem().is_none() && CallbackParam::<u64>::none().redeem().is_none());
    }
}
