//! The ports of the server itself and of the request in hand, on Kamailio.
mod authorizations;
mod cluster;
mod event_packages;
mod notifications;
mod publications;
mod recorder;
mod subscriptions;

use crate::common::metrics;
use crate::host::{clock, shm, sl};
use crate::limited;
use crate::presence::config::Config;
use crate::presence::error::Failure;
use crate::presence::event_package::{PackageId, Packages};
use crate::presence::ports::server::Server;
use crate::presence::ports::transaction::ServerTransaction;
use crate::presence::resource::UriComparison;
use crate::server::context::Context;
use crate::sip::entity_tag::EntityTag;
use crate::sip::event::EventHeader;
use crate::time::{MicroMoment, Moment};

impl Server for Context<'_> {
    fn config(&self) -> &Config {
        self.config
    }
    fn packages(&self) -> &Packages {
        self.packages
    }
    fn now(&self) -> Moment {
        self.came_at.unwrap_or_else(clock::now)
    }
    fn now_in_micros(&self) -> MicroMoment {
        clock::micro_moment()
    }
    fn uri_rule(&self) -> UriComparison {
        self.shared.tables.rule()
    }
    fn new_entity_tag(&mut self, changes: u32) -> EntityTag {
        self.process.ids.borrow_mut().entity_tag(changes)
    }
    fn new_ruid(&mut self) -> Vec<u8> {
        self.process.ids.borrow_mut().ruid()
    }
    fn memory_used(&self) -> usize {
        100 - (shm::available() * 100).checked_div(shm::size()).unwrap_or(100).min(100)
    }
}

impl ServerTransaction for Context<'_> {
    fn note_package(&mut self, package: PackageId) {
        self.package = Some(package);
    }
    fn reply(&mut self, code: u16, reason: &str, headers: &[u8]) {
        if let Some(message) = self.message {
            let named = || message.event().and_then(EventHeader::parse).and_then(|header| self.packages.find(&header));
            let event = self.package.or_else(named);
            match message.is_publish() {
                true => metrics::publish_answered(event, code),
                false => metrics::subscribe_answered(event, code),
            }
            if !sl::reply(message, code, reason, headers) {
                limited!(Error, "cannot send the reply {code} {reason}");
            }
        }
    }
    fn reply_tag(&mut self) -> Result<Vec<u8>, Failure> {
        self.message.and_then(sl::reply_tag).ok_or_else(|| Failure::Internal("no To tag for the reply".into()))
    }
}
