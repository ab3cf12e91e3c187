//! What a server writes into its history while it works: one entry for a change, one for a NOTIFY.
use crate::host::clock;
use crate::presence::history::remembered::{BodyDigest, ChangeKind};
use crate::presence::notification::Notify;
use crate::presence::publication::{Applied, Change};
use crate::presence::resource::Resource;
use crate::server::history::{History, NewChange, NotifyNumber};
use crate::time::{Expiry, Lifetime, MicroTick};

/// Remembers what a change did to the documents of a resource.
pub(crate) fn note_publication(history: &History, resource: &Resource, change: &Change, applied: &Applied) {
    let lasts = |until: Expiry| Some(Lifetime::until(until, clock::now()));
    let nothing = NewChange::of_kind(resource, ChangeKind::DialogsEnded);
    let noted = match (change, applied) {
        (_, Applied::NoMatch) => return,
        (Change::Insert(new), _) => NewChange {
            kind: ChangeKind::New,
            sender: &new.sender,
            etag: new.etag.view(),
            body: BodyDigest::of_body(&new.body),
            expires: lasts(new.expires_at),
            ..nothing
        },
        (Change::Modify(modification), _) => NewChange {
            kind: if modification.body.is_some() { ChangeKind::Modified } else { ChangeKind::Refreshed },
            sender: &modification.sender,
            etag: modification.new_etag.view(),
            body: modification.body.as_deref().map(BodyDigest::of_body).unwrap_or_default(),
            expires: lasts(modification.expires_at),
            ..nothing
        },
        (Change::Remove(etag), _) => NewChange { kind: ChangeKind::Removed, etag: etag.view(), ..nothing },
        (Change::End(_), _) => nothing,
    };
    history.note_change(&noted, clock::micro_tick());
}

/// Remembers a NOTIFY that is sent at `at`.
pub(crate) fn note_notify(history: &History, notify: &Notify, body: BodyDigest, at: MicroTick) -> Option<NotifyNumber> {
    history.note_notify(&notify.subscription, notify.notify_reason, body, at)
}
