//! Stored documents that their event package cannot read: rows of other programs, documents of other nodes and modules.
//! They are passed over, so that the others show.
use crate::host::xml::Document;
use crate::presence::publication::Publication;
use crate::time::{Moment, Seconds};
use foldhash::quality::RandomState;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::hash::BuildHasher;

/// How many documents a process remembers; then it forgets all of them, and finds them again.
const MAX_KNOWN: usize = 1024;
/// The time between two log lines.
const QUIET: Seconds = Seconds(60);

/// What a process knows of unreadable documents.
#[derive(Default)]
pub struct Unreadable {
    known: RefCell<HashSet<u64>>,
    hasher: RandomState,
    said_at: Cell<Option<Moment>>,
    unsaid: Cell<u32>,
}

impl Unreadable {
    fn key(&self, document: &Publication) -> u64 {
        self.hasher.hash_one((&document.etag, &document.body))
    }

    /// Whether it is known that this document cannot be read.
    pub fn knows(&self, document: &Publication) -> bool {
        !self.known.borrow().is_empty() && self.known.borrow().contains(&self.key(document))
    }

    /// Notes a document. `None` when it was known; otherwise whether a log line is due, with the number of those that
    /// had none.
    pub fn note(&self, document: &Publication, now: Moment) -> Option<Option<u32>> {
        let mut known = self.known.borrow_mut();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        if !known.insert(self.key(document)) {
            return None;
        }
        if self.said_at.get().is_some_and(|said_at| now - said_at < QUIET) {
            self.unsaid.set(self.unsaid.get().saturating_add(1));
            return Some(None);
        }
        self.said_at.set(Some(now));
        Some(Some(self.unsaid.replace(0)))
    }
}

/// Whether libxml2 reads a document, which event packages do, and it declares no entities: nothing in it can grow.
pub fn reads(document: &[u8]) -> bool {
    parsed(document).is_some()
}

/// The document in UTF-8.
pub fn in_utf8(document: &[u8]) -> Option<Vec<u8>> {
    parsed(document)?.to_utf8()
}

fn parsed(document: &[u8]) -> Option<Document> {
    const DECLARATION: &[u8] = b"<!ENTITY";
    // Seen before the parser has it, in wide characters, too.
    let narrow = match document.contains(&0) {
        true => Cow::Owned(document.iter().copied().filter(|c| *c != 0).collect::<Vec<u8>>()),
        false => Cow::Borrowed(document),
    };
    if memchr::memmem::find(&narrow, DECLARATION).is_some() {
        return None;
    }
    Document::parse(document).filter(|parsed| !parsed.declares_entities())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_packages_can_read() {
        for good in [
            "<?xml version=\"1.0\"?><a><b/></a>\n",
            "<!DOCTYPE a><a/>",
            "<!DOCTYPE a SYSTEM \"http://127.0.0.1/a.dtd\"><a/>",
            "<!DOCTYPE a [<!ATTLIST a x CDATA \"1\">]><a/>",
            "<a><b:c/></a>",
        ] {
            assert!(reads(good.as_bytes()), "{good}");
        }
        assert!(reads(b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><a>\xe9</a>"));
        for bad in [
            "",
            "text",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "<a x='1' x='2'/>",
            "\r\n<?xml version=\"1.0\"?><a/>",
            "<a>&b;</a>",
            "<a>\u{1}</a>",
            "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>",
        ] {
            assert!(!reads(bad.as_bytes()), "{bad}");
        }
        assert!(!reads(b"<a>\xe9</a>"));
        assert!(!reads("<a>".repeat(300).as_bytes()));
    }

    #[test]
    fn wide_characters_become_narrow_ones() {
        let wide = |text: &str| -> Vec<u8> {
            [0xfe, 0xff].into_iter().chain(text.encode_utf16().flat_map(u16::to_be_bytes)).collect()
        };
        let text =
            String::from_utf8(in_utf8(&wide("<?xml version=\"1.0\" encoding=\"UTF-16\"?><a>\u{e9}</a>")).unwrap());
        assert_eq!(text.unwrap(), "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<a>\u{e9}</a>\n");
        assert_eq!(in_utf8(&wide("<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>")), None);
    }

    #[test]
    fn each_document_is_noted_once_and_lines_are_rare() {
        let noted = Unreadable::default();
        let document = |etag: u32| Publication { etag: etag.to_string().as_str().into(), ..Publication::default() };
        assert!(!noted.knows(&document(1)));
        assert_eq!(noted.note(&document(1), Moment::at(100)), Some(Some(0)));
        assert_eq!(noted.note(&document(1), Moment::at(100)), None);
        assert!(noted.knows(&document(1)) && !noted.knows(&document(2)));
        assert_eq!(
            (noted.note(&document(2), Moment::at(101)), noted.note(&document(3), Moment::at(159))),
            (Some(None), Some(None))
        );
        assert_eq!(noted.note(&document(4), Moment::at(160)), Some(Some(2)));
        for etag in 10..10 + 2 * MAX_KNOWN as u32 {
            noted.note(&document(etag), Moment::at(161));
        }
        assert!(noted.known.borrow().len() <= MAX_KNOWN);
    }
}
