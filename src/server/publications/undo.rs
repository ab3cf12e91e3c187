//! What a change of documents in memory took their place of, until the change is certain.
use crate::host::no_memory::NoMemory;
use crate::presence::publication::{Applied, Publication};
use crate::server::publications::presentity_table::RowChange;
use crate::server::tables::publication_entry::SharedPublication;
use crate::server::tables::resource_entry::{Documents, ResourceEntry};

/// A change that memory has carried out.
pub(crate) struct Changed {
    /// What it did.
    pub(crate) applied: Applied,
    /// What has to be done to the table at once.
    pub(crate) rows: Vec<RowChange>,
    /// How it is taken back.
    pub(crate) undo: Undo,
    /// The publications whose removal it has recorded for other nodes.
    pub(crate) removals: Vec<Publication>,
}

impl Changed {
    /// A result that changed no record.
    pub(crate) fn nothing(applied: Applied) -> Changed {
        Changed { applied, rows: Vec::new(), undo: Undo::default(), removals: Vec::new() }
    }
}

/// The documents that are in the list no more, with the places that they had. Dropped when the change is certain.
#[derive(Default)]
pub(crate) struct Undo {
    /// The records whose places others have taken.
    pub(crate) in_place: Vec<(usize, SharedPublication)>,
    /// The records whose places are gone; the last place comes first.
    pub(crate) removed: Vec<(usize, SharedPublication)>,
    /// The same of those that wait at the end of [`ResourceEntry::removed`] for their rows to be removed.
    pub(crate) rows_to_remove: Vec<usize>,
    /// The last document was not there.
    pub(crate) is_longer: bool,
}

impl Undo {
    /// Puts the documents back; gives those that the change had brought. Without memory for that the list stays as the
    /// change left it.
    ///
    /// # Errors
    ///
    /// Fails when the list is not as the change left it, or shared memory runs out.
    pub(crate) fn carry_out(self, entry: &mut ResourceEntry) -> Result<Vec<SharedPublication>, NoMemory> {
        let Documents::Known(list) = &mut entry.documents else { return Err(NoMemory) };
        let mut back = self.removed;
        list.try_reserve(back.len() + self.rows_to_remove.len()).map_err(|_| NoMemory)?;
        let mut brought: Vec<SharedPublication> = self.is_longer.then(|| list.pop()).flatten().into_iter().collect();
        let waiting = entry.removed.take_last(self.rows_to_remove.len());
        back.extend(self.rows_to_remove.into_iter().zip(waiting));
        back.sort_by_key(|(at, _)| *at);
        for (at, old) in back {
            if at > list.len() {
                return Err(NoMemory);
            }
            list.insert(at, old);
        }
        for (at, old) in self.in_place {
            brought.push(std::mem::replace(list.get_mut(at).ok_or(NoMemory)?, old));
        }
        Ok(brought)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::shm::{Shm, ShmVec};
    use crate::presence::event_package::PackageId;
    use crate::presence::publication::Publication;
    use crate::presence::resource::UriComparison;

    fn document(body: &str) -> SharedPublication {
        SharedPublication::new(&Publication { body: body.as_bytes().to_vec(), ..Publication::default() }).unwrap()
    }

    #[test]
    fn documents_come_back_to_their_places() {
        let rule = UriComparison { ignore_case: false, seed: 1 };
        let mut list = ShmVec::new_in(Shm);
        // Of a, b, c, d, e: b is shorter, c and e are gone (the row of c waits to be removed), f is new.
        for body in ["a", "short b", "d", "f"] {
            list.push(document(body));
        }
        let resource = rule.resource(b"sip:a@b", PackageId(0));
        let mut entry = ResourceEntry::new(&resource, Documents::Known(list)).unwrap();
        for body in ["older", "c"] {
            entry.removed.push(document(body)).unwrap();
        }
        let undo = Undo {
            in_place: vec![(1, document("b"))],
            removed: vec![(4, document("e"))],
            rows_to_remove: vec![2],
            is_longer: true,
        };
        let brought = undo.carry_out(&mut entry).unwrap();
        let bodies = |list: &[SharedPublication]| -> Vec<String> {
            list.iter().map(|document| String::from_utf8_lossy(document.body()).into_owned()).collect()
        };
        let Documents::Known(list) = &entry.documents else { panic!() };
        assert_eq!(bodies(list), ["a", "b", "c", "d", "e"]);
        assert_eq!(bodies(&brought), ["f", "short b"]);
        assert_eq!(bodies(&entry.removed), ["older"]);
        // Nobody knows what another list was.
        let undo = Undo { removed: vec![(9, document("x"))], ..Undo::default() };
        assert!(undo.carry_out(&mut entry).is_err());
    }
}
