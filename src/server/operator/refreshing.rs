//! Watchers are looked at again because rules or documents outside of the server have changed
//! (`pres_refresh_watchers`), on the nodes that have to do it.
use crate::host::log;
use crate::presence::authorization::judgement;
use crate::presence::event_package::Trait;
use crate::presence::refresh_watchers;
use crate::presence::replication::placed::{Placed, RefreshKind};
use crate::presence::resource::Resource;
use crate::server::announcing::holders::{self, RefreshedBy};
use crate::server::context::{Context, Process};
use crate::server::operator::names::{as_stored, resource_of};
use crate::{limited, sip};

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
            NotRefreshed::NoRules(_) | NotRefreshed::PackageWithoutRules(_) => limited!(Info, "{asked}: {self}"),
            NotRefreshed::Failed(_) => limited!(Error, "{asked}: {self}"),
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
pub(crate) fn refresh_watchers(
    process: &'static Process,
    uri: &[u8],
    event: &[u8],
    kind: RefreshKind,
) -> Result<(), NotRefreshed> {
    match is_refreshed_here(process, uri, event, kind, [b"", b""]) {
        true => refresh_watchers_here(process, uri, event, kind),
        false => Ok(()),
    }
}

/// Has the nodes that hold a presentity refresh it; whether this is one of them. Where the rules have changed one node
/// is enough.
fn is_refreshed_here(process: &Process, uri: &[u8], event: &[u8], kind: RefreshKind, file: [&[u8]; 2]) -> bool {
    if process.config.replicas().is_none() {
        return true;
    }
    let uri = as_stored(uri);
    let message = Placed::Refresh { uri: uri.clone(), event: event.to_vec(), kind, file: file.map(<[u8]>::to_vec) };
    let by = if kind == RefreshKind::Rules { RefreshedBy::Primary } else { RefreshedBy::Holders };
    holders::refresh_elsewhere(process, &uri, &message, by)
}

/// The resource that was named, or a sentence that says what is unknown.
fn named_resource(context: &Context<'_>, uri: &[u8], event: &[u8]) -> Result<Resource, String> {
    resource_of(context, uri, event)
        .ok_or_else(|| format!("no event package {} or no URI {}", log::show(event), log::show(uri)))
}

/// The same on this node alone.
///
/// # Errors
///
/// Fails when the event package or the URI is unknown, when the presentity has no rules that could be read, or when its
/// watchers or the rules cannot be read.
pub(crate) fn refresh_watchers_here(
    process: &'static Process,
    uri: &[u8],
    event: &[u8],
    kind: RefreshKind,
) -> Result<(), NotRefreshed> {
    let mut context = Context::new(process);
    let resource = named_resource(&context, uri, event)?;
    let done = match kind {
        RefreshKind::Rules => {
            if !process.registry.packages().get(resource.event).has_trait(Trait::NeedsAuthorization) {
                return Err(NotRefreshed::PackageWithoutRules(log::show(event).into_owned()));
            }
            let sip::uri::PlainUri { user, host: domain } = sip::uri::split(&resource.uri);
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
            refresh_watchers::documents(&mut context, &resource);
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
pub(crate) fn refresh_hard_state(
    process: &'static Process,
    uri: &[u8],
    event: &[u8],
    file_uri: &[u8],
    filename: &[u8],
) -> Result<(), String> {
    match is_refreshed_here(process, uri, event, RefreshKind::HardState, [file_uri, filename]) {
        true => refresh_hard_state_here(process, uri, event, file_uri, filename),
        false => Ok(()),
    }
}

/// The same on this node alone.
///
/// # Errors
///
/// Fails with a sentence when the event package or the URI is unknown, or the document cannot be stored.
pub(crate) fn refresh_hard_state_here(
    process: &'static Process,
    uri: &[u8],
    event: &[u8],
    file_uri: &[u8],
    filename: &[u8],
) -> Result<(), String> {
    let mut context = Context::new(process);
    let resource = named_resource(&context, uri, event)?;
    let sip::uri::PlainUri { user, host: domain } = sip::uri::split(&resource.uri);
    let document = context
        .process()
        .registry
        .manipulation_document(resource.event, user, domain, file_uri)
        .map_err(|_| format!("the event package has no manipulation document {}", log::show(file_uri)))?;
    refresh_watchers::hard_state(&mut context, &resource, filename, document).map_err(|error| error.to_string())
}

/// Another node asks for what is done here for the watchers of a presentity that it does not hold.
pub(crate) fn refresh_for_node(process: &'static Process, message: &Placed) {
    let Placed::Refresh { uri, event, kind, file: [file_uri, filename] } = message else { return };
    let done = match file_uri.is_empty() {
        true => refresh_watchers_here(process, uri, event, *kind),
        false => refresh_hard_state_here(process, uri, event, file_uri, filename).map_err(Into::into),
    };
    if let Err(why) = done {
        why.log("pres_refresh_watchers on another node");
    }
}
