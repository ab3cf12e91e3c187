//! `bind_presence`: the functions other modules call (`modules/presence/bind_presence.h`).
use crate::abi::c_types::{event_t, pres_ev_t, presence_api_t, sip_msg_t, str_t, subs_t};
use crate::abi::presence::requests::who;
use crate::abi::presence::{calls, module, state, subscription_hash_table as table};
use crate::host::bytes::{lend, view};
use crate::host::log;
use crate::host::msg::{AddressHeader, Header, SipMsg, routes_of};
use crate::host::pkg::{PkgStr, PkgText};
use crate::presence::event_package::Trait;
use crate::presence::replication::placed::RefreshKind;
use crate::server::operator::refreshing::{self, NotRefreshed};
use crate::sip::checked::{HostPart, UriText, UserPart, Word, is_clean, most};
use crate::sip::columns;
use crate::sip::event::EventHeader;
use crate::sip::route_set::RouteSet;
use crate::sip::transport::{Transport, push_contact};
use crate::{log, sys};
use std::ffi::{c_char, c_int};

unsafe extern "C" fn add_event(event: *mut pres_ev_t) -> c_int {
    entry!(add_event, -1, {
        let Some(registry) = state::registry().filter(|_| !event.is_null()) else { return -1 };
        // SAFETY: not null; a module hands over its own structure, or one that it got from `contains_event`. It is
        // copied, for what is registered may be written to.
        let event = unsafe { event.read() };
        // SAFETY: the module's strings live during the call, its functions as long as the server.
        match unsafe { registry.add(event) } {
            Ok(_) => 0,
            Err(why) => {
                log!(Error, "cannot register an event package: {why}");
                -1
            }
        }
    })
}

unsafe extern "C" fn contains_event(name: *mut str_t, parsed: *mut event_t) -> *mut pres_ev_t {
    entry!(contains_event, std::ptr::null_mut(), {
        let (Some(registry), Some(name)) = (state::registry(), given_text!(name)) else {
            return std::ptr::null_mut();
        };
        // SAFETY: the parser reads `name` by its length and fills `parsed`, which is the caller's and not null.
        let parse = || unsafe { sys::kr_event_parser(name.as_ptr() as *mut _, name.len() as i32, parsed) };
        if !parsed.is_null() && parse() < 0 {
            return std::ptr::null_mut();
        }
        registry.packages().named(name).map_or(std::ptr::null_mut(), |id| registry.raw(id))
    })
}

unsafe extern "C" fn search_event(event: *mut event_t) -> *mut pres_ev_t {
    entry!(search_event, std::ptr::null_mut(), {
        // SAFETY: a parsed event of the caller, or null.
        let (Some(registry), Some(event)) = (state::registry(), unsafe { event.as_ref() }) else {
            return std::ptr::null_mut();
        };
        // SAFETY: the host's parser has filled it; its strings live as long as the caller's event.
        let name = unsafe { event_text(event) };
        // The Event header of a request may have parameters that are not the package's.
        let found = EventHeader::parse(&name).and_then(|header| registry.packages().find(&header));
        found.map_or(std::ptr::null_mut(), |id| registry.raw(id))
    })
}

/// A parsed event as text again.
///
/// # Safety
/// `event` was filled by the host's parser.
unsafe fn event_text(event: &event_t) -> Vec<u8> {
    // SAFETY: the parser's views, of a text that lives as long as the event, by the caller's word.
    let view = |text: &str_t| unsafe { view(text) }.to_vec();
    let mut text = view(&event.name);
    let mut param = event.params.list;
    // SAFETY: the parser's list, which ends with null.
    while let Some(one) = unsafe { param.as_ref() } {
        text.push(b';');
        text.append(&mut view(&one.name));
        let mut body = view(&one.body);
        if !body.is_empty() {
            text.push(b'=');
            text.append(&mut body);
        }
        param = one.next;
    }
    text
}

unsafe extern "C" fn get_event_list(list: *mut *mut str_t) -> c_int {
    entry!(get_event_list, -1, {
        let Some(registry) = state::registry() else { return -1 };
        if list.is_null() {
            return -1;
        }
        match private_str(&registry.packages().allow_events()) {
            Some(text) => {
                // SAFETY: the caller's place for a `str` that it frees; not null, as checked above.
                unsafe { *list = text };
                0
            }
            None => -1,
        }
    })
}

/// A `str` in private memory, and its text in a block of its own: callers of the API free both.
fn private_str(bytes: &[u8]) -> Option<*mut str_t> {
    let made = PkgStr::new(bytes).map(PkgStr::into_raw);
    if made.is_none() {
        crate::limited!(Error, "no more private memory");
    }
    made
}

unsafe extern "C" fn update_watchers_status(uri: *mut str_t, event: *mut pres_ev_t, _rules: *mut str_t) -> c_int {
    entry!(update_watchers_status, -1, {
        // SAFETY: null, or a package that `contains_event` gave: packages are registered for ever.
        let (Some(uri), Some(event)) = (given_text!(uri), unsafe { event.as_ref() }) else { return -1 };
        let Some(process) = state::process() else { return -1 };
        match refreshing::refresh_watchers(
            process,
            uri,
            given_text!(&event.name).unwrap_or_default(),
            RefreshKind::Rules,
        ) {
            // Stock's script function fails there, its API does not.
            Ok(()) | Err(NotRefreshed::PackageWithoutRules(_)) => 0,
            Err(why) => {
                why.log(&format!("the watchers of {} are not updated", log::show(uri)));
                -1
            }
        }
    })
}

unsafe extern "C" fn pres_refresh_watchers(uri: *mut str_t, event: *mut str_t, kind: c_int) -> c_int {
    entry!(pres_refresh_watchers, -1, {
        let (Some(uri), Some(event)) = (given_text!(uri), given_text!(event)) else { return -1 };
        let Some(process) = state::process() else { return -1 };
        match refreshing::refresh_watchers(process, uri, event, RefreshKind::of_number(kind)) {
            Ok(()) => 0,
            Err(why) => {
                why.log(&format!("the watchers of {} are not refreshed", log::show(uri)));
                -1
            }
        }
    })
}

/// Fills a `subs_t` from a SUBSCRIBE: strings are views of the message, but for `pres_uri` and `record_route`, which
/// are private memory that the caller frees.
unsafe extern "C" fn extract_sdialog_info(
    subs: *mut subs_t,
    msg: *mut sip_msg_t,
    max_expires: c_int,
    to_tag_made: *mut c_int,
    server_contact: str_t,
    watcher_user: str_t,
    watcher_domain: str_t,
) -> c_int {
    entry!(extract_sdialog_info, -1, {
        let Some(message) = given_message!(msg) else { return -1 };
        // SAFETY: the caller's structure, which nobody else reads during the call.
        let Some(subs) = (unsafe { subs.as_mut() }) else { return -1 };
        // SAFETY: `to_tag_made` is the caller's place for a flag, or null.
        match unsafe { fill_subscription(subs, message, max_expires, to_tag_made) } {
            Ok(()) => {
                let address = given_text!(&server_contact).unwrap_or_default();
                let is_empty = |text: &str_t| text.s.is_null() || text.len <= 0;
                subs.local_contact = calls::keep_contact(our_contact(message, address), |text| text.unbound());
                subs.watcher_user = if is_empty(&watcher_user) { subs.from_user } else { watcher_user };
                subs.watcher_domain = if is_empty(&watcher_domain) { subs.from_domain } else { watcher_domain };
                0
            }
            Err(what) => {
                crate::limited!(Error, "SUBSCRIBE from {} has no readable {what}", who(message));
                -1
            }
        }
    })
}

/// Our Contact in the dialog of a request: the module's own address with the transport, or the receiving socket.
fn our_contact(message: SipMsg<'_>, address: &[u8]) -> Vec<u8> {
    if address.is_empty() {
        return message.local_contact();
    }
    let mut contact = Vec::with_capacity(address.len() + 16);
    push_contact(&mut contact, address, Transport::named(message.protocol()));
    contact
}

/// What of a message goes into messages, documents and rows of the calling module.
struct Views<'a> {
    to: AddressHeader<'a>,
    from: AddressHeader<'a>,
    contact: &'a [u8],
    call_id: &'a [u8],
}

impl<'a> Views<'a> {
    /// Reads and checks them; fails with the name of the header that is missing or flawed.
    fn of_message(message: SipMsg<'a>) -> Result<Views<'a>, &'static str> {
        let to = message.to().ok_or("To")?;
        let from = message.from().ok_or("From")?;
        let Header::Value(contact) = message.contact() else { return Err("Contact") };
        let call_id = message.call_id().ok_or("Call-ID")?;
        UriText::of_contact(contact).map_err(|_| "Contact")?;
        Word::new(call_id).map_err(|_| "Call-ID")?;
        for (name, party) in [("To", &to), ("From", &from)] {
            let good = UriText::new(party.uri).is_ok() && (party.tag.is_empty() || Word::new(party.tag).is_ok());
            UserPart::new(party.user).map_err(|_| name)?;
            HostPart::new(party.host).map_err(|_| name)?;
            if !good {
                return Err(name);
            }
        }
        Ok(Views { to, from, contact, call_id })
    }
}

/// # Safety
/// The message is in progress.
unsafe fn fill_subscription(
    subs: &mut subs_t,
    message: SipMsg<'_>,
    max_expires: c_int,
    to_tag_made: *mut c_int,
) -> Result<(), &'static str> {
    if !message.parse_headers() {
        return Err("header block");
    }
    let limit = u32::try_from(max_expires).ok().filter(|limit| *limit > 0).unwrap_or(u32::MAX);
    // SAFETY: a registered package, or null.
    let default = unsafe { subs.event.as_ref() }.map_or(3600, |event| event.default_expires);
    subs.expires = match message.expires() {
        Header::Missing => default.min(limit),
        Header::Value(seconds) => seconds.min(limit),
        Header::Bad => return Err("Expires"),
    };
    let Views { to, from, contact, call_id } = Views::of_message(message)?;
    subs.to_user = lend(to.user).unbound();
    subs.to_domain = lend(to.host).unbound();
    subs.from_user = lend(from.user).unbound();
    subs.from_domain = lend(from.host).unbound();
    subs.from_tag = lend(from.tag).unbound();
    subs.callid = lend(call_id).unbound();
    subs.remote_cseq = message.cseq().filter(|number| *number < 1 << 31).ok_or("CSeq")?;
    subs.contact = lend(contact).unbound();
    subs.sockinfo_str = lend(message.socket()).unbound();
    subs.user_agent = lend(shown(message.user_agent())).unbound();
    subs.version = 0;
    let made = to.tag.is_empty();
    subs.to_tag = if made {
        let tag = crate::host::sl::reply_tag(message).ok_or("To tag for the reply")?;
        calls::keep_tag(tag, |text| text.unbound())
    } else {
        lend(to.tag).unbound()
    };
    // SAFETY: the caller's place for a flag, or null.
    if let Some(flag) = unsafe { to_tag_made.as_mut() } {
        *flag = c_int::from(made);
    }
    let routes = RouteSet::of_callee(message.record_routes(), routes_of).routes;
    if routes.len() > most::ROUTES {
        return Err("Record-Route");
    }
    if !routes.is_empty() {
        subs.record_route = PkgText::new(&routes).ok_or("memory")?.into_raw();
    }
    Ok(())
}

/// A text that is only shown: none where it is too long for a table, or would break a line.
fn shown(text: &[u8]) -> &[u8] {
    if text.len() < columns::LONG && is_clean(text) { text } else { b"" }
}

unsafe extern "C" fn get_sphere(uri: *mut str_t) -> *mut c_char {
    entry!(get_sphere, std::ptr::null_mut(), {
        let Some(uri) = given_text!(uri) else { return std::ptr::null_mut() };
        let Some(sphere) = calls::sphere_of(uri) else { return std::ptr::null_mut() };
        PkgText::new(&sphere).map_or(std::ptr::null_mut(), |text| text.into_raw().s)
    })
}

unsafe extern "C" fn get_presentity(
    uri: str_t,
    event: *mut pres_ev_t,
    etag: *mut str_t,
    contact: *mut str_t,
) -> *mut str_t {
    entry!(get_presentity, std::ptr::null_mut(), {
        let _ = (etag, contact);
        let Some(registry) = state::registry() else { return std::ptr::null_mut() };
        let Some(id) = registry.id_of(event) else { return std::ptr::null_mut() };
        let uri = given_text!(&uri).unwrap_or_default();
        let made = match registry.packages().get(id).has_trait(Trait::Aggregates) {
            // The package's own memory: it alone knows how it is freed (`free_presentity`).
            true => calls::package_document_of(uri, id),
            false => calls::document_of(uri, id).and_then(|document| private_str(&document)),
        };
        made.unwrap_or(std::ptr::null_mut())
    })
}

unsafe extern "C" fn free_presentity(document: *mut str_t, event: *mut pres_ev_t) {
    entry!(free_presentity, (), {
        // SAFETY: a package that is registered, or null; it is only read.
        let event = unsafe { event.as_ref() };
        let free = event.filter(|event| event.agg_nbody.is_some()).and_then(|event| event.free_body);
        // SAFETY: null, or a document of `get_presentity` that the caller gives back: its text is the package's where
        // the package puts documents together, and `private_str` has made it otherwise.
        drop(unsafe { PkgStr::from_raw(document, free) });
    })
}

unsafe extern "C" fn auth_status(_msg: *mut sip_msg_t, watcher: str_t, presentity: str_t) -> c_int {
    entry!(auth_status, -1, {
        let (watcher, presentity) = (given_text!(&watcher), given_text!(&presentity));
        calls::auth_status(watcher.unwrap_or_default(), presentity.unwrap_or_default())
    })
}

unsafe extern "C" fn handle_publish(msg: *mut sip_msg_t, sender: *mut c_char, _unused: *mut c_char) -> c_int {
    entry!(handle_publish, -1, {
        let _ = sender;
        // SAFETY: the module's message goes on as it came, without a sender.
        unsafe { module::kr_presence_handle_publish(msg, std::ptr::null()) }
    })
}

unsafe extern "C" fn handle_subscribe0(msg: *mut sip_msg_t) -> c_int {
    entry!(handle_subscribe0, -1, {
        // SAFETY: the module's message goes on as it came, without a watcher.
        unsafe { module::kr_presence_handle_subscribe(msg, std::ptr::null()) }
    })
}

unsafe extern "C" fn handle_subscribe(msg: *mut sip_msg_t, user: str_t, domain: str_t) -> c_int {
    entry!(handle_subscribe, -1, {
        // SAFETY: the module's message goes on as it came; both strings are copies that live until this returns.
        unsafe { module::kr_presence_handle_subscribe_as(msg, &user, &domain) }
    })
}

unsafe extern "C" fn update_presentity(
    event: *mut str_t,
    realm: *mut str_t,
    user: *mut str_t,
    etag: *mut str_t,
    sender: *mut str_t,
    body: *mut str_t,
    expires: c_int,
    new_t: c_int,
    replace: c_int,
) -> c_int {
    entry!(update_presentity, -1, {
        let text = |text: *mut str_t| given_text!(text).unwrap_or_default();
        let document = calls::ApiDocument {
            event: text(event),
            domain: text(realm),
            user: text(user),
            etag: text(etag),
            sender: text(sender),
            body: text(body),
            expires,
            is_new: new_t != 0,
            replace: replace != 0,
        };
        match calls::update_presentity(&document) {
            Ok(()) => 0,
            Err(why) => {
                let about = log::show(&crate::sip::uri::join(document.user, document.domain)).into_owned();
                crate::limited!(Error, "update_presentity for {about}, event {}: {why}", log::show(document.event));
                -1
            }
        }
    })
}

/// Fills the API for another module: 0, or -1 before `mod_init`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_bind_presence(api: *mut presence_api_t) -> c_int {
    entry!(kr_bind_presence, -1, {
        // SAFETY: null, or a structure that the module keeps to itself until it is filled.
        let Some(api) = (unsafe { api.as_mut() }) else {
            log!(Error, "bind_presence: no place for the functions");
            return -1;
        };
        api.add_event = Some(add_event);
        api.contains_event = Some(contains_event);
        api.search_event = Some(search_event);
        api.get_event_list = Some(get_event_list);
        api.update_watchers_status = Some(update_watchers_status);
        api.new_shtable = Some(table::new_shtable);
        api.destroy_shtable = Some(table::destroy_shtable);
        api.insert_shtable = Some(table::insert_shtable);
        api.search_shtable = Some(table::search_shtable);
        api.delete_shtable = Some(table::delete_shtable);
        api.update_shtable = Some(table::update_shtable);
        api.mem_copy_subs = Some(table::mem_copy_subs);
        api.update_db_subs_timer = Some(table::timer::update_db_subs_timer);
        api.extract_sdialog_info = Some(extract_sdialog_info);
        api.get_sphere = Some(get_sphere);
        api.get_presentity = Some(get_presentity);
        api.free_presentity = Some(free_presentity);
        api.pres_auth_status = Some(auth_status);
        api.handle_publish = Some(handle_publish);
        api.handle_subscribe0 = Some(handle_subscribe0);
        api.handle_subscribe = Some(handle_subscribe);
        api.update_presentity = Some(update_presentity);
        api.pres_refresh_watchers = Some(pres_refresh_watchers);
        0
    })
}
