//! What can go wrong while a request is handled, and the reply each becomes.
use super::authorization::NoVerdict;
use super::expires::TooBrief;
use super::subscription::field::BadField;
use crate::sip::checked::Flaw;
use crate::time::Seconds;

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The request is answered with this status.
    #[error("{code} {reason}: {why}")]
    Reject {
        /// The status code.
        code: u16,
        /// The reason phrase.
        reason: &'static str,
        /// Header lines of the reply, each ending in CRLF.
        headers: Vec<u8>,
        /// For the log: what was wrong.
        why: String,
    },
    /// An event package refuses the request, which it may have answered.
    #[error("refused by the event package: {0}")]
    Refused(&'static str),
    /// A failure of this server; the state is unchanged.
    #[error("{0}")]
    Internal(String),
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a store did not do what it was asked. Its state is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No shared memory.
    #[error("no more shared memory")]
    NoMemory,
    /// The database cannot be reached or cannot write: what was to be written is kept.
    #[error("the database failed")]
    Database,
    /// A string that no subscription can have.
    #[error(transparent)]
    BadField(#[from] BadField),
    /// A conflict: other transactions were in the way each time it was tried.
    #[error("the database was busy each time")]
    Busy,
    /// The database does not take this row: another one may be written.
    #[error("the database refuses the row")]
    Refused,
    /// What the presentity's rules say is not known.
    #[error(transparent)]
    Rules(#[from] NoVerdict),
    /// There is no database, and this needs one.
    #[error("no db_url is set: presence works as a library only")]
    NoDatabase,
}

impl From<NoVerdict> for Failure {
    fn from(why: NoVerdict) -> Self {
        Failure::Store(why.into())
    }
}

impl From<BadField> for Failure {
    fn from(bad: BadField) -> Self {
        Failure::flawed(bad.field.name(), bad.flaw)
    }
}

impl From<TooBrief> for Failure {
    fn from(TooBrief(shortest): TooBrief) -> Failure {
        Failure::too_brief(shortest)
    }
}

impl Failure {
    fn reject(code: u16, reason: &'static str, why: impl Into<String>) -> Self {
        Failure::Reject { code, reason, headers: Vec::new(), why: why.into() }
    }
    /// 400: the request cannot be understood.
    pub fn bad_request(why: impl Into<String>) -> Self {
        Self::reject(400, "Bad request", why)
    }
    /// A string of the request that is not taken (see `sip::checked`): 400, or 414 for a request URI that is too long
    /// (RFC 3261 21.4.1, 21.4.12).
    pub fn flawed(what: &str, flaw: Flaw) -> Self {
        match (what, flaw) {
            ("request URI", Flaw::TooLong(_)) => Self::reject(414, "Request-URI Too Long", format!("{what} {flaw}")),
            (_, Flaw::TooLong(_)) => Self::reject(400, "Header Field Too Long", format!("{what} {flaw}")),
            _ => Self::bad_request(format!("{what} {flaw}")),
        }
    }
    /// 400 with the words stock uses for a PUBLISH without body and entity tag.
    pub fn invalid_request(why: impl Into<String>) -> Self {
        Self::reject(400, "Invalid request", why)
    }
    /// 412 (RFC 3903 11.2.1).
    pub fn conditional_failed(why: impl Into<String>) -> Self {
        Self::reject(412, "Conditional request failed", why)
    }
    /// Whether it is a 412.
    pub fn is_conditional(&self) -> bool {
        matches!(self, Failure::Reject { code: 412, .. })
    }
    /// 403: more than the operator allows one user.
    pub fn limit(why: impl Into<String>) -> Self {
        Self::reject(403, "Limit exceeded", why)
    }
    /// 403: the request says that a node has sent it on, and none has.
    pub fn no_node(why: impl Into<String>) -> Self {
        Self::reject(403, "Forbidden", why)
    }
    /// 413: the document is larger than allowed (RFC 3903 6 step 4).
    pub fn too_large(limit: usize) -> Self {
        Self::reject(413, "Request Entity Too Large", format!("the body is longer than {limit} bytes"))
    }
    /// 413: the database driver has no room for the document in a statement.
    pub fn too_large_for_statement(length: usize, longest: usize) -> Self {
        let why = format!(
            "the body of {length} bytes does not fit into a statement of the database driver, {longest} do for \
            certain:  raise sql_buffer_size"
        );
        Self::reject(413, "Request Entity Too Large", why)
    }
    /// 503 with how long after it another try makes sense (RFC 3261 21.5.4).
    pub fn overloaded(retry_after: Seconds, why: impl Into<String>) -> Self {
        let headers = format!("Retry-After: {}\r\n", retry_after.0).into_bytes();
        Failure::Reject { code: 503, reason: "Service Unavailable", headers, why: why.into() }
    }
    /// 415 with the type that would have been taken.
    pub fn unsupported_media(accept: &[u8], why: impl Into<String>) -> Self {
        let mut headers = b"Accept: ".to_vec();
        headers.extend_from_slice(accept);
        headers.extend_from_slice(b"\r\n");
        Failure::Reject { code: 415, reason: "Unsupported media type", headers, why: why.into() }
    }
    /// 415 with the encoding that would have been taken (RFC 3261 8.2.3).
    pub fn unsupported_coding(why: impl Into<String>) -> Self {
        let headers = b"Accept-Encoding: identity\r\n".to_vec();
        Failure::Reject { code: 415, reason: "Unsupported media type", headers, why: why.into() }
    }
    /// 423 with the shortest interval allowed (RFC 3261 20.23).
    pub fn too_brief(minimum: Seconds) -> Self {
        let headers = format!("Min-Expires: {}\r\n", minimum.0).into_bytes();
        Failure::Reject { code: 423, reason: "Interval Too Brief", headers, why: "Expires below min_expires".into() }
    }
    /// 481: no such subscription (RFC 6665 4.2.1.1).
    pub fn no_subscription(why: impl Into<String>) -> Self {
        Self::reject(481, "Subscription does not exist", why)
    }
    /// 482: another request has made the dialog that this one would make (RFC 3261 8.2.2.2).
    pub fn merged(why: impl Into<String>) -> Self {
        Self::reject(482, "Merged Request", why)
    }
    /// 489 with the packages there are (RFC 6665 8.3.2).
    pub fn bad_event(allowed: &[u8], why: impl Into<String>) -> Self {
        let mut headers = b"Allow-Events: ".to_vec();
        headers.extend_from_slice(allowed);
        headers.extend_from_slice(b"\r\n");
        Failure::Reject { code: 489, reason: "Bad Event", headers, why: why.into() }
    }
}
