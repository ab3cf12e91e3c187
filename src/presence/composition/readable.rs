//! Composition where some document cannot be read: it is passed over, and the others show.
use super::unreadable::Unshown;
use crate::presence::event_package::Package;
use crate::presence::ports::Ports;
use crate::presence::publication::Publication;
use crate::presence::resource::Resource;
use crate::sip::{bare_markup, xml_form};
use std::borrow::Cow;

/// Of this many documents it is found out which do not go together; of more, those at the end are taken.
const MAX_TRIED: usize = 32;

/// The last document that can be read: what packages show that do not put documents together.
pub fn last<P: Ports>(ports: &mut P, resource: &Resource, mut documents: Vec<Publication>) -> Option<Vec<u8>> {
    let package = *ports.packages().get(resource.event);
    while let Some(document) = documents.pop() {
        if shows(ports, &package, &document.body) {
            return Some(document.body);
        }
        if let Some(escaped) = escaped(ports, &package, &document.body) {
            return Some(escaped);
        }
        ports.note_unreadable(resource, &document, Unshown::Unreadable);
    }
    None
}

/// Whether a watcher can be shown a document as it is.
pub fn shows<P: Ports>(ports: &P, package: &Package, body: &[u8]) -> bool {
    const FIRST_LINE: &[u8] = b"Messages-Waiting";
    if package.content_type.ends_with(b"+xml") {
        return xml_form::is_plain(body) || ports.reads(body);
    }
    if package.name == b"message-summary" {
        return body.get(..FIRST_LINE.len()).is_some_and(|start| start.eq_ignore_ascii_case(FIRST_LINE));
    }
    !body.is_empty()
}

/// A document that can be read once its bare markup is escaped. Stock takes what packages other than presence cannot
/// read, and publishers rely on it: pua_reginfo writes URIs as they are.
pub fn escaped<P: Ports>(ports: &P, package: &Package, body: &[u8]) -> Option<Vec<u8>> {
    let may_be_escaped = package.name != b"presence" && package.name != b"message-summary";
    bare_markup::escaped(body).filter(|escaped| may_be_escaped && ports.reads(escaped))
}

/// The documents, with what can be read once it is escaped; `None` where that is none.
fn all_escaped<P: Ports>(ports: &P, package: &Package, documents: &[Publication]) -> Option<Vec<Publication>> {
    let mut all = Cow::Borrowed(documents);
    for (at, document) in documents.iter().enumerate().filter(|(_, document)| !shows(ports, package, &document.body)) {
        if let Some(body) = escaped(ports, package, &document.body) {
            all.to_mut()[at].body = body;
        }
    }
    matches!(all, Cow::Owned(_)).then(|| all.into_owned())
}

/// What is shown of several documents.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AggregatedBody {
    /// What the package makes of those that are not passed over.
    pub body: Option<Vec<u8>>,
    /// Whether nothing was passed over that may show later.
    pub is_whole: bool,
}

/// What the package makes of these documents; `offline` is the place of one that has just been removed. Where it makes
/// nothing of all, it is asked about each.
pub fn aggregate<P: Ports>(
    ports: &mut P,
    resource: &Resource,
    documents: &[Publication],
    offline: Option<usize>,
) -> AggregatedBody {
    let bodies: Vec<&[u8]> = documents.iter().map(|document| document.body.as_slice()).collect();
    let whole = ports.aggregate(resource.event, &resource.uri, &bodies, offline);
    if whole.is_some() || documents.is_empty() || offline.is_some() && documents.len() == 1 {
        return AggregatedBody { body: whole, is_whole: true };
    }
    let package = *ports.packages().get(resource.event);
    if let Some(escaped) = all_escaped(ports, &package, documents) {
        return aggregate(ports, resource, &escaped, offline);
    }
    let (mut readable, mut is_whole) = (Vec::new(), true);
    for (at, document) in documents.iter().enumerate() {
        if together(ports, resource, documents, &[at], None).is_some() {
            readable.push(at);
        } else if shows(ports, &package, &document.body) {
            is_whole = false;
            ports.note_unreadable(resource, document, Unshown::Alone);
        } else {
            ports.note_unreadable(resource, document, Unshown::Unreadable);
        }
    }
    if readable.len() < documents.len() {
        let rest = together(ports, resource, documents, &readable, offline);
        if rest.is_some() || readable.len() < 2 {
            return AggregatedBody { body: rest, is_whole };
        }
    }
    AggregatedBody { body: largest(ports, resource, documents, &readable, offline), is_whole: false }
}

/// Documents that can be read and do not go together: the last, with those before it that go with it.
fn largest<P: Ports>(
    ports: &mut P,
    resource: &Resource,
    documents: &[Publication],
    readable: &[usize],
    offline: Option<usize>,
) -> Option<Vec<u8>> {
    let (mut chosen, mut body) = (Vec::new(), None);
    for at in readable.iter().rev().take(MAX_TRIED) {
        let more = [&[*at], chosen.as_slice()].concat();
        match together(ports, resource, documents, &more, offline) {
            Some(made) => (chosen, body) = (more, Some(made)),
            None => ports.note_unreadable(resource, &documents[*at], Unshown::Among(documents)),
        }
    }
    body
}

fn together<P: Ports>(
    ports: &mut P,
    resource: &Resource,
    documents: &[Publication],
    places: &[usize],
    offline: Option<usize>,
) -> Option<Vec<u8>> {
    let bodies: Vec<&[u8]> = places.iter().map(|at| documents[*at].body.as_slice()).collect();
    let offline = offline.and_then(|offline| places.iter().position(|at| *at == offline));
    ports.aggregate(resource.event, &resource.uri, &bodies, offline)
}
