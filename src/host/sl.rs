//! Replies (`modules/sl/sl.h`): through the transaction when the script made one, stateless otherwise.
use super::bytes;
use super::msg::SipMsg;
use crate::sys;

/// Binds sl; call in `mod_init`.
pub fn load() -> bool {
    // SAFETY: called at start, before the process forks: sl's functions are put into a table of the shim.
    unsafe { sys::kr_sl_load() >= 0 }
}

/// Sends a reply with extra header lines, each ending in CRLF.
pub fn reply(msg: SipMsg<'_>, code: u16, reason: &str, headers: &[u8]) -> bool {
    // SAFETY: the message is the one in hand by its type; the host copies the headers into memory of its own.
    if !headers.is_empty() && unsafe { sys::kr_add_reply_header(msg.raw(), &mut *bytes::lend(headers)) } != 0 {
        return false;
    }
    // SAFETY: sl writes the reply into a buffer of its own, and reads message and reason for that alone.
    unsafe { sys::kr_sl_reply(msg.raw(), i32::from(code), &mut *bytes::lend(reason.as_bytes())) >= 0 }
}

/// The To tag that replies to this request carry.
pub fn reply_tag(msg: SipMsg<'_>) -> Option<Vec<u8>> {
    let mut tag = bytes::null();
    // SAFETY: sl computes the tag from the message, and lends the text that it wrote.
    let is_made = unsafe { sys::kr_sl_totag(msg.raw(), &mut tag) } >= 0;
    // SAFETY: the tag is a view of a buffer of tm or sl, copied at once.
    is_made.then(|| unsafe { bytes::view(&tag) }.to_vec())
}
