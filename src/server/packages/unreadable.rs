//! What the parser of event packages makes of documents that others have stored.
use crate::host::xml::XmlDocument;
use std::borrow::Cow;

/// Whether libxml2 reads a document, which event packages do, and it declares no entities: nothing in it can grow.
pub fn reads(document: &[u8]) -> bool {
    parsed(document).is_some()
}

/// The document in UTF-8.
pub fn in_utf8(document: &[u8]) -> Option<Vec<u8>> {
    parsed(document)?.to_utf8()
}

fn parsed(document: &[u8]) -> Option<XmlDocument> {
    const DECLARATION: &[u8] = b"<!ENTITY";
    // Seen before the parser has it, in wide characters, too.
    let narrow = match document.contains(&0) {
        true => Cow::Owned(document.iter().copied().filter(|c| *c != 0).collect::<Vec<u8>>()),
        false => Cow::Borrowed(document),
    };
    if memchr::memmem::find(&narrow, DECLARATION).is_some() {
        return None;
    }
    XmlDocument::parse(document).filter(|parsed| !parsed.declares_entities())
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
    fn a_document_may_be_nested_so_deep() {
        let nested = |depth: usize| ["<a>".repeat(depth), "</a>".repeat(depth)].concat();
        let deepest = (1..400).take_while(|depth| reads(nested(*depth).as_bytes())).count();
        // Versions of libxml2 count the root, or do not.
        assert!((256..=257).contains(&deepest), "{deepest}");
    }
}
