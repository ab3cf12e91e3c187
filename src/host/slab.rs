//! Small blocks of shared memory, cut from large ones. Subscriptions live for hours; if each had blocks of its own
//! between those of transactions, which live for seconds, the host's allocator would have a gap beside every one of
//! them and would walk them all to put a freed block in its place. A block from here costs neither a search nor a word
//! beyond its size. Chunks that a burst leaves behind serve the next one: giving one back may cost such a search, too.
use super::lock::Lock;
use super::no_memory::NoMemory;
use crate::shm_safe::ShmSafe;
use crate::sys;
use allocator_api2::alloc::{AllocError, Allocator, Layout};
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, Ordering};

/// The largest block that is cut from another one, in bytes.
pub const LARGEST: usize = 1024;

/// Sizes differ by this many bytes up to [`FINE`], and by [`COARSE_STEP`] beyond it.
const FINE_STEP: usize = 8;
const FINE: usize = 512;
const COARSE_STEP: usize = 16;
const CLASSES: usize = FINE / FINE_STEP + (LARGEST - FINE) / COARSE_STEP;

/// A chunk has this share of what its class holds, within these bounds: what is not cut yet stays a small part.
const SHARE: usize = 16;
const SMALLEST_CHUNK: usize = 1 << 10;
const LARGEST_CHUNK: usize = 64 << 10;
const FEWEST_BLOCKS: usize = 8;
/// The last chunk of a class is kept for the next allocation if it is no larger than this.
const KEPT_CHUNK: usize = 9 << 10;

/// Each second this share of the spare chunks that nobody has needed since the last one goes back to the host, at least
/// one, and of all classes together no more than this: the host searches its lists for the place of each of them, and
/// nobody gets memory meanwhile.
const RETURNED_SHARE: usize = 8;
const MOST_RETURNED: usize = 64;

/// A large block, and what has been cut from it.
struct Chunk {
    /// Bytes taken from the host.
    bytes: usize,
    /// How many blocks there is room for, how many were ever cut, and how many are in use.
    room: u32,
    cut: u32,
    used: u32,
    /// Blocks that were given back; the first word of each leads to the next.
    free: *mut u8,
    /// The chunk's neighbours among the chunks of its class with room.
    before: *mut Chunk,
    after: *mut Chunk,
}

/// The chunks for blocks of one size.
struct Class {
    /// Bytes of a block.
    block: usize,
    /// The first chunk with room.
    roomy: *mut Chunk,
    /// The first of the chunks without a block in use, which are kept for the next burst.
    spare: *mut Chunk,
    /// How many there are of them, and the fewest since the last look.
    spares: usize,
    fewest_spares: usize,
    /// All chunks, by their addresses.
    chunks: Vec<*mut Chunk, Host>,
    /// Bytes in all chunks.
    held: usize,
}

// SAFETY: its pointers and the list of them lead to chunks, which the host has given out of shared memory.
unsafe impl ShmSafe for Class {}

// SAFETY: the pointers lead to shared memory, which every process has at the same address; they are followed under the
// lock of their class alone.
unsafe impl Send for Class {}

/// What became of a block that was given back.
enum Returned {
    /// The block's chunk has room for another one.
    Kept,
    /// The block was not cut from any chunk.
    Alone,
    /// The block lies in a chunk and is none of its blocks.
    Foreign,
}

/// The classes, each under a lock of its own.
struct Pool {
    classes: [Lock<Class>; CLASSES],
    /// The second in which spare chunks were given back last.
    returned_at: AtomicI64,
}

/// The host's memory, for what the pool itself needs.
#[derive(Clone, Copy)]
struct Host;

// SAFETY: blocks come from the host's shared memory, stay put until freed, and are handed out once; `Host` has no
// state. What is asked for are lists of pointers, which need no more than the host's alignment.
unsafe impl Allocator for Host {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let block = NonNull::new(from_host(layout.size())).ok_or(AllocError)?;
        Ok(NonNull::slice_from_raw_parts(block, layout.size()))
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, _layout: Layout) {
        // SAFETY: `allocate` has taken the block from the host, and its owner hands it back once.
        unsafe { sys::kr_shm_free(block.as_ptr().cast()) }
    }
}

static POOL: AtomicPtr<Pool> = AtomicPtr::new(null_mut());

/// Whether small blocks are cut from chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlabUse {
    /// Blocks come from the slab.
    Used,
    /// Each block comes from the host.
    Unused,
}

impl From<bool> for SlabUse {
    fn from(wanted: bool) -> SlabUse {
        if wanted { SlabUse::Used } else { SlabUse::Unused }
    }
}

/// The first of both modules has decided.
static DECIDED: AtomicBool = AtomicBool::new(false);

/// Says for both modules whether small blocks are cut from larger ones from now on; call before the processes fork. The
/// first call counts.
///
/// # Errors
///
/// Fails when shared memory runs out.
pub fn start(chunks: SlabUse) -> Result<(), NoMemory> {
    if !DECIDED.swap(true, Ordering::Relaxed) && chunks == SlabUse::Used {
        crate::log!(Info, "blocks of shared memory of up to {LARGEST} bytes are cut from chunks");
        let pool = Box::try_new_in(Pool::new(), Host).map_err(|_| NoMemory)?;
        POOL.store(Box::leak(pool), Ordering::Release);
    }
    Ok(())
}

fn started() -> Option<&'static Pool> {
    // SAFETY: `start` stored a pool that lives for ever, or nothing was stored.
    unsafe { POOL.load(Ordering::Acquire).as_ref() }
}

/// How many bytes of shared memory the chunks take.
pub fn bytes_held() -> usize {
    started().map_or(0, |pool| pool.classes.iter().map(|class| class.lock().held).sum())
}

/// How many chunks are kept without a block in use.
pub fn spare_chunks() -> usize {
    started().map_or(0, |pool| pool.classes.iter().map(|class| class.lock().spares).sum())
}

/// How much of shared memory is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supply {
    /// There is enough.
    Plenty,
    /// There is little left.
    Short,
}

/// Gives spare chunks back to the host, a part of them each second, or all where shared memory is short; the timers of
/// both modules call it, and of two calls in one second the first counts.
pub fn return_spare_chunks(supply: Supply) {
    let Some(pool) = started() else { return };
    let now = super::clock::ticks().0;
    if pool.returned_at.swap(now, Ordering::Relaxed) == now {
        return;
    }
    match supply {
        Supply::Short => {
            pool.return_all();
        }
        Supply::Plenty => {
            pool.return_some();
        }
    }
}

/// A block of at most [`LARGEST`] bytes, or null.
pub fn allocate(size: usize) -> *mut u8 {
    match started() {
        Some(pool) => pool.allocate(size),
        None => from_host(size),
    }
}

/// A block of the host's shared memory, or null.
fn from_host(size: usize) -> *mut u8 {
    // SAFETY: the allocator takes any size, under its own lock, and what it returns is this caller's alone.
    unsafe { sys::kr_shm_malloc(size).cast() }
}

/// A block of the host's shared memory, or null. Where there is none, spare chunks go back first.
pub(super) fn large(size: usize) -> *mut u8 {
    let block = from_host(size);
    let has_returned = block.is_null() && started().is_some_and(Pool::return_all);
    if has_returned { from_host(size) } else { block }
}

/// Gives a block back.
///
/// # Safety
/// It came from [`allocate`] with this size, and nobody uses it any more.
pub unsafe fn free(block: *mut u8, size: usize) {
    match started() {
        // SAFETY: the caller vouches for block and size; it came from the pool, which has been there since the start.
        Some(pool) => unsafe { pool.free(block, size) },
        // SAFETY: without a pool it came from the host.
        None => unsafe { sys::kr_shm_free(block.cast()) },
    }
}

/// The class of blocks of at least `size` bytes.
fn class_of(size: usize) -> usize {
    match size {
        ..=FINE => size.saturating_sub(1) / FINE_STEP,
        _ => FINE / FINE_STEP + (size - FINE - 1) / COARSE_STEP,
    }
}

/// How many bytes a block of a class has.
fn size_in(class: usize) -> usize {
    match class.checked_sub(FINE / FINE_STEP) {
        None => (class + 1) * FINE_STEP,
        Some(coarse) => FINE + (coarse + 1) * COARSE_STEP,
    }
}

impl Pool {
    fn new() -> Pool {
        let classes = std::array::from_fn(|class| {
            Lock::new(Class {
                block: size_in(class),
                roomy: null_mut(),
                spare: null_mut(),
                spares: 0,
                fewest_spares: 0,
                chunks: Vec::new_in(Host),
                held: 0,
            })
        });
        Pool { classes, returned_at: AtomicI64::new(0) }
    }

    fn allocate(&self, size: usize) -> *mut u8 {
        let class = &self.classes[class_of(size)];
        let (wanted, block) = {
            let mut class = class.lock();
            match class.take() {
                Some(block) => return block,
                None => (class.next_chunk(), class.block),
            }
        };
        // The host may need long for it: nobody waits meanwhile.
        let again = || if self.return_all() { Chunk::new(block, wanted) } else { None };
        let chunk = Chunk::new(block, wanted).or_else(again);
        let Some(chunk) = chunk else {
            // Where there is no room for a chunk there may be for a single block.
            return from_host(size);
        };
        let mut class = class.lock();
        // SAFETY: the chunk is whole and nobody else knows it.
        let added = unsafe { class.add(chunk) };
        if !added {
            drop(class);
            // SAFETY: nothing leads to the chunk.
            unsafe { sys::kr_shm_free(chunk.cast()) };
            return null_mut();
        }
        class.take().unwrap_or(null_mut())
    }

    /// # Safety
    /// `block` came from `allocate` with this size, and nobody uses it any more.
    unsafe fn free(&self, block: *mut u8, size: usize) {
        // SAFETY: the block is the caller's to give, of this class.
        let returned = unsafe { self.classes[class_of(size)].lock().put_back(block) };
        match returned {
            Returned::Kept => {}
            // SAFETY: no chunk holds the block: `allocate` took it from the host.
            Returned::Alone => unsafe { sys::kr_shm_free(block.cast()) },
            Returned::Foreign => crate::limited!(
                Error,
                "a block of {size} bytes that no chunk has given is not taken back; shm_slab 0 lets the server's \
                 allocator find its owner"
            ),
        }
    }

    /// Gives one spare chunk of a class back; `false` when there is none.
    fn return_one(class: &Lock<Class>) -> bool {
        let Some(chunk) = class.lock().take_spare() else { return false };
        // SAFETY: a spare chunk has no blocks out, and was taken off the lists: nothing leads to it.
        unsafe { sys::kr_shm_free(chunk.cast()) };
        true
    }

    /// Gives spare chunks back that were not needed since the last call: a part of them, and a bounded number.
    fn return_some(&self) -> usize {
        let mut returned = 0;
        for class in &self.classes {
            let wanted = class.lock().unneeded().div_ceil(RETURNED_SHARE).min(MOST_RETURNED - returned);
            returned += (0..wanted).take_while(|_| Pool::return_one(class)).count();
        }
        returned
    }

    /// Gives all spare chunks back; `false` when there were none.
    fn return_all(&self) -> bool {
        let mut returned = false;
        for class in &self.classes {
            let spares = class.lock().spares;
            returned |= (0..spares).take_while(|_| Pool::return_one(class)).count() > 0;
        }
        returned
    }
}

impl Chunk {
    /// Takes a chunk from the host; `None` when it has no memory.
    fn new(block: usize, wanted: usize) -> Option<*mut Chunk> {
        let room = (wanted / block).max(FEWEST_BLOCKS);
        let bytes = size_of::<Chunk>() + room * block;
        let fresh = Chunk {
            bytes,
            room: room as u32,
            cut: 0,
            used: 0,
            free: null_mut(),
            before: null_mut(),
            after: null_mut(),
        };
        let chunk = from_host(bytes).cast::<Chunk>();
        if chunk.is_null() {
            return None;
        }
        // SAFETY: the block begins with room for the header, is aligned for it, and nobody else knows it.
        unsafe { chunk.write(fresh) };
        Some(chunk)
    }

    /// Takes a block out of a chunk. The pointer is the one that the host gave, for it leads to the blocks, too.
    ///
    /// # Safety
    /// The chunk is alive, its class is locked, and it has room.
    unsafe fn take(chunk: *mut Chunk, block: usize) -> *mut u8 {
        let first = chunk.wrapping_add(1).cast::<u8>();
        // SAFETY: the chunk is alive, and nobody else looks at its header while its class is locked. The reference
        // covers the header alone, and is not used beside the blocks.
        let head = unsafe { &mut *chunk };
        head.used += 1;
        let free = head.free;
        if free.is_null() {
            // A chunk with room has a block that was never cut: `room` blocks fit behind the header.
            head.cut += 1;
            return first.wrapping_add((head.cut as usize - 1) * block);
        }
        // SAFETY: a block that was given back holds the address of the one before it (`put_back`).
        head.free = unsafe { free.cast::<*mut u8>().read() };
        free
    }

    /// Whether an address in the chunk is that of a block that can be given back.
    ///
    /// # Safety
    /// The chunk is alive, and its class is locked.
    unsafe fn has_block(chunk: *const Chunk, address: *const u8, block: usize) -> bool {
        let first = chunk as usize + size_of::<Chunk>();
        // SAFETY: the chunk is alive and its class locked, by the caller's word.
        let Chunk { cut, used, .. } = *unsafe { &*chunk };
        let cut = cut as usize;
        let offset = (address as usize).wrapping_sub(first);
        used > 0 && offset % block == 0 && offset / block < cut
    }

    fn is_full(&self) -> bool {
        self.used == self.room
    }
}

impl Class {
    /// How large the next chunk is to be.
    fn next_chunk(&self) -> usize {
        (self.held / SHARE).clamp(SMALLEST_CHUNK, LARGEST_CHUNK)
    }

    /// A block of the first chunk with room, or of a spare one.
    fn take(&mut self) -> Option<*mut u8> {
        if self.roomy.is_null() {
            let spare = self.next_spare()?;
            // SAFETY: it is alive, and in no list any more.
            unsafe { self.link(spare) };
        }
        let chunk = self.roomy;
        // SAFETY: chunks in the list are alive and have room, and the holder of their class's lock may change them.
        let block = unsafe { Chunk::take(chunk, self.block) };
        // SAFETY: taking a block leaves the chunk alive and in its list, and the lock is still held.
        if unsafe { (*chunk).is_full() } {
            // SAFETY: it is the first of the list.
            unsafe { self.unlink(chunk) };
        }
        Some(block)
    }

    /// The place in the list of the chunk that this address lies in.
    fn place_of(&self, address: usize) -> Option<usize> {
        let place = self.chunks.partition_point(|chunk| *chunk as usize <= address).checked_sub(1)?;
        let chunk = self.chunks[place];
        // SAFETY: chunks in the list are alive.
        let end = chunk as usize + unsafe { (*chunk).bytes };
        (address < end).then_some(place)
    }

    /// Takes the first chunk off the list of the spare ones.
    fn next_spare(&mut self) -> Option<*mut Chunk> {
        let chunk = self.spare;
        // SAFETY: null, or a spare chunk: those are alive, and the holder of the lock of their class may change them.
        let head = unsafe { chunk.as_mut() }?;
        self.spare = std::mem::replace(&mut head.after, null_mut());
        self.spares -= 1;
        self.fewest_spares = self.fewest_spares.min(self.spares);
        Some(chunk)
    }

    /// Takes a spare chunk off all lists, for the host.
    fn take_spare(&mut self) -> Option<*mut Chunk> {
        let chunk = self.next_spare()?;
        let place = self.place_of(chunk as usize)?;
        // SAFETY: it is alive until the caller gives it back.
        self.held -= unsafe { (*chunk).bytes };
        Some(self.chunks.remove(place))
    }

    /// How many spare chunks were not needed since the last call.
    fn unneeded(&mut self) -> usize {
        std::mem::replace(&mut self.fewest_spares, self.spares)
    }

    /// Takes a block back. A chunk without a block in use becomes a spare one, unless it is small and there is no other
    /// with room: a single value that comes and goes costs nothing.
    ///
    /// # Safety
    /// The block was given for a size of this class, and nobody uses it any more.
    unsafe fn put_back(&mut self, block: *mut u8) -> Returned {
        let Some(place) = self.place_of(block as usize) else { return Returned::Alone };
        let chunk = self.chunks[place];
        // SAFETY: chunks in the list are alive, and the holder of the lock of their class may change them.
        if !unsafe { Chunk::has_block(chunk, block, self.block) } {
            return Returned::Foreign;
        }
        // SAFETY: the chunk has this block, so it is alive, and its class is locked. The reference covers the header
        // alone, and ends before the chunk is linked.
        let head = unsafe { &mut *chunk };
        let was_full = head.is_full();
        // SAFETY: the block is the caller's to give, and large enough for an address; none is smaller than 8 bytes.
        unsafe { block.cast::<*mut u8>().write(head.free) };
        head.free = block;
        head.used -= 1;
        if was_full {
            // SAFETY: a full chunk is in no list of those with room.
            unsafe { self.link(chunk) };
        }
        // SAFETY: as for `head`; copied, for `link` has changed it.
        let Chunk { before, after, used, bytes, .. } = *unsafe { &*chunk };
        let is_only_one = before.is_null() && after.is_null();
        if used > 0 || is_only_one && bytes <= KEPT_CHUNK {
            return Returned::Kept;
        }
        // SAFETY: it has room, and so it is linked.
        unsafe { self.unlink(chunk) };
        // SAFETY: it is alive, in no list, and no other reference to it is held.
        unsafe { (*chunk).after = self.spare };
        self.spare = chunk;
        self.spares += 1;
        Returned::Kept
    }

    /// Adds a chunk; `false` when there is no memory to note it.
    ///
    /// # Safety
    /// The chunk is whole, of this class, and nobody else knows it.
    unsafe fn add(&mut self, chunk: *mut Chunk) -> bool {
        if self.chunks.try_reserve(1).is_err() {
            return false;
        }
        let place = self.chunks.partition_point(|other| *other < chunk);
        self.chunks.insert(place, chunk);
        // SAFETY: the chunk is whole, by the caller's word.
        self.held += unsafe { (*chunk).bytes };
        // SAFETY: the caller has just made the chunk, and nobody else knows it.
        unsafe { self.link(chunk) };
        true
    }

    /// # Safety
    /// The chunk is alive and not linked.
    unsafe fn link(&mut self, chunk: *mut Chunk) {
        // SAFETY: the chunk is alive, by the caller's word.
        let head = unsafe { &mut *chunk };
        head.before = null_mut();
        head.after = self.roomy;
        // SAFETY: null, or a chunk that is linked: those are alive, and this one is not among them.
        if let Some(next) = unsafe { self.roomy.as_mut() } {
            next.before = chunk;
        }
        self.roomy = chunk;
    }

    /// # Safety
    /// The chunk is linked.
    unsafe fn unlink(&mut self, chunk: *mut Chunk) {
        // SAFETY: the chunk is alive, by the caller's word.
        let head = unsafe { &mut *chunk };
        let before = std::mem::replace(&mut head.before, null_mut());
        let after = std::mem::replace(&mut head.after, null_mut());
        // SAFETY: null, or another chunk that is linked: those are alive.
        match unsafe { before.as_mut() } {
            Some(before) => before.after = after,
            None => self.roomy = after,
        }
        // SAFETY: null, or a chunk of the same list, whose class is locked; no other reference to it is held.
        if let Some(after) = unsafe { after.as_mut() } {
            after.before = before;
        }
    }
}

#[cfg(test)]
mod tests;
