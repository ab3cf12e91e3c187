//! The subscriptions that there are, in all storage modes: counted, and page by page in a stable or a wanted order.
use crate::presence::error::StoreError;
use crate::presence::subscription::Subscription;
use crate::server::inventory::Inventory;
use std::collections::HashMap;

/// The order in which a page is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageOrder {
    /// The smallest first.
    Rising,
    /// The largest first.
    Falling,
}

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
pub fn count_subscriptions(inventory: &Inventory, wanted: impl Fn(&Subscription) -> bool) -> Result<usize, StoreError> {
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
pub fn sorted_page_of_subscriptions<K: Ord>(
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
    let places: HashMap<u64, usize> =
        keys.iter().skip(offset).take(limit).enumerate().map(|(place, (_, dialog))| (*dialog, place)).collect();
    let mut page: Vec<(usize, Subscription)> = Vec::with_capacity(places.len());
    each_subscription(inventory, &mut |subscription| {
        page.extend(places.get(&hash(&subscription)).map(|place| (*place, subscription)));
        page.len() < places.len()
    })?;
    page.sort_unstable_by_key(|(place, _)| *place);
    Ok(page.into_iter().map(|(_, subscription)| subscription).collect())
}
