//! What scripts and other modules ask about authorization without a subscription.
use crate::presence::authorization::sphere;
use crate::presence::event_package::Trait;
use crate::presence::subscription::field::Field;
use crate::presence::subscription::{Status, Subscription};
use crate::server::context::Context;
use crate::server::operator::names::resource_of;
use crate::server::shared::Parts;
use crate::sip::checked::CheckedParts;
use crate::sip::uri;

/// What a watcher would see of a presentity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MaySee {
    /// What one with this status sees.
    ByStatus(Status),
    /// Nothing, and the watcher would not learn that (RFC 5025 3.2.1, polite blocking).
    NothingPolitely,
}

/// What a presentity's rules say about a watcher now (`pres_auth_status`); `None` where they cannot be read.
pub(crate) fn would_see(parts: &Parts, watcher: CheckedParts<'_>, presentity: CheckedParts<'_>) -> Option<MaySee> {
    let ((watcher_user, watcher_host), (user, host)) =
        ((watcher.user.bytes(), watcher.host.bytes()), (presentity.user.bytes(), presentity.host.bytes()));
    let event = parts.packages().named(b"presence")?;
    let package = parts.packages().get(event);
    if !package.has_trait(Trait::NeedsAuthorization) || parts.config.force_active {
        return Some(MaySee::ByStatus(Status::Active));
    }
    let uri = uri::join(user, host);
    let given = [
        (Field::PresUri, &uri[..]),
        (Field::WatcherUser, watcher_user),
        (Field::WatcherDomain, watcher_host),
        (Field::FromUser, watcher_user),
        (Field::FromDomain, watcher_host),
        (Field::ToUser, user),
        (Field::ToDomain, host),
    ];
    let subscription = Subscription::without_dialog(event, Status::Pending, &given).ok()?;
    if !parts.registry.has_rules(event, user, host).ok()? {
        return Some(MaySee::ByStatus(Status::Pending));
    }
    let authorization = parts.registry.evaluate_rules(event, &subscription, Status::Pending, None).ok()?;
    Some(match authorization.reason == b"polite-block" {
        true => MaySee::NothingPolitely,
        false => MaySee::ByStatus(authorization.status),
    })
}

/// The sphere that a presentity's documents name (`enable_sphere_check`).
pub(crate) fn sphere_of(context: &mut Context<'_>, uri: &[u8]) -> Option<Vec<u8>> {
    if !context.config.sphere_check {
        return None;
    }
    let resource = resource_of(context, uri, b"presence")?;
    sphere::of_presentity(context, &resource).unwrap_or_else(|_| {
        context.registry.note_unread_sphere();
        None
    })
}
