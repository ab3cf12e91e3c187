//! What scripts, RPC and other modules ask of presence outside of a request.
use crate::abi::presence::state;
use crate::host::bytes::Lent;
use crate::host::bytes::lend;
use crate::host::log;
use crate::presence::event_package::PackageId;
use crate::presence::publication::direct_publish;
use crate::server::operator::authorization_status::{self, MaySee};
use crate::server::operator::names::{parts_of, resource_of};
use crate::sip::checked::{HostPart, UserPart};
use crate::sip::entity_tag::EntityTag;
use std::cell::RefCell;
use std::ffi::c_int;

/// The number of a watcher's authorization with a presentity, or -1.
pub(crate) fn auth_status(watcher: &[u8], presentity: &[u8]) -> c_int {
    let (watcher, presentity) = (parts_of(watcher), parts_of(presentity));
    let (Some(process), Some(watcher), Some(presentity)) = (state::process(), watcher, presentity) else { return -1 };
    match authorization_status::would_see(process, watcher, presentity) {
        Some(MaySee::ByStatus(status)) => status as c_int,
        Some(MaySee::NothingPolitely) => 5,
        None => -1,
    }
}

thread_local! {
    static CONTACT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static TAG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Keeps a text for a caller of the C API until the next call of the same function in this process.
fn keep<T>(
    slot: &'static std::thread::LocalKey<RefCell<Vec<u8>>>,
    text: Vec<u8>,
    show: impl FnOnce(Lent<'_>) -> T,
) -> T {
    slot.with_borrow_mut(|kept| {
        *kept = text;
        show(lend(kept))
    })
}

/// Shows our Contact, which is kept until the next SUBSCRIBE.
pub(crate) fn keep_contact<T>(contact: Vec<u8>, show: impl FnOnce(Lent<'_>) -> T) -> T {
    keep(&CONTACT, contact, show)
}

/// Shows our To tag, which is kept until the next SUBSCRIBE.
pub(crate) fn keep_tag<T>(tag: Vec<u8>, show: impl FnOnce(Lent<'_>) -> T) -> T {
    keep(&TAG, tag, show)
}

/// The sphere that a presentity's documents name.
pub(crate) fn sphere_of(uri: &[u8]) -> Option<Vec<u8>> {
    authorization_status::sphere_of(&mut state::context()?, uri)
}

/// The composed document of a presentity.
pub(crate) fn document_of(uri: &[u8], event: PackageId) -> Option<Vec<u8>> {
    let mut context = state::context()?;
    let name = context.process().registry.packages().get(event).name;
    let resource = resource_of(&context, uri, name)?;
    crate::presence::notification::notifier::current_body(&mut context, &resource)
}

/// The document a package puts together, in its own memory; null when there is none.
pub(crate) fn package_document_of(uri: &[u8], event: PackageId) -> Option<*mut crate::sys::_str> {
    let mut context = state::context()?;
    let process = context.process();
    let resource = resource_of(&context, uri, process.registry.packages().get(event).name)?;
    let documents = crate::presence::notification::notifier::given_documents(&mut context, &resource).ok()?;
    let documents: Vec<&[u8]> = documents.iter().map(Vec::as_slice).collect();
    let crate::sip::uri::PlainUri { user, host: domain } = crate::sip::uri::split(&resource.uri);
    Some(process.registry.aggregate_raw(event, user, domain, &documents, None))
}

/// A document that another module publishes.
pub(crate) struct ApiDocument<'a> {
    pub(crate) event: &'a [u8],
    pub(crate) domain: &'a [u8],
    pub(crate) user: &'a [u8],
    pub(crate) etag: &'a [u8],
    pub(crate) sender: &'a [u8],
    pub(crate) body: &'a [u8],
    pub(crate) expires: i32,
    pub(crate) is_new: bool,
    pub(crate) replace: bool,
}

/// `update_presentity` of the C API: stores, changes or removes a document under an entity tag that the caller chose.
///
/// # Errors
///
/// Fails with a sentence when the event package is unknown, a part of the URI is none, or the document cannot be
/// stored.
pub(crate) fn update_presentity(document: &ApiDocument<'_>) -> Result<(), String> {
    let mut context = state::context().ok_or("presence is not initialised")?;
    let packages = context.process().registry.packages();
    let event =
        packages.named(document.event).ok_or_else(|| format!("no event package {}", log::show(document.event)))?;
    let bad = |what: &str, flaw| format!("the {what} {flaw}");
    let user = UserPart::new(document.user).map_err(|flaw| bad("user", flaw))?;
    let domain = HostPart::new(document.domain).map_err(|flaw| bad("domain", flaw))?;
    let request = direct_publish::Direct {
        event,
        user: user.bytes(),
        domain: domain.bytes(),
        etag: EntityTag::new(document.etag),
        sender: document.sender,
        body: document.body,
        expires: (document.expires.max(0) as u32).into(),
        kind: match (document.is_new, document.replace) {
            (_, true) => direct_publish::DirectKind::Replace,
            (true, false) => direct_publish::DirectKind::Insert,
            (false, false) => direct_publish::DirectKind::Update,
        },
    };
    direct_publish::publish(&mut context, &request).map_err(|error| error.to_string())
}
