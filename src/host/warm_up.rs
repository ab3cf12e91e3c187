//! Free blocks of every usual size are left in a memory before it is used (`seed_memory`). Kamailio's allocators qm and
//! fm keep free blocks in lists by size, and with one large free block each allocation walks a thousand empty lists.
use crate::sys;
use std::ffi::{c_char, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Sizes of the free blocks that are left in a memory: step, up to, how many of each.
type Seeds = [(usize, usize, usize)];
const PRIVATE_SEEDS: &Seeds = &[(16, 1024, 6), (64, 4096, 2), (1024, 16384, 1)];
/// Smaller memories are left as they are.
const PRIVATE_ENOUGH: usize = 4 << 20;
const SHARED_ENOUGH: usize = 32 << 20;
const SHARED_SEEDS: &Seeds = &[(16, 1024, 8), (128, 16384, 4)];

/// Leaves free blocks of every usual size in this process's private memory. The default allocator looks for a block
/// from the list of the wanted size upwards; with one large free block only, each allocation of the host walks a
/// thousand empty lists.
pub fn seed_private_memory() {
    // SAFETY: the host names its allocator.
    let manager = unsafe { sys::kr_pkg_manager() };
    // SAFETY: the name ends with a NUL, and lives for ever.
    let is_known = unsafe { Manager::of(manager) }.is_some();
    // SAFETY: a counter of the host is read.
    if is_known && unsafe { sys::kr_pkg_available() } > PRIVATE_ENOUGH {
        // SAFETY: both functions belong to the host's private memory.
        unsafe { seed(PRIVATE_SEEDS, sys::kr_pkg_malloc, sys::kr_pkg_free) };
    }
}

/// The same for shared memory; call once, before the processes fork.
pub fn seed_shared_memory() {
    // SAFETY: the host names its allocator.
    let name = unsafe { sys::kr_shm_manager() };
    // SAFETY: the name ends with a NUL, and lives for ever.
    let Some(manager) = (unsafe { Manager::of(name) }) else {
        // SAFETY: the host names its allocator with a constant, which ends with a NUL.
        let name = unsafe { super::bytes::c_text(name) };
        return crate::log!(Info, "memory is not seeded: the allocator {} is not known", super::log::show(name));
    };
    if super::shm::available() > SHARED_ENOUGH {
        // SAFETY: both functions belong to the host's shared memory.
        let left = unsafe { seed(SHARED_SEEDS, sys::kr_shm_malloc, sys::kr_shm_free) };
        SEEDED.store(left, Ordering::Relaxed);
        crate::log!(Info, "{left} free blocks are left in shared memory for the allocator {}", manager.name());
    }
}

/// How many free blocks were left in shared memory.
pub fn seeded_blocks() -> usize {
    SEEDED.load(Ordering::Relaxed)
}

/// Set before the processes fork.
static SEEDED: AtomicUsize = AtomicUsize::new(0);

/// An allocator that keeps free blocks in lists by size, which it searches one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manager {
    Quick,
    Fast,
}

impl Manager {
    /// The allocator of this name, where it is known.
    ///
    /// # Safety
    /// The name ends with a NUL.
    unsafe fn of(name: *const c_char) -> Option<Manager> {
        // SAFETY: the caller hands in a name that ends with a NUL.
        match unsafe { super::bytes::c_text(name) } {
            b"q_malloc" => Some(Manager::Quick),
            b"f_malloc" => Some(Manager::Fast),
            _ => None,
        }
    }

    /// The allocator's name as option `-x` has it.
    fn name(self) -> &'static str {
        match self {
            Manager::Quick => "qm",
            Manager::Fast => "fm",
        }
    }
}

type Allocate = unsafe extern "C" fn(usize) -> *mut c_void;
type Free = unsafe extern "C" fn(*mut c_void);

/// Leaves free blocks; returns how many.
///
/// # Safety
/// `free` takes what `allocate` gives.
unsafe fn seed(seeds: &Seeds, allocate: Allocate, free: Free) -> usize {
    let (mut blocks, mut from) = (Vec::new(), 16);
    for (step, limit, copies) in seeds {
        for size in (from..=*limit).step_by(*step) {
            for _ in 0..*copies {
                // SAFETY: the caller vouches for the function.
                let block = unsafe { allocate(size) };
                // SAFETY: the block is ours; it stays for ever, so that two seeds are never joined.
                let between = unsafe { allocate(16) };
                if !block.is_null() {
                    blocks.push(block);
                }
                if block.is_null() || between.is_null() {
                    break;
                }
            }
        }
        from = limit + step;
    }
    let left = blocks.len();
    for block in blocks {
        // SAFETY: the block was allocated above by the allocator it goes back to, and is freed once.
        unsafe { free(block) };
    }
    left
}
