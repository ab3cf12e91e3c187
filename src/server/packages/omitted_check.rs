//! presence_xml's check of a published document is left out: it parses what was parsed already, and does nothing else.
//! Now and then it is made all the same; once it refuses a document, it is always made.
use crate::common::counters::{self, Counter};
use crate::limited;
use crate::presence::event_package::PackageVerdict;
use std::cell::Cell;

/// One time in this many the check is made all the same.
const CHECK_EACH: u32 = 128;

/// What this process knows of the check.
#[derive(Default)]
pub struct OmittedCheck {
    uses: Cell<u32>,
    /// The check refused a document that was well-formed by our measure.
    is_disproved: Cell<bool>,
}

impl OmittedCheck {
    /// What the check says of a document that was found to be well-formed; `check` makes it.
    pub fn verdict(&self, check: impl FnOnce() -> PackageVerdict) -> PackageVerdict {
        if self.is_disproved.get() {
            return check();
        }
        let uses = self.uses.get().wrapping_add(1);
        self.uses.set(uses);
        if uses % CHECK_EACH != 1 {
            counters::count(Counter::ChecksOmitted);
            return PackageVerdict::Fine;
        }
        let verdict = check();
        if verdict == PackageVerdict::Refused {
            counters::count(Counter::ChecksUnexpected);
            limited!(Warn, "presence_xml refuses a document that can be read: from now on it checks each of them");
            self.is_disproved.set(true);
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks_made(check: &OmittedCheck, times: usize, verdict: fn() -> PackageVerdict) -> usize {
        let made = Cell::new(0);
        for _ in 0..times {
            check.verdict(|| {
                made.set(made.get() + 1);
                verdict()
            });
        }
        made.get()
    }

    #[test]
    fn the_check_is_made_now_and_then() {
        assert_eq!(checks_made(&OmittedCheck::default(), 2 * CHECK_EACH as usize, || PackageVerdict::Fine), 2);
    }

    #[test]
    fn after_a_refusal_the_check_is_always_made() {
        assert_eq!(checks_made(&OmittedCheck::default(), 300, || PackageVerdict::Refused), 300);
    }
}
