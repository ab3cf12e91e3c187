//! The stores of authorizations: the one that remembers nothing, and the table with its cache while it cannot be
//! reached.
use crate::common::row_groups::Pass;
use crate::host::{clock, fake};
use crate::presence::authorization::Authorization;
use crate::presence::error::StoreError;
use crate::presence::subscription::field::Field;
use crate::presence::subscription::{Status, Subscription, SubscriptionState};
use crate::presence::testing::{PRESENCE, fixtures};
use crate::server::authorizations::not_remembered::NotRemembered;
use crate::server::authorizations::store::AuthorizationStore;
use crate::server::authorizations::watchers_table::{FirstRows, WatchersTable};
use crate::server::shared::Parts;
use crate::server::subscriptions::database::InDatabase;
use crate::server::subscriptions::memory::MemorySubscriptions;
use crate::server::subscriptions::rows_behind::NoRows;
use crate::time::Seconds;

fn subscription(user: &str) -> Subscription {
    let expires_at = clock::now() + Seconds(3600);
    let state = SubscriptionState { expires_at, ..SubscriptionState::new(PRESENCE, Status::Active) };
    let fields: [(Field, &[u8]); 3] = [
        (Field::PresUri, b"sip:alice@example.org"),
        (Field::WatcherUser, user.as_bytes()),
        (Field::WatcherDomain, b"example.org"),
    ];
    Subscription::from_fields(state, &fields).expect("short strings")
}

fn blocked() -> Authorization {
    Authorization { status: Status::Terminated, reason: b"rejected".to_vec() }
}

fn parts() -> Parts {
    Parts::without_database(fixtures::config())
}

/// The table, for subscriptions in memory.
fn table(parts: Parts) -> WatchersTable {
    let subscriptions = Box::leak(Box::new(MemorySubscriptions::new(parts, &NoRows)));
    WatchersTable::new(parts, subscriptions, FirstRows::BeforeAnswer)
}

#[test]
fn what_remembers_nothing_knows_nobody() {
    let parts = parts();
    let (store, bob) = (NotRemembered::new(parts), subscription("bob"));
    let resource = parts.shared.tables.rule().resource(b"sip:alice@example.org", PRESENCE);
    assert_eq!((store.store(&bob, &blocked()), store.store_first(&bob, &blocked())), (Ok(()), Ok(())));
    assert_eq!(store.find(&bob), Ok(None));
    assert!(
        store.known(&resource).expect("nothing").is_empty() && store.waiting(&resource).expect("nothing").is_empty()
    );
    assert_eq!((store.write(Pass::Last), store.clean()), (Ok(()), Ok(())));
}

#[test]
fn a_decision_holds_while_the_table_is_away_and_stays_due() {
    let store = table(parts());
    let (bob, carol) = (subscription("bob"), subscription("carol"));
    assert_eq!(store.find(&bob), Ok(None), "the rules alone decide");
    assert_eq!(store.store(&bob, &blocked()), Ok(()));
    assert_eq!((store.find(&bob), store.find(&carol)), (Ok(Some(blocked())), Ok(None)));
    assert_eq!(store.write(Pass::Regular), Err(StoreError::NoDatabase));
    // What the table does not have is not forgotten.
    store.forget_old();
    assert_eq!(store.find(&bob), Ok(Some(blocked())));
}

#[test]
fn servers_that_share_their_rows_need_the_table() {
    let parts = parts();
    let store = WatchersTable::new(parts, Box::leak(Box::new(InDatabase::new(parts))), FirstRows::BeforeAnswer);
    let bob = subscription("bob");
    assert_eq!(store.find(&bob), Err(StoreError::NoDatabase));
    assert_eq!(store.store_first(&bob, &blocked()), Err(StoreError::NoDatabase));
}

#[test]
fn a_decision_for_which_there_is_no_memory_leaves_the_others() {
    let store = table(parts());
    assert_eq!(store.store(&subscription("bob"), &blocked()), Ok(()));
    for n in 0.. {
        let dave = subscription(&format!("dave{n}"));
        let (stored, failed) = fake::failing_at(n, || store.store(&dave, &blocked()));
        assert_eq!((fake::held_locks(), stored), (0, Ok(())));
        let known = store.find(&dave).expect("the rules decide");
        assert!(known.is_none() || known == Some(blocked()));
        assert_eq!(store.find(&subscription("bob")), Ok(Some(blocked())));
        if !failed {
            assert_eq!(known, Some(blocked()));
            break;
        }
    }
}

#[test]
fn a_first_decision_waits_in_memory_where_rows_are_written_behind() {
    let parts = parts();
    let subscriptions = Box::leak(Box::new(MemorySubscriptions::new(parts, &NoRows)));
    let store = WatchersTable::new(parts, subscriptions, FirstRows::Behind);
    let (bob, resource) =
        (subscription("bob"), parts.shared.tables.rule().resource(b"sip:alice@example.org", PRESENCE));
    let owed = || parts.shared.authorizations.unwritten_of(b"sip:alice@example.org", b"presence");
    let pending = Authorization { status: Status::Pending, reason: Vec::new() };
    assert_eq!((store.store_first(&bob, &pending), owed().len()), (Ok(()), 1));
    // It changes in memory, and stays one row.
    assert_eq!((store.store(&bob, &blocked()), store.find(&bob)), (Ok(()), Ok(Some(blocked()))));
    assert_eq!(owed().iter().map(|owed| &owed.authorization).collect::<Vec<_>>(), [&blocked()]);
    assert!(store.known(&resource).is_err(), "the table cannot be read");
}
