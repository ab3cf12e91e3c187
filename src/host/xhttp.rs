//! Answers to HTTP requests (`modules/xhttp/api.h`).
use super::bytes::lend;
use super::msg::SipMsg;
use crate::sys;
use std::sync::atomic::{AtomicBool, Ordering};

static LOADED: AtomicBool = AtomicBool::new(false);

/// Binds xhttp where that has not been done; whether it is loaded. Call when all modules are.
pub fn load() -> bool {
    if LOADED.load(Ordering::Relaxed) {
        return true;
    }
    // SAFETY: xhttp's functions are put into a table that this process alone reads, through this file.
    let loaded = unsafe { sys::kr_xhttp_load() >= 0 };
    LOADED.store(loaded, Ordering::Relaxed);
    loaded
}

/// Whether a message came over HTTP: no other can be answered so.
pub fn is_http(msg: SipMsg<'_>) -> bool {
    // SAFETY: the first line of the message has been parsed, which is all that is looked at.
    unsafe { sys::kr_is_http(msg.raw()) != 0 }
}

/// Answers the HTTP request in hand with 200 and this body. Call after [`load`].
pub fn reply(msg: SipMsg<'_>, content_type: &str, body: &[u8]) -> bool {
    let (mut phrase, mut kind, mut body) =
        (lend(b"OK").unbound(), lend(content_type.as_bytes()).unbound(), lend(body).unbound());
    // SAFETY: the host copies the strings during the call.
    unsafe { sys::kr_xhttp_reply(msg.raw(), 200, &mut phrase, &mut kind, &mut body) >= 0 }
}
