//! The subscriptions that there are, in all storage modes: counted, and page by page in a stable or a wanted order.
use crate::presence::error::StoreError;
use crate::presence::event_package::{Package, PackageId};
use crate::presence::ports::subscriptions::Subscriptions;
use crate::presence::subscription::Subscription;
use crate::presence::subscription::field::Field;
use crate::server::context::Context;
use crate::server::inventory::Inventory;
use crate::server::operator::selection::{Filter, Listed, PageOrder, Sorting};
use crate::server::shared::Parts;
use crate::time::{Moment, Seconds};
use std::collections::BTreeMap;

/// Shows one subscription after the other until `take` wants no more.
fn each_subscription(inventory: &Inventory, take: &mut dyn FnMut(Subscription) -> bool) -> Result<(), StoreError> {
    inventory.storage.subscriptions.each(take)
}

/// Some of the subscriptions that are `wanted`, in a stable order.
///
/// # Errors
///
/// Fails when the subscriptions have to be read from the database and it cannot be read.
pub fn page_of_subscriptions(
    inventory: &Inventory,
    offset: usize,
    limit: usize,
    wanted: impl Fn(&Subscription) -> bool,
) -> Result<Vec<Subscription>, StoreError> {
    let (mut skipped, mut page) = (0, Vec::new());
    each_subscription(inventory, &mut |subscription| {
        if !wanted(&subscription) {
            return true;
        }
        if skipped < offset {
            skipped += 1;
            return true;
        }
        page.push(subscription);
        page.len() < limit
    })?;
    page.truncate(limit);
    Ok(page)
}

/// How many subscriptions are `wanted`.
///
/// # Errors
///
/// Fails when the subscriptions have to be read from the database and it cannot be read.
fn count_subscriptions(inventory: &Inventory, wanted: impl Fn(&Subscription) -> bool) -> Result<usize, StoreError> {
    let mut count = 0;
    each_subscription(inventory, &mut |subscription| {
        count += usize::from(wanted(&subscription));
        true
    })?;
    Ok(count)
}

/// Some of the subscriptions that are `wanted`, by their `key`. Of all of them only key
/// and dialog are kept, and the page is read in a second pass: what has ended meanwhile is missing in it.
///
/// # Errors
///
/// Fails when the subscriptions have to be read from the database and it cannot be read.
fn sorted_page_of_subscriptions<K: Ord>(
    inventory: &Inventory,
    offset: usize,
    limit: usize,
    order: PageOrder,
    wanted: impl Fn(&Subscription) -> bool,
    key: impl Fn(&Subscription) -> K,
) -> Result<Vec<Subscription>, StoreError> {
    let hash = |s: &Subscription| inventory.shared.tables.dialog_hash(s.dialog());
    let mut keys: Vec<(K, u64)> = Vec::new();
    each_subscription(inventory, &mut |subscription| {
        if wanted(&subscription) {
            keys.push((key(&subscription), hash(&subscription)));
        }
        true
    })?;
    keys.sort_unstable();
    if order == PageOrder::Falling {
        keys.reverse();
    }
    let places: BTreeMap<u64, usize> =
        keys.iter().skip(offset).take(limit).enumerate().map(|(place, (_, dialog))| (*dialog, place)).collect();
    let mut page: Vec<(usize, Subscription)> = Vec::with_capacity(places.len());
    each_subscription(inventory, &mut |subscription| {
        page.extend(places.get(&hash(&subscription)).map(|place| (*place, subscription)));
        page.len() < places.len()
    })?;
    page.sort_unstable_by_key(|(place, _)| *place);
    Ok(page.into_iter().map(|(_, subscription)| subscription).collect())
}

/// How long ago a subscription began, as far as this server knows: one that was read from its row began at start-up
/// at the latest.
pub(crate) fn age(parts: &Parts, subscription: &Subscription, now: Moment) -> Seconds {
    (now - subscription.state.since.unwrap_or(parts.config.started)).max(Seconds::ZERO)
}

/// What a subscription is sorted by: numbers by their value, names by their letters.
fn sort_key(parts: &Parts, s: &Subscription, by: &[u8], now: Moment) -> (i64, Vec<u8>) {
    match by {
        b"left" => ((s.state.expires_at - now).0, Vec::new()),
        b"age" => (age(parts, s, now).0, Vec::new()),
        b"presentity" => (0, s.get(Field::PresUri).to_vec()),
        b"event" => (0, parts.packages().get(s.state.event).name.to_vec()),
        b"status" => (0, s.state.status.word().to_vec()),
        _ => (0, s.watcher_uri()),
    }
}

/// The subscriptions that an operator has selected.
///
/// # Errors
///
/// Fails when the subscriptions have to be read from the database and it cannot be read.
pub(crate) fn selected(
    inventory: &Inventory,
    filter: &Filter,
    now: Moment,
) -> Result<Listed<Subscription>, StoreError> {
    let wanted = |s: &Subscription| {
        filter.wants_resource(s.get(Field::PresUri), s.state.event)
            && filter.wants_watcher(&s.watcher_uri())
            && filter.status.is_none_or(|status| status == s.state.status)
            && (filter.older..=filter.younger).contains(&age(inventory, s, now))
    };
    let (offset, limit) = (filter.offset, filter.limit);
    Ok(match &filter.sort {
        _ if filter.count => Listed::Count(count_subscriptions(inventory, wanted)?),
        None => Listed::Page(page_of_subscriptions(inventory, offset, limit, wanted)?),
        Some(Sorting { by, order }) => {
            let key = |s: &Subscription| sort_key(inventory, s, by, now);
            Listed::Page(sorted_page_of_subscriptions(inventory, offset, limit, *order, wanted, key)?)
        }
    })
}

/// Shows the subscriptions to a presentity, with their event package, one package after the other.
///
/// # Errors
///
/// Fails when the subscriptions to one of them cannot be read: those before it have been shown.
pub(crate) fn each_of_presentity(
    context: &mut Context<'_>,
    uri: &[u8],
    mut show: impl FnMut(&Package, &Subscription),
) -> Result<(), StoreError> {
    for (package, index) in context.packages.0.iter().zip(0..) {
        let resource = context.shared.tables.rule().resource(uri, PackageId(index));
        context.subscriptions(&resource)?.iter().for_each(|subscription| show(package, subscription));
    }
    Ok(())
}
