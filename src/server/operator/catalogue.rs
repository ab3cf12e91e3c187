//! The subscriptions and publications that there are, page by page.
use crate::common::paging::each_page;
use crate::presence::config::PublicationMode;
use crate::presence::error::StoreError;
use crate::presence::event_package::PackageId;
use crate::presence::ports::Ports;
use crate::presence::publication::Publication;
use crate::presence::resource::Resource;
use crate::server::context::Context;
use crate::server::tables::resource_entry::Documents;
use crate::sip::uri;
use std::collections::HashSet;

/// An order of publications: by presentity, then event package.
#[derive(Debug, Clone, Copy)]
pub struct PublicationOrder {
    /// By event package, then presentity.
    pub by_event: bool,
    /// The last come first.
    pub falls: bool,
}

impl Context {
    /// Some of the publications whose presentity and package are `wanted`, in a stable order, or in the wanted one.
    pub fn page_of_publications(
        &mut self,
        offset: usize,
        limit: usize,
        order: Option<PublicationOrder>,
        wanted: impl Fn(&[u8], PackageId) -> bool,
    ) -> Result<Vec<(Resource, Publication)>, StoreError> {
        let (mut skipped, mut page) = (0, Vec::new());
        let mut resources = self.published(wanted)?;
        if let Some(PublicationOrder { by_event, falls }) = order {
            let name = |resource: &Resource| self.packages.get(resource.event).name;
            resources.sort_by(|a, b| match by_event {
                true => (name(a), &a.uri).cmp(&(name(b), &b.uri)),
                false => (&a.uri, name(a)).cmp(&(&b.uri, name(b))),
            });
            if falls {
                resources.reverse();
            }
        }
        for resource in resources {
            for document in self.documents(&resource)? {
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
    pub fn count_publications(&mut self, wanted: impl Fn(&[u8], PackageId) -> bool) -> Result<usize, StoreError> {
        let mut count = 0;
        for resource in self.published(wanted)? {
            count += self.documents(&resource)?.len();
        }
        Ok(count)
    }

    /// The resources that have publications, or may have.
    fn published(&self, wanted: impl Fn(&[u8], PackageId) -> bool) -> Result<Vec<Resource>, StoreError> {
        match self.config.publications {
            PublicationMode::Database => self.published_rows(wanted),
            PublicationMode::Cached | PublicationMode::Memory => Ok(self.published_lanes(wanted)),
        }
    }

    fn published_lanes(&self, wanted: impl Fn(&[u8], PackageId) -> bool) -> Vec<Resource> {
        let tables = &self.shared.tables;
        let mut found = Vec::new();
        for index in 0..tables.shard_count() {
            let shard = tables.nth_shard(index);
            let entries = shard.entries().filter(|entry| wanted(&entry.uri, entry.event));
            let filled = entries.filter(|entry| !matches!(&entry.documents, Documents::Known(list) if list.is_empty()));
            found.extend(filled.map(|entry| entry.resource()));
        }
        found
    }

    fn published_rows(&self, wanted: impl Fn(&[u8], PackageId) -> bool) -> Result<Vec<Resource>, StoreError> {
        let (config, packages, rule) = (self.config, self.packages, self.shared.tables.rule());
        let (mut seen, mut found) = (HashSet::new(), Vec::new());
        each_page(self.database, config.presentity_table, config.fetch_rows, |db, page| {
            let rows = db.select(
                config.presentity_table,
                &["username", "domain", "event", "id"],
                &page.conditions,
                page.order,
            )?;
            for row in rows.iter() {
                let Some(event) = packages.named(row.bytes(2)) else { continue };
                let name = uri::join(row.bytes(0), row.bytes(1));
                if wanted(&name, event) && seen.insert((name.clone(), event)) {
                    found.push(rule.resource(&name, event));
                }
            }
            Ok(crate::common::paging::Seen::of(&rows, 3))
        })?;
        Ok(found)
    }
}
