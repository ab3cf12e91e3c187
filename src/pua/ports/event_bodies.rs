//! The events that are published and subscribed to, and their bodies.
use crate::pua::error::RequestError;
use crate::pua::event::{Event, Processed};
use crate::pua::flags::EventFlags;
use crate::pua::request::Request;

/// The events, and what is done to their bodies.
pub trait EventBodies {
    /// The event with this flag.
    fn event(&self, flag: EventFlags) -> Option<Event>;
    /// Makes a body ready; `tuple_id` is the one the publication has, or empty.
    ///
    /// # Errors
    ///
    /// Fails when the body is not what the event takes, see [`RequestError::BadBody`].
    fn process(
        &mut self,
        event: &Event,
        request: &Request,
        version: u32,
        tuple_id: &[u8],
    ) -> Result<Processed, RequestError>;
}
