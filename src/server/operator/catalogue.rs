//! The subscriptions and publications that there are, page by page.
use crate::common::paging::each_page;
use crate::presence::config::PublicationMode;
use crate::presence::error::StoreError;
use crate::presence::event_package::PackageId;
use crate::presence::ports::Ports;
use crate::presence::publication::Publication;
use crate::presence::resource::Resource;
use crate::presence::subscription::Subscription;
use crate::server::context::Context;
use crate::server::tables::resource_entry::Documents;
use crate::sip::uri;
use std::collections::HashSet;

impl Context {
    /// Some of the subscriptions that are `wanted`, in a stable order.
    pub fn page_of_subscriptions(
        &self,
        offset: usize,
        limit: usize,
        wanted: impl Fn(&Subscription) -> bool,
    ) -> Result<Vec<Subscription>, StoreError> {
        let (mut skipped, mut page) = (0, Vec::new());
        let mut take = |subscription: Subscription| {
            if !wanted(&subscription) {
                return true;
            }
            if skipped < offset {
                skipped += 1;
                return true;
            }
            page.push(subscription);
            page.len() < limit
        };
        self.storage.subscriptions.each(&mut take)?;
        page.truncate(limit);
        Ok(page)
    }

    /// Some of the publications whose presentity and package are `wanted`, in a stable order.
    pub fn page_of_publications(
        &mut self,
        offset: usize,
        limit: usize,
        wanted: impl Fn(&[u8], PackageId) -> bool,
    ) -> Result<Vec<(Resource, Publication)>, StoreError> {
        let (mut skipped, mut page) = (0, Vec::new());
        for resource in self.published(wanted)? {
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
