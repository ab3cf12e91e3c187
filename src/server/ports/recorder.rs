//! The ports of the past: bodies, NOTIFYs and ends that operators ask for.
use crate::common::metrics;
use crate::host::clock;
use crate::presence::history::ended::{Cause, Ended};
use crate::presence::history::remembered::{BodyDigest, ChangeKind, SentNotify};
use crate::presence::ports::recorder::Recorder;
use crate::presence::ports::server::Server;
use crate::presence::resource::Resource;
use crate::presence::subscription::Subscription;
use crate::presence::subscription::dialog::DialogId;
use crate::server::context::Context;
use crate::server::history::{NewChange, dialog_mark};

impl Recorder for Context<'_> {
    fn note_composed(&mut self, resource: &Resource, body: BodyDigest) {
        let change = NewChange { body, ..NewChange::of_kind(resource, ChangeKind::Composed) };
        self.shared.history.note_change(&change, clock::micro_tick());
    }
    fn last_notify(&mut self, resource: &Resource, dialog: DialogId<'_>) -> Option<SentNotify> {
        self.shared.history.last_notify(&resource.uri, dialog_mark(dialog))
    }
    fn note_end(&mut self, subscription: &Subscription, cause: Cause) {
        metrics::subscription_ended(subscription.state.event, cause);
        let dialog = subscription.dialog();
        let hash = self.shared.tables.dialog_hash(dialog);
        self.shared.ended_dialogs.note(hash, subscription.state.remote_cseq, clock::now());
        if self.shared.history.is_on() {
            let past = self.shared.tables.notify_history(dialog);
            self.shared.history.note_end(subscription, cause, past, clock::micro_tick());
        }
    }
    fn latest_end(&mut self, watcher: &[u8], resource: &Resource) -> Option<Ended> {
        let rule = self.uri_rule();
        let wanted = |ended: &Ended| {
            ended.event == resource.event && ended.watcher == watcher && rule.same(&ended.presentity, &resource.uri)
        };
        self.shared.history.latest(1, wanted).pop()
    }
}
