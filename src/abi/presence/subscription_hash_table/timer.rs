//! The timer of the table: what changed is written to the database table that its module has chosen, what has run out
//! ends.
use super::record::{CLEAN, CopyExtent, INSERT, Memory, UPDATE, copy, free_record};
use super::{Bucket, DialogKey, Locked, after, unlink_after};
use crate::abi::c_types::{str_t, subs_t};
use crate::host::bytes::view;
use crate::host::clock;
use crate::host::db::{Borrowed, Cell, Cond, DbError, Op, Value};
use crate::sys;
use std::ffi::{c_int, c_uint};

/// What is done to the row of a record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RowWrite {
    Insert,
    Update,
}

/// What the timer found in one bucket.
struct DueRecords {
    expired: Vec<*mut subs_t>,
    changed: Vec<(*mut subs_t, RowWrite)>,
}

/// Takes what has run out off a bucket's list, and copies what its rows need.
///
/// # Safety
/// A table of `new_shtable`.
unsafe fn collect(table: *mut sys::subs_entry, index: c_uint, lock: Locked) -> DueRecords {
    let mut due = DueRecords { expired: Vec::new(), changed: Vec::new() };
    let now = clock::wall().0 as c_uint;
    // SAFETY: the caller's table has a bucket with this number.
    let bucket = unsafe { Bucket::lock(table, index, lock) };
    let mut before = bucket.head();
    loop {
        // SAFETY: the bucket is locked, or its owner says that nobody else is there.
        let next = unsafe { after(before) };
        // SAFETY: `next` is a record of the bucket, which stays while the bucket is ours, or the null at the end.
        let Some(record) = (unsafe { next.as_ref() }) else { break };
        if record.expires < now {
            // SAFETY: `before` is followed by `record`, and the reference to that was read for the last time.
            due.expired.push(unsafe { unlink_after(before) });
            continue;
        }
        let flag = record.db_flag;
        if flag & (UPDATE | INSERT) != 0 {
            // SAFETY: a record of the list, whose bucket is ours until this function returns.
            let copied = unsafe { copy(next, Memory::Private, CopyExtent::All) };
            if !copied.is_null() {
                due.changed.push((copied, if flag & INSERT != 0 { RowWrite::Insert } else { RowWrite::Update }));
                // SAFETY: the record is still in the list, and the bucket is ours until this function returns.
                unsafe { (*next).db_flag = CLEAN };
            }
        }
        before = next;
    }
    due
}

/// # Safety
/// A valid subscription.
unsafe fn write_row(db: &Borrowed<'_>, subs: *const subs_t, write: RowWrite) -> Result<(), DbError> {
    // SAFETY: the caller says that it is a whole subscription, which nobody changes meanwhile.
    let subs = unsafe { subs.read() };
    // SAFETY: the caller vouches for the strings.
    let text = |s: &str_t| Value::Text(unsafe { view(s) });
    let key: [Cell<'_>; 3] =
        [("callid", text(&subs.callid)), ("to_tag", text(&subs.to_tag)), ("from_tag", text(&subs.from_tag))];
    let changing: [Cell<'_>; 8] = [
        ("expires", Value::Int(subs.expires.into())),
        ("status", Value::Int(subs.status.into())),
        ("reason", text(&subs.reason)),
        ("remote_cseq", Value::Int(subs.remote_cseq.into())),
        ("local_cseq", Value::Int(subs.local_cseq.into())),
        ("contact", text(&subs.contact)),
        ("version", Value::Int(subs.version.into())),
        ("updated", Value::Int(subs.updated.into())),
    ];
    if write == RowWrite::Update {
        let conditions: Vec<Cond<'_>> = key.iter().map(|(name, value)| (*name, Op::Eq, *value)).collect();
        return db.update(&changing, &conditions);
    }
    // SAFETY: null, or a package that is registered.
    let event = unsafe { subs.event.as_ref() };
    let event = event.map_or(Value::Text(&[]), |event| text(&event.name));
    let mut cells: Vec<Cell<'_>> = key.to_vec();
    cells.extend(changing);
    cells.extend([
        ("presentity_uri", text(&subs.pres_uri)),
        ("to_user", text(&subs.to_user)),
        ("to_domain", text(&subs.to_domain)),
        ("from_user", text(&subs.from_user)),
        ("from_domain", text(&subs.from_domain)),
        ("watcher_username", text(&subs.watcher_user)),
        ("watcher_domain", text(&subs.watcher_domain)),
        ("event", event),
        ("event_id", text(&subs.event_id)),
        ("record_route", text(&subs.record_route)),
        ("local_contact", text(&subs.local_contact)),
        ("socket_info", text(&subs.sockinfo_str)),
    ]);
    db.insert(&cells)
}

type HandleExpired = Option<unsafe extern "C" fn(*mut subs_t) -> c_int>;

/// Writes what changed in another module's table to the database table that it has chosen, and ends what has run out.
pub(crate) unsafe extern "C" fn update_db_subs_timer(
    connection: *mut sys::db1_con_t,
    functions: *mut sys::db_func_t,
    table: *mut sys::subs_entry,
    size: c_int,
    no_lock: c_int,
    handle_expired: HandleExpired,
) {
    entry!(update_db_subs_timer, (), {
        if table.is_null() {
            return;
        }
        // SAFETY: the calling module's own functions, or null.
        let functions = unsafe { functions.as_ref() }.filter(|_| !connection.is_null());
        // SAFETY: they belong to its connection, which is not null.
        let db = functions.map(|functions| unsafe { Borrowed::new(functions, connection) });
        let lock = if no_lock == 0 { Locked::Here } else { Locked::Needless };
        for index in 0..size.max(0) as c_uint {
            // SAFETY: the module's own table, and one of its buckets.
            let due = unsafe { collect(table, index, lock) };
            for record in due.expired {
                if let Some(handle) = handle_expired {
                    // SAFETY: the module's own function, for a record that is in no list any more.
                    unsafe { handle(record) };
                }
                if let Some(db) = &db {
                    // SAFETY: the record is valid until it is freed below.
                    unsafe { delete_row(db, record) };
                }
                // SAFETY: `collect` has taken the record off its list, and nobody uses it after this line.
                unsafe { free_record(record) };
            }
            for (copied, write) in due.changed {
                // SAFETY: `collect` has made the copy, which this loop alone knows, with all its strings.
                if let Some(Err(error)) = db.as_ref().map(|db| unsafe { write_row(db, copied, write) }) {
                    crate::limited!(Error, "cannot write the row of a subscription: {error}");
                }
                // SAFETY: one block of private memory, with all its strings.
                unsafe { Memory::Private.free(copied) };
            }
        }
    })
}

/// # Safety
/// A valid record.
unsafe fn delete_row(db: &Borrowed<'_>, record: *const subs_t) {
    // SAFETY: the caller vouches for the record.
    let record = unsafe { record.read() };
    // SAFETY: its strings live as long as it does.
    let dialog = unsafe { DialogKey::new(&record.callid, &record.to_tag, &record.from_tag) };
    let deleted = db.delete(&[
        ("callid", Op::Eq, Value::Text(dialog.callid)),
        ("to_tag", Op::Eq, Value::Text(dialog.to_tag)),
        ("from_tag", Op::Eq, Value::Text(dialog.from_tag)),
    ]);
    if let Err(error) = deleted {
        crate::limited!(Error, "cannot delete the row of an expired subscription: {error}");
    }
}
