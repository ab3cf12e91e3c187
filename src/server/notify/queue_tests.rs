//! The queue of a resource over the store in memory.
use crate::host::{clock, fake};
use crate::presence::notification::StateChange;
use crate::presence::ports::subscriptions::{NewDialog, Stored};
use crate::presence::testing::{PRESENCE, fixtures};
use crate::server::notifications::row_run::RowWork;
use crate::server::notify::queue::ResourceQueues;
use crate::server::shared::Parts;
use crate::server::subscriptions::memory::MemorySubscriptions;
use crate::server::subscriptions::rows_behind::NoRows;
use crate::server::subscriptions::store::SubscriptionStore;
use crate::server::work::{NotifyQueue, Work};
use crate::time::Seconds;

#[test]
fn a_portion_is_numbered_under_one_lock() {
    let parts = Parts::without_database(fixtures::config());
    let (tables, store) = (&parts.shared.tables, MemorySubscriptions::new(parts, &NoRows));
    let resource = tables.rule().resource(b"sip:alice@example.org", PRESENCE);
    let mut rows = RowWork::new(parts.shared.missed_changes);
    for n in 0..70 {
        let new = fixtures::subscription(&format!("call{n}"), clock::now() + Seconds(3600));
        let dialog = NewDialog(tables.dialog_hash(new.dialog()));
        assert_eq!(store.subscribe(&mut rows, &new, &resource, dialog), Ok(Stored::New));
    }
    let (queues, mut work) = (ResourceQueues::new(parts, &NoRows), Work::new(&parts));
    assert!(queues.enqueue(&mut work, &resource, StateChange::State { sender: b"", transient_body: None }));
    let mut run = queues.begin_run(&mut work, &resource).expect("something is due");
    let portions: Vec<usize> = (0..4).map(|_| queues.next_batch(&mut work, &resource, &mut run).len()).collect();
    assert_eq!(portions, [32, 32, 6, 0]);
    assert!(run.is_at_end && fake::held_locks() == 0);
    work.held.forget(resource.hash);
}
