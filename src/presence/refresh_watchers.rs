//! Commands from outside a request: tables and files were changed by others (`refreshWatchers`).
use super::error::Failure;
use super::notification::change_notify;
use super::ports::Ports;
use super::publication::{Applied, Change, Dialogs, Modification, Publication};
use super::resource::Resource;
use crate::sip::entity_tag::EntityTag;
use crate::time::Expiry;
use std::borrow::Cow;

/// The documents of a resource may have changed behind our back: they are read again and every watcher is notified.
pub fn documents<P: Ports>(ports: &mut P, resource: &Resource) {
    ports.forget(resource);
    change_notify::changed_without_request(ports, resource);
}

/// The presentity's manipulation document was changed: a document that never expires, under the name of its file, or
/// none any more. It is put together with the published ones.
///
/// # Errors
///
/// Fails when a store fails: the watchers are not notified then.
pub fn hard_state<P: Ports>(
    ports: &mut P,
    resource: &Resource,
    filename: &[u8],
    document: Option<Vec<u8>>,
) -> Result<(), Failure> {
    let now = ports.now();
    match document {
        None => {
            ports.publish(resource, Change::Remove(EntityTag::new(filename.to_vec())))?;
        }
        Some(body) => {
            let stamp = ports.stamp_now(resource, Some(EntityTag::new(filename)), &Dialogs::default());
            let change = Modification {
                etag: EntityTag::new(filename.to_vec()),
                new_etag: EntityTag::new(filename.to_vec()),
                body: Some(Cow::Borrowed(&body)),
                expires_at: Expiry::Never,
                received_at: Some(now),
                stamp,
                ..Modification::default()
            };
            if ports.publish(resource, Change::Modify(change))? == Applied::NoMatch {
                let publication = Publication {
                    etag: EntityTag::new(filename.to_vec()),
                    ruid: ports.new_ruid(),
                    body,
                    expires_at: Expiry::Never,
                    received_at: Some(now),
                    stamp,
                    ..Publication::default()
                };
                ports.publish(resource, Change::Insert(publication))?;
            }
        }
    }
    documents(ports, resource);
    Ok(())
}
