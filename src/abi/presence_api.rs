//! `bind_presence`: the functions other modules call (`modules/presence/bind_presence.h`).
use super::c_types::{event_t, pres_ev_t, presence_api_t, str_t};
use super::{presence_module, state};
use crate::host::bytes::{lend, view, view_ptr};
use crate::host::log;
use crate::log;
use crate::sys;
use std::ffi::c_int;

unsafe extern "C" fn add_event(event: *mut pres_ev_t) -> c_int {
    entry!(add_event, -1, {
        // SAFETY: the calling module's own structure.
        let (Some(registry), Some(event)) = (state::registry(), unsafe { event.as_ref() }) else { return -1 };
        // SAFETY: as above.
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
        // SAFETY: strings and structures of the caller; the host's parser fills `parsed`.
        unsafe {
            let (Some(registry), Some(name)) = (state::registry(), view_ptr(name)) else { return std::ptr::null_mut() };
            if !parsed.is_null() && sys::kr_event_parser(name.as_ptr() as *mut _, name.len() as i32, parsed) < 0 {
                return std::ptr::null_mut();
            }
            registry.packages().named(name).map_or(std::ptr::null_mut(), |id| registry.raw(id))
        }
    })
}

unsafe extern "C" fn search_event(event: *mut event_t) -> *mut pres_ev_t {
    entry!(search_event, std::ptr::null_mut(), {
        // SAFETY: a parsed event of the caller; its name and parameters are one text.
        unsafe {
            let (Some(registry), Some(event)) = (state::registry(), event.as_ref()) else { return std::ptr::null_mut() };
            let name = event_text(event);
            registry.packages().named(&name).map_or(std::ptr::null_mut(), |id| registry.raw(id))
        }
    })
}

/// A parsed event as text again.
///
/// # Safety
/// `event` was filled by the host's parser.
unsafe fn event_text(event: &event_t) -> Vec<u8> {
    // SAFETY: the caller vouches for name and list.
    unsafe {
        let mut text = view(&event.name).to_vec();
        let mut param = event.params.list;
        while let Some(one) = param.as_ref() {
            text.push(b';');
            text.extend_from_slice(view(&one.name));
            if !view(&one.body).is_empty() {
                text.push(b'=');
                text.extend_from_slice(view(&one.body));
            }
            param = one.next;
        }
        text
    }
}

unsafe extern "C" fn get_event_list(list: *mut *mut str_t) -> c_int {
    entry!(get_event_list, -1, {
        let Some(registry) = state::registry() else { return -1 };
        if list.is_null() {
            return -1;
        }
        // SAFETY: a place of the caller for a `str` that it frees.
        match unsafe { private_str(&registry.packages().allow_events(), false) } {
            Some(text) => {
                // SAFETY: checked above.
                unsafe { *list = text };
                0
            }
            None => -1,
        }
    })
}

/// A `str` in private memory with its own text, as callers of the API free it; `libc_text` puts the text into libc's memory,
/// which is where XML libraries put theirs.
///
/// # Safety
/// The caller frees both.
unsafe fn private_str(bytes: &[u8], libc_text: bool) -> Option<*mut str_t> {
    // SAFETY: sizes are those of what is written.
    unsafe {
        let out = sys::kr_pkg_malloc(size_of::<str_t>()) as *mut str_t;
        let size = bytes.len() + 1;
        let text = if libc_text { libc::malloc(size) } else { sys::kr_pkg_malloc(size) } as *mut u8;
        if out.is_null() || text.is_null() {
            if !out.is_null() {
                sys::kr_pkg_free(out as *mut _);
            }
            log!(Error, "no more private memory");
            return None;
        }
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), text, bytes.len());
        *text.add(bytes.len()) = 0;
        *out = str_t { s: text as *mut _, len: bytes.len() as i32 };
        Some(out)
    }
}

unsafe extern "C" fn update_watchers_status(uri: *mut str_t, event: *mut pres_ev_t, _rules: *mut str_t) -> c_int {
    entry!(update_watchers_status, -1, {
        // SAFETY: strings and structures of the caller.
        let (Some(uri), Some(event)) = (unsafe { view_ptr(uri) }, unsafe { event.as_ref() }) else { return -1 };
        // SAFETY: a registered package's name.
        match presence_module::refresh_watchers(uri, unsafe { view(&event.name) }, 0) {
            Ok(()) => 0,
            Err(why) => {
                log!(Error, "cannot update the watchers of {}: {why}", log::show(uri));
                -1
            }
        }
    })
}

unsafe extern "C" fn pres_refresh_watchers(uri: *mut str_t, event: *mut str_t, kind: c_int) -> c_int {
    entry!(pres_refresh_watchers, -1, {
        // SAFETY: strings of the caller.
        let (Some(uri), Some(event)) = (unsafe { view_ptr(uri) }, unsafe { view_ptr(event) }) else { return -1 };
        match presence_module::refresh_watchers(uri, event, kind) {
            Ok(()) => 0,
            Err(why) => {
                log!(Error, "cannot refresh the watchers of {}: {why}", log::show(uri));
                -1
            }
        }
    })
}

/// Fills the API for another module: 0, or -1 before `mod_init`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_bind_presence(api: *mut presence_api_t) -> c_int {
    entry!(kr_bind_presence, -1, {
        // SAFETY: the caller's own structure.
        let Some(api) = (unsafe { api.as_mut() }) else {
            log!(Error, "bind_presence: no place for the functions");
            return -1;
        };
        api.add_event = Some(add_event);
        api.contains_event = Some(contains_event);
        api.search_event = Some(search_event);
        api.get_event_list = Some(get_event_list);
        api.update_watchers_status = Some(update_watchers_status);
        api.pres_refresh_watchers = Some(pres_refresh_watchers);
        let _ = lend(b"");
        0
    })
}
