//! Work on one after the other that is broken off when too much of it fails.

/// Works on `items` until so many of them have failed; `false` when they have, and what is left is not worked on.
pub fn until_failed<T>(items: impl IntoIterator<Item = T>, most: usize, mut work: impl FnMut(T) -> bool) -> bool {
    let mut failed = 0;
    for item in items {
        failed += usize::from(!work(item));
        if failed >= most {
            return false;
        }
    }
    true
}
