//! The form in which libxml2 writes a plain document again when it is told to format it: what an event package returns when
//! there is a single document to put together. Documents that are not plain are left to the package.
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// Deeper documents are not looked at.
const MAX_DEPTH: usize = 32;
/// Longer documents are not looked at.
const MAX_BYTES: usize = 16 << 10;

/// An element whose children are still being written.
struct Open {
    /// Where its name stands in the document.
    name: std::ops::Range<usize>,
    /// Whether its children stand on lines of their own.
    on_lines: bool,
}

/// The document as libxml2 would write it, or `None` where that is not plain to see: with entities, comments, CDATA, single
/// quotes, a declaration other than UTF-8, or mixed content between elements.
pub fn formatted(document: &[u8]) -> Option<Vec<u8>> {
    const DECLARATION: &[u8] = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>";
    let rest = document.strip_prefix(DECLARATION).filter(|rest| rest.len() <= MAX_BYTES)?;
    if memchr::memchr3(b'&', b'\'', 0, rest).is_some() || std::str::from_utf8(rest).is_err() {
        return None;
    }
    let rest = rest.trim_ascii();
    if memchr::memchr(b'\r', rest).is_some() {
        return None;
    }
    let mut out = Vec::with_capacity(document.len() * 3 / 2);
    out.extend_from_slice(DECLARATION);
    out.push(b'\n');
    let mut reader = Reader::from_reader(rest);
    let mut open: Vec<Open> = Vec::new();
    let mut roots = 0;
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) => {
                roots += usize::from(open.is_empty());
                begin_line(&mut out, &open);
                let name = push_tag(&mut out, &start)?;
                out.push(b'>');
                let at = reader.buffer_position() as usize;
                let on_lines = open.last().is_none_or(|parent| parent.on_lines) && only_elements(&rest[at..])?;
                if on_lines {
                    out.push(b'\n');
                }
                open.push(Open { name, on_lines });
                if open.len() > MAX_DEPTH {
                    return None;
                }
            }
            Event::Empty(start) => {
                roots += usize::from(open.is_empty());
                begin_line(&mut out, &open);
                push_tag(&mut out, &start)?;
                out.extend_from_slice(b"/>");
                end_line(&mut out, &open);
            }
            Event::End(_) => {
                let element = open.pop()?;
                if element.on_lines {
                    indent(&mut out, open.len());
                }
                out.extend_from_slice(b"</");
                out.extend_from_within(element.name);
                out.push(b'>');
                end_line(&mut out, &open);
            }
            Event::Text(text) => {
                if open.last().is_none_or(|element| element.on_lines) || memchr::memchr(b'>', &text).is_some() {
                    return None;
                }
                out.extend_from_slice(&text);
            }
            Event::Eof => break,
            _ => return None,
        }
    }
    (roots == 1 && open.is_empty()).then(|| {
        out.push(b'\n');
        out
    })
}

fn indent(out: &mut Vec<u8>, depth: usize) {
    out.extend(std::iter::repeat_n(b' ', 2 * depth));
}

fn begin_line(out: &mut Vec<u8>, open: &[Open]) {
    if open.last().is_some_and(|parent| parent.on_lines) {
        indent(out, open.len());
    }
}

fn end_line(out: &mut Vec<u8>, open: &[Open]) {
    if open.last().is_some_and(|parent| parent.on_lines) {
        out.push(b'\n');
    }
}

/// Writes `<name attributes` as it stands, where it stands as libxml2 would write it; says where the name is.
fn push_tag(out: &mut Vec<u8>, start: &BytesStart<'_>) -> Option<std::ops::Range<usize>> {
    let raw: &[u8] = start;
    let name = start.name().as_ref().len();
    let (mut rest, mut others) = (&raw[name..], false);
    while !rest.is_empty() {
        rest = rest.strip_prefix(b" ")?;
        let equals = memchr::memchr(b'=', rest)?;
        let attribute = &rest[..equals];
        let is_namespace = attribute == b"xmlns" || attribute.starts_with(b"xmlns:");
        if attribute.is_empty() || attribute.iter().any(u8::is_ascii_whitespace) || is_namespace && others {
            return None;
        }
        others |= !is_namespace;
        let value = rest[equals + 1..].strip_prefix(b"\"")?;
        let end = memchr::memchr(b'"', value)?;
        if value[..end].iter().any(|c| matches!(c, b'\n' | b'\t' | b'>')) {
            return None;
        }
        rest = &value[end + 1..];
    }
    out.push(b'<');
    let at = out.len();
    out.extend_from_slice(raw);
    Some(at..at + name)
}

/// Whether the content that begins here has elements as its only children; `None` for no content at all.
fn only_elements(content: &[u8]) -> Option<bool> {
    if content.starts_with(b"</") {
        return None;
    }
    let mut reader = Reader::from_reader(content);
    reader.config_mut().check_end_names = false;
    reader.config_mut().allow_unmatched_ends = true;
    let mut depth = 0usize;
    loop {
        match reader.read_event().ok()? {
            Event::Start(_) => depth += 1,
            Event::End(_) if depth == 0 => return Some(true),
            Event::End(_) => depth -= 1,
            Event::Text(text) if depth == 0 && !text.is_empty() => return Some(false),
            Event::Eof => return None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_documents_get_lines() {
        let compact = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<p xmlns=\"u\" e=\"x\"><t id=\"1\"><s><b>open</b></s></t><n/></p>";
        let wanted = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<p xmlns=\"u\" e=\"x\">\n  <t id=\"1\">\n    <s>\n      <b>open</b>\n    </s>\n  </t>\n  <n/>\n</p>\n";
        assert_eq!(String::from_utf8(formatted(compact).unwrap()).unwrap(), wanted);
    }

    #[test]
    fn documents_with_lines_stay_as_they_are() {
        let text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<p xmlns=\"u\">\n  <t id=\"1\"><b>open</b></t>\n</p>\n";
        assert_eq!(String::from_utf8(formatted(text.as_bytes()).unwrap()).unwrap(), text);
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
        ] {
            assert_eq!(formatted(&declared(root)), None, "{root}");
        }
        assert_eq!(formatted(b"<p/>"), None);
        assert_eq!(formatted(b"<?xml version=\"1.0\"?>\n<p/>"), None);
    }
}
