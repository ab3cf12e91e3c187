//! Dialog documents (RFC 4235) as far as presence looks into them: which dialogs there are, how far each has come, and
//! what distinguishes one call from the next.
use super::plain_tags::{self, Piece, local};
use super::xml_value;
use crate::shm_safe::shm_safe;
use foldhash::quality::FixedState;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use std::hash::{BuildHasher, Hasher};
use std::num::NonZeroU32;

/// Deeper documents are not looked at.
const MAX_DEPTH: usize = 32;

/// How far a dialog has come (RFC 4235 3.7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DialogState {
    /// `trying`, `proceeding`, `early`.
    Ringing,
    /// `confirmed`, or a state that is not named.
    Talking,
    /// `terminated`.
    Ended,
}

shm_safe!(
    enum DialogState {
        Ringing,
        Talking,
        Ended,
    }
);

/// What is remembered of a dialog element that has an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The hash of its id.
    pub id: u64,
    /// Digests of its call-id, local-tag and remote-tag, where it has them.
    pub call: [Option<NonZeroU32>; 3],
    /// How far it has come.
    pub phase: DialogState,
}

shm_safe!(Mark { id, call, phase });

impl Mark {
    /// Whether both say which call they belong to, and it is not the same.
    pub fn is_other_call(&self, other: &Mark) -> bool {
        self.call
            .iter()
            .zip(&other.call)
            .any(|(mine, theirs)| matches!((mine, theirs), (Some(mine), Some(theirs)) if mine != theirs))
    }

    /// Whether both name the same SIP dialog in full (RFC 3261 12): once it has ended it never lives again.
    pub fn is_same_sip_dialog(&self, other: &Mark) -> bool {
        self.call == other.call && self.call.iter().all(Option::is_some)
    }

    /// Whether both name the same Call-ID.
    pub fn is_same_call_id(&self, other: &Mark) -> bool {
        self.call[0].is_some() && self.call[0] == other.call[0]
    }
}

/// What a dialog document says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DialogInfo {
    /// The dialog elements that have an id, in order.
    pub marks: Vec<Mark>,
    /// The number of dialog elements.
    pub dialogs: u32,
    /// How many of them are terminated.
    pub terminated: u32,
    /// The version of the document (RFC 4235 4.1).
    pub version: Option<u64>,
}

fn hash(id: &[u8]) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write(id);
    hasher.finish()
}

/// The hash of an id, as it is written.
fn hash_of_id(written: &[u8]) -> u64 {
    hash(&xml_value::of_attribute(written))
}

/// A dialog element that is being read.
struct OpenDialog {
    depth: usize,
    phase: DialogState,
    /// Whether its mark is the last one.
    has_mark: bool,
}

impl DialogInfo {
    /// Reads a document; `None` when it is not well-formed or too deep.
    pub fn parse(document: &[u8]) -> Option<DialogInfo> {
        let mut reading = DialogInfoReader::default();
        match plain_tags::each(document, |piece| reading.take(piece)) {
            Some(()) => Some(reading.info),
            None => DialogInfo::parse_any(document),
        }
    }

    fn parse_any(document: &[u8]) -> Option<DialogInfo> {
        let mut reader = Reader::from_reader(document);
        let mut reading = DialogInfoReader::default();
        loop {
            match reader.read_event().ok()? {
                Event::Start(tag) => reading.take(Piece::Start(tag.name().as_ref(), tag.attributes_raw()))?,
                Event::Empty(tag) => reading.take(Piece::Empty(tag.name().as_ref(), tag.attributes_raw()))?,
                Event::Text(text) => reading.take(Piece::Text(&xml_value::of_text(&text)))?,
                Event::CData(text) => reading.take(Piece::Text(&text))?,
                Event::End(tag) => reading.take(Piece::End(tag.name().as_ref()))?,
                Event::Eof => return (reading.depth == 0).then_some(reading.info),
                _ => {}
            }
        }
    }

    fn add_dialog(&mut self, attributes: &[u8], depth: usize) -> OpenDialog {
        self.dialogs += 1;
        let (mut id, mut call) = (None, [None; 3]);
        for (name, value) in Attributes(attributes) {
            let digest = || NonZeroU32::new(crc32fast::hash(&xml_value::of_attribute(value)).max(1));
            match name {
                b"id" => id = Some(hash_of_id(value)),
                b"call-id" => call[0] = digest(),
                b"local-tag" => call[1] = digest(),
                b"remote-tag" => call[2] = digest(),
                _ => {}
            }
        }
        self.marks.extend(id.map(|id| Mark { id, call, phase: DialogState::Talking }));
        OpenDialog { depth, phase: DialogState::Talking, has_mark: id.is_some() }
    }

    fn close_dialog(&mut self, dialog: &OpenDialog) {
        self.terminated += u32::from(dialog.phase == DialogState::Ended);
        if let Some(mark) = self.marks.last_mut().filter(|_| dialog.has_mark) {
            mark.phase = dialog.phase;
        }
    }
}

/// A document on its way.
#[derive(Default)]
struct DialogInfoReader {
    info: DialogInfo,
    depth: usize,
    in_dialog: Option<OpenDialog>,
    in_state: bool,
    state: StateText,
}

/// The text of a `state` element, without the space before it: as much as a state can have that is known.
#[derive(Default)]
struct StateText {
    bytes: [u8; 12],
    len: usize,
    /// There was more, and not only space.
    is_longer: bool,
}

impl StateText {
    fn push(&mut self, text: &[u8]) {
        let text = if self.len == 0 { text.trim_ascii_start() } else { text };
        let places = &mut self.bytes[self.len..];
        let (fitting, rest) = text.split_at(text.len().min(places.len()));
        places[..fitting.len()].copy_from_slice(fitting);
        self.len += fitting.len();
        self.is_longer |= !rest.trim_ascii().is_empty();
    }

    fn phase(&self) -> DialogState {
        match self.bytes[..self.len].trim_ascii_end() {
            _ if self.is_longer => DialogState::Talking,
            b"terminated" => DialogState::Ended,
            b"trying" | b"proceeding" | b"early" => DialogState::Ringing,
            _ => DialogState::Talking,
        }
    }
}

impl DialogInfoReader {
    /// Takes a piece of the document; `None`: it lies too deep, or ends what has not begun.
    fn take(&mut self, piece: Piece<'_>) -> Option<()> {
        match piece {
            Piece::Start(name, attributes) => {
                if self.depth == 0 {
                    self.info.version = version(attributes);
                }
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return None;
                }
                match local_if_known(name) {
                    b"dialog" => self.in_dialog = Some(self.info.add_dialog(attributes, self.depth)),
                    b"state" if self.in_dialog.as_ref().is_some_and(|dialog| dialog.depth == self.depth - 1) => {
                        self.in_state = true;
                        self.state = StateText::default();
                    }
                    _ => {}
                }
            }
            Piece::Empty(name, attributes) if local(name) == b"dialog" => {
                self.info.add_dialog(attributes, self.depth);
            }
            Piece::Text(text) if self.in_state => self.state.push(text),
            Piece::End(name) => {
                if self.in_state && local(name) == b"state" {
                    self.in_state = false;
                    if let Some(dialog) = &mut self.in_dialog {
                        dialog.phase = self.state.phase();
                    }
                }
                if let Some(dialog) = self.in_dialog.take_if(|dialog| dialog.depth == self.depth) {
                    self.info.close_dialog(&dialog);
                }
                self.depth = self.depth.checked_sub(1)?;
            }
            Piece::Empty(..) | Piece::Text(_) => {}
        }
        Some(())
    }
}

/// The name without its prefix where it may be one that is looked for.
fn local_if_known(name: &[u8]) -> &[u8] {
    if name.ends_with(b"dialog") || name.ends_with(b"state") { local(name) } else { b"" }
}

fn version(attributes: &[u8]) -> Option<u64> {
    let version = Attributes(attributes).named(b"version")?;
    std::str::from_utf8(version).ok()?.trim().parse().ok()
}

/// The attributes of a tag that a parser has read: names and values as they are written.
pub(crate) struct Attributes<'a>(pub &'a [u8]);

impl<'a> Attributes<'a> {
    /// The value of this one.
    pub(crate) fn named(mut self, name: &[u8]) -> Option<&'a [u8]> {
        self.find(|(own, _)| *own == name).map(|(_, value)| value)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = self.0.split_at(self.0.iter().position(|c| *c == b'=')?);
        let value = rest[1..].trim_ascii_start();
        let quote = *value.first().filter(|quote| matches!(quote, b'"' | b'\''))?;
        let end = memchr::memchr(quote, &value[1..])?;
        self.0 = &value[end + 2..];
        Some((name.trim_ascii(), &value[1..=end]))
    }
}

/// The document without the dialog elements of these ids (hashes, sorted); `None` where it cannot be read.
pub fn without(document: &[u8], removed: &[u64]) -> Option<Vec<u8>> {
    let mut reader = Reader::from_reader(document);
    let (mut out, mut copied, mut depth, mut cut) = (Vec::with_capacity(document.len()), 0usize, 0usize, None);
    let is_gone = |element: &BytesStart<'_>| {
        let id = || Attributes(element.attributes_raw()).named(b"id");
        element.local_name().as_ref() == b"dialog"
            && id().is_some_and(|id| removed.binary_search(&hash_of_id(id)).is_ok())
    };
    loop {
        let before = usize::try_from(reader.buffer_position()).ok()?;
        let event = reader.read_event().ok()?;
        let after = usize::try_from(reader.buffer_position()).ok()?;
        match event {
            Event::Start(element) => {
                depth += 1;
                if cut.is_none() && is_gone(&element) {
                    cut = Some(depth);
                    out.extend_from_slice(document.get(copied..before)?);
                }
            }
            Event::Empty(element) if cut.is_none() && is_gone(&element) => {
                out.extend_from_slice(document.get(copied..before)?);
                copied = after;
            }
            Event::End(_) => {
                if cut == Some(depth) {
                    (cut, copied) = (None, after);
                }
                depth = depth.checked_sub(1)?;
            }
            Event::Eof => {
                out.extend_from_slice(document.get(copied..)?);
                return (depth == 0).then_some(out);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    fn document(dialogs: &str) -> Vec<u8> {
        format!(
            "<?xml version=\"1.0\"?><!-- c --><dialog-info \
            xmlns=\"urn:ietf:params:xml:ns:dialog-info\">{dialogs}</dialog-info>"
        )
        .into_bytes()
    }

    #[test]
    fn the_space_around_a_state_and_its_references_do_not_matter() {
        let phase = |state: &str| {
            let text = document(&format!("<dialog id=\"a\"><state>{state}</state></dialog>"));
            DialogInfo::parse(&text).unwrap().marks[0].phase
        };
        let space = " \t\r\n".repeat(20);
        for (state, expected) in
            [("terminated", DialogState::Ended), ("proceeding", DialogState::Ringing), ("other", DialogState::Talking)]
        {
            assert_eq!(phase(state), expected);
            assert_eq!(phase(&format!("{space}{state}{space}")), expected);
            assert_eq!(phase(&format!("{state}<!-- c -->{space}")), expected);
            let (first, second) = state.split_at(4);
            assert_eq!(phase(&format!("{space}{first}<!-- c -->{second}")), expected);
            assert_eq!(phase(&format!("{state}{space}x")), DialogState::Talking);
            assert_eq!(phase(&format!("{state}xxxxx")), DialogState::Talking);
        }
        assert_eq!(phase(""), DialogState::Talking);
    }

    #[test]
    fn what_is_said_counts_and_not_how_it_is_written() {
        let plain =
            "<dialog id=\"a&amp;b c\" call-id=\"1&lt;\" local-tag=\"l\" remote-tag=\"'\"><state>early</state></dialog>";
        let other = "<dialog id='a&#38;b\nc' call-id='&#49;&#x3C;' local-tag='&#108;' remote-tag='&apos;'>\
            <state>e<![CDATA[ar]]>l&#121;</state></dialog>";
        let (plain, other) = (document(plain), document(other));
        assert_eq!(DialogInfo::parse(&plain), DialogInfo::parse(&other));
        let id = DialogInfo::parse(&plain).unwrap().marks[0].id;
        assert!(!String::from_utf8(without(&other, &[id]).unwrap()).unwrap().contains("state"));
    }

    #[test]
    fn every_dialog_counts() {
        let info = DialogInfo::parse(&document(
            "<dialog id=\"a\"><state>terminated</state></dialog> <other/> <dialog id='b'><state event=\"x\"> early \
                </state></dialog>",
        ))
        .unwrap();
        let seen: Vec<_> = info.marks.iter().map(|mark| (mark.id, mark.phase)).collect();
        assert_eq!(seen, [(hash(b"a"), DialogState::Ended), (hash(b"b"), DialogState::Ringing)]);
        assert_eq!((info.dialogs, info.terminated), (2, 1));
        let over =
            document("<dialog id=\"a\"><state>terminated</state></dialog><dialog><state>terminated</state></dialog>");
        let over = DialogInfo::parse(&over).unwrap();
        assert_eq!((over.dialogs, over.terminated), (2, 2));
    }

    #[test]
    fn a_dialog_without_a_state_counts_and_has_not_ended() {
        for (dialogs, counted) in [("", 0), ("<dialog id='x'/>", 1)] {
            let info = DialogInfo::parse(&document(dialogs)).unwrap();
            assert_eq!((info.dialogs, info.terminated), (counted, 0), "{dialogs}");
        }
    }

    #[test]
    fn broken_and_deep_documents_are_refused() {
        let nested = |depth: usize| {
            let (open, close) = ("<a>".repeat(depth - 2), "</a>".repeat(depth - 2));
            format!("<dialog-info>{open}<dialog id=\"1\"></dialog>{close}</dialog-info>")
        };
        for strange in ["", "<!-- for the parser -->"] {
            let parsed = |depth| DialogInfo::parse((nested(depth) + strange).as_bytes());
            assert!(parsed(32).is_some() && parsed(33).is_none(), "{strange}");
        }
        assert_eq!(DialogInfo::parse(b"<dialog-info><dialog></dialog-info>"), None);
        assert_eq!(DialogInfo::parse("<a>".repeat(100).as_bytes()), None);
        assert_eq!(DialogInfo::parse(b"<dialog-info>"), None);
    }

    #[test]
    fn what_distinguishes_one_call_from_the_next() {
        let mark = |attributes: &str| {
            let text = format!("<dialog-info version=' 7 '><dialog id='x' {attributes}/></dialog-info>");
            let info = DialogInfo::parse(text.as_bytes()).unwrap();
            assert_eq!(info.version, Some(7));
            info.marks[0]
        };
        let (bare, call) = (mark(""), mark("call-id='1'"));
        let full = mark("call-id='1' local-tag='a' remote-tag='b'");
        assert!(!bare.is_other_call(&full) && !call.is_other_call(&full) && !full.is_other_call(&full));
        assert!(mark("call-id='2'").is_other_call(&full) && mark("local-tag='b'").is_other_call(&full));
        assert!(full.is_same_sip_dialog(&full) && !call.is_same_sip_dialog(&call));
        assert!(call.is_same_call_id(&full) && !bare.is_same_call_id(&bare));
    }

    #[test]
    fn attributes_as_they_are_written() {
        let read = |tag: &'static str| Attributes(tag.as_bytes()).collect::<Vec<_>>();
        let wanted: [(&[u8], &[u8]); 2] = [(b"a", b"1=2"), (b"b:c", b"\"")];
        assert_eq!(read(" a = \"1=2\"\n b:c='\"' "), wanted);
        assert_eq!((read(""), read(" a"), read("a=1"), read("a=\"")), (vec![], vec![], vec![], vec![]));
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(1),
            failure_persistence: None,
            ..ProptestConfig::with_cases(2_000)
        })]
        #[test]
        fn plain_documents_are_read_as_by_the_parser(pieces in prop::collection::vec(0..PIECES.len(), 0..24)) {
            let inside: String = pieces.iter().map(|piece| PIECES[*piece]).collect();
            for text in [format!("<?xml version=\"1.0\"?>\n<i version=\"3\">{inside}</i>\n"), inside] {
                let mut reading = DialogInfoReader::default();
                if plain_tags::each(text.as_bytes(), |piece| reading.take(piece)).is_some() {
                    prop_assert_eq!(Some(reading.info), DialogInfo::parse_any(text.as_bytes()), "{}", text);
                }
            }
        }
    }

    const PIECES: [&str; 30] = [
        "<dialog id=\"a\">",
        "<dialog id=\"a\" call-id=\"b\">",
        "<d:dialog\n local-tag = \"c>\" id=\"e\" >",
        "<dialog/>",
        "<dialog id=\"f\" />",
        "</dialog>",
        "</dialog>",
        "</d:dialog>",
        "</dialog >",
        "<state>",
        "<state>",
        "</state>",
        "</state>",
        "<s:state event=\"x\">",
        "</s:state>",
        "<state/>",
        "early",
        " terminated ",
        "a&amp;b",
        "<x y='1'>",
        "</x>",
        "<!-- > -->",
        "<![CDATA[>]]>",
        "<?x >?>",
        ">",
        "<",
        "\"",
        "'",
        "/",
        "<a b=\"/\">",
    ];

    #[test]
    fn dialogs_are_cut_out() {
        let text = document("\n <dialog id='a'><state>early</state></dialog>\n <dialog id='b'/><dialog/><x id='a'/>");
        let cut = |ids: &[&[u8]]| {
            let mut removed: Vec<u64> = ids.iter().map(|id| hash(id)).collect();
            removed.sort_unstable();
            String::from_utf8(without(&text, &removed).unwrap()).unwrap()
        };
        assert!(cut(&[b"a"]).ends_with("\">\n \n <dialog id='b'/><dialog/><x id='a'/></dialog-info>"));
        assert!(cut(&[b"b", b"a"]).ends_with("\">\n \n <dialog/><x id='a'/></dialog-info>"));
        assert_eq!(cut(&[b"c"]).as_bytes(), text);
        assert_eq!(without(b"<dialog-info>", &[]), None);
    }
}
