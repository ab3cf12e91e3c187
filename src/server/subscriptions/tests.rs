//! The store of subscriptions in memory, over rows that note what is asked of them, and can fail.
use crate::common::row_groups::Pass;
use crate::host::{clock, fake};
use crate::presence::authorization::Authorization;
use crate::presence::error::StoreError;
use crate::presence::ports::subscriptions::{NewDialog, Renewed, Stored};
use crate::presence::resource::Resource;
use crate::presence::subscription::dialog::DialogId;
use crate::presence::subscription::field::Field;
use crate::presence::subscription::{Renewal, RowState, Status, Subscription};
use crate::presence::testing::fixtures::subscription;
use crate::presence::testing::{PRESENCE, fixtures};
use crate::server::notifications::row_run::RowWork;
use crate::server::shared::Parts;
use crate::server::subscriptions::memory::MemorySubscriptions;
use crate::server::subscriptions::rows_behind::{NewRow, NoRows, RowsBehind};
use crate::server::subscriptions::store::{SubscriptionRows, SubscriptionStore};
use crate::server::subscriptions::write_back::WriteBack;
use crate::server::subscriptions::write_through::WriteThrough;
use crate::sip::transport::Transport;
use crate::time::{Moment, Seconds};
use std::cell::{Cell, RefCell};

/// Rows that note what is asked of them.
struct NotedRows {
    timing: SubscriptionRows,
    asked: RefCell<Vec<&'static str>>,
    fails: Cell<bool>,
}

impl NotedRows {
    fn new(timing: SubscriptionRows) -> &'static NotedRows {
        Box::leak(Box::new(NotedRows { timing, asked: RefCell::default(), fails: Cell::new(false) }))
    }

    fn write(&self, what: &'static str) -> Result<(), StoreError> {
        self.asked.borrow_mut().push(what);
        if self.fails.get() { Err(StoreError::Database) } else { Ok(()) }
    }
}

impl RowsBehind for NotedRows {
    fn row_timing(&self) -> SubscriptionRows {
        self.timing
    }
    fn add(&self, subscription: &Subscription, ahead: u32) -> Result<NewRow, StoreError> {
        self.write("add")?;
        Ok(NewRow { row_state: RowState::Clean, cseq: subscription.state.local_cseq + ahead })
    }
    fn changed(&self, _: DialogId<'_>) -> Result<(), StoreError> {
        self.write("changed")
    }
    fn restricted(&self, _: DialogId<'_>) {
        let _ = self.write("restricted");
    }
    fn removed(&self, _: DialogId<'_>) {
        let _ = self.write("removed");
    }
}

/// A store and the parts that it is made of.
struct Bench {
    parts: Parts,
    store: MemorySubscriptions,
    work: RowWork,
}

fn bench(rows: impl FnOnce(Parts) -> &'static dyn RowsBehind) -> Bench {
    let parts = Parts::without_database(fixtures::config());
    Bench {
        parts,
        store: MemorySubscriptions::new(parts, rows(parts)),
        work: RowWork::new(parts.shared.missed_changes),
    }
}

fn in_an_hour() -> Moment {
    clock::now() + Seconds(3600)
}

impl Bench {
    fn resource(&self) -> Resource {
        self.parts.shared.tables.rule().resource(b"sip:alice@example.org", PRESENCE)
    }

    fn subscribe(&mut self, subscription: &Subscription) -> Result<Stored, StoreError> {
        let dialog = NewDialog(self.parts.shared.tables.dialog_hash(subscription.dialog()));
        let resource = self.resource();
        self.store.subscribe(&mut self.work, subscription, &resource, dialog)
    }

    fn renew(&mut self, current: &Subscription, cseq: u32) -> Result<Renewed, StoreError> {
        let renewal = Renewal {
            expires_at: in_an_hour(),
            remote_cseq: cseq,
            contact: b"sip:bob@192.0.2.2",
            socket: b"",
            transport: Transport::Udp,
            local_contact: b"",
        };
        self.store.renew(&mut self.work, current, &renewal)
    }

    fn found(&self, subscription: &Subscription) -> Option<Subscription> {
        self.store.find(subscription.dialog()).expect("memory can be read")
    }
}

#[test]
fn a_subscription_is_made_once_renewed_and_removed() {
    let rows = NotedRows::new(SubscriptionRows::AtOnce);
    for (mut bench, asked) in [(bench(|_| &NoRows), None), (bench(|_| rows), Some(rows))] {
        let new = subscription("one", in_an_hour());
        assert_eq!(bench.subscribe(&new), Ok(Stored::New));
        assert_eq!(bench.subscribe(&new), Ok(Stored::Known));
        let (stored, resource) = (bench.found(&new).expect("stored"), bench.resource());
        assert_eq!(bench.store.watcher_count(&resource), Ok(1));
        assert!(bench.store.may_be_watched(&resource));
        assert!(matches!(bench.renew(&stored, 2), Ok(Renewed::Done)));
        let renewed = bench.found(&new).expect("stored");
        assert_eq!((renewed.state.remote_cseq, renewed.get(Field::Contact)), (2, &b"sip:bob@192.0.2.2"[..]));
        // What was found before is another one by now.
        assert!(matches!(bench.renew(&stored, 3), Ok(Renewed::Overtaken(now)) if now.state.remote_cseq == 2));
        assert!(bench.store.remove(new.dialog()).expect("removed").is_some());
        assert!(bench.store.remove(new.dialog()).expect("nothing").is_none());
        assert!(matches!(bench.renew(&renewed, 4), Ok(Renewed::Gone)));
        assert_eq!(bench.store.watcher_count(&resource), Ok(0));
        if let Some(rows) = asked {
            assert_eq!(*rows.asked.borrow(), ["add", "changed", "removed"]);
        }
    }
}

#[test]
fn nothing_is_stored_or_renewed_whose_row_cannot_be_written() {
    let rows = NotedRows::new(SubscriptionRows::AtOnce);
    let mut bench = bench(|_| rows);
    let new = subscription("one", in_an_hour());
    rows.fails.set(true);
    assert_eq!(bench.subscribe(&new), Err(StoreError::Database));
    assert!(bench.found(&new).is_none());
    rows.fails.set(false);
    assert_eq!(bench.subscribe(&new), Ok(Stored::New), "the dialog is not taken by what was not stored");
    let before = bench.found(&new).expect("stored");
    rows.fails.set(true);
    assert_eq!(bench.renew(&before, 2).err(), Some(StoreError::Database));
    let after = bench.found(&new).expect("stored");
    assert_eq!(after.state.remote_cseq, 1);
    assert_eq!(after.get(Field::Contact), before.get(Field::Contact));
}

#[test]
fn without_its_database_write_through_stores_nothing_and_write_back_goes_on() {
    let mut through = bench(|parts| Box::leak(Box::new(WriteThrough::new(parts))));
    let new = subscription("one", in_an_hour());
    assert_eq!(through.subscribe(&new), Err(StoreError::NoDatabase));
    assert!(through.found(&new).is_none());
    let mut back = bench(|parts| Box::leak(Box::new(WriteBack::new(parts))));
    assert_eq!(back.subscribe(&new), Ok(Stored::New));
    let stored = back.found(&new).expect("stored");
    assert!(matches!(back.renew(&stored, 2), Ok(Renewed::Done)));
    assert_eq!(back.store.write_back(Pass::Regular), Ok(0));
    let renewed = back.found(&new).expect("stored");
    assert_eq!(renewed.state.remote_cseq, 2);
    assert_ne!(renewed.state.row_state, RowState::Clean, "the row stays due");
}

#[test]
fn an_allocation_that_fails_costs_its_own_request() {
    let mut bench = bench(|_| &NoRows);
    assert_eq!(bench.subscribe(&subscription("first", in_an_hour())), Ok(Stored::New));
    let mut refused = 0;
    for n in 0.. {
        let new = subscription(&format!("call-{n}"), in_an_hour());
        let (stored, failed) = fake::failing_at(n, || bench.subscribe(&new));
        assert_eq!(fake::held_locks(), 0);
        assert_eq!(bench.found(&new).is_some(), stored == Ok(Stored::New), "allocation {n}: {stored:?}");
        if !failed {
            break;
        }
        if stored.is_err() {
            refused += 1;
            assert_eq!(bench.subscribe(&new), Ok(Stored::New), "the same request comes again");
        }
    }
    assert!(refused > 1, "only {refused} allocations were seen to fail");
    assert!(bench.found(&subscription("first", in_an_hour())).is_some());
    let before = bench.found(&subscription("first", in_an_hour())).expect("stored");
    for n in 0.. {
        let (renewed, failed) = fake::failing_at(n, || bench.renew(&before, 2).map(drop));
        if !failed {
            assert_eq!(renewed, Ok(()));
            break;
        }
        assert_eq!(renewed, Err(StoreError::NoMemory));
        assert_eq!(bench.found(&before).map(|stored| stored.state.remote_cseq), Some(1));
    }
}

#[test]
fn what_has_run_out_is_ended_and_the_rest_stays() {
    let rows = NotedRows::new(SubscriptionRows::Later);
    let mut bench = bench(|_| rows);
    let past = clock::now() - Seconds(5);
    let (stays, runs_out) = (subscription("stays", in_an_hour()), ["a", "b", "c"].map(|id| subscription(id, past)));
    for new in runs_out.iter().chain([&stays]) {
        assert_eq!(bench.subscribe(new), Ok(Stored::New));
    }
    let mut end = |limit| bench.store.end_expired(&mut bench.work, clock::now(), limit).expect("memory").len();
    assert_eq!((end(2), end(2), end(2)), (2, 1, 0));
    let mut left = Vec::new();
    let each = bench.store.each(&mut |subscription| {
        left.push(subscription.get(Field::CallId).to_vec());
        true
    });
    assert_eq!((each, left), (Ok(()), vec![b"stays".to_vec()]));
}

#[test]
fn a_watcher_that_may_see_less_has_its_row_say_so() {
    let rows = NotedRows::new(SubscriptionRows::Later);
    let mut bench = bench(|_| rows);
    let new = subscription("one", in_an_hour());
    assert_eq!(bench.subscribe(&new), Ok(Stored::New));
    let blocked = Authorization { status: Status::Terminated, reason: b"rejected".to_vec() };
    let mut set = |to: &Authorization| bench.store.set_authorization(&mut bench.work, new.dialog(), to);
    assert_eq!((set(&blocked), set(&blocked)), (Ok(true), Ok(false)));
    assert_eq!(*rows.asked.borrow(), ["add", "restricted", "changed"]);
    let stored = bench.found(&new).expect("stored");
    assert_eq!((stored.state.status, stored.get(Field::Reason)), (Status::Terminated, &b"rejected"[..]));
}
