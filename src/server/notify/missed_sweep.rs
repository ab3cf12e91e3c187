//! Notifies watchers again of what they have missed where subscriptions are rows (database-only mode): those of one
//! resource, or portion by portion all there are.
use crate::common::paging::{self, Page};
use crate::host::db::Connection;
use crate::presence::error::StoreError;
use crate::presence::notification::StateChange;
use crate::presence::notifier;
use crate::presence::ports::Ports;
use crate::presence::resource::Resource;
use crate::presence::subscription_field::Field;
use crate::server::context::Context;
use crate::server::subscriptions::active_watchers_table as rows;
use std::collections::HashSet;

/// How many rows of subscriptions are gone through in one second.
const SWEPT_ROWS: usize = 256;

impl Context {
    /// Notifies the watchers of a resource of its state as it is. While that cannot be read nobody is counted up for
    /// it: the resource waits on.
    pub fn notify_of_state(&mut self, resource: &Resource) {
        if self.may_be_notified(resource).is_err() {
            self.shared.missed_changes.note(resource);
        } else if self.enqueue(resource, StateChange::State { sender: b"", transient_body: None }) {
            notifier::run(self, resource);
        }
    }

    /// Whether this entry has found the database away while it sent NOTIFYs.
    pub fn has_lost_database(&self) -> bool {
        self.work.rows.is_database_away
    }

    /// Where too many changes were missed to be named: notifies the watchers of one portion of all that are watched.
    ///
    /// # Errors
    ///
    /// Fails when the rows cannot be read: the portion is tried again.
    pub fn sweep_missed_changes(&mut self) -> Result<(), StoreError> {
        let missed = self.shared.missed_changes;
        let Some(after) = missed.next_portion() else { return Ok(()) };
        let (table, packages) = (self.config.active_watchers_table, self.packages);
        let read = |db: &Connection, page: &Page<'_>| rows::select_page(db, table, packages, page);
        let (watching, next) = paging::portion_of(self.database, SWEPT_ROWS, &[], after, read)?;
        // A panic does not keep the sweep at this portion.
        missed.is_swept_up_to(next);
        let mut seen = HashSet::new();
        for row in watching {
            if !seen.insert((row.get(Field::PresUri).to_vec(), row.state.event.0)) {
                continue;
            }
            let resource = self.shared.tables.resource_of(&row);
            self.notify_of_state(&resource);
            if self.has_lost_database() {
                missed.sweep_again_from(after);
                return Ok(());
            }
        }
        Ok(())
    }
}
