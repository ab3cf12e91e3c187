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
    // SAFETY: the host copies headers and reason during the calls.
    unsafe {
        if !headers.is_empty() && sys::kr_add_reply_header(msg.raw(), &mut bytes::lend(headers)) != 0 {
            return false;
        }
        sys::kr_sl_reply(msg.raw(), i32::from(code), &mut bytes::lend(reason.as_bytes())) >= 0
    }
}

/// The To tag that replies to this request carry.
pub fn reply_tag(msg: SipMsg<'_>) -> Option<Vec<u8>> {
    let mut tag = bytes::null();
    // SAFETY: the tag is a view of a buffer of tm or sl, copied at once.
    unsafe { (sys::kr_sl_totag(msg.raw(), &mut tag) >= 0).then(|| bytes::view(&tag).to_vec()) }
}
