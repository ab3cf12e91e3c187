//! A single document needs no putting together: packages parse it and write it out again. Where the result can be told
//! beforehand, and the package was seen to give just that, it is not asked each time.
use crate::presence::event_package::PackageId;
use crate::sip::xml_form;
use std::cell::RefCell;

/// How often a package has to give what was expected before it is trusted.
const PROOFS: i32 = 4;
/// Every so many times a trusted package is asked all the same.
const CHECK_EACH: u32 = 128;

#[derive(Clone, Copy, Default)]
struct Trust {
    /// Proofs so far; negative: it once gave something else, and is always asked.
    proofs: i32,
    uses: u32,
}

/// What is known of the packages, by process.
#[derive(Default)]
pub struct SingleDocuments(RefCell<Vec<Trust>>);

impl SingleDocuments {
    /// What `package` makes of a single document; `ask` asks it.
    pub fn body(&self, package: PackageId, document: &[u8], ask: impl FnOnce() -> Option<Vec<u8>>) -> Option<Vec<u8>> {
        let index = usize::from(package.0);
        let mut trust = self.0.borrow().get(index).copied().unwrap_or_default();
        if trust.proofs < 0 {
            return ask();
        }
        let Some(expected) = xml_form::formatted(document) else { return ask() };
        trust.uses = trust.uses.wrapping_add(1);
        let skip = trust.proofs >= PROOFS && trust.uses % CHECK_EACH != 0;
        let body = if skip { Some(expected) } else { Self::compare(&mut trust, expected, ask()) };
        let mut known = self.0.borrow_mut();
        if known.len() <= index {
            known.resize(index + 1, Trust::default());
        }
        known[index] = trust;
        body
    }

    fn compare(trust: &mut Trust, expected: Vec<u8>, given: Option<Vec<u8>>) -> Option<Vec<u8>> {
        trust.proofs = if given.as_ref() == Some(&expected) { trust.proofs.saturating_add(1) } else { -1 };
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const PLAIN: &[u8] = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<p a=\"1\"/>\n";

    #[test]
    fn a_package_that_gives_what_is_expected_is_asked_less_and_less() {
        let (singles, asked) = (SingleDocuments::default(), Cell::new(0));
        for _ in 0..200 {
            let ask = || {
                asked.set(asked.get() + 1);
                Some(PLAIN.to_vec())
            };
            assert_eq!(singles.body(PackageId(3), PLAIN, ask), Some(PLAIN.to_vec()));
        }
        assert_eq!(asked.get(), PROOFS + 1);
    }

    #[test]
    fn a_package_with_a_mind_of_its_own_is_always_asked() {
        let singles = SingleDocuments::default();
        for round in 0..20 {
            let own = format!("own {round}").into_bytes();
            assert_eq!(singles.body(PackageId(0), PLAIN, || Some(own.clone())), Some(own.clone()));
        }
    }
}
