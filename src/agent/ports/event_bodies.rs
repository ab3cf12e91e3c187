//! Bodies made ready, by this agent or by the module that has registered their event.
use crate::agent::bodies;
use crate::agent::context::AgentContext;
use crate::pua::error::RequestError;
use crate::pua::event::{Event, Processed, Processing};
use crate::pua::flags::EventFlags;
use crate::pua::ports::event_bodies::EventBodies;
use crate::pua::request::{Request, RequestField};

impl EventBodies for AgentContext<'_> {
    fn event(&self, flag: EventFlags) -> Option<Event> {
        self.process.registry.event(flag)
    }
    fn process(
        &mut self,
        event: &Event,
        request: &Request,
        version: u32,
        tuple_id: &[u8],
    ) -> Result<Processed, RequestError> {
        let body = request.get(RequestField::Body);
        match event.processing {
            Processing::AsIs => Ok(Processed { body: body.to_vec(), tuple_id: tuple_id.to_vec() }),
            Processing::TupleId => bodies::with_tuple_id(body, tuple_id, || self.process.ids.borrow_mut().tuple_id()),
            Processing::Version(element) => bodies::with_version(body, element, version),
            Processing::Foreign(index) => self.process.registry.process_foreign(index, request, version, tuple_id),
        }
    }
}
