//! The server: its clock stands still.
use crate::presence::config::Config;
use crate::presence::event_package::Packages;
use crate::presence::ports::server::Server;
use crate::presence::resource::UriComparison;
use crate::presence::testing::MemoryPorts;
use crate::sip::entity_tag::EntityTag;
use crate::time::Moment;

impl Server for MemoryPorts {
    fn config(&self) -> &Config {
        &self.config
    }
    fn packages(&self) -> &Packages {
        &self.packages
    }
    fn now(&self) -> Moment {
        self.now
    }
    fn uri_rule(&self) -> UriComparison {
        UriComparison { ignore_case: self.config.ignore_case, seed: self.config.hash_seed }
    }
    fn new_entity_tag(&mut self, changes: u32) -> EntityTag {
        self.next_id += 1;
        EntityTag::from(format!("a.1.2.{}.{changes}", self.next_id).as_str())
    }
    fn new_ruid(&mut self) -> Vec<u8> {
        self.next_id += 1;
        format!("pres-{}", self.next_id).into_bytes()
    }
    fn memory_used(&self) -> usize {
        self.memory
    }
}
