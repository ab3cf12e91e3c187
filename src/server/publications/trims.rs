//! Documents that lose some of their dialogs to another document (RFC 4235): read and written anew outside of the lock.
use crate::presence::publication::{Change, Publication, Stored};

/// Documents that go on without some of their dialogs, as they are from then on. Those that another process has changed
/// meanwhile have another entity tag, and stay as they are.
pub(crate) struct Trims(pub(crate) Vec<Publication>);

impl Trims {
    /// The shorter form of a document.
    pub(crate) fn of<D: Stored>(&self, document: &D) -> Option<&Publication> {
        self.0.iter().find(|trim| trim.etag == document.etag())
    }

    /// What a change trims, of documents that can be read at leisure.
    pub(crate) fn prepare(documents: impl Iterator<Item = Publication>, change: &Change) -> Trims {
        let dialogs = match change {
            Change::Insert(new) => new.dialogs.view(),
            Change::End(dialogs) => dialogs.view(),
            _ => return Trims(Vec::new()),
        };
        Trims(documents.filter_map(|document| document.without(&dialogs)).collect())
    }
}
