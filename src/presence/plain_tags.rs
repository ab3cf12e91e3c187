//! The tags of a document that has nothing but tags and text, read without a parser of all of XML: what is written in
//! another way (comments, CDATA, document types, apostrophes, references in text, tags that do not fit) is left to one.

use crate::sip::blocks::{has_any, has_even};

/// A piece of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A start tag: its name, and its attributes as they are written.
    Start(&'a [u8], &'a [u8]),
    /// An element without content, likewise.
    Empty(&'a [u8], &'a [u8]),
    /// The end of the element of this name.
    End(&'a [u8]),
    /// Text between tags.
    Text(&'a [u8]),
}

const DECLARATIONS: [&[u8]; 2] = [b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>", b"<?xml version=\"1.0\"?>"];

/// The name without its prefix.
pub(super) fn local(name: &[u8]) -> &[u8] {
    name.iter().position(|c| *c == b':').map_or(name, |at| &name[at + 1..])
}

/// Calls `take` for each piece, until it gives `None`. `None`: the document is not plain, or `take` has given it.
pub(super) fn each<'a>(document: &'a [u8], mut take: impl FnMut(Piece<'a>) -> Option<()>) -> Option<()> {
    let mut rest = DECLARATIONS.iter().find_map(|start| document.strip_prefix(*start)).unwrap_or(document);
    let mut open = Vec::with_capacity(8);
    while let Some(at) = tag_in(rest) {
        let text = &rest[..at];
        if !text.is_empty() {
            if open.is_empty() && !text.trim_ascii().is_empty() || has_any(text, |c| c == b'&') {
                return None;
            }
            take(Piece::Text(text))?;
        }
        let tag = &rest[at + 1..];
        let end = memchr::memchr(b'>', tag)?;
        rest = &tag[end + 1..];
        match &tag[..end] {
            [] | [b'!' | b'?', ..] => return None,
            [b'/', name @ ..] => {
                open.pop().filter(|opened| *opened == name)?;
                take(Piece::End(name))?;
            }
            [inside @ .., b'/'] => {
                let (name, attributes) = divided(inside)?;
                take(Piece::Empty(name, attributes))?;
            }
            inside => {
                let (name, attributes) = divided(inside)?;
                open.push(name);
                take(Piece::Start(name, attributes))?;
            }
        }
    }
    (open.is_empty() && rest.trim_ascii().is_empty()).then_some(())
}

/// Where the next tag begins.
fn tag_in(rest: &[u8]) -> Option<usize> {
    if rest.first() == Some(&b'<') { Some(0) } else { memchr::memchr(b'<', rest) }
}

/// The name in a tag, and what is behind it; `None` where a value may go on behind the tag.
fn divided(inside: &[u8]) -> Option<(&[u8], &[u8])> {
    let is_quoted = has_even(inside, b'"');
    let has_apostrophe = has_any(inside, |c| c == b'\'');
    let end = inside.iter().position(|c| matches!(c, b' ' | b'\t' | b'\r' | b'\n')).unwrap_or(inside.len());
    (is_quoted && !has_apostrophe && end > 0).then(|| inside.split_at(end))
}
