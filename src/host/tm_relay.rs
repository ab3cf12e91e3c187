//! Requests of others that are sent on to another server (`modules/tm`).
use super::bytes::lend;
use super::msg::SipMsg;
use super::tm::{FinalStatus, TmCallback};
use crate::sys;
use crate::time::Millis;

/// What becomes of a request that was sent on and fails.
#[derive(Clone, Copy)]
pub struct OnFailure {
    /// A server that has not answered within this time has failed.
    pub timeout: Millis,
    /// Called then, with what [`failed`] reads.
    pub callback: TmCallback,
    /// The word that the callback finds at first.
    pub word: usize,
}

/// Sends a request on to a SIP URI with one more header line, which ends in CRLF. `false`: it could not be sent on, and
/// was not answered.
pub fn relay(msg: SipMsg<'_>, to: &[u8], header: &[u8], failure: OnFailure) -> bool {
    let OnFailure { timeout, callback, word } = failure;
    let timeout = u32::try_from(timeout.0).unwrap_or(u32::MAX);
    // SAFETY: tm makes its transaction of the message that its type says is in hand; the host copies the strings, and
    // the callback lives for ever.
    unsafe { sys::kr_tm_relay(msg.raw(), &mut *lend(to), &mut *lend(header), timeout, Some(callback), word as _) >= 0 }
}

/// Sends a request that has failed on to another SIP URI.
pub fn send_on(request: SipMsg<'_>, to: &[u8]) -> bool {
    // SAFETY: the request of the callback in progress; the host copies the URI.
    unsafe { sys::kr_tm_send_on(request.raw(), &mut *lend(to)) >= 0 }
}

/// A request that was sent on and has failed.
pub struct Failed<'a> {
    request: SipMsg<'a>,
    status: FinalStatus,
    word: &'a mut usize,
}

impl<'a> Failed<'a> {
    /// The request.
    pub fn request(&self) -> SipMsg<'a> {
        self.request
    }

    /// What it has come to.
    pub fn status(&self) -> FinalStatus {
        self.status
    }

    /// The word of this request, which the next callback finds as this one leaves it.
    pub fn word(&mut self) -> &mut usize {
        self.word
    }
}

/// What the callback of [`relay`] is called for.
///
/// # Safety
/// `params` are those of a callback in progress that was given to [`relay`].
pub unsafe fn failed<'a>(params: *mut sys::tmcb_params) -> Option<Failed<'a>> {
    // SAFETY: tm keeps the parameters during the callback, and nobody else uses them.
    let params = unsafe { params.as_mut()? };
    // SAFETY: the word behind `param` is the callback's own; it is as long as a pointer, and holds what `kr_tm_relay`
    // and this callback have put there.
    let word = unsafe { (params.param as *mut usize).as_mut()? };
    // SAFETY: tm keeps the request during the callback.
    let request = unsafe { SipMsg::new(params.req)? };
    Some(Failed { request, status: FinalStatus::of_tm(params), word })
}
