//! Private memory for the copies of subscriptions that a pass makes for each batch of NOTIFYs: the blocks of one batch
//! serve the next one. The allocator keeps few blocks of a size at hand, and cuts the others anew each time.
use std::cell::RefCell;

/// A process keeps at most this many blocks: those of one batch.
const MOST_KEPT: usize = 32;
/// Longer blocks are not kept, in bytes.
const LONGEST_KEPT: usize = 1024;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// The spare blocks of this process, borrowed for a while: what is left of them comes back in the end.
pub struct SpareBlocks {
    blocks: Vec<Vec<u8>>,
    is_borrowed: bool,
}

impl SpareBlocks {
    /// Borrows the spare blocks there are, for a batch of this size; none while others have borrowed them, or for a
    /// single NOTIFY, which costs less without.
    #[inline]
    pub fn of_batch(size: usize) -> SpareBlocks {
        let is_borrowed = size > 1;
        SpareBlocks { blocks: if is_borrowed { SPARE.take() } else { Vec::new() }, is_borrowed }
    }

    /// An empty block: a spare one, or one without memory so far.
    #[inline]
    pub fn empty_block(&mut self) -> Vec<u8> {
        self.blocks.pop().unwrap_or_default()
    }

    /// Keeps a block that is not needed any more.
    #[inline]
    pub fn keep(&mut self, mut block: Vec<u8>) {
        let is_fit = (1..=LONGEST_KEPT).contains(&block.capacity());
        if self.is_borrowed && is_fit && self.blocks.len() < MOST_KEPT {
            block.clear();
            self.blocks.push(block);
        }
    }
}

impl Drop for SpareBlocks {
    fn drop(&mut self) {
        if self.is_borrowed {
            SPARE.set(std::mem::take(&mut self.blocks));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> usize {
        SPARE.with_borrow(Vec::len)
    }

    #[test]
    fn a_block_serves_again_and_shows_nothing_of_before() {
        SpareBlocks::of_batch(2).keep(b"something".to_vec());
        assert_eq!(SpareBlocks::of_batch(1).empty_block().capacity(), 0);
        let block = SpareBlocks::of_batch(2).empty_block();
        assert!(block.is_empty() && block.capacity() >= 9);
        assert_eq!(SpareBlocks::of_batch(2).empty_block().capacity(), 0);
    }

    #[test]
    fn a_bounded_number_of_short_blocks_is_kept() {
        let mut spare = SpareBlocks::of_batch(2);
        (0..3 * MOST_KEPT).for_each(|_| spare.keep(b"x".to_vec()));
        assert_eq!(kept(), 0, "they are borrowed");
        drop(spare);
        assert_eq!(kept(), MOST_KEPT);
        let mut spare = SpareBlocks::of_batch(2);
        spare.blocks.clear();
        spare.keep(vec![0; LONGEST_KEPT + 1]);
        spare.keep(Vec::new());
        drop(spare);
        SpareBlocks::of_batch(1).keep(b"x".to_vec());
        assert_eq!(kept(), 0);
    }
}
