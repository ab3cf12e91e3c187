//! What a package makes of a document can often be foreseen. Where it was seen to give just that, it is not
//! asked each time; one surprise, and it is always asked.
use crate::common::counters::{self, Counter};
use crate::limited;
use crate::presence::event_package::PackageId;
use std::cell::RefCell;

/// How often a package has to give what was expected before it is no longer asked.
const MATCHES_NEEDED: u32 = 4;
/// One time in this many it is asked all the same.
const CHECK_EACH: u32 = 128;

/// How far it is known what a package gives.
#[derive(Clone, Copy)]
enum PredictionRecord {
    /// The package has given what was expected, each of `matches` times.
    Matches { matches: u32, uses: u32 },
    /// The package once gave something else, and is always asked.
    Disproved,
}

impl Default for PredictionRecord {
    fn default() -> Self {
        PredictionRecord::Matches { matches: 0, uses: 0 }
    }
}

/// What is known of the packages, by process, for one kind of question.
#[derive(Default)]
pub struct Predictions(RefCell<Vec<PredictionRecord>>);

impl Predictions {
    /// Whether it is worth while to foresee what `package` gives.
    pub fn may_be_foreseen(&self, package: PackageId) -> bool {
        matches!(self.record(package), PredictionRecord::Matches { .. })
    }

    fn record(&self, package: PackageId) -> PredictionRecord {
        self.0.borrow().get(usize::from(package.0)).copied().unwrap_or_default()
    }

    fn note(&self, package: PackageId, record: PredictionRecord) {
        let (mut known, index) = (self.0.borrow_mut(), usize::from(package.0));
        if known.len() <= index {
            known.resize(index + 1, PredictionRecord::default());
        }
        known[index] = record;
    }

    /// What `package` gives: `expected` where that is known and the package has given it often enough, otherwise what
    /// `ask` says.
    pub fn body(
        &self,
        package: PackageId,
        expected: impl FnOnce() -> Option<Vec<u8>>,
        ask: impl FnOnce() -> Option<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        let PredictionRecord::Matches { matches, uses } = self.record(package) else { return ask() };
        let Some(expected) = expected() else { return ask() };
        let uses = uses.wrapping_add(1);
        if matches >= MATCHES_NEEDED && uses % CHECK_EACH != 0 {
            counters::count(Counter::Predicted);
            self.note(package, PredictionRecord::Matches { matches, uses });
            return Some(expected);
        }
        let given = ask();
        if given.as_ref() == Some(&expected) {
            self.note(package, PredictionRecord::Matches { matches: matches.saturating_add(1), uses });
        } else {
            self.note(package, PredictionRecord::Disproved);
            disproved(matches);
        }
        given
    }
}

/// A package gave another body than expected. Before it has ever given the expected one it is merely of another kind.
fn disproved(matches: u32) {
    if matches == 0 {
        limited!(Info, "an event package makes its bodies in a way of its own: it is asked for each of them");
        return;
    }
    counters::count(Counter::Mispredicted);
    limited!(Warn, "an event package gives another body than expected: from now on it is always asked");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::xml_form;
    use std::cell::Cell;

    const PLAIN: &[u8] = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<p a=\"1\"/>\n";

    #[test]
    fn a_package_that_gives_what_is_expected_is_asked_less_and_less() {
        let (predictions, asked) = (Predictions::default(), Cell::new(0));
        for _ in 0..200 {
            let ask = || {
                asked.set(asked.get() + 1);
                Some(PLAIN.to_vec())
            };
            assert_eq!(predictions.body(PackageId(3), || xml_form::formatted(PLAIN), ask), Some(PLAIN.to_vec()));
        }
        assert_eq!(asked.get(), MATCHES_NEEDED + 1);
    }

    #[test]
    fn a_package_with_a_mind_of_its_own_is_always_asked() {
        let predictions = Predictions::default();
        for turn in 0..20 {
            let own = format!("own {turn}").into_bytes();
            assert_eq!(
                predictions.body(PackageId(0), || xml_form::formatted(PLAIN), || Some(own.clone())),
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
            let parsed = crate::host::xml::XmlDocument::parse(text.as_bytes());
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
