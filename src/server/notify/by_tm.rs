//! NOTIFYs that tm sends, with what its routes see of them.
use crate::host::shm::CallbackParam;
use crate::host::{direct, tm};
use crate::presence::history::remembered::NotifyOutcome;
use crate::presence::notification::{Notify, NotifyReason};
use crate::presence::subscription::field::Field;
use crate::presence::subscription::{Status, Subscription};
use crate::scoped_value::ScopedValue;
use crate::server::context::Context;
use crate::server::notifications::engine::Content;
use crate::server::notifications::under_way::{Kept, UnderWay};
use std::cell::RefCell;

/// Leaves a NOTIFY to tm, whose routes see its subscription in `$subs`.
///
/// # Errors
///
/// Fails when tm cannot send it: no answer will come.
pub(crate) fn send(
    context: &Context<'_>,
    notify: &Notify,
    content: Content<'_>,
    under_way: UnderWay,
) -> Result<tm::TmOutcome, tm::NotSent> {
    // The route that looks at the answer sees what the one at the sending saw: by then the subscription may have
    // changed, and it may be gone.
    let keeps = context.process.notify_reply.get().is_some_and(|route| route.exists());
    let is_seen = context.config.subs_variable && (keeps || direct::is_sending_seen());
    let shown = is_seen.then(|| as_shown(notify));
    let carried = match &shown {
        Some(shown) if keeps => under_way.with(shown),
        _ => under_way.alone(),
    };
    let sent = {
        let _shown = ScopedValue::set(&context.process.last_subscription, shown);
        send_in_dialog(&notify.subscription, content, context.process.on_completed, carried)
    };
    if sent != Ok(tm::TmOutcome::UnderWay) {
        let answer = if sent.is_ok() { NotifyOutcome::Dropped } else { NotifyOutcome::NotSent };
        let note = |number| context.shared.history.note_answer(number, answer, under_way.sent_at);
        under_way.number.into_iter().for_each(note);
    }
    sent
}

thread_local! {
    /// The URIs of the NOTIFY that tm is given: memory that each of them uses again.
    static URIS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Has tm send a NOTIFY in the dialog of its subscription.
fn send_in_dialog(
    s: &Subscription,
    content: Content<'_>,
    on_completed: tm::TmCallback,
    carried: CallbackParam<Kept>,
) -> Result<tm::TmOutcome, tm::NotSent> {
    let mut uris = URIS.take();
    uris.clear();
    s.local_uri().push(&mut uris);
    let middle = uris.len();
    s.remote_uri().push(&mut uris);
    let (local_uri, remote_uri) = uris.split_at(middle);
    let request = tm::OwnRequest {
        method: "NOTIFY",
        dialog: tm::OwnDialog {
            call_id: s.get(Field::CallId),
            local_tag: s.get(Field::ToTag),
            remote_tag: s.get(Field::FromTag),
            local_uri,
            remote_uri,
            remote_target: s.get(Field::Contact),
            routes: s.get(Field::RecordRoute),
            cseq: s.state.local_cseq + 1,
        },
        headers: content.headers,
        body: content.body,
        way: tm::RequestWay::FromSocket(s.get(Field::Socket)),
    };
    let sent = tm::send(&request, Some(on_completed), carried);
    URIS.set(uris);
    sent
}

/// A subscription as `$subs` shows it: one that has ended is terminated.
fn as_shown(notify: &Notify) -> Subscription {
    let mut shown = notify.subscription.clone();
    if notify.notify_reason == NotifyReason::Unsubscribe {
        shown.state.status = Status::Terminated;
        if let Ok(named) = shown.with(&[(Field::Reason, b"timeout")]) {
            shown = named;
        }
    }
    shown
}
