//! Ends are kept in a list.
use crate::presence::history::ended::{Cause, Ended};
use crate::presence::ports::recorder::Recorder;
use crate::presence::resource::Resource;
use crate::presence::subscription::Subscription;
use crate::presence::subscription::field::Field;
use crate::presence::testing::MemoryPorts;

impl Recorder for MemoryPorts {
    fn note_end(&mut self, subscription: &Subscription, cause: Cause) {
        let call_id = String::from_utf8_lossy(subscription.get(Field::CallId)).into_owned();
        self.ended.push((call_id, cause));
        self.over.push(subscription.clone());
    }
    fn latest_end(&mut self, _watcher: &[u8], _resource: &Resource) -> Option<Ended> {
        None
    }
}
