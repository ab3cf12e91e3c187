//! Datagrams before the host makes messages of them (`SREV_NET_DGRAM_IN` in `core/events.h`): who would miss the
//! message, and what an answer is to the host's own statistics.
use super::bytes::{null, view};
use super::direct::Destination;
use crate::sys;
use std::ffi::{CStr, c_int};

/// What the host calls for each datagram; below 0 the datagram is taken.
pub type DatagramCallback = unsafe extern "C" fn(*mut sys::sr_event_param) -> c_int;

/// A datagram in the hand of the host.
#[derive(Clone, Copy)]
pub struct Datagram<'a> {
    event: *mut sys::sr_event_param,
    text: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// The datagram of an event.
    ///
    /// # Safety
    /// `event` is the argument of a [`DatagramCallback`] in progress, and `'a` ends with it.
    pub unsafe fn new(event: *mut sys::sr_event_param) -> Option<Datagram<'a>> {
        let mut text = null();
        // SAFETY: an event of the host, by the caller's word, and a place for the result.
        unsafe { sys::kr_datagram_text(event, &mut text) };
        // SAFETY: the host's buffer stays where it is during the call.
        (text.len > 0).then(|| Datagram { event, text: unsafe { view(&text) } })
    }

    /// The datagram's bytes.
    pub fn text(self) -> &'a [u8] {
        self.text
    }

    /// Whether it comes from where a request went.
    pub fn is_from(self, destination: &Destination) -> bool {
        // SAFETY: the event is in progress; two addresses are compared.
        unsafe { sys::kr_datagram_is_from(self.event, destination.raw()) != 0 }
    }
}

/// Finds what in the configuration would miss the message of an answer; known once the configuration was read.
pub fn onlooker() -> Option<String> {
    // SAFETY: the shim takes nothing of ours. It reads settings and lists of the host, which are there from its start
    // on.
    let name = unsafe { sys::kr_datagram_onlooker() };
    // SAFETY: the name is a constant of the shim.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned())
}

/// Whether the `reply_route` of the configuration checks each answer, and does nothing with a sane one.
pub fn needs_sane_answers() -> bool {
    // SAFETY: the shim takes nothing of ours, and the host does not change its route lists after its start.
    (unsafe { sys::kr_reply_checks() }) == sys::kr_reply_checks_KR_REPLY_CHECKS_SANITY
}

/// Whether something that may come and go would miss it now.
pub fn is_watched() -> bool {
    // SAFETY: as in `onlooker`.
    unsafe { sys::kr_datagram_is_watched() != 0 }
}

/// Has the host show each datagram to `own`, and finds its statistics of replies; call before the processes fork.
/// `false`: another module is shown them.
pub fn take(own: DatagramCallback) -> bool {
    // SAFETY: the shim looks up counters of the host by their names.
    unsafe { sys::kr_datagram_find_counters() };
    // SAFETY: the function lives as long as the module.
    unsafe { sys::kr_datagram_take(Some(own)) >= 0 }
}

/// Counts an answer with success in the host's statistics.
pub fn count() {
    // SAFETY: the shim adds to counters of the host, which live as long as the process.
    unsafe { sys::kr_datagram_count() }
}
