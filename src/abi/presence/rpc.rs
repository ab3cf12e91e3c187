//! The RPC commands of presence.
use crate::abi::c_types::rpc_t;
use crate::abi::presence::state;
use crate::host::rpc::{Rpc, Struct};
use crate::host::{log, msg};
use crate::presence::publication::Publication;
use crate::presence::replication::placed::RefreshKind;
use crate::presence::resource::Resource;
use crate::presence::subscription::field::Field;
use crate::server::housekeeping;
use crate::server::inventory::Inventory;
use crate::server::operator::catalogue;
use crate::server::operator::names::uri_of;
use crate::server::operator::refreshing::{self, NotRefreshed};
use crate::server::operator::subscription_lists;
use crate::sip::{text, uri};
use std::ffi::{CStr, CString, c_void};

pub(crate) fn fault(rpc: &Rpc, why: &str) {
    rpc.fault(500, &CString::new(why).unwrap_or_default());
}

/// Which fields of a publication are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    Basic,
    Full,
}

fn wanted_detail(rpc: &Rpc) -> Result<Detail, String> {
    match rpc.text().as_deref() {
        None | Some(b"" | b"basic") => Ok(Detail::Basic),
        Some(b"full") => Ok(Detail::Full),
        Some(other) => Err(format!("{}: allowed is full or basic", log::show(other))),
    }
}

/// Whether a command names what is refreshed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Given,
    Watchers,
}

fn refresh(rpc: &Rpc, named: Kind) {
    let Some(process) = state::process() else { return };
    let (Some(uri), Some(event)) = (rpc.text(), rpc.text()) else {
        return fault(rpc, "Not enough parameters");
    };
    if let Err(why) = uri_of("presentity", &uri) {
        return fault(rpc, &why);
    }
    if event.is_empty() {
        return fault(rpc, "Empty event parameter");
    }
    let kind = match (named, rpc.text()) {
        (Kind::Watchers, _) => RefreshKind::Rules,
        (Kind::Given, Some(given)) => match text::parsed(&given) {
            Some(kind @ 0..=2) => RefreshKind::of_number(kind),
            _ => return fault(rpc, "the type must be 0, 1 or 2"),
        },
        (Kind::Given, None) => return fault(rpc, "Not enough parameters"),
    };
    let done = match (kind, rpc.text(), rpc.text()) {
        (RefreshKind::HardState, Some(file_uri), Some(filename)) if file_uri.is_empty() || filename.is_empty() => {
            return fault(rpc, "the file's URI and name must not be empty");
        }
        (RefreshKind::HardState, Some(file_uri), Some(filename)) => {
            refreshing::refresh_hard_state(process, &uri, &event, &file_uri, &filename).map_err(NotRefreshed::from)
        }
        (RefreshKind::HardState, ..) => return fault(rpc, "Not enough parameters"),
        // What is given of a document beside another type is not looked at, as by stock.
        _ => refreshing::refresh_watchers(process, &uri, &event, kind),
    };
    if let Err(why) = done {
        why.log(&format!("RPC refresh of {}", log::show(&uri)));
        fault(rpc, if named == Kind::Given { "Execution failed" } else { "Processing error" });
    }
}

fn show_publication(out: Struct, resource: &Resource, event: &[u8], p: &Publication, detail: Detail) {
    let uri::PlainUri { user, host: domain } = uri::split(&resource.uri);
    out.text(c"user", user).text(c"domain", domain).text(c"event", event).text(c"etag", p.etag.bytes());
    out.text(c"sender", &p.sender).expiry(c"expires", p.expires_at);
    if detail == Detail::Full {
        out.moment(c"received_time", p.received_at).int(c"priority", p.priority.into()).text(c"ruid", &p.ruid);
        out.text(c"body", &p.body).int(c"hashid", msg::case_hash(user, domain).into());
    }
}

fn each_publication(mut show: impl FnMut(&Resource, &[u8], &Publication)) {
    let Some(process) = state::process() else { return };
    let packages = process.registry.packages();
    catalogue::each_in_memory_alone(&Inventory::new(process.parts, process.storage), |resource, publication| {
        show(resource, packages.get(resource.event).name, publication);
    });
}

fn presentity_list(rpc: &Rpc) -> Result<(), String> {
    let detail = wanted_detail(rpc)?;
    each_publication(|resource, event, publication| {
        if let Some(out) = rpc.add_struct() {
            show_publication(out, resource, event, publication, detail);
        }
    });
    Ok(())
}

fn presentity_show(rpc: &Rpc) -> Result<(), String> {
    let wanted = uri_of("presentity", &rpc.text().ok_or("Not enough parameters")?)?;
    let detail = wanted_detail(rpc)?;
    let mut found = false;
    each_publication(|resource, event, publication| {
        if resource.uri == wanted {
            found = true;
            if let Some(out) = rpc.add_struct() {
                show_publication(out, resource, event, publication, detail);
            }
        }
    });
    if !found {
        rpc.fault(404, c"No such presentity");
    }
    Ok(())
}

fn watcher_list(rpc: &Rpc) -> Result<(), String> {
    let wanted = uri_of("presentity", &rpc.text().ok_or("Not enough parameters")?)?;
    let detail = wanted_detail(rpc)?;
    let Some(mut context) = state::context() else { return Ok(()) };
    subscription_lists::each_of_presentity(&mut context, &wanted, |package, s| {
        let Some(out) = rpc.add_struct() else { return };
        out.text(c"pres_uri", s.get(Field::PresUri));
        out.text(c"to_user", s.get(Field::ToUser)).text(c"to_domain", s.get(Field::ToDomain));
        out.text(c"from_user", s.get(Field::FromUser)).text(c"from_domain", s.get(Field::FromDomain));
        out.text(c"watcher_user", s.get(Field::WatcherUser)).text(c"watcher_domain", s.get(Field::WatcherDomain));
        out.text(c"event", package.name).moment(c"expires", Some(s.state.expires_at));
        out.int(c"status", s.state.status as i64);
        if detail == Detail::Full {
            out.text(c"event_id", s.get(Field::EventId)).text(c"to_tag", s.get(Field::ToTag));
            out.text(c"from_tag", s.get(Field::FromTag)).text(c"callid", s.get(Field::CallId));
            out.int(c"remote_cseq", s.state.remote_cseq.into()).int(c"local_cseq", s.state.local_cseq.into());
            out.text(c"contact", s.get(Field::Contact)).text(c"local_contact", s.get(Field::LocalContact));
            out.text(c"record_route", s.get(Field::RecordRoute)).text(c"reason", s.get(Field::Reason));
            out.text(c"user_agent", s.get(Field::UserAgent)).int(c"version", s.state.version.into());
        }
    })
    .map_err(|error| error.to_string())
}

fn cache_sync(rpc: &Rpc) {
    let Some(process) = state::process() else { return };
    let synced = match process.database.is_configured() {
        true => process.storage.publications.sync(),
        false => None,
    };
    match synced {
        None => fault(rpc, "there is no cache of a table: publ_cache is not 1 or db_url is not set"),
        Some(Err(error)) => fault(rpc, &error.to_string()),
        Some(Ok(())) => {}
    }
}

/// Carries out a command with at most `most` arguments.
///
/// # Safety
/// `rpc` and `ctx` are what the host calls a command with, and live until it returns.
pub(crate) unsafe fn call(rpc: *mut rpc_t, ctx: *mut c_void, most: usize, run: fn(&Rpc)) {
    let is_ready = state::process().map(|_| ()).ok_or(c"presence is not initialised");
    // SAFETY: the caller vouches for both.
    call_when(is_ready, unsafe { Rpc::new(rpc, ctx) }, most, run);
}

/// The same for a module that `is_ready`, or says why it is not.
pub(crate) fn call_when(is_ready: Result<(), &CStr>, rpc: Option<Rpc>, most: usize, run: fn(&Rpc)) {
    let Some(rpc) = rpc else { return };
    if let Err(why) = is_ready {
        return rpc.fault(500, why);
    }
    match rpc.read_arguments(most) {
        Ok(()) => run(&rpc),
        Err(why) => fault(&rpc, &why),
    }
}

/// The answer of a command that says in a sentence why it was not carried out.
pub(crate) fn answered(rpc: &Rpc, run: fn(&Rpc) -> Result<(), String>) {
    if let Err(why) = run(rpc) {
        fault(rpc, &why);
    }
}

fn cleanup(rpc: &Rpc) {
    if let Some(process) = state::process() {
        housekeeping::clean(process);
        housekeeping::update(process);
        rpc.add_text(b"Reload OK");
    }
}

/// `presence.cleanup`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_rpc_cleanup(rpc: *mut rpc_t, ctx: *mut c_void) {
    entry!(kr_presence_rpc_cleanup, (), { command!(call, (rpc, ctx), 0, cleanup) })
}

/// `presence.refreshWatchers uri event type`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_rpc_refresh_watchers(rpc: *mut rpc_t, ctx: *mut c_void) {
    entry!(kr_presence_rpc_refresh_watchers, (), { command!(call, (rpc, ctx), 5, |rpc| refresh(rpc, Kind::Given)) })
}

/// `presence.updateWatchers uri event`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_rpc_update_watchers(rpc: *mut rpc_t, ctx: *mut c_void) {
    entry!(kr_presence_rpc_update_watchers, (), { command!(call, (rpc, ctx), 2, |rpc| refresh(rpc, Kind::Watchers)) })
}

/// `presence.presentity_list [full]`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_rpc_presentity_list(rpc: *mut rpc_t, ctx: *mut c_void) {
    entry!(kr_presence_rpc_presentity_list, (), { command!(call, (rpc, ctx), 1, |rpc| answered(rpc, presentity_list)) })
}

/// `presence.presentity_show uri [full]`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_rpc_presentity_show(rpc: *mut rpc_t, ctx: *mut c_void) {
    entry!(kr_presence_rpc_presentity_show, (), { command!(call, (rpc, ctx), 2, |rpc| answered(rpc, presentity_show)) })
}

/// `presence.watcher_list uri [full]`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_rpc_watcher_list(rpc: *mut rpc_t, ctx: *mut c_void) {
    entry!(kr_presence_rpc_watcher_list, (), { command!(call, (rpc, ctx), 2, |rpc| answered(rpc, watcher_list)) })
}

/// `presence.publish_cache_sync`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_rpc_publish_cache_sync(rpc: *mut rpc_t, ctx: *mut c_void) {
    entry!(kr_presence_rpc_publish_cache_sync, (), { command!(call, (rpc, ctx), 0, cache_sync) })
}
