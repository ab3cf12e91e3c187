//! What a package makes of a document can often be foreseen. Where it was seen to give just that, it is not
//! asked each time; one surprise, and it is always asked.
use crate::common::counters::{self, Counter};
use crate::limited;
use crate::presence::event_package::PackageId;
use std::cell::RefCell;

/// How often a package has to give what was expected before it is trusted.
const PROOFS: i32 = 4;
/// Every so many times a trusted package is asked all the same.
const CHECK_EACH: u32 = 128;

/// How far it is known what a package gives.
#[derive(Clone, Copy, Default)]
struct PredictionRecord {
    /// Proofs so far; negative: it once gave something else, and is always asked.
    proofs: i32,
    uses: u32,
}

impl PredictionRecord {
    fn compare(&mut self, expected: Vec<u8>, given: Option<Vec<u8>>) -> Option<Vec<u8>> {
        if self.proofs > 0 && given.as_ref() != Some(&expected) {
            counters::count(Counter::Mispredicted);
            limited!(Warn, "an event package gives another body than expected: from now on it is always asked");
        }
        self.proofs = if given.as_ref() == Some(&expected) { self.proofs.saturating_add(1) } else { -1 };
        given
    }
}

/// What is known of the packages, by process, for one kind of question.
#[derive(Default)]
pub struct Predictions(RefCell<Vec<PredictionRecord>>);

impl Predictions {
    /// Whether it is worth while to foresee what `package` gives.
    pub fn may_be_foreseen(&self, package: PackageId) -> bool {
        self.0.borrow().get(usize::from(package.0)).is_none_or(|record| record.proofs >= 0)
    }

    /// What `package` gives: `expected` where that is known and the package is trusted, otherwise what `ask` says.
    pub fn body(
        &self,
        package: PackageId,
        expected: impl FnOnce() -> Option<Vec<u8>>,
        ask: impl FnOnce() -> Option<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        let index = usize::from(package.0);
        let mut trust = self.0.borrow().get(index).copied().unwrap_or_default();
        if trust.proofs < 0 {
            return ask();
        }
        let Some(expected) = expected() else { return ask() };
        trust.uses = trust.uses.wrapping_add(1);
        let skip = trust.proofs >= PROOFS && trust.uses % CHECK_EACH != 0;
        let body = if skip {
            counters::count(Counter::Predicted);
            Some(expected)
        } else {
            trust.compare(expected, ask())
        };
        let mut known = self.0.borrow_mut();
        if known.len() <= index {
            known.resize(index + 1, PredictionRecord::default());
        }
        known[index] = trust;
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::xml_form;
    use std::cell::Cell;

    const PLAIN: &[u8] = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<p a=\"1\"/>\n";

    #[test]
    fn a_package_that_gives_what_is_expected_is_asked_less_and_less() {
        let (single_document_bodies, asked) = (Predictions::default(), Cell::new(0));
        for _ in 0..200 {
            let ask = || {
                asked.set(asked.get() + 1);
                Some(PLAIN.to_vec())
            };
            assert_eq!(
                single_document_bodies.body(PackageId(3), || xml_form::formatted(PLAIN), ask),
                Some(PLAIN.to_vec())
            );
        }
        assert_eq!(asked.get(), PROOFS + 1);
    }

    #[test]
    fn a_package_with_a_mind_of_its_own_is_always_asked() {
        let single_document_bodies = Predictions::default();
        for notify_run in 0..20 {
            let own = format!("own {notify_run}").into_bytes();
            assert_eq!(
                single_document_bodies.body(PackageId(0), || xml_form::formatted(PLAIN), || Some(own.clone())),
                Some(own.clone())
            );
        }
    }

    /// Documents from a handful of pieces, right and wrong in every way that pieces can be put together.
    fn documents() -> impl proptest::strategy::Strategy<Value = String> {
        const PIECES: [&str; 42] = [
            "<p>",
            "</p>",
            "<q>",
            "</q>",
            "<p/>",
            "<q a=\"1\"/>",
            "<a:b xmlns:a=\"u\">",
            "</a:b>",
            " ",
            "\n",
            "\r\n",
            "\r",
            "x",
            "&amp;",
            "&x;",
            "'",
            ">",
            "<",
            "\"",
            "]]>",
            "<!-- c -->",
            "<?x y?>",
            "\u{1}",
            "\u{e9}",
            "\r\n",
            "\t",
            "<p xmlns=\"u\" e=\"it's\">",
            "<p b=\"&lt;\">",
            "<p a='1'>",
            "<p a=\"1\" a=\"2\">",
            "<p a=\"x>y\">",
            "<p  a=\"1\">",
            "<p a = \"1\">",
            "<p >",
            "</p >",
            "<q a=\"1\" xmlns=\"u\"/>",
            "<p a=\"1\"b=\"2\">",
            "<:p>",
            "<p:>",
            "<![CDATA[x]]>",
            "<p a=\"\u{e9}\n\">",
            "</>",
        ];
        use proptest::prelude::*;
        let pieces = prop::collection::vec(0..PIECES.len(), 0..12);
        let declared = prop::bool::weighted(0.7);
        (declared, pieces).prop_map(|(declared, pieces)| {
            let body: String = pieces.into_iter().map(|at| PIECES[at]).collect();
            let root = if declared { format!("<p>{body}</p>") } else { body };
            format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{root}")
        })
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(20_000))]
        #[test]
        fn libxml2_agrees_on_plain_documents(text in documents()) {
            let parsed = crate::host::xml::Document::parse(text.as_bytes());
            if xml_form::is_plain(text.as_bytes()) {
                proptest::prop_assert!(parsed.is_some());
            }
            if let Some(form) = xml_form::formatted(text.as_bytes()) {
                let wanted = parsed.and_then(|document| document.to_text());
                let wanted = wanted.and_then(|text| String::from_utf8(text).ok());
                proptest::prop_assert_eq!(String::from_utf8(form).ok(), wanted);
            }
        }
    }
}
