//! Why a request of the user agent was not carried out.
use crate::pua::flags::EventFlags;

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No event has this flag.
    #[error("no event with flag {}", .0.word())]
    UnknownEvent(EventFlags),
    /// There is no publication with the entity tag the caller named.
    #[error("no publication with this entity tag")]
    UnknownEtag,
    /// The first PUBLISH of a publication needs a body.
    #[error("a new publication needs a body")]
    NoBody,
    /// The body cannot be published.
    #[error("the body cannot be published: {0}")]
    BadBody(String),
    /// A string has a byte that would end its header line, or a header line is none.
    #[error("{0} has bytes that do not belong there")]
    BadText(&'static str),
    /// Too many requests wait for one publication or subscription.
    #[error("{0} requests wait for this already")]
    Crowded(usize),
    /// tm could not send it.
    #[error("the request could not be sent")]
    NotSent,
    /// A store failed, or there is no memory.
    #[error("{0}")]
    Store(String),
}
