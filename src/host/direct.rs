//! Requests that go out without a transaction of tm: where they go, their Via, their answers; and what of the host's
//! configuration would not see them.
use super::bytes::{lend, null, slice, view};
use super::msg::SipMsg;
use super::pkg::PkgBlock;
use super::sockets;
use crate::shm_safe::ShmSafe;
use crate::sys;
use crate::time::Millis;
use std::cell::RefCell;
use std::ffi::{c_uint, c_void};
use std::net::{IpAddr, SocketAddr};

/// Finds tm's settings; call once tm is bound. `false`: this tm does not show them.
pub fn load() -> bool {
    // SAFETY: called at start, before the process forks: the shim keeps what it finds of the host's settings.
    unsafe { sys::kr_direct_load() >= 0 }
}

/// What in the configuration sees each request that tm makes, and none that goes out without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Onlooker {
    /// `event_route[tm:local-request]`.
    LocalRequestRoute,
    /// The same for scripts in other languages (`event_callback` of tm).
    LocalRequestCallback,
    /// `onsend_route`, in any language.
    OnSendRoute,
    /// A `reply_route` that looks for the transaction of an answer.
    ReplyRoute,
    /// A `reply_route` of which that cannot be said: one in another language, or with a `switch`.
    UnreadableReplyRoute,
    /// The core's list of addresses that did not answer (`use_dst_blocklist`).
    Blocklist,
    /// Another module, by tm's callback for local requests.
    Module,
}

impl Onlooker {
    /// The first there is. What modules register may come at any time; the rest is known once the configuration was
    /// read.
    pub fn find() -> Option<Onlooker> {
        // SAFETY: the host looks for a route by a name that ends with a NUL.
        if unsafe { sys::kr_event_route(c"tm:local-request".as_ptr()) } >= 0 {
            return Some(Onlooker::LocalRequestRoute);
        }
        // SAFETY: the shim's pointers were found by `load`; a list of tm is looked at.
        if unsafe { sys::kr_direct_has_local_request_callback() } != 0 {
            return Some(Onlooker::LocalRequestCallback);
        }
        // SAFETY: the routes of the configuration are looked at.
        if unsafe { sys::kr_direct_has_onsend_route() } != 0 {
            return Some(Onlooker::OnSendRoute);
        }
        // SAFETY: looks at route lists that the host does not change after its start.
        match unsafe { sys::kr_reply_route() } {
            sys::kr_reply_route_KR_REPLY_ROUTE_ASKS_TM => Some(Onlooker::ReplyRoute),
            sys::kr_reply_route_KR_REPLY_ROUTE_UNREADABLE => Some(Onlooker::UnreadableReplyRoute),
            _ => Onlooker::passing(),
        }
    }

    /// Finds an onlooker that may come and go while the server runs.
    pub fn passing() -> Option<Onlooker> {
        // SAFETY: the shim's pointers were found by `load`; a list of the core is looked at.
        if unsafe { sys::kr_direct_has_local_request_watchers() } != 0 {
            return Some(Onlooker::Module);
        }
        // SAFETY: a setting of the core is looked at.
        (unsafe { sys::kr_direct_has_blocklist() } != 0).then_some(Onlooker::Blocklist)
    }

    /// Whether it may go while the server runs.
    pub fn is_passing(self) -> bool {
        matches!(self, Onlooker::Module | Onlooker::Blocklist)
    }

    /// The name in the log.
    pub fn name(self) -> &'static str {
        match self {
            Onlooker::LocalRequestRoute => "event_route[tm:local-request]",
            Onlooker::LocalRequestCallback => "event_callback of tm",
            Onlooker::OnSendRoute => "onsend_route",
            Onlooker::ReplyRoute => "reply_route, which asks for tm's transactions,",
            Onlooker::UnreadableReplyRoute => "reply_route, which may ask for tm's transactions,",
            Onlooker::Blocklist => "use_dst_blocklist",
            Onlooker::Module => "a module that watches tm's requests",
        }
    }
}

/// Looks who of the configuration may look on while tm sends; call once it was read, before the processes fork.
pub fn note_configuration() {
    // SAFETY: looks at the host's routes and settings, and fills the shim's own pointers.
    unsafe { sys::kr_direct_note_configuration() }
}

/// Whether a script may look on while tm sends a request; unknown counts as yes.
pub fn is_sending_seen() -> bool {
    // SAFETY: the shim's pointers were found by `note_configuration`, or none is followed; lists are looked at.
    unsafe { sys::kr_direct_sending_is_seen() != 0 }
}

/// The parameters of tm for its timers.
#[derive(Debug, Clone, Copy)]
pub struct TimerSettings {
    /// T1.
    pub retr_timer1: Millis,
    /// T2.
    pub retr_timer2: Millis,
    /// How long a request may go unanswered; `max_noninv_lifetime` where that is less.
    pub fr_timer: Millis,
}

/// tm's timers, as they are now.
pub fn timer_settings() -> TimerSettings {
    let (mut t1, mut t2, mut timeout) = (0, 0, 0);
    // SAFETY: the shim's pointers were found by `load`; three numbers are written.
    unsafe { sys::kr_direct_timers(&mut t1, &mut t2, &mut timeout) };
    let [retr_timer1, retr_timer2, fr_timer] = [t1, t2, timeout].map(|millis| Millis(millis.into()));
    TimerSettings { retr_timer1, retr_timer2, fr_timer }
}

/// Where a request goes, and from which socket.
#[derive(Clone)]
pub struct Destination(sys::kr_destination);

// SAFETY: the host's structure leads to a socket of its own, which it keeps in shared memory or made before it forked.
unsafe impl ShmSafe for Destination {}

// SAFETY: the socket it names was made before the processes forked, lies at the same address in all of them and is
// never changed; the rest is plain numbers.
unsafe impl Send for Destination {}

impl Destination {
    /// One that differs from others in its port alone.
    #[cfg(test)]
    pub fn of_port(port: u16) -> Destination {
        // SAFETY: a structure of plain numbers and a pointer to nothing.
        let mut destination: sys::kr_destination = unsafe { std::mem::zeroed() };
        destination.to.sin6_port = port;
        Destination(destination)
    }

    /// An address and the host's number of the transport; `socket` is empty where the host chooses. `None`: the host
    /// finds no way, or there is no connection.
    pub fn of(target: SocketAddr, transport: u8, socket: &[u8]) -> Option<Destination> {
        let socket = if socket.is_empty() { std::ptr::null_mut() } else { sockets::find(socket) };
        let mut found = sys::kr_destination::default();
        let (v4, v6);
        let address: &[u8] = match target.ip() {
            IpAddr::V4(address) => {
                v4 = address.octets();
                &v4
            }
            IpAddr::V6(address) => {
                v6 = address.octets();
                &v6
            }
        };
        let (start, len) = (address.as_ptr(), address.len() as c_uint);
        // SAFETY: the host reads the address, which has that length, and fills the structure.
        let done = unsafe { sys::kr_direct_destination(start, len, target.port(), transport, socket, &mut found) };
        (done >= 0).then_some(Destination(found))
    }

    /// The host's structure.
    pub(super) fn raw(&self) -> &sys::kr_destination {
        &self.0
    }

    /// Whether several requests to it may go out in one write.
    pub fn joins(&self) -> bool {
        // SAFETY: the structure is read, and the host's list of those who look at messages.
        unsafe { sys::kr_direct_joins(&self.0) != 0 }
    }

    /// Whether requests to the other one take the same connection.
    pub fn is_same(&self, other: &Destination) -> bool {
        // SAFETY: the shim only reads the two structures, which are borrowed until it returns.
        unsafe { sys::kr_direct_is_same(&self.0, &other.0) != 0 }
    }

    /// Gives a request to the host.
    ///
    /// # Errors
    ///
    /// Fails when this machine could not send it: with the system's number for why, below 0 where there is none.
    pub fn send(&self, request: &[u8]) -> Result<(), i32> {
        // SAFETY: the host reads the structure and the bytes during the call.
        match unsafe { sys::kr_direct_send(&self.0, request.as_ptr() as *mut _, request.len() as i32) } {
            0 => Ok(()),
            errno => Err(errno),
        }
    }

    /// Whether a reply comes from where the request went.
    pub fn sent(&self, reply: SipMsg<'_>) -> bool {
        // SAFETY: the address the reply came from, a part of it, is compared with one of ours.
        unsafe { sys::kr_direct_is_from(reply.raw(), &self.0) != 0 }
    }

    /// Calls `work` with the Via line for requests that go there, before and behind the branch.
    pub fn with_via<T>(&self, work: impl FnOnce(&[u8], &[u8]) -> T) -> Option<T> {
        let key = (self.0.socket as usize, self.0.proto as u8);
        VIAS.with(|vias| {
            let mut vias = vias.borrow_mut();
            let known = vias.iter().position(|via| via.key == key);
            let at = match known {
                Some(at) => at,
                None => {
                    sockets::remember(&mut vias, Via { key, line: self.via()? });
                    vias.len() - 1
                }
            };
            let ViaLine { before, behind } = &vias[at].line;
            Some(work(before, behind))
        })
    }

    /// The Via line of a request that goes there.
    fn via(&self) -> Option<ViaLine> {
        let mut len: c_uint = 0;
        // SAFETY: the host makes the line of a destination and a branch, which it reads.
        let made = unsafe { sys::kr_direct_via(&self.0, &mut *lend(PLACE), &mut len) };
        // SAFETY: null, or private memory that is left to us; it is given back at the end.
        let _owner = unsafe { PkgBlock::from_raw(made) }?;
        // SAFETY: the line has this length.
        let line = unsafe { slice(made as *const u8, len as usize) };
        let at = memchr::memmem::find(line, PLACE)?;
        Some(ViaLine { before: line[..at].to_vec(), behind: line[at + PLACE.len()..].to_vec() })
    }
}

/// Where the branch of a Via line comes.
const PLACE: &[u8] = b"z9hG4bK-place-of-the-branch";

struct Via {
    /// The socket and the transport.
    key: (usize, u8),
    line: ViaLine,
}

/// A Via line, but for its branch.
struct ViaLine {
    before: Vec<u8>,
    behind: Vec<u8>,
}

thread_local! {
    /// The Via lines of the sockets this process has sent from.
    static VIAS: RefCell<Vec<Via>> = const { RefCell::new(Vec::new()) };
}

/// Has the host give answers to `own` before it asks tm and others; call before the processes fork.
///
/// # Safety
/// `own` is the module's own function for answers: it may be called with each message that the host has received.
pub unsafe fn take_answers_first(own: unsafe extern "C" fn(*mut sys::sip_msg) -> std::ffi::c_int) {
    // SAFETY: the caller vouches for the function; the host's list is only sorted.
    unsafe { sys::kr_direct_answers_first(Some(own)) }
}

/// The User-Agent line of the host's own requests; empty where there is none.
pub fn signature() -> &'static [u8] {
    let mut line = null();
    // SAFETY: the shim writes to `line` alone, which lives until it returns.
    unsafe { sys::kr_direct_signature(&mut line) };
    // SAFETY: the line is part of the configuration, which stays for the life of the server.
    unsafe { view(&line) }
}

/// The branch of a reply's first Via, and its status.
pub fn branch_and_status(reply: SipMsg<'_>) -> Option<(&[u8], u16)> {
    let (mut branch, mut status) = (null(), 0);
    // SAFETY: the host has parsed Via and the first line of the reply; both places are set where there is a branch.
    let found = unsafe { sys::kr_direct_branch(reply.raw(), &mut branch, &mut status) } >= 0;
    // SAFETY: the branch is a part of the message.
    found.then(|| (unsafe { view(&branch) }, status))
}

/// Whether a reply answers a NOTIFY, by its CSeq.
pub fn answers_notify(reply: SipMsg<'_>) -> bool {
    // SAFETY: the host parses the reply's CSeq, and its method is compared.
    unsafe { sys::kr_direct_is_of_notify(reply.raw()) != 0 }
}

/// A function that one of the host's timer processes calls; what it returns says when the next call comes: see
/// [`AGAIN`].
pub type TimerFunction = unsafe extern "C" fn(sys::ticks_t, *mut sys::timer_ln, *mut c_void) -> sys::ticks_t;

/// The call comes again after the same time.
pub const AGAIN: sys::ticks_t = sys::ticks_t::MAX;

/// The timers of the host that a function is called by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimerKind {
    /// The fast ones, whose process nothing may hold up.
    Fast,
    /// The slow ones.
    Slow,
}

/// Calls `f` once in `period` in the process of these timers; call before the processes fork.
pub fn call_every(period: Millis, timers: TimerKind, f: TimerFunction) -> bool {
    let millis = u32::try_from(period.0).unwrap_or(u32::MAX);
    // SAFETY: the function lives as long as the module; the host keeps its timer.
    unsafe { sys::kr_direct_timer(Some(f), millis, i32::from(timers == TimerKind::Fast)) >= 0 }
}
