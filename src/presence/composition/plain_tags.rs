//! The tags of a document that has nothing but tags and text, read without a parser of all of XML: what is written in
//! another way (comments, CDATA, document types, apostrophes, references in text, tags that do not fit) is left to one.

use crate::sip::blocks::{has_any, is_odd_count};

/// A piece of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// A start tag: its name, and its attributes as they are written.
    Start(&'a [u8], &'a [u8]),
    /// An element without content, likewise.
    Empty(&'a [u8], &'a [u8]),
    /// The end of the element of this name.
    End(&'a [u8]),
    /// Text between tags.
    Text(&'a [u8]),
}

/// Deeper documents are left to a parser.
const MAX_DEPTH: usize = 32;

const DECLARATIONS: [&[u8]; 2] = [b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>", b"<?xml version=\"1.0\"?>"];

/// The name without its prefix.
pub(crate) fn local(name: &[u8]) -> &[u8] {
    name.iter().position(|c| *c == b':').map_or(name, |at| &name[at + 1..])
}

/// Calls `take` for each piece, until it gives `None`. `None`: the document is not plain, or `take` has given it.
pub(crate) fn each<'a>(document: &'a [u8], mut take: impl FnMut(Piece<'a>) -> Option<()>) -> Option<()> {
    let mut rest = DECLARATIONS.iter().find_map(|start| document.strip_prefix(*start)).unwrap_or(document);
    let (mut open, mut depth) = ([&document[..0]; MAX_DEPTH], 0);
    while let Some(at) = tag_in(rest) {
        let text = &rest[..at];
        if !text.is_empty() {
            if depth == 0 && !text.trim_ascii().is_empty() || has_any(text, |c| c == b'&') {
                return None;
            }
            take(Piece::Text(text))?;
        }
        let tag = &rest[at + 1..];
        rest = match tag.first()? {
            b'!' | b'?' => return None,
            b'/' => {
                depth = usize::checked_sub(depth, 1)?;
                let name = open[depth];
                let behind = tag[1..].strip_prefix(name)?.strip_prefix(b">")?;
                take(Piece::End(name))?;
                behind
            }
            _ => {
                let tag = StartTag::read(tag)?;
                if tag.is_empty {
                    take(Piece::Empty(tag.name, tag.attributes))?;
                } else {
                    *open.get_mut(depth)? = tag.name;
                    depth += 1;
                    take(Piece::Start(tag.name, tag.attributes))?;
                }
                tag.behind
            }
        };
    }
    (depth == 0 && rest.trim_ascii().is_empty()).then_some(())
}

/// Where the next tag begins.
fn tag_in(rest: &[u8]) -> Option<usize> {
    if rest.first() == Some(&b'<') { Some(0) } else { memchr::memchr(b'<', rest) }
}

/// A start tag, or an element without content.
struct StartTag<'a> {
    name: &'a [u8],
    attributes: &'a [u8],
    is_empty: bool,
    /// The document behind it.
    behind: &'a [u8],
}

impl<'a> StartTag<'a> {
    /// Reads what is behind the angle bracket; `None` where a value may go on behind the tag.
    fn read(text: &'a [u8]) -> Option<StartTag<'a>> {
        let ends_name = |c: &u8| matches!(c, b' ' | b'\t' | b'\r' | b'\n' | b'"' | b'\'' | b'/' | b'>');
        let (name, rest) = text.split_at(text.iter().position(ends_name).filter(|length| *length > 0)?);
        let (attributes, is_empty, behind) = match rest[0] {
            b'>' => (&rest[..0], false, &rest[1..]),
            b'/' => (&rest[..0], true, rest.strip_prefix(b"/>")?),
            b'"' | b'\'' => return None,
            _ => {
                let (inside, behind) = rest.split_at(memchr::memchr(b'>', rest)?);
                let attributes = inside.strip_suffix(b"/").unwrap_or(inside);
                if is_odd_count(attributes, b'"') || has_any(attributes, |c| c == b'\'') {
                    return None;
                }
                (attributes, attributes.len() < inside.len(), &behind[1..])
            }
        };
        Some(StartTag { name, attributes, is_empty, behind })
    }
}
