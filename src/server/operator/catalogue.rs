//! The subscriptions and publications that there are, page by page.
use crate::host::clock;
use crate::presence::error::StoreError;
use crate::presence::event_package::PackageId;
use crate::presence::publication::Publication;
use crate::presence::resource::Resource;
use crate::server::inventory::Inventory;
use crate::server::operator::selection::{Filter, Listed, PageOrder};
use crate::server::tables::publication_entry::SharedPublication;
use crate::server::tables::resource_entry::Documents;

/// An order of publications: by presentity, then event package.
#[derive(Debug, Clone, Copy)]
pub struct PublicationOrder {
    /// By event package, then presentity.
    pub by_event: bool,
    /// The last come first.
    pub order: PageOrder,
}

/// Some of the publications whose presentity and package are `wanted`, in a stable order, or in the wanted one.
///
/// # Errors
///
/// Fails when the publications have to be read from the database and it cannot be read, and when shared memory runs
/// out.
pub fn page_of_publications(
    inventory: &Inventory,
    offset: usize,
    limit: usize,
    order: Option<PublicationOrder>,
    wanted: impl Fn(&[u8], PackageId) -> bool,
) -> Result<Vec<(Resource, Publication)>, StoreError> {
    let (mut skipped, mut page) = (0, Vec::new());
    let mut resources = inventory.storage.publications.resources(&wanted)?;
    if let Some(PublicationOrder { by_event, order }) = order {
        let name = |resource: &Resource| inventory.packages().get(resource.event).name;
        resources.sort_by(|a, b| match by_event {
            true => (name(a), &a.uri).cmp(&(name(b), &b.uri)),
            false => (&a.uri, name(a)).cmp(&(&b.uri, name(b))),
        });
        if order == PageOrder::Falling {
            resources.reverse();
        }
    }
    for resource in resources {
        for document in inventory.storage.publications.documents(&resource)? {
            if skipped < offset {
                skipped += 1;
                continue;
            }
            page.push((resource.clone(), document));
            if page.len() >= limit {
                return Ok(page);
            }
        }
    }
    Ok(page)
}

/// How many publications there are whose presentity and package are `wanted`.
///
/// # Errors
///
/// Fails when the publications have to be read from the database and it cannot be read, and when shared memory runs
/// out.
pub fn count_publications(
    inventory: &Inventory,
    wanted: impl Fn(&[u8], PackageId) -> bool,
) -> Result<usize, StoreError> {
    let mut count = 0;
    for resource in inventory.storage.publications.resources(&wanted)? {
        count += inventory.storage.publications.documents(&resource)?.len();
    }
    Ok(count)
}

/// Calls `show` with every publication that is alive and ends some time.
///
/// # Errors
///
/// Fails when the table cannot be read.
pub fn each_publication(
    inventory: &Inventory,
    mut show: impl FnMut(&Resource, &Publication),
) -> Result<(), StoreError> {
    let now = clock::now();
    for resource in inventory.storage.publications.published()? {
        for publication in inventory
            .storage
            .publications
            .documents(&resource)?
            .iter()
            .filter(|p| p.expires_at.moment().is_some_and(|end| end > now))
        {
            show(&resource, publication);
        }
    }
    Ok(())
}

/// Calls `show` with every publication, shard by shard, where publications live in memory alone; with none where
/// they have rows, for the table shows them. A shard is locked only while it is copied.
pub fn each_in_memory_alone(inventory: &Inventory, mut show: impl FnMut(&Resource, &Publication)) {
    if inventory.storage.publications.has_rows() {
        return;
    }
    let tables = &inventory.shared.tables;
    for index in 0..tables.shard_count() {
        let copied: Vec<(Resource, Vec<Publication>)> = {
            let shard = tables.nth_shard(index);
            let known = shard.entries().filter_map(|entry| match &entry.documents {
                Documents::Known(list) if !list.is_empty() => {
                    Some((entry.resource(), list.iter().map(SharedPublication::to_private).collect()))
                }
                _ => None,
            });
            known.collect()
        };
        for (resource, publications) in &copied {
            publications.iter().for_each(|publication| show(resource, publication));
        }
    }
}

/// The publications that an operator has selected.
///
/// # Errors
///
/// Fails when the publications have to be read from the database and it cannot be read, and when shared memory runs
/// out.
pub(crate) fn selected(inventory: &Inventory, filter: &Filter) -> Result<Listed<(Resource, Publication)>, StoreError> {
    let wanted = |presentity: &[u8], event| filter.wants_resource(presentity, event);
    if filter.count {
        return Ok(Listed::Count(count_publications(inventory, wanted)?));
    }
    let order = filter.sort.as_ref().map(|sort| PublicationOrder { by_event: sort.by == b"event", order: sort.order });
    Ok(Listed::Page(page_of_publications(inventory, filter.offset, filter.limit, order, wanted)?))
}
