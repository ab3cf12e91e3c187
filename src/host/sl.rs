//! Replies (`modules/sl/sl.h`): through the transaction when the script made one, stateless otherwise.
use super::bytes;
use super::msg::SipMsg;
use crate::sys;

/// Binds sl; call in `mod_init`.
pub fn load() -> bool {
    // SAFETY: fills the shim's own table.
    unsafe { sys::kr_sl_load() >= 0 }
}

/// Sends a reply with extra header lines, each ending in CRLF.
pub fn reply(msg: SipMsg<'_>, code: u16, reason: &str, headers: &[u8]) -> bool {
    // SAFETY: a live message; the host copies the headers.
    if !headers.is_empty() && unsafe { sys::kr_add_reply_header(msg.raw(), &mut bytes::lend(headers)) } != 0 {
        return false;
    }
    // SAFETY: a live message; the host copies the reason.
    unsafe { sys::kr_sl_reply(msg.raw(), i32::from(code), &mut bytes::lend(reason.as_bytes())) >= 0 }
}

/// The To tag that replies to this request carry.
pub fn reply_tag(msg: SipMsg<'_>) -> Option<Vec<u8>> {
    let mut tag = bytes::null();
    // SAFETY: a live message, and a place for the result.
    let is_made = unsafe { sys::kr_sl_totag(msg.raw(), &mut tag) } >= 0;
    // SAFETY: the tag is a view of a buffer of tm or sl, copied at once.
    is_made.then(|| unsafe { bytes::view(&tag) }.to_vec())
}
