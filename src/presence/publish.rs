//! PUBLISH (RFC 3903 6): checks the request, changes the documents, answers, tells the watchers.
use super::error::Failure;
use super::event_package::{Package, PackageId};
use super::ports::{Event, Once, Ports, Verdict};
use super::publication::{Applied, Change, Dialogs, Modification, Publication};
use super::replication::Replica;
use super::resource::Resource;
use super::{limits, notifier, refresh, sphere};
use crate::sip::{event::EventHeader, text, uri, xml_form};

/// A PUBLISH taken apart.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'a> {
    /// The Event header.
    pub event: Option<&'a [u8]>,
    /// User part of the request URI.
    pub user: &'a [u8],
    /// Host part of the request URI.
    pub domain: &'a [u8],
    /// SIP-If-Match.
    pub etag: Option<&'a [u8]>,
    /// Expires, in seconds.
    pub expires: Option<u32>,
    /// Content-Type.
    pub content_type: Option<&'a [u8]>,
    /// The body; `None` for an empty one.
    pub body: Option<&'a [u8]>,
    /// The Contact that is not to be told of this change; empty for nobody.
    pub sender: &'a [u8],
    /// `$xavp(cfg=>priority)`.
    pub priority: Option<i32>,
}

/// 2015-01-01, from which stock counts priorities that the script does not set.
const EPOCH_OF_PRIORITIES: i64 = 1_420_070_400;

/// Longest entity tag that the table's column takes.
const MAX_ETAG: usize = 64;

/// Handles a PUBLISH: on success it has been answered and the watchers are told.
pub fn handle<P: Ports>(ports: &mut P, request: &Request<'_>) -> Result<(), Failure> {
    let package = find_package(ports, request.event)?;
    let description = *ports.packages().get(package);
    let expires = ports
        .config()
        .grant(request.expires, description.default_expires)
        .ok_or_else(|| Failure::too_brief(ports.config().min_expires))?;
    if request.etag.is_none() && request.body.is_none() {
        return Err(Failure::invalid_request("neither an entity tag nor a body"));
    }
    let resource = ports.uri_rule().resource(&uri::join(request.user, request.domain), package);
    let mut plain = false;
    if let Some(body) = request.body {
        limits::body(ports, body)?;
        plain = check_body(&description, request.content_type, body)?;
    }
    // A package that looks for nothing but the form of a body need not look at one whose form is known.
    let is_checked = plain && description.checks_form_only;
    if description.checks_publish && !is_checked && ports.check_publish(package) == Verdict::Refused {
        return Err(Failure::Refused("the event package does not take the body"));
    }
    let sphere_before = current_sphere(ports, &resource, &description)?;
    let new = Document { expires, sphere_before, description: &description, resource: &resource };
    match request.etag {
        None if expires == 0 => publish_once(ports, request, &new),
        None => insert(ports, request, &new),
        Some(etag) if expires == 0 => remove(ports, etag, request, &new),
        Some(etag) => modify(ports, etag, request, &new),
    }
}

/// What the steps share.
pub(super) struct Document<'a> {
    expires: u32,
    sphere_before: Option<Vec<u8>>,
    description: &'a Package,
    resource: &'a Resource,
}

impl<'a> Document<'a> {
    /// For a change that no request of a phone made.
    pub(super) fn without_request(description: &'a Package, resource: &'a Resource) -> Self {
        Document { expires: 0, sphere_before: None, description, resource }
    }
}

fn find_package<P: Ports>(ports: &P, event: Option<&[u8]>) -> Result<PackageId, Failure> {
    let refuse = |why: &str| Failure::bad_event(&ports.packages().allow_events(), why);
    let event = event.ok_or_else(|| refuse("no Event header"))?;
    let header = EventHeader::parse(event).ok_or_else(|| refuse("unreadable Event header"))?;
    ports
        .packages()
        .find(&header)
        .ok_or_else(|| refuse(&format!("unsupported event package {}", String::from_utf8_lossy(event))))
}

/// Type and form of a body (RFC 3903 6 step 4); says whether it was seen to be well-formed by any parser's measure.
fn check_body(package: &Package, content_type: Option<&[u8]>, body: &[u8]) -> Result<bool, Failure> {
    let accepted = package.content_type;
    let Some(given) = content_type else {
        return Err(Failure::bad_request("a body without Content-Type"));
    };
    let media = given[..given.iter().position(|c| *c == b';').unwrap_or(given.len())].trim_ascii();
    if !accepted.is_empty() && !is_of_type(media, accepted) {
        let why = format!("Content-Type {}", String::from_utf8_lossy(media));
        return Err(Failure::unsupported_media(accepted, why));
    }
    let plain = accepted.ends_with(b"+xml") && xml_form::is_plain(body);
    if accepted.ends_with(b"+xml") && !plain && !well_formed(body) {
        return Err(Failure::unsupported_media(accepted, "the body is not well-formed XML"));
    }
    Ok(plain)
}

/// Whether a document's type is the package's. Packages that take XML of any kind (ua-profile, RFC 6080) say `text/xml`.
fn is_of_type(media: &[u8], accepted: &[u8]) -> bool {
    let ends_with = |end: &[u8]| media.len() >= end.len() && media[media.len() - end.len()..].eq_ignore_ascii_case(end);
    media.eq_ignore_ascii_case(accepted) || accepted == b"text/xml" && (ends_with(b"/xml") || ends_with(b"+xml"))
}

/// Whether a document is well-formed, has a root element and is not absurdly deep; entities are never expanded.
pub fn well_formed(document: &[u8]) -> bool {
    use quick_xml::events::Event as Xml;
    let mut reader = quick_xml::Reader::from_reader(document);
    let (mut depth, mut roots) = (0usize, 0usize);
    loop {
        match reader.read_event() {
            Ok(Xml::Start(_)) => {
                roots += usize::from(depth == 0);
                depth += 1;
                if depth > 64 {
                    return false;
                }
            }
            Ok(Xml::Empty(_)) => roots += usize::from(depth == 0),
            Ok(Xml::End(_)) => depth = depth.saturating_sub(1),
            // A document type could declare entities: no presence document needs one.
            Ok(Xml::DocType(_)) | Err(_) => return false,
            Ok(Xml::Text(text)) if depth == 0 && !text.trim_ascii().is_empty() => return false,
            Ok(Xml::Eof) => return depth == 0 && roots == 1,
            Ok(_) => {}
        }
    }
}

fn insert<P: Ports>(ports: &mut P, request: &Request<'_>, new: &Document<'_>) -> Result<(), Failure> {
    let body = request.body.unwrap_or_default();
    let now = ports.now();
    let etag = ports.new_entity_tag(0);
    let publication = Publication {
        etag: etag.clone(),
        ruid: ports.new_ruid(),
        sender: request.sender.to_vec(),
        body: body.to_vec(),
        expires_at: now + i64::from(new.expires),
        received_at: now,
        priority: priority(ports, request, now),
        dialogs: dialogs(new.description, body),
    };
    limits::new_publication(ports, new.resource, &publication.dialogs)?;
    let replica = ports.replicates().then(|| announced(new, request, &publication, true));
    ports.publish(new.resource, Change::Insert(publication))?;
    answer(ports, new.expires, &etag);
    announce(ports, replica);
    tell(ports, request, new, shown_alone(new, request.body))
}

/// Where the package shows one document only, watchers are told the one that was just published.
pub(super) fn shown_alone(new: &Document<'_>, body: Option<&[u8]>) -> Option<Once> {
    body.filter(|_| !new.description.aggregates).map(|body| Once::Body(body.to_vec()))
}

/// What the other nodes are told of a change; `etag` of the publication is the one after it.
fn announced(new: &Document<'_>, request: &Request<'_>, publication: &Publication, is_new: bool) -> Replica {
    let (user, domain) = uri::split(&new.resource.uri);
    Replica {
        domain: domain.to_vec(),
        user: user.to_vec(),
        event: new.description.name.to_vec(),
        etag: publication.etag.clone(),
        new_etag: Vec::new(),
        expires: new.expires.into(),
        received_at: publication.received_at,
        is_new,
        sender: request.sender.to_vec(),
        ruid: publication.ruid.clone(),
        body: publication.body.clone(),
        again: false,
    }
}

fn announce<P: Ports>(ports: &mut P, replica: Option<Replica>) {
    if let Some(replica) = replica {
        ports.announce(&replica);
    }
}

/// An initial PUBLISH with Expires 0 stores nothing; documents of the same dialogs are over, and where the package shows
/// the last document only, watchers see this one once.
fn publish_once<P: Ports>(ports: &mut P, request: &Request<'_>, new: &Document<'_>) -> Result<(), Failure> {
    let body = request.body.unwrap_or_default();
    end_dialogs_of(ports, new, body)?;
    let etag = ports.new_entity_tag(0);
    answer(ports, 0, &etag);
    if ports.replicates() {
        let ruid = ports.new_ruid();
        let received_at = ports.now();
        let publication = Publication { etag, ruid, body: body.to_vec(), received_at, ..Publication::default() };
        announce(ports, Some(announced(new, request, &publication, true)));
    }
    if new.description.is_dialog() || !new.description.aggregates {
        tell(ports, request, new, Some(Once::Body(body.to_vec())))?;
    }
    Ok(())
}

/// Removes the documents of the dialogs that `body` speaks of.
pub(super) fn end_dialogs_of<P: Ports>(ports: &mut P, new: &Document<'_>, body: &[u8]) -> Result<(), Failure> {
    let dialogs = dialogs(new.description, body);
    if dialogs.ids.is_empty() {
        return Ok(());
    }
    for old in ports.documents(new.resource)? {
        if old.dialogs.ids.iter().any(|id| dialogs.ids.contains(id)) {
            ports.publish(new.resource, Change::Remove(old.etag))?;
        }
    }
    Ok(())
}

fn modify<P: Ports>(ports: &mut P, etag: &[u8], request: &Request<'_>, new: &Document<'_>) -> Result<(), Failure> {
    let now = ports.now();
    let new_etag = if new.description.keep_entity_tag {
        etag.to_vec()
    } else {
        let changes = changes_of(etag).wrapping_add(1);
        ports.new_entity_tag(changes)
    };
    let change = Change::Modify(Modification {
        etag: etag.to_vec(),
        new_etag: new_etag.clone(),
        body: request.body.map(<[u8]>::to_vec),
        dialogs: request.body.map(|body| dialogs(new.description, body)).unwrap_or_default(),
        expires_at: now + i64::from(new.expires),
        received_at: now,
        priority: priority(ports, request, now),
        sender: request.sender.to_vec(),
    });
    match matched(ports, new.resource, etag, change)? {
        Applied::Modified { changed } => {
            answer(ports, new.expires, &new_etag);
            if ports.replicates() {
                let ruid = ruid_of(ports, new.resource, &new_etag)?;
                let body = request.body.unwrap_or_default().to_vec();
                let publication =
                    Publication { etag: etag.to_vec(), ruid, body, received_at: now, ..Publication::default() };
                announce(ports, Some(Replica { new_etag, ..announced(new, request, &publication, false) }));
            }
            if changed { tell(ports, request, new, shown_alone(new, request.body)) } else { Ok(()) }
        }
        _ => Err(no_match(etag)),
    }
}

fn remove<P: Ports>(ports: &mut P, etag: &[u8], request: &Request<'_>, new: &Document<'_>) -> Result<(), Failure> {
    match matched(ports, new.resource, etag, Change::Remove(etag.to_vec()))? {
        Applied::Removed(publication, place) => {
            answer(ports, 0, etag);
            let replica = ports
                .replicates()
                .then(|| Replica { body: Vec::new(), ..announced(new, request, &publication, false) });
            announce(ports, replica);
            tell(ports, request, new, Some(Once::Removed(publication, place)))
        }
        _ => Err(no_match(etag)),
    }
}

/// The record's id, which stays the same over all entity tags.
fn ruid_of<P: Ports>(ports: &mut P, resource: &Resource, etag: &[u8]) -> Result<Vec<u8>, Failure> {
    Ok(ports.documents(resource)?.into_iter().find(|d| d.etag == etag).map(|d| d.ruid).unwrap_or_default())
}

fn matched<P: Ports>(ports: &mut P, resource: &Resource, etag: &[u8], change: Change) -> Result<Applied, Failure> {
    if etag.is_empty() || etag.len() > MAX_ETAG {
        return Err(no_match(etag));
    }
    Ok(ports.publish(resource, change)?)
}

fn no_match(etag: &[u8]) -> Failure {
    Failure::conditional_failed(format!("no publication under entity tag {}", String::from_utf8_lossy(etag)))
}

/// The last number of an entity tag of ours or of stock: how often the publication has changed.
pub(super) fn changes_of(etag: &[u8]) -> u32 {
    let count = etag.split(|c| *c == b'.').nth(4).unwrap_or_default();
    std::str::from_utf8(count).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn priority<P: Ports>(ports: &P, request: &Request<'_>, now: i64) -> i32 {
    match request.priority {
        Some(priority) => priority,
        // Without a word of the script, seconds since 2015, as in stock: newer documents come after older ones.
        None if !ports.config().xavp.is_empty() => (now - EPOCH_OF_PRIORITIES) as i32,
        None => 0,
    }
}

pub(super) fn dialogs(package: &Package, body: &[u8]) -> Dialogs {
    if package.is_dialog() { Dialogs::of(body) } else { Dialogs::default() }
}

/// 200 with Expires and SIP-ETag (RFC 3903 6 step 6).
fn answer<P: Ports>(ports: &mut P, expires: u32, etag: &[u8]) {
    let shown = (i64::from(expires) - ports.config().expires_offset).max(0);
    let mut headers = b"Expires: ".to_vec();
    text::push_number(&mut headers, if expires == 0 { 0 } else { shown });
    headers.extend_from_slice(b"\r\nSIP-ETag: ");
    headers.extend_from_slice(etag);
    headers.extend_from_slice(b"\r\n");
    ports.reply(200, "OK", &headers);
}

/// Tells the watchers; where rules depend on the sphere and it changed, their standing is looked at first.
pub(super) fn tell<P: Ports>(
    ports: &mut P,
    request: &Request<'_>,
    new: &Document<'_>,
    once: Option<Once>,
) -> Result<(), Failure> {
    if ports.config().sphere_check && current_sphere(ports, new.resource, new.description)? != new.sphere_before {
        refresh::standings(ports, new.resource)?;
    }
    if ports.happened(new.resource, Event::State { sender: request.sender, once }) {
        notifier::run(ports, new.resource);
    }
    Ok(())
}

fn current_sphere<P: Ports>(ports: &mut P, resource: &Resource, package: &Package) -> Result<Option<Vec<u8>>, Failure> {
    if !ports.config().sphere_check || package.name != b"presence" {
        return Ok(None);
    }
    Ok(sphere_of(ports, resource)?)
}

/// The sphere the presentity's documents name, the newest first.
pub fn sphere_of<P: Ports>(ports: &mut P, resource: &Resource) -> Result<Option<Vec<u8>>, super::error::StoreError> {
    Ok(ports.documents(resource)?.iter().rev().find_map(|publication| sphere::of(&publication.body)))
}

/// What another module does to a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectKind {
    /// A new one.
    Insert,
    /// The one under this entity tag.
    Update,
    /// The one under this entity tag, or a new one.
    Replace,
}

/// A document that another module publishes, under an entity tag of its own.
#[derive(Debug, Clone, Copy)]
pub struct Direct<'a> {
    /// The event package.
    pub event: PackageId,
    /// User part of the presentity.
    pub user: &'a [u8],
    /// Host part of the presentity.
    pub domain: &'a [u8],
    /// The entity tag; empty for a new document lets us choose.
    pub etag: &'a [u8],
    /// Whoever is not to be told.
    pub sender: &'a [u8],
    /// The document.
    pub body: &'a [u8],
    /// Seconds; 0 removes.
    pub expires: u32,
    /// What is done.
    pub kind: DirectKind,
}

/// Publishes for another module: no request, no checks of the body, the same stores and watchers.
pub fn direct<P: Ports>(ports: &mut P, direct: &Direct<'_>) -> Result<(), Failure> {
    let description = *ports.packages().get(direct.event);
    let resource = ports.uri_rule().resource(&uri::join(direct.user, direct.domain), direct.event);
    let expires = direct.expires.min(ports.config().max_expires);
    let (request, now) = (Request { sender: direct.sender, ..Request::default() }, ports.now());
    let new = Document { expires, sphere_before: None, description: &description, resource: &resource };
    if expires == 0 {
        return match ports.publish(&resource, Change::Remove(direct.etag.to_vec()))? {
            Applied::Removed(gone, place) => {
                let replica =
                    ports.replicates().then(|| Replica { body: Vec::new(), ..announced(&new, &request, &gone, false) });
                announce(ports, replica);
                tell(ports, &request, &new, Some(Once::Removed(gone, place)))
            }
            _ => Ok(()),
        };
    }
    if direct.kind != DirectKind::Insert {
        let change = Change::Modify(Modification {
            etag: direct.etag.to_vec(),
            new_etag: direct.etag.to_vec(),
            body: (!direct.body.is_empty()).then(|| direct.body.to_vec()),
            dialogs: dialogs(&description, direct.body),
            expires_at: now + i64::from(expires),
            received_at: now,
            priority: priority(ports, &request, now),
            sender: direct.sender.to_vec(),
        });
        let applied = ports.publish(&resource, change)?;
        if ports.replicates() && matches!(applied, Applied::Modified { .. }) {
            let ruid = ruid_of(ports, &resource, direct.etag)?;
            let (etag, body) = (direct.etag.to_vec(), direct.body.to_vec());
            let publication =
                Publication { etag: etag.clone(), ruid, body, received_at: now, ..Publication::default() };
            announce(ports, Some(Replica { new_etag: etag, ..announced(&new, &request, &publication, false) }));
        }
        match applied {
            Applied::Modified { changed: true } => {
                let body = Some(direct.body).filter(|body| !body.is_empty());
                return tell(ports, &request, &new, shown_alone(&new, body));
            }
            Applied::Modified { changed: false } => return Ok(()),
            _ if direct.kind == DirectKind::Update => return Err(no_match(direct.etag)),
            _ => {}
        }
    }
    let publication = Publication {
        etag: if direct.etag.is_empty() { ports.new_entity_tag(0) } else { direct.etag.to_vec() },
        ruid: ports.new_ruid(),
        sender: direct.sender.to_vec(),
        body: direct.body.to_vec(),
        expires_at: now + i64::from(expires),
        received_at: now,
        priority: priority(ports, &request, now),
        dialogs: dialogs(&description, direct.body),
    };
    let replica = ports.replicates().then(|| announced(&new, &request, &publication, true));
    ports.publish(&resource, Change::Insert(publication))?;
    announce(ports, replica);
    tell(ports, &request, &new, shown_alone(&new, Some(direct.body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_formed_documents_only() {
        assert!(well_formed(b"<?xml version=\"1.0\"?><a><b/></a>\n"));
        for bad in ["", "text", "<a>", "<a></b>", "<a/><b/>", "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>"] {
            assert!(!well_formed(bad.as_bytes()), "{bad}");
        }
        assert!(!well_formed("<a>".repeat(65).as_bytes()));
    }

    #[test]
    fn the_change_count_survives_in_the_tag() {
        assert_eq!(changes_of(b"a.1795226396.11999.24.2"), 2);
        assert_eq!(changes_of(b"bogus"), 0);
    }
}
