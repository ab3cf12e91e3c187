//! The body of a PUBLISH (RFC 3903 6): of the type that its event package takes, decoded, and well-formed.
use crate::presence::composition::readable;
use crate::presence::error::Failure;
use crate::presence::event_package::Package;
use crate::presence::limits;
use crate::presence::ports::Ports;
use crate::presence::resource::Resource;
use std::borrow::Cow;

/// What a request says of its body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given<'a> {
    /// Content-Type.
    pub(crate) content_type: Option<&'a [u8]>,
    /// Content-Encoding.
    pub(crate) content_coding: Option<&'a [u8]>,
}

/// The body as it is stored: what follows an XML document as NUL bytes is cut off, and one in UTF-16 is written in
/// UTF-8, as which text columns and other nodes take it. What a publisher forgot to escape is escaped.
///
/// # Errors
///
/// Fails with 413 when it is too large, with 400 where nothing says what it is, with 415 where it is not what the event
/// package takes or not well-formed.
pub(crate) fn checked<'a, P: Ports>(
    ports: &mut P,
    resource: &Resource,
    package: &Package,
    whole: &'a [u8],
    given: Given<'_>,
) -> Result<Cow<'a, [u8]>, Failure> {
    limits::body(ports, whole)?;
    let accepted = package.content_type;
    let Some(content_type) = given.content_type else {
        return Err(Failure::bad_request("a body without Content-Type"));
    };
    // What is written as the package has it needs no reading.
    let is_as_accepted = content_type == accepted && is_xml(content_type);
    let media = if is_as_accepted { Cow::Borrowed(content_type) } else { media_type(content_type) };
    let media = media.as_ref();
    if let Some(coding) = given.content_coding.filter(|_| !is_decoded(media, whole)) {
        let why = format!("unsupported Content-Encoding: {}", String::from_utf8_lossy(coding));
        return Err(Failure::unsupported_coding(why));
    }
    if !is_as_accepted && !is_of_type(media, package) {
        let why = format!("unsupported Content-Type: {}", String::from_utf8_lossy(media));
        return Err(Failure::unsupported_media(accepted, why));
    }
    if !is_xml(media) || ports.is_plain(resource, whole) {
        return Ok(Cow::Borrowed(whole));
    }
    let refuse = || Failure::unsupported_media(accepted, "the body is not well-formed XML, or declares entities");
    let body = &whole[..whole.iter().rposition(|c| *c != 0).map_or(0, |last| last + 1)];
    if body.contains(&0) {
        // The last character of UTF-16 may end in a NUL of its own.
        return ports.in_utf8(whole).map(Cow::Owned).ok_or_else(refuse);
    }
    if ports.reads(body) {
        return Ok(Cow::Borrowed(body));
    }
    let mended = readable::escaped(ports, package, body).ok_or_else(refuse)?;
    limits::body(ports, &mended)?;
    Ok(Cow::Owned(mended))
}

/// The media type in a Content-Type, without its parameters and the white space around its slash (RFC 3261 25.1).
fn media_type(content_type: &[u8]) -> Cow<'_, [u8]> {
    let end = content_type.iter().position(|c| *c == b';').unwrap_or(content_type.len());
    let media = content_type[..end].trim_ascii();
    match media.iter().position(|c| *c == b'/') {
        Some(at) if media.iter().any(u8::is_ascii_whitespace) => {
            Cow::Owned([media[..at].trim_ascii_end(), b"/", media[at + 1..].trim_ascii_start()].concat())
        }
        _ => Cow::Borrowed(media),
    }
}

/// Whether a body under a Content-Encoding is its text all the same: the host's gzcompress module decodes a body where
/// it is received, and leaves the header that says how it was encoded.
fn is_decoded(media: &[u8], body: &[u8]) -> bool {
    // With and without a byte order mark, in UTF-8 and UTF-16.
    let starts: [&[u8]; 4] = [b"<", b"\xef\xbb\xbf<", b"\xff\xfe<\0", b"\xfe\xff\0<"];
    let is_document = starts.iter().any(|start| body.starts_with(start));
    let is_binary = |c: char| c.is_control() && !matches!(c, '\t' | '\r' | '\n');
    is_xml(media) && is_document || std::str::from_utf8(body).is_ok_and(|text| !text.contains(is_binary))
}

fn is_xml(media: &[u8]) -> bool {
    let ends_with = |end: &[u8]| media.len() >= end.len() && media[media.len() - end.len()..].eq_ignore_ascii_case(end);
    ends_with(b"/xml") || ends_with(b"+xml")
}

/// Whether a document's type is the package's. Profiles of user agents are of many types (RFC 6080 5.5), their package
/// names but one.
fn is_of_type(media: &[u8], package: &Package) -> bool {
    package.content_type.is_empty() || package.name == b"ua-profile" || media.eq_ignore_ascii_case(package.content_type)
}
