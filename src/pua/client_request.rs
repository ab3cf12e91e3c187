//! A PUBLISH or SUBSCRIBE as it goes to tm.
use super::request::RequestKind;

/// A message to send.
#[derive(Debug)]
pub struct ClientRequest<'a> {
    /// What it is about, by which it is a PUBLISH or a SUBSCRIBE.
    pub kind: RequestKind,
    /// The dialog it is in, or may make.
    pub dialog: ClientDialog<'a>,
    /// Where it is sent; empty: to the target.
    pub proxy: &'a [u8],
    /// Header lines.
    pub headers: Vec<u8>,
    /// The body.
    pub body: Option<&'a [u8]>,
}

/// What a request has of its dialog (RFC 3261 12.2.1.1), or begins one with.
#[derive(Debug, Clone, Copy)]
pub struct ClientDialog<'a> {
    /// Call-ID.
    pub call_id: &'a [u8],
    /// From.
    pub from: &'a [u8],
    /// From tag.
    pub from_tag: &'a [u8],
    /// To.
    pub to: &'a [u8],
    /// To tag; empty outside of a dialog.
    pub to_tag: &'a [u8],
    /// The request URI.
    pub target: &'a [u8],
    /// Route set, comma separated; empty outside of a dialog.
    pub routes: &'a [u8],
    /// CSeq.
    pub cseq: u32,
}

impl<'a> ClientDialog<'a> {
    /// The CSeq of a first request, as tm counts them.
    pub const FIRST_CSEQ: u32 = 10;

    /// The beginning of a request outside of a dialog.
    pub fn outside(ids: &'a RequestIds, from: &'a [u8], to: &'a [u8], target: &'a [u8]) -> ClientDialog<'a> {
        ClientDialog {
            call_id: &ids.call_id,
            from,
            from_tag: &ids.from_tag,
            to,
            to_tag: b"",
            target,
            routes: b"",
            cseq: ClientDialog::FIRST_CSEQ,
        }
    }
}

/// What came of sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendOutcome {
    /// An answer will come.
    UnderWay,
    /// The script dropped it (`drop` in `event_route[tm:local-request]`): no answer will come.
    Dropped,
}

/// What identifies a request outside of a dialog, and the dialog that it may make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestIds {
    /// Call-ID.
    pub call_id: Vec<u8>,
    /// The tag of From.
    pub from_tag: Vec<u8>,
}
