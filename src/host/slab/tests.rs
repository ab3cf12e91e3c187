use super::*;
use crate::host::fake;

#[test]
fn classes_are_no_smaller_than_what_they_hold_and_not_much_larger() {
    for size in 1..=LARGEST {
        let given = size_in(class_of(size));
        assert!(given >= size && given - size < if size <= FINE { FINE_STEP } else { COARSE_STEP }, "{size}: {given}");
    }
    assert_eq!(class_of(LARGEST) + 1, CLASSES);
}

/// A sequence of numbers that looks like chance and is the same in each run.
fn chance(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 33) as usize
}

/// Miri interprets each instruction: fewer blocks, and fewer sizes of them, so that several
/// share a chunk all the same.
const STEPS: usize = if cfg!(miri) { 1_000 } else { 50_000 };
const UP_TO: usize = if cfg!(miri) { 64 } else { LARGEST };

/// Outside of tests a pool lives as long as the server.
impl Drop for Pool {
    fn drop(&mut self) {
        for class in &self.classes {
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
    pool.return_all();
    assert!(pool.classes.iter().all(|class| class.lock().held <= KEPT_CHUNK));
    drop(pool);
    assert_eq!(fake::live_blocks(), before);
}

#[test]
fn nothing_large_stays_when_all_is_given_back() {
    let before = fake::live_blocks();
    let pool = Pool::new();
    let blocks: Vec<_> = (0..STEPS / 5).map(|_| Block::take(&pool, 300, 1)).collect();
    blocks.into_iter().for_each(|block| block.give(&pool));
    pool.return_some();
    let seconds = std::iter::repeat_with(|| pool.return_some()).take_while(|returned| *returned > 0).count();
    assert!(seconds < 60, "{seconds} seconds");
    assert!(pool.classes[class_of(300)].lock().held <= KEPT_CHUNK);
    // One chunk, and the list of chunks.
    assert!(fake::live_blocks() - before <= 2);
}

/// A second in which blocks are taken and given back.
fn burst(pool: &Pool, blocks: usize) {
    let blocks: Vec<_> = (0..blocks).map(|_| Block::take(pool, 300, 1)).collect();
    blocks.into_iter().for_each(|block| block.give(pool));
}

#[test]
fn what_each_second_needs_does_not_go_back_and_forth() {
    let pool = Pool::new();
    let second = || {
        burst(&pool, STEPS / 5);
        pool.return_some()
    };
    // The last chunk of the first burst may have been larger than was needed, as much as several small ones.
    burst(&pool, STEPS / 5);
    let first = pool.classes[class_of(300)].lock().held;
    for _ in 0..60 {
        second();
    }
    let held = pool.classes[class_of(300)].lock().held;
    assert!(held <= first && first - held <= LARGEST_CHUNK + KEPT_CHUNK, "{first} bytes, then {held}");
    assert_eq!((0..10).map(|_| second()).sum::<usize>(), 0);
    assert_eq!(pool.classes[class_of(300)].lock().held, held);
}

#[test]
fn a_bounded_number_of_chunks_goes_back_in_a_second() {
    let pool = Pool::new();
    let (small, large) = (FINE + 1, LARGEST);
    for size in (small..=large).step_by(COARSE_STEP) {
        let blocks: Vec<_> = (0..200).map(|_| Block::take(&pool, size, 1)).collect();
        blocks.into_iter().for_each(|block| block.give(&pool));
    }
    pool.return_some();
    assert_eq!(pool.return_some(), MOST_RETURNED);
}

#[test]
fn spare_chunks_go_back_before_memory_is_short() {
    let pool = Pool::new();
    burst(&pool, 200);
    assert!(pool.classes[class_of(300)].lock().spares > 0);
    let (block, failed) = fake::failing_at(0, || pool.allocate(100));
    assert!(failed && block.is_null());
    assert_eq!(pool.classes[class_of(300)].lock().spares, 0);
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
