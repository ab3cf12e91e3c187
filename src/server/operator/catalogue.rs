//! The subscriptions and publications that there are, page by page.
use crate::host::clock;
use crate::presence::error::StoreError;
use crate::presence::event_package::PackageId;
use crate::presence::publication::Publication;
use crate::presence::resource::Resource;
use crate::server::inventory::Inventory;
use crate::server::operator::subscription_lists::PageOrder;

/// An order of publications: by presentity, then event package.
#[derive(Debug, Clone, Copy)]
pub struct PublicationOrder {
    /// By event package, then presentity.
    pub by_event: bool,
    /// The last come first.
    pub order: PageOrder,
}

impl Inventory {
    /// Some of the publications whose presentity and package are `wanted`, in a stable order, or in the wanted one.
    ///
    /// # Errors
    ///
    /// Fails when the publications have to be read from the database and it cannot be read, and when shared memory runs
    /// out.
    pub fn page_of_publications(
        &self,
        offset: usize,
        limit: usize,
        order: Option<PublicationOrder>,
        wanted: impl Fn(&[u8], PackageId) -> bool,
    ) -> Result<Vec<(Resource, Publication)>, StoreError> {
        let (mut skipped, mut page) = (0, Vec::new());
        let mut resources = self.storage.publications.resources(&wanted)?;
        if let Some(PublicationOrder { by_event, order }) = order {
            let name = |resource: &Resource| self.packages().get(resource.event).name;
            resources.sort_by(|a, b| match by_event {
                true => (name(a), &a.uri).cmp(&(name(b), &b.uri)),
                false => (&a.uri, name(a)).cmp(&(&b.uri, name(b))),
            });
            if order == PageOrder::Falling {
                resources.reverse();
            }
        }
        for resource in resources {
            for document in self.storage.publications.documents(&resource)? {
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
    pub fn count_publications(&self, wanted: impl Fn(&[u8], PackageId) -> bool) -> Result<usize, StoreError> {
        let mut count = 0;
        for resource in self.storage.publications.resources(&wanted)? {
            count += self.storage.publications.documents(&resource)?.len();
        }
        Ok(count)
    }

    /// Calls `show` with every publication that is alive and ends some time.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn each_publication(&self, mut show: impl FnMut(&Resource, &Publication)) -> Result<(), StoreError> {
        let now = clock::now();
        for resource in self.storage.publications.published()? {
            for publication in self
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
}
