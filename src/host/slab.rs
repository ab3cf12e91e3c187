//! Small blocks of shared memory, cut from large ones. Subscriptions live for hours; if each had blocks of its own
//! between those of transactions, which live for seconds, the host's allocator would have a gap beside every one of
//! them and would walk them all to put a freed block in its place. A block from here costs neither a search nor a word
//! beyond its size.
use super::lock::Lock;
use super::no_memory::NoMemory;
use crate::shm_safe::ShmSafe;
use crate::sys;
use allocator_api2::alloc::{AllocError, Allocator, Layout};
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

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
    /// All chunks, by their addresses.
    chunks: Vec<*mut Chunk, Host>,
    /// Bytes in all chunks.
    held: usize,
}

// Its pointers and the list of them lead to shared memory.
impl ShmSafe for Class {}

// SAFETY: the pointers lead to shared memory, which every process has at the same address; they are followed under the
// lock of their class alone.
unsafe impl Send for Class {}

/// What became of a block that was given back.
enum Returned {
    /// The block's chunk has room for another one.
    Kept,
    /// The block's chunk is empty and belongs to the caller.
    Empty(*mut Chunk),
    /// The block was not cut from any chunk.
    Alone,
    /// The block lies in a chunk and is none of its blocks.
    Foreign,
}

/// The classes, each under a lock of its own.
struct Pool([Lock<Class>; CLASSES]);

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
        // SAFETY: it came from `allocate`.
        unsafe { sys::kr_shm_free(block.as_ptr().cast()) }
    }
}

static POOL: AtomicPtr<Pool> = AtomicPtr::new(null_mut());

/// Whether small blocks are cut from chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlabUse {
    /// They are.
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
    started().map_or(0, |pool| pool.0.iter().map(|class| class.lock().held).sum())
}

/// A block of at most [`LARGEST`] bytes, or null.
pub fn allocate(size: usize) -> *mut u8 {
    match started() {
        Some(pool) => pool.allocate(size),
        None => from_host(size),
    }
}

/// A block of the host's shared memory, or null.
pub(super) fn from_host(size: usize) -> *mut u8 {
    // SAFETY: the allocator takes any size, under its own lock, and what it returns is this caller's alone.
    unsafe { sys::kr_shm_malloc(size).cast() }
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
        Pool(std::array::from_fn(|class| {
            Lock::new(Class { block: size_in(class), roomy: null_mut(), chunks: Vec::new_in(Host), held: 0 })
        }))
    }

    fn allocate(&self, size: usize) -> *mut u8 {
        let class = &self.0[class_of(size)];
        let (wanted, block) = {
            let mut class = class.lock();
            match class.take() {
                Some(block) => return block,
                None => (class.next_chunk(), class.block),
            }
        };
        // The host may need long for it: nobody waits meanwhile.
        let Some(chunk) = Chunk::new(block, wanted) else {
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
        let returned = unsafe { self.0[class_of(size)].lock().put_back(block) };
        match returned {
            Returned::Kept => {}
            // SAFETY: an empty chunk has no blocks out, and was taken off the lists: nothing leads to it.
            Returned::Empty(chunk) => unsafe { sys::kr_shm_free(chunk.cast()) },
            // SAFETY: no chunk holds the block: `allocate` took it from the host.
            Returned::Alone => unsafe { sys::kr_shm_free(block.cast()) },
            Returned::Foreign => crate::limited!(
                Error,
                "a block of {size} bytes that no chunk has given is not taken back; shm_slab 0 lets the server's \
                 allocator find its owner"
            ),
        }
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

    /// A block of the first chunk with room.
    fn take(&mut self) -> Option<*mut u8> {
        let chunk = self.roomy;
        if chunk.is_null() {
            return None;
        }
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

    /// Takes a block back. A small chunk is kept when there is no other with room: a single value that comes and goes
    /// costs the host nothing.
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
        self.held -= bytes;
        Returned::Empty(self.chunks.remove(place))
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
mod tests {
    use super::*;
    use crate::host::fake;

    #[test]
    fn classes_are_no_smaller_than_what_they_hold_and_not_much_larger() {
        for size in 1..=LARGEST {
            let given = size_in(class_of(size));
            assert!(
                given >= size && given - size < if size <= FINE { FINE_STEP } else { COARSE_STEP },
                "{size}: {given}"
            );
        }
        assert_eq!(class_of(LARGEST) + 1, CLASSES);
    }

    /// A sequence of numbers that looks like chance and is the same in each run.
    fn chance(state: &mut u64) -> usize {
        *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (*state >> 33) as usize
    }

    /// Miri interprets each instruction: fewer blocks, of so few sizes that several share a chunk all the same.
    const STEPS: usize = if cfg!(miri) { 1_000 } else { 50_000 };
    const UP_TO: usize = if cfg!(miri) { 64 } else { LARGEST };

    /// Outside of tests a pool lives as long as the server.
    impl Drop for Pool {
        fn drop(&mut self) {
            for class in &self.0 {
                // SAFETY: nobody uses blocks of the pool any more.
                class.lock().chunks.drain(..).for_each(|chunk| unsafe { sys::kr_shm_free(chunk.cast()) });
            }
        }
    }

    /// A block of a pool, filled with a mark.
    struct Block {
        at: *mut u8,
        size: usize,
        mark: u8,
    }

    impl Block {
        fn take(pool: &Pool, size: usize, mark: u8) -> Block {
            let at = pool.allocate(size);
            assert!(!at.is_null() && at as usize % 8 == 0);
            // SAFETY: the block is ours and that long.
            unsafe { at.write_bytes(mark, size) };
            Block { at, size, mark }
        }

        fn give(self, pool: &Pool) {
            // SAFETY: the block is ours until it is given back, and was filled when it was taken.
            let bytes = unsafe { crate::host::bytes::slice(self.at, self.size) };
            assert!(bytes.iter().all(|byte| *byte == self.mark), "somebody else wrote to the block");
            // SAFETY: the test took the block with this size, and gives it back once.
            unsafe { pool.free(self.at, self.size) };
        }
    }

    #[test]
    fn blocks_keep_what_is_written_to_them_and_all_goes_back() {
        let before = fake::live_blocks();
        let pool = Pool::new();
        let (mut state, mut live) = (7, Vec::new());
        for step in 0..STEPS {
            // It grows, shrinks to little, and grows again.
            let grows = (step / (STEPS / 5)) % 2 == 0;
            if chance(&mut state) % 10 < if grows { 7 } else { 2 } {
                live.push(Block::take(&pool, 8 + chance(&mut state) % (UP_TO - 7), step as u8));
            } else if !live.is_empty() {
                live.swap_remove(chance(&mut state) % live.len()).give(&pool);
            }
        }
        assert!(live.len() > STEPS / 50);
        let chunks = (fake::live_blocks() - before) as usize;
        assert!(chunks > 0 && chunks < live.len() / 2, "{chunks} chunks for {} blocks", live.len());
        live.into_iter().for_each(|block| block.give(&pool));
        assert!(pool.0.iter().all(|class| class.lock().held <= KEPT_CHUNK));
        drop(pool);
        assert_eq!(fake::live_blocks(), before);
    }

    #[test]
    fn nothing_large_stays_when_all_is_given_back() {
        let before = fake::live_blocks();
        let pool = Pool::new();
        let blocks: Vec<_> = (0..STEPS / 5).map(|_| Block::take(&pool, 300, 1)).collect();
        blocks.into_iter().for_each(|block| block.give(&pool));
        assert!(pool.0[class_of(300)].lock().held <= KEPT_CHUNK);
        // One chunk, and the list of chunks.
        assert!(fake::live_blocks() - before <= 2);
    }

    #[test]
    fn what_no_chunk_has_given_is_left_alone() {
        let pool = Pool::new();
        let (first, second) = (Block::take(&pool, 64, 1), Block::take(&pool, 64, 2));
        // SAFETY: an address inside of a block, which is recognised and not written to.
        unsafe { pool.free(first.at.wrapping_add(8), 64) };
        // SAFETY: a place that was never given out lies behind the second block.
        unsafe { pool.free(second.at.wrapping_add(64), 64) };
        [first, second].into_iter().for_each(|block| block.give(&pool));
    }

    #[test]
    fn without_memory_there_is_no_block() {
        let pool = Pool::new();
        let (block, failed) = fake::failing_at(0, || pool.allocate(100));
        assert!(failed && block.is_null());
        // A chunk that is there needs no memory of the host.
        let first = Block::take(&pool, 100, 1);
        let (second, failed) = fake::failing_at(0, || Block::take(&pool, 100, 2));
        assert!(!failed);
        [first, second].into_iter().for_each(|block| block.give(&pool));
    }
}
