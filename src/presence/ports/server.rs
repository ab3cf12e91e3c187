//! What every decision needs of its server: settings, packages, clock, names that are new.
use crate::presence::config::Config;
use crate::presence::event_package::Packages;
use crate::presence::resource::UriComparison;
use crate::sip::entity_tag::EntityTag;
use crate::time::{MicroMoment, Moment};

/// The server itself.
pub trait Server {
    /// The settings.
    fn config(&self) -> &Config;
    /// The event packages.
    fn packages(&self) -> &Packages;
    /// What time it is.
    fn now(&self) -> Moment;
    /// The same to the microsecond.
    fn now_in_micros(&self) -> MicroMoment {
        self.now().into()
    }
    /// How URIs are compared.
    fn uri_rule(&self) -> UriComparison;
    /// A new entity tag; `changes` counts the publication's earlier ones.
    fn new_entity_tag(&mut self, changes: u32) -> EntityTag;
    /// A new record id.
    fn new_ruid(&mut self) -> Vec<u8>;
    /// How much of the shared memory is in use, in percent.
    fn memory_used(&self) -> usize;
}
