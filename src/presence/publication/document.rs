//! A document while it is changed, and what watchers are shown of the change (docs/composition.md).
use crate::presence::composition::readable;
use crate::presence::event_package::{Package, Trait};
use crate::presence::expires::Expires;
use crate::presence::notification::{DocumentPlace, TransientBody};
use crate::presence::ports::Ports;
use crate::presence::publication::{Dialogs, Publication, SharedLine};
use crate::presence::resource::Resource;

/// The presentity's sphere before a change of its documents.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SphereBefore {
    /// Nobody has looked, or rules do not depend on it.
    Unknown,
    /// The documents name this one, or none.
    Known(Option<Vec<u8>>),
}

/// What the steps share.
pub(crate) struct Document<'a> {
    pub(crate) expires: Expires,
    pub(crate) sphere: SphereBefore,
    pub(crate) description: &'a Package,
    pub(crate) resource: &'a Resource,
}

impl<'a> Document<'a> {
    /// For a change that no request of a phone made.
    pub(crate) fn without_request(description: &'a Package, resource: &'a Resource) -> Self {
        Document { expires: Expires::End, sphere: SphereBefore::Unknown, description, resource }
    }
}

/// Where the package shows one document only, watchers get the one that was just published.
pub(crate) fn shown_alone(new: &Document<'_>, body: Option<&[u8]>) -> Option<TransientBody> {
    body.filter(|_| !new.description.has_trait(Trait::Aggregates)).map(|body| TransientBody::Body(body.to_vec()))
}

/// What watchers get when a document goes: where the package shows one document only, the body that came with the
/// removal; elsewhere the others, with this one in its place for packages that show that its dialogs have ended.
pub(crate) fn shown_at_the_end<P: Ports>(
    ports: &P,
    new: &Document<'_>,
    body: &[u8],
    removed: Publication,
    place: usize,
) -> TransientBody {
    let body = Some(body).filter(|body| !body.is_empty());
    shown_if_readable(ports, new, body).unwrap_or(TransientBody::Removed(removed, DocumentPlace::After(place)))
}

/// [`shown_alone`] for a document that nobody has checked.
pub(crate) fn shown_if_readable<P: Ports>(ports: &P, new: &Document<'_>, body: Option<&[u8]>) -> Option<TransientBody> {
    shown_alone(
        new,
        body.filter(|body| {
            new.description.has_trait(Trait::Aggregates) || readable::shows(ports, new.description, body)
        }),
    )
}

/// How a document is shown that ends as soon as it is there: beside the others where the package puts documents of
/// dialogs together, alone where it shows the last one, and elsewhere not at all.
pub(crate) fn shown_once(new: &Document<'_>, publication: Publication) -> Option<TransientBody> {
    match (new.description.has_trait(Trait::Aggregates), new.description.is_dialog()) {
        (true, true) => Some(TransientBody::Removed(publication, DocumentPlace::AtEnd)),
        (true, false) => None,
        (false, _) => Some(TransientBody::Body(publication.body)),
    }
}

pub(crate) fn dialogs(package: &Package, body: &[u8]) -> Dialogs {
    if package.is_dialog() { Dialogs::of_document(body) } else { Dialogs::default() }
}

/// How phones are distinguished where they share a line.
pub(crate) fn shared_line<P: Ports>(ports: &P, package: &Package) -> Option<SharedLine> {
    package.is_shared_line().then(|| SharedLine { ignore_case: ports.config().ignore_case })
}
