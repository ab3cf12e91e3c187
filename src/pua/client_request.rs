//! A PUBLISH or SUBSCRIBE as it goes to tm.

/// A message to send.
#[derive(Debug)]
pub struct ClientRequest<'a> {
    /// PUBLISH or SUBSCRIBE.
    pub method: &'static str,
    /// The request URI.
    pub target: &'a [u8],
    /// To.
    pub to: &'a [u8],
    /// From.
    pub from: &'a [u8],
    /// Where it is sent; empty: to the target.
    pub proxy: &'a [u8],
    /// Call-ID.
    pub call_id: &'a [u8],
    /// From tag.
    pub from_tag: &'a [u8],
    /// To tag; empty outside of a dialog.
    pub to_tag: &'a [u8],
    /// Route set, comma separated.
    pub routes: &'a [u8],
    /// CSeq.
    pub cseq: u32,
    /// Header lines.
    pub headers: Vec<u8>,
    /// The body.
    pub body: Option<&'a [u8]>,
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
