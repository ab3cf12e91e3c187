//! What scripts, RPC and other modules ask of presence outside of a request.
use crate::abi::presence::state;
use crate::host::bytes::Lent;
use crate::host::bytes::lend;
use crate::host::log;
use crate::host::msg::parse_uri;
use crate::presence::event_package::{PackageId, Trait};
use crate::presence::placed::{Placed, RefreshKind};
use crate::presence::subscription::Subscription;
use crate::presence::{direct_publish, judgement, refresh, sphere};
use crate::server::announcing::holders::{self, RefreshedBy};
use crate::server::context::Context;
use crate::sip::checked::{CheckedParts, HostPart, UserPart};
use crate::sip::entity_tag::EntityTag;
use std::cell::RefCell;
use std::ffi::c_int;

/// User and host of a URI that a script, an RPC command or another module gives, in the form the tables have them.
fn parts_of(uri: &[u8]) -> Option<CheckedParts<'_>> {
    let parts = parse_uri(uri)?;
    Some(CheckedParts { user: UserPart::new(parts.user).ok()?, host: HostPart::new(parts.host).ok()? })
}

fn plain_uri(uri: &[u8]) -> Option<Vec<u8>> {
    parts_of(uri).map(|parts| crate::sip::uri::join(parts.user.bytes(), parts.host.bytes()))
}

/// A URI as the tables have it; what is no URI names nobody.
pub(crate) fn as_stored(uri: &[u8]) -> Vec<u8> {
    plain_uri(uri).unwrap_or_else(|| uri.to_vec())
}

/// Package and resource for a URI and an event name.
pub(crate) fn resource_of(context: &Context, uri: &[u8], event: &[u8]) -> Option<crate::presence::resource::Resource> {
    let id = context.process().registry.packages().named(event)?;
    Some(context.process().shared.tables.rule().resource(&plain_uri(uri)?, id))
}

/// Why watchers were not refreshed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRefreshed {
    /// There is nothing by which they could be judged again, which is no fault.
    #[error("{0} has no rules")]
    NoRules(String),
    /// The event package has no rules: each of its watchers is active.
    #[error("the event package {0} has no rules")]
    PackageWithoutRules(String),
    /// The refresh has failed.
    #[error("{0}")]
    Failed(String),
}

impl NotRefreshed {
    /// Writes a line about it, after what was asked.
    pub(crate) fn log(&self, asked: &str) {
        match self {
            NotRefreshed::NoRules(_) | NotRefreshed::PackageWithoutRules(_) => crate::limited!(Info, "{asked}: {self}"),
            NotRefreshed::Failed(_) => crate::limited!(Error, "{asked}: {self}"),
        }
    }
}

impl From<String> for NotRefreshed {
    fn from(why: String) -> Self {
        NotRefreshed::Failed(why)
    }
}

impl From<&str> for NotRefreshed {
    fn from(why: &str) -> Self {
        NotRefreshed::Failed(why.into())
    }
}

/// Types 0, 1 and 2 of `pres_refresh_watchers`, wherever the presentity is held.
///
/// # Errors
///
/// Fails when this node has to do it and [`refresh_watchers_here`] fails.
pub(crate) fn refresh_watchers(uri: &[u8], event: &[u8], kind: RefreshKind) -> Result<(), NotRefreshed> {
    match is_refreshed_here(uri, event, kind, [b"", b""]) {
        true => refresh_watchers_here(uri, event, kind),
        false => Ok(()),
    }
}

/// Has the nodes that hold a presentity refresh it; whether this is one of them. Where the rules have changed one node
/// is enough.
fn is_refreshed_here(uri: &[u8], event: &[u8], kind: RefreshKind, file: [&[u8]; 2]) -> bool {
    let Some(context) = state::context().filter(|context| context.process().config.replicas().is_some()) else {
        return true;
    };
    let uri = as_stored(uri);
    let message = Placed::Refresh { uri: uri.clone(), event: event.to_vec(), kind, file: file.map(<[u8]>::to_vec) };
    let by = if kind == RefreshKind::Rules { RefreshedBy::Primary } else { RefreshedBy::Holders };
    holders::refresh_elsewhere(&context, &uri, &message, by)
}

/// The same on this node alone.
///
/// # Errors
///
/// Fails when the event package or the URI is unknown, when the presentity has no rules that could be read, or when its
/// watchers or the rules cannot be read.
pub(crate) fn refresh_watchers_here(uri: &[u8], event: &[u8], kind: RefreshKind) -> Result<(), NotRefreshed> {
    let mut context = state::context().ok_or("presence is not initialised")?;
    let resource = resource_of(&context, uri, event)
        .ok_or_else(|| format!("no event package {} or no URI {}", log::show(event), log::show(uri)))?;
    let done = match kind {
        RefreshKind::Rules => {
            let process = context.process();
            if !process.registry.packages().get(resource.event).has(Trait::NeedsAuthorization) {
                return Err(NotRefreshed::PackageWithoutRules(log::show(event).into_owned()));
            }
            let crate::sip::uri::PlainUri { user, host: domain } = crate::sip::uri::split(&resource.uri);
            let has_rules = process.registry.has_rules(resource.event, user, domain);
            match (judgement::authorizations(&mut context, &resource), has_rules) {
                // Where they are gone since the last decision, there was something to judge.
                (Ok(false), Ok(false)) => return Err(NotRefreshed::NoRules(log::show(&resource.uri).into_owned())),
                // There may be nobody to judge by rules that cannot be read.
                (Ok(_), Err(why)) => Err(why.into()),
                (done, _) => done.map(drop),
            }
        }
        RefreshKind::State | RefreshKind::HardState => {
            refresh::documents(&mut context, &resource);
            Ok(())
        }
    };
    done.map_err(|error| NotRefreshed::Failed(error.to_string()))
}

/// Type 2 with a file: the manipulation document was changed.
///
/// # Errors
///
/// Fails when this node has to do it and [`refresh_hard_state_here`] fails.
pub(crate) fn refresh_hard_state(uri: &[u8], event: &[u8], file_uri: &[u8], filename: &[u8]) -> Result<(), String> {
    match is_refreshed_here(uri, event, RefreshKind::HardState, [file_uri, filename]) {
        true => refresh_hard_state_here(uri, event, file_uri, filename),
        false => Ok(()),
    }
}

/// The same on this node alone.
///
/// # Errors
///
/// Fails with a sentence when the event package or the URI is unknown, or the document cannot be stored.
pub(crate) fn refresh_hard_state_here(
    uri: &[u8],
    event: &[u8],
    file_uri: &[u8],
    filename: &[u8],
) -> Result<(), String> {
    let mut context = state::context().ok_or("presence is not initialised")?;
    let resource = resource_of(&context, uri, event)
        .ok_or_else(|| format!("no event package {} or no URI {}", log::show(event), log::show(uri)))?;
    let crate::sip::uri::PlainUri { user, host: domain } = crate::sip::uri::split(&resource.uri);
    let document = context
        .process()
        .registry
        .manipulation_document(resource.event, user, domain, file_uri)
        .map_err(|_| format!("the event package has no manipulation document {}", log::show(file_uri)))?;
    refresh::hard_state(&mut context, &resource, filename, document).map_err(|error| error.to_string())
}

/// The number of a watcher's authorization with a presentity, or -1.
pub(crate) fn auth_status(watcher: &[u8], presentity: &[u8]) -> c_int {
    use crate::presence::subscription::Status;
    use crate::presence::subscription_field::Field;
    let (Some(context), Some(watcher), Some(presentity)) = (state::context(), parts_of(watcher), parts_of(presentity))
    else {
        return -1;
    };
    let ((watcher_user, watcher_host), (user, host)) =
        ((watcher.user.bytes(), watcher.host.bytes()), (presentity.user.bytes(), presentity.host.bytes()));
    let process = context.process();
    let Some(event) = process.registry.packages().named(b"presence") else { return -1 };
    let package = process.registry.packages().get(event);
    if !package.has(Trait::NeedsAuthorization) || process.config.force_active {
        return Status::Active as c_int;
    }
    let uri = crate::sip::uri::join(user, host);
    let given = [
        (Field::PresUri, &uri[..]),
        (Field::WatcherUser, watcher_user),
        (Field::WatcherDomain, watcher_host),
        (Field::FromUser, watcher_user),
        (Field::FromDomain, watcher_host),
        (Field::ToUser, user),
        (Field::ToDomain, host),
    ];
    let Ok(subscription) = Subscription::without_dialog(event, Status::Pending, &given) else { return -1 };
    match process.registry.has_rules(event, user, host) {
        Ok(true) => {}
        Ok(false) => return Status::Pending as c_int,
        Err(_) => return -1,
    }
    match process.registry.evaluate_rules(event, &subscription, Status::Pending, None) {
        Ok(authorization) if authorization.reason == b"polite-block" => 5,
        Ok(authorization) => authorization.status as c_int,
        Err(_) => -1,
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
    let mut context = state::context()?;
    if !context.process().config.sphere_check {
        return None;
    }
    let resource = resource_of(&context, uri, b"presence")?;
    sphere::of_presentity(&mut context, &resource).unwrap_or_else(|_| {
        context.process().registry.note_unread_sphere();
        None
    })
}

/// The composed document of a presentity.
pub(crate) fn document_of(uri: &[u8], event: PackageId) -> Option<Vec<u8>> {
    let mut context = state::context()?;
    let name = context.process().registry.packages().get(event).name;
    let resource = resource_of(&context, uri, name)?;
    crate::presence::notifier::current_body(&mut context, &resource)
}

/// The document a package puts together, in its own memory; null when there is none.
pub(crate) fn package_document_of(uri: &[u8], event: PackageId) -> Option<*mut crate::sys::_str> {
    let mut context = state::context()?;
    let process = context.process();
    let resource = resource_of(&context, uri, process.registry.packages().get(event).name)?;
    let documents = crate::presence::notifier::given_documents(&mut context, &resource).ok()?;
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
