//! Work on one after the other that is broken off when too much of it fails.

/// What a piece of work has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemOutcome {
    /// The work is done.
    Done,
    /// The work has failed, which says nothing of the others.
    Failed,
    /// The work has failed for a reason for which all that is left would fail, too.
    Hopeless,
}

/// Works on `items` until `most` of them have failed; `false` when they have, or one is hopeless: then what is left is
/// not worked on.
pub fn until_failed<T>(
    items: impl IntoIterator<Item = T>,
    most: usize,
    mut work: impl FnMut(T) -> ItemOutcome,
) -> bool {
    let mut failed = 0;
    for item in items {
        failed += match work(item) {
            ItemOutcome::Done => 0,
            ItemOutcome::Failed => 1,
            ItemOutcome::Hopeless => most,
        };
        if failed >= most {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_hopeless_is_the_last() {
        let worked_on = |outcomes: &[ItemOutcome]| {
            let mut count = 0;
            let all = until_failed(outcomes, 3, |outcome| {
                count += 1;
                *outcome
            });
            (count, all)
        };
        use ItemOutcome::{Done, Failed, Hopeless};
        assert_eq!(worked_on(&[Failed, Done, Failed, Done]), (4, true));
        assert_eq!(worked_on(&[Failed, Done, Failed, Failed, Done]), (4, false));
        assert_eq!(worked_on(&[Done, Hopeless, Done]), (2, false));
        assert_eq!(worked_on(&[]), (0, true));
    }
}
