//! Requests of our own (`modules/tm/uac.h`, `modules/tm/dlg.h`).
use super::bytes::{lend, null, view};
use super::msg::SipMsg;
use super::shm::CallbackParam;
use crate::sys;
use std::marker::PhantomData;

/// Whether the transaction of a request has its final reply; without a transaction that is not known, and `false`.
pub fn is_answered(msg: SipMsg<'_>) -> bool {
    // SAFETY: tm looks for the transaction of this message, and at its status.
    unsafe { sys::kr_tm_is_answered(msg.raw()) != 0 }
}

/// Binds tm; call in `mod_init`.
pub fn load() -> bool {
    // SAFETY: called at start, before the process forks: tm's functions are put into a table of the shim.
    unsafe { sys::kr_tm_load() >= 0 }
}

/// A request of our own.
pub struct OwnRequest<'a> {
    /// The method.
    pub method: &'a str,
    /// The dialog it is in, or may make.
    pub dialog: OwnDialog<'a>,
    /// Header lines, each ending in CRLF.
    pub headers: &'a [u8],
    /// The body; `None` sends none.
    pub body: Option<&'a [u8]>,
    /// The way it takes.
    pub way: RequestWay<'a>,
}

/// What a request has of its dialog (RFC 3261 12.2.1.1), or begins one with.
pub struct OwnDialog<'a> {
    /// Call-ID.
    pub call_id: &'a [u8],
    /// Our tag.
    pub local_tag: &'a [u8],
    /// The peer's tag; empty outside of a dialog.
    pub remote_tag: &'a [u8],
    /// Our URI (From).
    pub local_uri: &'a [u8],
    /// The peer's URI (To).
    pub remote_uri: &'a [u8],
    /// The peer's Contact: where the request goes.
    pub remote_target: &'a [u8],
    /// The route set, comma separated; empty for none.
    pub routes: &'a [u8],
    /// The CSeq number the request carries.
    pub cseq: u32,
}

/// The way of a request, beside what its dialog says.
#[derive(Clone, Copy)]
pub enum RequestWay<'a> {
    /// The host chooses the socket; the route set or the remote target says where it goes.
    ByDialog,
    /// The request is sent from this socket (`udp:host:port`); where that is empty, the host chooses.
    FromSocket(&'a [u8]),
    /// The request goes through this proxy (a SIP URI).
    Proxy(&'a [u8]),
}

/// A completed transaction of ours: its dialog and the answer.
pub struct Completed<'a> {
    cell: *mut sys::cell,
    dialog: DialogLines<'a>,
    /// What it has come to.
    pub status: FinalStatus,
    /// The reply, or the host's mark for "none came".
    pub reply: TmReply<'a>,
    /// Without tm, and not sent: the system's number for why, and the size.
    unsent: Option<(i32, usize)>,
}

/// What a request of ours has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinalStatus {
    /// The peer has answered with this status.
    Answered(u16),
    /// No answer has come in time.
    Silence,
    /// The request could not be sent by this machine.
    Unsent,
}

/// What a client makes of a request that nobody answers, and of one that it cannot send (RFC 3261 8.1.3.1).
const TIMED_OUT: u16 = 408;
const TRANSPORT_FAILED: u16 = 503;

impl FinalStatus {
    /// What tm says of a transaction that has ended: without a reply, tm has made the code up.
    pub(super) fn of_tm(params: &sys::tmcb_params) -> FinalStatus {
        match u16::try_from(params.code).unwrap_or_default() {
            code if !is_silence(params.rpl) => FinalStatus::Answered(code),
            TRANSPORT_FAILED => FinalStatus::Unsent,
            _ => FinalStatus::Silence,
        }
    }

    /// The status of the answer, if one has come.
    pub fn answer(self) -> Option<u16> {
        match self {
            FinalStatus::Answered(code) => Some(code),
            FinalStatus::Silence | FinalStatus::Unsent => None,
        }
    }

    /// The status code that the request counts as.
    pub fn code(self) -> u16 {
        match self {
            FinalStatus::Answered(code) => code,
            FinalStatus::Silence => TIMED_OUT,
            FinalStatus::Unsent => TRANSPORT_FAILED,
        }
    }
}

/// The lines that name the dialog of a request: they are read when they are asked for.
#[derive(Clone, Copy)]
enum DialogLines<'a> {
    /// From, To, Call-ID and CSeq, as tm keeps them.
    OfTm([&'a [u8]; 4]),
    /// The same, by where each begins and ends in the head of the request.
    InHead(&'a [u8], [(u32, u32); 4]),
}

impl<'a> DialogLines<'a> {
    /// From, To, Call-ID and CSeq.
    fn all(self) -> [&'a [u8]; 4] {
        match self {
            DialogLines::OfTm(lines) => lines,
            DialogLines::InHead(head, places) => {
                places.map(|(begin, end)| head.get(begin as usize..end as usize).unwrap_or_default())
            }
        }
    }
}

/// What a request without tm has come to.
#[derive(Clone, Copy)]
pub enum TransactionOutcome<'a> {
    /// The request was answered: the message and its status.
    Answered(SipMsg<'a>, u16),
    /// The request was answered with success, in a datagram that no message was made of.
    Taken(u16),
    /// No answer came in time.
    Silence,
    /// The request could not be sent by this machine.
    Unsent {
        /// The system's number for why; below 0 where there is none.
        errno: i32,
        /// The size of the request.
        bytes: usize,
    },
}

impl<'a> Completed<'a> {
    /// A request that had no transaction of tm: its head, where From, To, Call-ID and CSeq begin and end in it, and
    /// what it has come to.
    pub fn without_tm(head: &'a [u8], places: [(u32, u32); 4], outcome: TransactionOutcome<'a>) -> Completed<'a> {
        let (reply, status) = match outcome {
            TransactionOutcome::Answered(reply, code) => (TmReply::of(reply), FinalStatus::Answered(code)),
            TransactionOutcome::Taken(code) => (TmReply::none(), FinalStatus::Answered(code)),
            TransactionOutcome::Silence => (TmReply::none(), FinalStatus::Silence),
            TransactionOutcome::Unsent { .. } => (TmReply::none(), FinalStatus::Unsent),
        };
        let unsent = match outcome {
            TransactionOutcome::Unsent { errno, bytes } => Some((errno, bytes)),
            _ => None,
        };
        let dialog = DialogLines::InHead(head, places);
        Completed { cell: std::ptr::null_mut(), dialog, status, reply, unsent }
    }

    /// Why the request was not sent, as far as it is known here.
    pub fn why_unsent(&self) -> String {
        match self.unsent {
            Some((errno, bytes)) if errno > 0 => {
                format!("{} ({bytes} bytes)", std::io::Error::from_raw_os_error(errno))
            }
            Some((_, bytes)) => format!("the host could not send it ({bytes} bytes)"),
            None => "tm could not send it".into(),
        }
    }

    /// The transaction; null where it was none of tm's.
    pub(super) fn cell(&self) -> *mut sys::cell {
        self.cell
    }

    /// Our tag (From).
    pub fn local_tag(&self) -> &'a [u8] {
        tag_of(self.dialog.all()[0])
    }

    /// The peer's tag (To).
    pub fn remote_tag(&self) -> &'a [u8] {
        tag_of(self.dialog.all()[1])
    }

    /// The URI that the request was about (To).
    pub fn peer(&self) -> Option<&'a [u8]> {
        let value = self.dialog.all()[1].splitn(2, |c| *c == b':').nth(1)?;
        super::msg::uri_of_address(value)
    }

    /// Call-ID of the request.
    pub fn call_id(&self) -> &'a [u8] {
        self.dialog.all()[2].splitn(2, |c| *c == b':').nth(1).unwrap_or(&[]).trim_ascii()
    }

    /// The CSeq of the request; 0 when it cannot be read.
    pub fn cseq(&self) -> u32 {
        let digits = self.dialog.all()[3].iter().skip_while(|c| !c.is_ascii_digit()).take_while(|c| c.is_ascii_digit());
        digits.fold(0, |number: u32, c| number.wrapping_mul(10).wrapping_add(u32::from(c - b'0')))
    }
}

/// The callback type of tm.
pub type TmCallback = unsafe extern "C" fn(*mut sys::cell, i32, *mut sys::tmcb_params);

/// The request could not be sent: no memory, a target or route that cannot be parsed or resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotSent;

/// What came of a request that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TmOutcome {
    /// The callback will come.
    UnderWay,
    /// The script dropped it in `event_route[tm:local-request]`: no callback will come.
    Dropped,
}

/// What identifies a request outside of a dialog.
pub struct NewIds {
    /// Call-ID.
    pub call_id: Vec<u8>,
    /// The tag of From.
    pub from_tag: Vec<u8>,
}

/// Ids as tm makes them for a request to `target`.
pub fn new_ids(target: &[u8]) -> NewIds {
    let (mut call_id, mut tag) = (null(), null());
    // SAFETY: tm reads the target, and fills two places.
    unsafe { sys::kr_tm_new_ids(&mut call_id, &mut tag, &mut *lend(target)) };
    // SAFETY: both are views of tm's own buffers, which the next call overwrites: they are copied at once.
    let copy = |text| unsafe { view(text) }.to_vec();
    NewIds { call_id: copy(&call_id), from_tag: copy(&tag) }
}

/// Sends a request; `callback` is called once when it is completed, with `carried`.
///
/// # Errors
///
/// Fails when the route set cannot be read, or when tm cannot send the request. The callback is not called then, and
/// `carried` is freed.
pub fn send<T>(
    request: &OwnRequest<'_>,
    callback: Option<TmCallback>,
    carried: CallbackParam<T>,
) -> Result<TmOutcome, NotSent> {
    fault_point!("carried");
    let own = &request.dialog;
    let mut dialog = sys::dlg::default();
    dialog.id.call_id = lend(own.call_id).unbound();
    dialog.id.loc_tag = lend(own.local_tag).unbound();
    dialog.id.rem_tag = lend(own.remote_tag).unbound();
    dialog.loc_seq.value = own.cseq.wrapping_sub(1);
    dialog.loc_seq.is_set = 1;
    dialog.loc_uri = lend(own.local_uri).unbound();
    dialog.rem_uri = lend(own.remote_uri).unbound();
    dialog.rem_target = lend(own.remote_target).unbound();
    dialog.state = sys::dlg_state_DLG_CONFIRMED;
    let mut method = lend(request.method.as_bytes());
    let mut headers = lend(request.headers);
    let mut body = request.body.map(lend);
    let (start, length) = (own.routes.as_ptr() as *mut _, own.routes.len() as i32);
    // SAFETY: the parser reads `length` bytes, and makes a list of views of them.
    if length > 0 && unsafe { sys::kr_parse_rr_body(start, length, &mut dialog.route_set) } < 0 {
        return Err(NotSent);
    }
    match request.way {
        RequestWay::FromSocket(socket) if !socket.is_empty() => dialog.send_sock = super::sockets::find(socket),
        RequestWay::Proxy(proxy) => dialog.dst_uri = lend(proxy).unbound(),
        RequestWay::ByDialog | RequestWay::FromSocket(_) => {}
    }
    let mut uac = sys::uac_req {
        method: &mut *method,
        headers: &mut *headers,
        body: body.as_mut().map_or(std::ptr::null_mut(), |body| &mut **body),
        dialog: &mut dialog,
        cb_flags: if callback.is_some() { sys::TMCB_LOCAL_COMPLETED as _ } else { 0 },
        cb: callback,
        cbp: carried.word() as *mut _,
        ..Default::default()
    };
    // SAFETY: every `str` borrows from `request` or from this frame, and tm copies what it keeps.
    let sent = unsafe { sys::kr_tm_request_within(&mut uac) };
    if !dialog.route_set.is_null() {
        // SAFETY: the list was made by the parser above, and tm has copied it.
        unsafe { sys::kr_free_rr(dialog.route_set) };
    }
    match sent {
        0 => Ok(TmOutcome::Dropped),
        sent if sent < 0 => Err(NotSent),
        _ => {
            carried.hand_over();
            Ok(TmOutcome::UnderWay)
        }
    }
}

/// The tag parameter of a From or To header line.
fn tag_of(header: &[u8]) -> &[u8] {
    let Some(at) = memchr::memmem::rfind(header, b"tag=") else { return &[] };
    let tag = &header[at + 4..];
    let end = tag.iter().position(|c| matches!(c, b';' | b'>' | b'\r' | b'\n' | b' ' | b'\t')).unwrap_or(tag.len());
    &tag[..end]
}

/// What a completed transaction says, read from the transaction itself, so that a NOTIFY under way needs no memory of
/// ours.
///
/// # Safety
/// The arguments are those of a tm callback in progress, which was given to [`send`] with a
/// `CallbackParam<T>`.
pub unsafe fn completed<'a, T>(
    cell: *mut sys::cell,
    params: *mut sys::tmcb_params,
) -> Option<(Completed<'a>, CallbackParam<T>)> {
    if cell.is_null() || params.is_null() {
        return None;
    }
    // SAFETY: tm's own structure, which it keeps alive during the callback.
    let params = unsafe { &*params };
    let (mut from, mut to, mut call_id, mut cseq) = (null(), null(), null(), null());
    // SAFETY: the transaction of the callback, and four places.
    unsafe { sys::kr_tm_cell_ids(cell, &mut from, &mut to, &mut call_id, &mut cseq) };
    // SAFETY: tm keeps the transaction, of which these are views, and the reply alive during the callback.
    let lines = [&from, &to, &call_id, &cseq].map(|text| unsafe { view(text) });
    // SAFETY: null, or the place of the word that the transaction carries.
    let word = unsafe { params.param.as_ref() }.map_or(0, |word| *word as usize);
    let reply = TmReply { raw: params.rpl, life: PhantomData };
    let status = FinalStatus::of_tm(params);
    let done = Completed { cell, dialog: DialogLines::OfTm(lines), status, reply, unsent: None };
    // SAFETY: the word that `send` was given, of this type by the caller's word; tm calls back once.
    Some((done, unsafe { CallbackParam::handed_back(word) }))
}

/// The reply of a callback in progress, or the host's mark for "none came". It is lent for the time of the callback.
#[derive(Clone, Copy)]
pub struct TmReply<'a> {
    raw: *mut sys::sip_msg,
    life: PhantomData<&'a sys::sip_msg>,
}

impl<'a> TmReply<'a> {
    /// The host's mark for "no reply came" (`FAKED_REPLY`).
    pub fn none() -> TmReply<'a> {
        TmReply { raw: usize::MAX as *mut sys::sip_msg, life: PhantomData }
    }

    fn of(message: SipMsg<'a>) -> TmReply<'a> {
        TmReply { raw: message.raw(), life: PhantomData }
    }

    /// Whether the transaction ended without a reply message.
    fn is_missing(self) -> bool {
        is_silence(self.raw)
    }

    /// The message; `None` when none came.
    pub fn message(self) -> Option<SipMsg<'a>> {
        // SAFETY: a reply is made of a message that lives for `'a`, by `of` and by `completed`; the host's marks are
        // left out.
        if self.is_missing() { None } else { unsafe { SipMsg::new(self.raw) } }
    }

    /// For callbacks of other modules: the message, or the host's mark.
    pub fn raw(self) -> *mut sys::sip_msg {
        self.raw
    }
}

/// Whether this is the host's mark for "no reply came".
fn is_silence(reply: *const sys::sip_msg) -> bool {
    reply.is_null() || reply as isize == -1
}

/// The answer to a request of ours as scripts see it: the message that came, or one that says that none did.
pub struct ShownResponse<'a> {
    raw: *mut sys::sip_msg,
    is_made: bool,
    life: PhantomData<&'a sys::sip_msg>,
}

impl<'a> ShownResponse<'a> {
    /// The response of a completed transaction. Scripts see each 408 alike, whether the peer has sent it or a timer
    /// has.
    pub fn of(done: &Completed<'a>) -> ShownResponse<'a> {
        let code = done.status.code();
        if !done.reply.is_missing() && code != TIMED_OUT {
            return ShownResponse { raw: done.reply.raw, is_made: false, life: PhantomData };
        }
        // The phrase is the one that scripts know.
        let mut text = format!("SIP/2.0 {code} TIMEOUT\r\nVia: SIP/2.0/UDP 127.0.0.1\r\n").into_bytes();
        for header in done.dialog.all() {
            text.extend_from_slice(header.trim_ascii());
            text.extend_from_slice(if header.starts_with(b"CSeq") { b" NOTIFY\r\n" } else { b"\r\n" });
        }
        text.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        // SAFETY: the host copies the text into a message of its own, or gives null.
        let raw = unsafe { sys::kr_make_reply(text.as_ptr() as *const _, text.len() as i32) };
        let shown = ShownResponse { raw, is_made: !raw.is_null(), life: PhantomData };
        fault_point!("response");
        shown
    }

    /// For the host; null where no message could be made.
    pub fn raw(&self) -> *mut sys::sip_msg {
        self.raw
    }
}

impl Drop for ShownResponse<'_> {
    fn drop(&mut self) {
        if self.is_made {
            // SAFETY: made by `kr_make_reply` and given back once.
            unsafe { sys::kr_free_reply(self.raw) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_that_tm_has_made_up_is_no_answer() {
        let mut reply = sys::sip_msg::default();
        let come = &raw mut reply;
        for (code, rpl, status, counts_as) in [
            (200, come, FinalStatus::Answered(200), 200),
            (408, come, FinalStatus::Answered(408), 408),
            (503, come, FinalStatus::Answered(503), 503),
            (408, TmReply::none().raw, FinalStatus::Silence, 408),
            (503, TmReply::none().raw, FinalStatus::Unsent, 503),
        ] {
            let params = sys::tmcb_params { code, rpl, ..Default::default() };
            let read = FinalStatus::of_tm(&params);
            assert_eq!((read, read.code()), (status, counts_as), "{code}");
            assert_eq!(read.answer(), (rpl == come).then_some(counts_as), "{code}");
        }
    }
}
