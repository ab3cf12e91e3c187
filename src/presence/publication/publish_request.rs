//! A PUBLISH taken apart (RFC 3903 4, 11).
use super::row_limits::Brought;
use crate::presence::expires::Expires;
use crate::sip::entity_tag::EntityTag;

/// A PUBLISH taken apart.
#[derive(Debug, Clone, Copy, Default)]
pub struct PublishRequest<'a> {
    /// The Event header.
    pub event: Option<&'a [u8]>,
    /// User part of the request URI.
    pub user: &'a [u8],
    /// Host part of the request URI.
    pub domain: &'a [u8],
    /// SIP-If-Match.
    pub etag: Option<EntityTag<&'a [u8]>>,
    /// The Expires header.
    pub expires: Option<Expires>,
    /// Content-Type.
    pub content_type: Option<&'a [u8]>,
    /// What the body was encoded with; `None`: it is as it reads.
    pub content_coding: Option<&'a [u8]>,
    /// The body; `None` for an empty one.
    pub body: Option<&'a [u8]>,
    /// The Contact that is not to be notified of this change; empty for nobody.
    pub sender: &'a [u8],
    /// `$xavp(cfg=>priority)`.
    pub priority: Option<i32>,
}

impl<'a> PublishRequest<'a> {
    /// What it brings into a row.
    pub(crate) fn brought(&self) -> Brought<'a> {
        let body_length = self.body.map_or(0, <[u8]>::len);
        Brought { user: self.user, domain: self.domain, sender: self.sender, body_length }
    }
}
