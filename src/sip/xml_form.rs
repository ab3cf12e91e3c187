//! Plain XML documents, read in one pass: whether one is well-formed, and the form in which libxml2 writes it again
//! when it is asked to format it, which is what an event package returns when there is a single document to put
//! together. Documents that are not plain (comments, CDATA, document types, other encodings, names beyond ASCII) are
//! left to a real parser.
use super::blocks::{find, has_any};

/// Deeper documents are not looked at.
const MAX_DEPTH: usize = 32;
/// Longer documents are not looked at.
const MAX_BYTES: usize = 128 << 10;
/// Elements with more attributes are not looked at.
const MAX_ATTRIBUTES: usize = 16;

const DECLARATION: &[u8] = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>";
const SHORT_DECLARATION: &[u8] = b"<?xml version=\"1.0\"?>";

/// Whether a document is plain and well-formed; `false` says nothing about the document.
pub fn is_plain(document: &[u8]) -> bool {
    let rest = [DECLARATION, SHORT_DECLARATION].iter().find_map(|d| document.strip_prefix(*d)).unwrap_or(document);
    rest.len() <= MAX_BYTES && DocumentScan::<false>::new(rest, Vec::new()).document().is_some()
}

/// Whether a document's root plainly has this name; `false` says nothing about the document.
pub fn has_root(document: &[u8], name: &[u8]) -> bool {
    let rest = [DECLARATION, SHORT_DECLARATION].iter().find_map(|d| document.strip_prefix(*d)).unwrap_or(document);
    let tag = rest.trim_ascii_start().strip_prefix(b"<").and_then(|tag| tag.strip_prefix(name));
    tag.and_then(|rest| rest.first()).is_some_and(|c| matches!(c, b' ' | b'\t' | b'\r' | b'\n' | b'>' | b'/'))
}

/// The document as libxml2 would write it, or `None` where that is not plain to see.
pub fn formatted(document: &[u8]) -> Option<Vec<u8>> {
    let rest = document.strip_prefix(DECLARATION).filter(|rest| rest.len() <= MAX_BYTES)?;
    let mut out = Vec::with_capacity(document.len() * 3 / 2);
    out.extend_from_slice(DECLARATION);
    out.push(b'\n');
    let mut scan = DocumentScan::<true>::new(rest, out);
    scan.document()?;
    scan.has_form.then_some(scan.out)
}

/// A dialog document (RFC 4235) as presence_dialoginfo writes a single one: the elements of the root in a new root,
/// with room for the version; `None` where that is not plain to see.
pub fn dialog_info(document: &[u8], entity: &[u8]) -> Option<Vec<u8>> {
    let rest = [DECLARATION, SHORT_DECLARATION].iter().find_map(|d| document.strip_prefix(*d)).unwrap_or(document);
    let is_odd = |c: &u8| !(b' '..0x7f).contains(c) || b"&<>\"".contains(c);
    // Without a declared encoding, characters beyond ASCII are written as numbers.
    if rest.len() > MAX_BYTES || !document.is_ascii() || entity.iter().any(is_odd) {
        return None;
    }
    let mut scan = DocumentScan::<true>::new(rest, Vec::new());
    scan.skip_space();
    let start = scan.rest;
    scan.element()?;
    let tag = &start[..start.len() - scan.rest.len()];
    let root = scan.open.first_mut().filter(|root| root.name == b"dialog-info")?;
    root.on_lines = true;
    if memchr::memmem::find(tag, b"xmlns:").is_some() {
        return None;
    }
    let head: [&[u8]; 4] = [
        SHORT_DECLARATION,
        b"\n<dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" version=\"00000000000\" state=\"full\" entity=\"",
        entity,
        b"\">",
    ];
    scan.out = head.concat();
    let begin = scan.out.len();
    scan.has_form = true;
    while !scan.open.is_empty() {
        if scan.open.len() == 1 {
            scan.skip_text()?;
            if scan.rest.starts_with(b"</") && scan.out.len() == begin {
                return None;
            }
        }
        scan.content()?;
    }
    scan.skip_space();
    scan.write(b"\n");
    (scan.rest.is_empty() && scan.has_form).then_some(scan.out)
}

/// An element whose children are being read.
struct OpenElement<'a> {
    name: &'a [u8],
    /// Whether its children are elements, each on a line of its own.
    on_lines: bool,
}

/// A document on its way; its form is looked at where it is to be `WRITTEN` again.
struct DocumentScan<'a, const WRITTEN: bool> {
    rest: &'a [u8],
    open: Vec<OpenElement<'a>>,
    out: Vec<u8>,
    /// Whether the form is known; writing stops where it is not.
    has_form: bool,
}

fn is_name_start(c: u8) -> bool {
    c.is_ascii_alphabetic() || c == b'_'
}

const NAME: u8 = 1;
const SPACE: u8 = 2;
const SIMPLE: u8 = 4;

/// What does not stand for itself everywhere, or is not written as it was read.
const fn is_odd(c: u8) -> bool {
    (c < b' ') | (c >= 0x7f) | (c == b'&') | (c == b'<') | (c == b'>') | (c == b'"') | (c == b']')
}

/// What each byte may be part of: a name, the space between things, text that stands for itself.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut c = 0;
    while c < 256 {
        let byte = c as u8;
        let name = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':');
        let space = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        let simple = space || byte >= b' ' && byte < 0x7f && byte != b'&';
        classes[c] = if name { NAME } else { 0 } | if space { SPACE } else { 0 } | if simple { SIMPLE } else { 0 };
        c += 1;
    }
    classes
};

/// How many bytes at the start of a text are of a class.
fn run_of(class: u8, text: &[u8]) -> usize {
    text.iter().take_while(|c| CLASSES[usize::from(**c)] & class != 0).count()
}

/// Whether a value or text has nothing but what stands for itself and is written again as it was read.
fn is_verbatim(text: &[u8]) -> bool {
    !has_any(text, is_odd)
}

/// What a text may hold: characters of XML 1.0 (2.2), and the five references every document knows (4.6).
fn is_text(text: &[u8]) -> bool {
    let rest = &text[run_of(SIMPLE, text)..];
    if rest.is_empty() {
        return true;
    }
    let Ok(characters) = std::str::from_utf8(rest) else { return false };
    let known = ["&lt;", "&gt;", "&amp;", "&quot;", "&apos;"];
    characters.char_indices().all(|(at, c)| match c {
        '&' => known.iter().any(|reference| characters[at..].starts_with(reference)),
        '\t' | '\n' | '\r' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        c => c >= ' ',
    })
}

/// What the content of an element may hold: text, but not the end of a CDATA section (2.4).
fn is_content(text: &[u8]) -> bool {
    is_text(text) && (find(b']', text).is_none() || memchr::memmem::find(text, b"]]>").is_none())
}

impl<'a, const WRITTEN: bool> DocumentScan<'a, WRITTEN> {
    fn new(rest: &'a [u8], out: Vec<u8>) -> Self {
        let has_form = !out.is_empty();
        DocumentScan { rest, open: Vec::with_capacity(8), out, has_form }
    }

    /// Reads all of it: one root element, and nothing but space around it.
    fn document(&mut self) -> Option<()> {
        self.skip_space();
        self.element()?;
        while !self.open.is_empty() {
            self.content()?;
        }
        self.skip_space();
        self.write(b"\n");
        self.rest.is_empty().then_some(())
    }

    fn skip_space(&mut self) -> bool {
        let length = run_of(SPACE, self.rest);
        self.rest = &self.rest[length..];
        length > 0
    }

    /// Passes over text that is not written again.
    fn skip_text(&mut self) -> Option<()> {
        let (text, rest) = self.rest.split_at(find(b'<', self.rest)?);
        self.rest = rest;
        (is_verbatim(text) || is_content(text)).then_some(())
    }

    fn write(&mut self, text: &[u8]) {
        if WRITTEN && self.has_form {
            self.out.extend_from_slice(text);
        }
    }

    /// Writes text with its line ends as XML 1.0 reads them (2.11).
    fn write_lines(&mut self, mut text: &[u8]) {
        while let Some(at) = find(b'\r', text) {
            self.write(&text[..at]);
            text = &text[at + 1..];
            // Ends of lines of the old Macintosh are left to a real parser.
            self.has_form &= text.starts_with(b"\n");
        }
        self.write(text);
    }

    /// What follows stands on a line of its own.
    fn begin_line(&mut self, depth: usize) {
        const LINE: &[u8] = &{
            let mut line = [b' '; 1 + 2 * MAX_DEPTH];
            line[0] = b'\n';
            line
        };
        self.write(&LINE[..1 + 2 * depth.min(MAX_DEPTH)]);
    }

    fn parent_on_lines(&self) -> bool {
        self.open.last().is_some_and(|parent| parent.on_lines)
    }

    /// Text, a child or the end of the innermost element.
    fn content(&mut self) -> Option<()> {
        if *self.rest.first()? != b'<' {
            self.text(find(b'<', self.rest)?)?;
        }
        match self.rest.get(1)? {
            b'/' => self.end(),
            _ => self.element(),
        }
    }

    fn text(&mut self, length: usize) -> Option<()> {
        let (text, rest) = self.rest.split_at(length);
        self.rest = rest;
        if !WRITTEN {
            return (is_verbatim(text) || is_content(text)).then_some(());
        }
        // What stands between elements that were put on lines, and what is written in another way than it was read.
        self.has_form = self.has_form && !self.parent_on_lines();
        if is_verbatim(text) {
            self.write(text);
            return Some(());
        }
        self.has_form = self.has_form && memchr::memchr2(b'&', b'>', text).is_none();
        self.write_lines(text);
        is_content(text).then_some(())
    }

    fn end(&mut self) -> Option<()> {
        let element = self.open.pop()?;
        let start = self.rest;
        let rest = self.rest[2..].strip_prefix(element.name)?;
        let after = run_of(SPACE, rest);
        self.has_form &= after == 0;
        self.rest = rest[after..].strip_prefix(b">")?;
        if WRITTEN && element.on_lines {
            self.begin_line(self.open.len());
        }
        self.write(&start[..start.len() - self.rest.len()]);
        Some(())
    }

    /// A start tag, or an element without content.
    fn element(&mut self) -> Option<()> {
        let tag = self.rest.strip_prefix(b"<")?;
        let length = run_of(NAME, tag);
        if !tag.first().is_some_and(|c| is_name_start(*c)) {
            return None;
        }
        let name = &tag[..length];
        let start = self.rest;
        self.rest = &tag[length..];
        self.attributes()?;
        if WRITTEN && self.parent_on_lines() {
            self.begin_line(self.open.len());
        }
        if let Some(rest) = self.rest.strip_prefix(b"/>") {
            self.rest = rest;
            self.write(&start[..start.len() - rest.len()]);
            return Some(());
        }
        self.rest = self.rest.strip_prefix(b">")?;
        // Elements without content are written in the short way, which starts earlier than here.
        self.has_form &= !self.rest.starts_with(b"</");
        let on_lines =
            WRITTEN && self.open.last().is_none_or(|parent| parent.on_lines) && self.rest.first() == Some(&b'<');
        self.write(&start[..start.len() - self.rest.len()]);
        self.open.push(OpenElement { name, on_lines });
        (self.open.len() <= MAX_DEPTH).then_some(())
    }

    /// The attributes of a start tag, up to its end.
    fn attributes(&mut self) -> Option<()> {
        // Where the names are, and how long.
        let mut names = [(0u16, 0u16); MAX_ATTRIBUTES];
        let all = self.rest;
        let (mut count, mut others) = (0, false);
        loop {
            let before = self.rest;
            let has_space = self.skip_space();
            if matches!(self.rest.first()?, b'>' | b'/') {
                self.has_form &= !has_space;
                return Some(());
            }
            if !has_space || !is_name_start(self.rest[0]) || count == MAX_ATTRIBUTES {
                return None;
            }
            let length = run_of(NAME, self.rest);
            let name = &self.rest[..length];
            let is_namespace = name == b"xmlns" || name.starts_with(b"xmlns:");
            let is_same = |(at, length): &(u16, u16)| all[usize::from(*at)..].get(..usize::from(*length)) == Some(name);
            if names[..count].iter().any(is_same) {
                return None;
            }
            names[count] = (u16::try_from(all.len() - self.rest.len()).ok()?, u16::try_from(length).ok()?);
            count += 1;
            let value = self.rest[length..].strip_prefix(b"=")?;
            let quote = *value.first().filter(|quote| matches!(quote, b'"' | b'\''))?;
            let end = find(quote, &value[1..])?;
            let text = &value[1..=end];
            let simple = is_verbatim(text);
            if !simple && (!is_text(text) || find(b'<', text).is_some()) {
                return None;
            }
            // libxml2 writes namespaces first, double quotes, one space; and some characters of values as references.
            self.has_form = WRITTEN
                && self.has_form
                && quote == b'"'
                && before[0] == b' '
                && before.len() == self.rest.len() + 1
                && !(is_namespace && others)
                && (simple || !text.iter().any(|c| matches!(c, b'&' | b'>' | b'\n' | b'\t' | b'\r')));
            others |= !is_namespace;
            self.rest = &value[end + 2..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_documents_get_lines() {
        let compact = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<p xmlns=\"u\" e=\"x\"><t \
            id=\"1\"><s><b>open</b></s></t><n/></p>";
        let wanted = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<p xmlns=\"u\" e=\"x\">\n  <t id=\"1\">\n    \
            <s>\n      <b>open</b>\n    </s>\n  </t>\n  <n/>\n</p>\n";
        assert_eq!(String::from_utf8(formatted(compact).unwrap()).unwrap(), wanted);
    }

    #[test]
    fn documents_with_lines_stay_as_they_are() {
        let text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<p xmlns=\"u\">\n  <t id=\"1\"><b>open</b></t>\n</p>\n";
        assert_eq!(String::from_utf8(formatted(text.as_bytes()).unwrap()).unwrap(), text);
    }

    #[test]
    fn lines_end_in_one_way() {
        let text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<p>\r\n  <t id=\"1\">\r\n open</t>\r\n</p>\r\n";
        let wanted = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<p>\n  <t id=\"1\">\n open</t>\n</p>\n";
        assert_eq!(String::from_utf8(formatted(text.as_bytes()).unwrap()).unwrap(), wanted);
    }

    #[test]
    fn what_is_not_plain_is_left_alone() {
        let declared = |root: &str| format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{root}").into_bytes();
        for root in [
            "<p a='1'/>",
            "<p>&lt;</p>",
            "<p><!-- c --></p>",
            "<p></p>",
            "<p  a=\"1\"/>",
            "<p a=\"1\" xmlns=\"u\"/>",
            "<p/><q/>",
            "<p>",
            "<p>a>b</p>",
            "<p ></p >",
            "text",
            "<p a=\"1\" />",
            "<p>one\rtwo</p>",
        ] {
            assert_eq!(formatted(&declared(root)), None, "{root}");
        }
        // Apostrophes and signs that need no reference are plain.
        assert!(formatted(&declared("<p a=\"it's\">it's</p>")).is_some());
        assert_eq!(formatted(b"<p/>"), None);
        assert_eq!(formatted(b"<?xml version=\"1.0\"?>\n<p/>"), None);
    }

    #[test]
    fn dialogs_get_a_new_root() {
        let form = |inside: &str| {
            let text =
                format!("<?xml version=\"1.0\"?>\n<dialog-info xmlns=\"u\" version=\"7\">{inside}</dialog-info>\n");
            dialog_info(text.as_bytes(), b"sip:a@b").and_then(|text| String::from_utf8(text).ok())
        };
        let head = "<?xml version=\"1.0\"?>\n<dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" \
            version=\"00000000000\" state=\"full\" entity=\"sip:a@b\">\n";
        let compact = "<dialog id=\"a\"><state>early</state></dialog> x <note><i/></note>";
        let wanted = "  <dialog id=\"a\">\n    <state>early</state>\n  </dialog>\n  <note>\n    <i/>\n  \
            </note>\n</dialog-info>\n";
        assert_eq!(form(compact), Some(format!("{head}{wanted}")));
        let spaced = "\n<dialog id=\"a\"> <state>early</state></dialog>\n";
        assert_eq!(
            form(spaced),
            Some(format!("{head}  <dialog id=\"a\"> <state>early</state></dialog>\n</dialog-info>\n"))
        );
        for odd in ["", " ", "<dialog></dialog>", "<d>&lt;</d>", "<d>\u{e9}</d>", "<!-- c --><d/>"] {
            assert_eq!(form(odd), None, "{odd}");
        }
    }

    #[test]
    fn plain_documents_are_well_formed() {
        for plain in [
            "<p/>",
            " <p a='1' b = \"2\"/>".replace(" = ", "=").as_str(),
            "<?xml version=\"1.0\"?>\n<p><q>a &amp; b</q > t </p>\n",
            "<p xmlns:a=\"u\"><a:q a:b=\"&lt;\"></a:q></p>",
            "<p>gr\u{fc}n</p>",
        ] {
            assert!(is_plain(plain.as_bytes()), "{plain}");
        }
    }

    #[test]
    fn what_a_parser_would_refuse_is_not_plain() {
        for bad in [
            "",
            "<p>",
            "<p></q>",
            "</p>",
            "<p/><q/>",
            "<p/>x",
            "<p a=\"1\" a=\"2\"/>",
            "<p a=\"<\"/>",
            "<p a=1/>",
            "<p a/>",
            "<p a=\"1\"b=\"2\"/>",
            "<p>&nope;</p>",
            "<p>&amp</p>",
            "<p>]]></p>",
            "<p>\u{1}</p>",
            "<p>\u{ffff}</p>",
            "<1/>",
            "<p",
            "<p a=\"",
            "<!DOCTYPE p><p/>",
            "<p/ >",
            "x<p/>",
        ] {
            assert!(!is_plain(bad.as_bytes()), "{bad}");
        }
        assert!(!is_plain(b"<p>\xff</p>"));
        assert!(!is_plain("<p>".repeat(40).as_bytes()));
    }

    #[test]
    fn what_is_larger_is_left_to_the_parser() {
        let nested = |depth: usize| ["<a>".repeat(depth), "</a>".repeat(depth)].concat().into_bytes();
        assert!(is_plain(&nested(MAX_DEPTH)) && !is_plain(&nested(MAX_DEPTH + 1)));
        let attributes = |count: usize| {
            let text = (0..count).map(|n| format!(" a{n}=\"1\"")).collect::<Vec<_>>().concat();
            format!("<a{text}/>").into_bytes()
        };
        assert!(is_plain(&attributes(MAX_ATTRIBUTES)) && !is_plain(&attributes(MAX_ATTRIBUTES + 1)));
        let long = |bytes: usize| [b"<a>", &vec![b'x'; bytes - 7][..], b"</a>"].concat();
        assert!(is_plain(&long(MAX_BYTES)) && !is_plain(&long(MAX_BYTES + 1)));
    }
}
