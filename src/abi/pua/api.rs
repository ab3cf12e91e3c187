//! `bind_pua`: the seven functions other modules call.
use crate::abi::c_types::{pua_api_t, str_t};
use crate::abi::pua::state;
use crate::callbacks::user_agent::{private_copy, private_list};
use crate::host::bytes::c_text;
use crate::pua::dialog::When;
use crate::pua::error::RequestError;
use crate::pua::flags::{EventFlags, SourceFlags};
use crate::pua::ports::stored_records::StoredRecords;
use crate::pua::record::{Dialog, Record, RecordField};
use crate::pua::request::{Request, RequestField, RequestOptions, RequestedExpires, Start};
use crate::pua::{dialog, queue};
use crate::{log, sys};
use std::ffi::{c_char, c_int, c_void};

/// `XMPP_SUBSCRIBE` and `XMPP_INITIAL_SUBS`: the second is stored as the first.
const XMPP_SUBSCRIBE: i32 = 1 << 4;
const XMPP_INITIAL: i32 = 1 << 5;

/// What `send_publish` returns when there is no publication with the entity tag given.
const UNKNOWN_ETAG: c_int = 418;
/// `ERR_PUBLISH_NO_BODY`
const NO_BODY: c_int = -10;

fn result_of(done: Result<(), RequestError>, what: &str, uri: &[u8]) -> c_int {
    let Err(why) = done else { return 0 };
    crate::limited!(Error, "{what} for {}: {why}", crate::host::log::show(uri));
    match why {
        RequestError::UnknownEtag => UNKNOWN_ETAG,
        RequestError::NoBody => NO_BODY,
        _ => -1,
    }
}

unsafe extern "C" fn send_publish(info: *mut sys::publ_info) -> c_int {
    entry!(send_publish, -1, {
        // SAFETY: null, or a request that the module fills before the call, and changes or frees after it.
        let (Some(info), Some(mut context)) = (unsafe { info.as_ref() }, state::context()) else { return -1 };
        let text = |text: *const str_t| given_text!(text).unwrap_or_default();
        // SAFETY: null, or the `str` of the body that goes with the request.
        let has_body = unsafe { info.body.as_ref() }.is_some_and(|body| !body.s.is_null());
        let (uri, request) = {
            let uri = text(info.pres_uri);
            let options = RequestOptions {
                event: EventFlags::from_word(info.event),
                flag: SourceFlags::from_word(info.source_flag),
                callback_flag: SourceFlags::from_word(info.source_flag),
                expires: RequestedExpires::of_number(info.expires.into()),
                start: if info.flag & sys::INSERT_TYPE as c_int != 0 { Start::Anew } else { Start::AsFound },
                has_body,
                cb_param: info.cb_param as usize,
                ..RequestOptions::default()
            };
            let parts = [
                (RequestField::PresUri, uri),
                (RequestField::Id, text(&info.id)),
                (RequestField::Etag, text(info.etag)),
                (RequestField::OutboundProxy, text(info.outbound_proxy)),
                (RequestField::ExtraHeaders, text(info.extra_headers)),
                (RequestField::ContentType, text(&info.content_type)),
                (RequestField::Body, text(info.body)),
            ];
            (uri, Request::new(options, &parts))
        };
        if uri.is_empty() {
            crate::limited!(Error, "send_publish: no presentity URI");
            return -1;
        }
        result_of(queue::submit(&mut context, &request), "PUBLISH", uri)
    })
}

unsafe extern "C" fn send_subscribe(info: *mut sys::subs_info) -> c_int {
    entry!(send_subscribe, -1, {
        // SAFETY: null, or a request that the module fills before the call, and changes or frees after it.
        let (Some(info), Some(mut context)) = (unsafe { info.as_ref() }, state::context()) else { return -1 };
        let stored_flag = if info.source_flag & XMPP_INITIAL != 0 { XMPP_SUBSCRIBE } else { info.source_flag };
        let options = RequestOptions {
            event: EventFlags::from_word(info.event),
            flag: SourceFlags::from_word(stored_flag),
            callback_flag: SourceFlags::from_word(info.source_flag),
            expires: RequestedExpires::of_number(info.expires.into()),
            start: if info.flag & sys::INSERT_TYPE as c_int != 0 { Start::Anew } else { Start::AsFound },
            cb_param: info.cb_param as usize,
            ..RequestOptions::default()
        };
        let when = if info.internal_update_flag != 0 { When::IfNew } else { When::Always };
        let text = |text: *const str_t| given_text!(text).unwrap_or_default();
        let (uri, watcher, request) = {
            let (uri, watcher) = (text(info.pres_uri), text(info.watcher_uri));
            let parts = [
                (RequestField::PresUri, uri),
                (RequestField::WatcherUri, watcher),
                (RequestField::Id, text(&info.id)),
                (RequestField::Contact, text(info.contact)),
                (RequestField::RemoteTarget, text(info.remote_target)),
                (RequestField::OutboundProxy, text(info.outbound_proxy)),
                (RequestField::ExtraHeaders, text(info.extra_headers)),
            ];
            (uri, watcher, Request::new(options, &parts))
        };
        if uri.is_empty() || watcher.is_empty() {
            crate::limited!(Error, "send_subscribe: no presentity or watcher URI");
            return -1;
        }
        result_of(dialog::submit(&mut context, &request, when), "SUBSCRIBE", uri)
    })
}

unsafe extern "C" fn register_puacb(types: c_int, function: sys::pua_cb, _param: *mut c_void) -> c_int {
    entry!(register_puacb, -1, {
        match (function, state::process()) {
            (Some(function), Some(process)) if types >= 0 => {
                process.registry.add_answer(SourceFlags::from_word(types), function);
                0
            }
            _ => {
                crate::limited!(Error, "register_puacb: types {types}, or no function");
                -1
            }
        }
    })
}

unsafe extern "C" fn add_event(
    flag: c_int,
    name: *mut c_char,
    content_type: *mut c_char,
    body: sys::evs_process_body_t,
) -> c_int {
    entry!(add_event, -1, {
        // SAFETY: NUL-terminated strings of the call in progress, or null.
        let (name, content_type) = (unsafe { c_text(name) }, unsafe { c_text(content_type) });
        let (Some(process), false) = (state::process(), name.is_empty()) else { return -1 };
        process.registry.add_event(EventFlags::from_word(flag), name, content_type, body);
        0
    })
}

/// The stored dialog a caller's structure names.
///
/// # Safety
/// `entity` is null or a structure of the call in progress.
unsafe fn stored_dialog(entity: *mut sys::ua_pres) -> Result<Option<Record>, RequestError> {
    // SAFETY: the caller hands in null or its structure, which nobody changes until its call returns.
    let (Some(entity), Some(mut context)) = (unsafe { entity.as_ref() }, state::context()) else { return Ok(None) };
    let text = |text: *const str_t| given_text!(text).unwrap_or_default();
    let dialog = Dialog {
        pres_uri: text(entity.pres_uri),
        watcher_uri: text(entity.watcher_uri),
        call_id: text(&entity.call_id),
        from_tag: text(&entity.from_tag),
        to_tag: text(&entity.to_tag),
    };
    context.find_dialog(&dialog)
}

/// -1: no dialog of ours, 0: an established one, 1: one whose SUBSCRIBE is not answered yet.
unsafe extern "C" fn is_dialog(entity: *mut sys::ua_pres) -> c_int {
    entry!(is_dialog, -1, {
        // SAFETY: null, or a dialog that the module has described for this question.
        match unsafe { stored_dialog(entity) } {
            Ok(Some(record)) if record.is_temporary() => 1,
            Ok(Some(_)) => 0,
            Ok(None) => -1,
            Err(why) => {
                crate::limited!(Error, "is_dialog: {why}");
                -1
            }
        }
    })
}

/// 0, with the id of the dialog's record in private memory, or null when there is no such dialog; -1 on an error.
unsafe extern "C" fn get_record_id(entity: *mut sys::ua_pres, id: *mut *mut str_t) -> c_int {
    entry!(get_record_id, -1, {
        if id.is_null() {
            return -1;
        }
        // SAFETY: null, or the description of a dialog, which the module frees itself after the answer.
        let found = unsafe { stored_dialog(entity) };
        let (made, result) = match found {
            Ok(None) => (std::ptr::null_mut(), 0),
            Ok(Some(record)) => {
                let made = private_copy(record.get(RecordField::Id));
                (made, if made.is_null() { -1 } else { 0 })
            }
            Err(why) => {
                crate::limited!(Error, "get_record_id: {why}");
                (std::ptr::null_mut(), -1)
            }
        };
        // SAFETY: the caller's place for the result, which is not null.
        unsafe { id.write(made) };
        result
    })
}

/// The presentity URIs of the records with this id, sorted, as a list in private memory.
unsafe extern "C" fn get_subs_list(id: *mut str_t) -> *mut sys::list_entry {
    entry!(get_subs_list, std::ptr::null_mut(), {
        let Some(context) = state::context() else { return std::ptr::null_mut() };
        let id = given_text!(id).unwrap_or_default();
        match context.uris_with_id(id) {
            Ok(uris) => private_list(&uris),
            Err(why) => {
                crate::limited!(Error, "get_subs_list: {why}");
                std::ptr::null_mut()
            }
        }
    })
}

/// Fills the API for another module: 0, or -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_bind_pua(api: *mut pua_api_t) -> c_int {
    entry!(kr_bind_pua, -1, {
        // SAFETY: null, or a structure that the module keeps to itself until it is filled.
        let Some(api) = (unsafe { api.as_mut() }) else {
            log!(Error, "bind_pua: no structure to fill");
            return -1;
        };
        api.send_subscribe = Some(send_subscribe);
        api.send_publish = Some(send_publish);
        api.register_puacb = Some(register_puacb);
        api.is_dialog = Some(is_dialog);
        api.get_record_id = Some(get_record_id);
        api.add_event = Some(add_event);
        api.get_subs_list = Some(get_subs_list);
        0
    })
}
