//! The stores of publications: in memory, and over a table that cannot be reached.
use crate::host::{clock, fake};
use crate::presence::error::StoreError;
use crate::presence::history::remembered::KnownBody;
use crate::presence::history::remembered::{BodyDigest, Digested};
use crate::presence::publication::{Applied, Change, Keeps, Modification, Publication};
use crate::presence::resource::Resource;
use crate::presence::testing::{PRESENCE, fixtures};
use crate::server::publications::cached::Cached;
use crate::server::publications::memory::{MemoryPublications, Watchers};
use crate::server::publications::store::PublicationStore;
use crate::server::publications::table::InTable;
use crate::server::shared::Parts;
use crate::sip::entity_tag::EntityTag;
use crate::time::{Expiry, Moment, Seconds};
use std::borrow::Cow;

fn publication(etag: &str, body: &str, expires_at: Moment) -> Publication {
    Publication {
        etag: EntityTag::from(etag),
        ruid: format!("ruid-{etag}").into_bytes(),
        body: body.into(),
        expires_at: Expiry::At(expires_at),
        received_at: Some(clock::now()),
        ..Publication::default()
    }
}

fn modification<'a>(etag: &str, new_etag: &str, body: Option<&'a str>) -> Change<'a> {
    Change::Modify(Modification {
        etag: EntityTag::from(etag),
        new_etag: EntityTag::from(new_etag),
        body: body.map(|body| Cow::Borrowed(body.as_bytes())),
        expires_at: Expiry::At(in_an_hour()),
        ..Modification::default()
    })
}

fn in_an_hour() -> Moment {
    clock::now() + Seconds(3600)
}

fn parts() -> (Parts, Resource) {
    let parts = Parts::without_database(fixtures::config());
    (parts, parts.shared.tables.rule().resource(b"sip:alice@example.org", PRESENCE))
}

fn bodies(store: &dyn PublicationStore, resource: &Resource) -> Vec<String> {
    let documents = store.documents(resource).expect("memory can be read");
    documents.into_iter().map(|document| String::from_utf8(document.body).expect("a text")).collect()
}

#[test]
fn a_publication_is_made_modified_refreshed_and_removed() {
    let (parts, alice) = parts();
    let store = MemoryPublications::new(parts, Watchers::Memory);
    let change = |change: Change| store.change(&alice, &change).expect("memory");
    assert_eq!(change(modification("e.0", "e.1", None)), Applied::NoMatch);
    assert_eq!(change(Change::Insert(publication("e.0", "one", in_an_hour()))), Applied::Inserted);
    assert_eq!(bodies(&store, &alice), ["one"]);
    assert_eq!(change(modification("e.0", "e.1", Some("two"))), Applied::Modified { keeps: Keeps::Nothing });
    assert_eq!(change(modification("e.1", "e.2", None)), Applied::Modified { keeps: Keeps::Nothing });
    assert_eq!(bodies(&store, &alice), ["two"]);
    assert_eq!(change(Change::Remove(EntityTag::from("e.1"))), Applied::NoMatch, "an older entity tag");
    assert!(
        matches!(change(Change::Remove(EntityTag::from("e.2"))), Applied::Removed(old, 0) if old.etag.bytes() == b"e.2")
    );
    assert!(bodies(&store, &alice).is_empty());
}

#[test]
fn a_composed_body_is_kept_until_a_document_changes() {
    let (parts, alice) = parts();
    let store = MemoryPublications::new(parts, Watchers::Memory);
    let insert = |etag: &str| store.change(&alice, &Change::Insert(publication(etag, etag, in_an_hour())));
    assert_eq!(insert("e.1"), Ok(Applied::Inserted));
    let version = |parts: &Parts| {
        let mut shard = parts.shared.tables.shard(alice.hash);
        shard.entry(parts.shared.tables.rule(), &alice).map(|entry| entry.documents_version).expect("an entry")
    };
    let body = Digested { body: b"composed".to_vec(), digest: BodyDigest { bytes: 8, crc32: 9 } };
    let composed_of = version(&parts);
    store.cache_composed(&alice, composed_of, Some(&body), Expiry::Never);
    assert_eq!(store.composed(&alice).body().map(|kept| kept.body), Some(b"composed".to_vec()));
    assert_eq!(insert("e.2"), Ok(Applied::Inserted));
    assert_eq!(store.composed(&alice), KnownBody::Unknown);
    // A body that was composed of what the documents were before is not kept.
    store.cache_composed(&alice, composed_of, Some(&body), Expiry::Never);
    assert_eq!(store.composed(&alice), KnownBody::Unknown);
}

#[test]
fn what_has_run_out_is_taken_and_seen_no_more_before() {
    let (parts, alice) = parts();
    let store = MemoryPublications::new(parts, Watchers::Memory);
    for (etag, at) in [("e.1", clock::now() - Seconds(5)), ("e.2", in_an_hour())] {
        assert_eq!(store.change(&alice, &Change::Insert(publication(etag, etag, at))), Ok(Applied::Inserted));
    }
    assert_eq!(bodies(&store, &alice), ["e.2"]);
    let ended = |store: &MemoryPublications| store.take_ended(clock::now(), 10).expect("memory").len();
    assert_eq!((ended(&store), ended(&store)), (1, 0));
    assert_eq!(store.resources(&|_, _| true).expect("memory").len(), 1);
}

#[test]
fn an_allocation_that_fails_changes_nothing() {
    let (parts, alice) = parts();
    let store = MemoryPublications::new(parts, Watchers::Memory);
    assert_eq!(store.change(&alice, &Change::Insert(publication("e.0", "first", in_an_hour()))), Ok(Applied::Inserted));
    let changes = [
        Change::Insert(publication("f.0", "second", in_an_hour())),
        modification("f.0", "f.1", Some("a longer body than before")),
        Change::Remove(EntityTag::from("f.1")),
    ];
    for change in &changes {
        let before = bodies(&store, &alice);
        let mut refused = 0;
        for n in 0.. {
            let (applied, failed) = fake::failing_at(n, || store.change(&alice, change));
            assert_eq!(fake::held_locks(), 0);
            if applied.is_ok() {
                assert!(!matches!(applied, Ok(Applied::NoMatch)));
                break;
            }
            assert!(failed && applied == Err(StoreError::NoMemory));
            assert_eq!(bodies(&store, &alice), before);
            refused += 1;
        }
        assert!(refused > 0 || matches!(change, Change::Remove(_)), "no allocation of {change:?} was seen to fail");
    }
    assert_eq!(bodies(&store, &alice), ["first"]);
}

#[test]
fn without_its_table_nothing_is_published() {
    let (parts, alice) = parts();
    let insert = Change::Insert(publication("e.1", "one", in_an_hour()));
    let cached = Cached::new(parts, Watchers::Memory);
    let table = InTable::new(parts, Watchers::Memory);
    for store in [&cached as &dyn PublicationStore, &table] {
        assert_eq!(store.change(&alice, &insert), Err(StoreError::NoDatabase));
        assert_eq!(store.documents(&alice).err(), Some(StoreError::NoDatabase));
        assert_eq!(fake::held_locks(), 0);
    }
}
