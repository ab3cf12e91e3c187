//! The subscription table of the C API (`modules/presence/hash.h`): buckets of `subs_t` with a head sentinel and a lock
//! that callers take and walk themselves. Its memory layout is part of the API; our own subscriptions live elsewhere.
use crate::abi::c_types::{str_t, subs_t};
use crate::host::bytes::view;
use crate::host::clock;
use crate::host::db::{Borrowed, Cell, Cond, DbError, Op, Value};
use crate::sys;
use std::ffi::{c_int, c_uint, c_void};
use std::ptr::null_mut;

const PKG_MEM_TYPE: c_int = 1 << 1;
const REMOTE_TYPE: c_int = 1 << 1;
/// `NO_UPDATEDB_FLAG`, `UPDATEDB_FLAG`, `INSERTDB_FLAG` of `modules/pua/hash.h`.
const CLEAN: c_int = 1 << 0;
const UPDATE: c_int = 1 << 1;
const INSERT: c_int = 1 << 2;

/// The strings of a `subs_t` that live in its own block, in the order they are packed.
macro_rules! packed {
    ($subs:expr) => {{
        let s: *mut subs_t = $subs;
        [
            &raw mut (*s).pres_uri,
            &raw mut (*s).to_user,
            &raw mut (*s).to_domain,
            &raw mut (*s).from_user,
            &raw mut (*s).from_domain,
            &raw mut (*s).watcher_user,
            &raw mut (*s).watcher_domain,
            &raw mut (*s).event_id,
            &raw mut (*s).to_tag,
            &raw mut (*s).from_tag,
            &raw mut (*s).callid,
            &raw mut (*s).sockinfo_str,
            &raw mut (*s).local_contact,
            &raw mut (*s).reason,
            &raw mut (*s).user_agent,
        ]
    }};
}

/// One of the host's two memories.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Memory {
    Private,
    Shared,
}

impl Memory {
    fn allocate(self, size: usize) -> *mut u8 {
        // SAFETY: plain allocations of the host.
        let block = unsafe {
            match self {
                Memory::Private => sys::kr_pkg_malloc(size),
                Memory::Shared => sys::kr_shm_malloc(size),
            }
        };
        if block.is_null() {
            crate::limited!(Error, "no more {} memory", if self == Memory::Private { "pkg" } else { "share" });
        }
        block as *mut u8
    }

    /// # Safety
    /// `block` came from this memory, or is null.
    unsafe fn free(self, block: *mut c_void) {
        if block.is_null() {
            return;
        }
        // SAFETY: the caller vouches for the block.
        unsafe {
            match self {
                Memory::Private => sys::kr_pkg_free(block),
                Memory::Shared => sys::kr_shm_free(block),
            }
        }
    }
}

/// A copy of a `str`'s text in its own shared block.
///
/// # Safety
/// `text` is a valid `str`.
unsafe fn own_block(text: &str_t) -> Option<str_t> {
    // SAFETY: the caller vouches for the text; the block has its size.
    unsafe {
        let bytes = view(text);
        if bytes.is_empty() {
            return Some(crate::host::bytes::null());
        }
        let block = Memory::Shared.allocate(bytes.len());
        if block.is_null() {
            return None;
        }
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), block, bytes.len());
        Some(str_t { s: block as *mut _, len: bytes.len() as i32 })
    }
}

/// How much of a subscription is copied.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// All of it.
    All,
    /// All but the contact and the route set.
    WithoutTarget,
}

/// Copies a subscription into one block; contact and route set are in it only where the `part` is all of it.
///
/// # Safety
/// `source` is a valid `subs_t`.
unsafe fn copy(source: *mut subs_t, memory: Memory, part: Part) -> *mut subs_t {
    // SAFETY: the caller vouches for the source; everything written stays inside the block whose size is counted first.
    unsafe {
        let mut strings = packed!(source).to_vec();
        if part == Part::All {
            strings.extend([&raw mut (*source).contact, &raw mut (*source).record_route]);
        }
        let text: usize = strings.iter().map(|s| view(&**s).len()).sum();
        let block = memory.allocate(size_of::<subs_t>() + text) as *mut subs_t;
        if block.is_null() {
            return null_mut();
        }
        std::ptr::copy_nonoverlapping(source, block, 1);
        (*block).next = null_mut();
        (*block).auth_rules_doc = null_mut();
        let mut targets = packed!(block).to_vec();
        targets.extend([&raw mut (*block).contact, &raw mut (*block).record_route]);
        let mut at = block.add(1) as *mut u8;
        for (index, target) in targets.into_iter().enumerate() {
            *target = match strings.get(index) {
                Some(string) if !view(&**string).is_empty() => {
                    let bytes = view(&**string);
                    std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len());
                    let start = at;
                    at = at.add(bytes.len());
                    str_t { s: start as *mut _, len: bytes.len() as i32 }
                }
                _ => crate::host::bytes::null(),
            };
        }
        block
    }
}

/// Frees a record of a table: its block, its contact, its route set.
///
/// # Safety
/// `record` was made by `insert` and is no longer linked.
unsafe fn free_record(record: *mut subs_t) {
    // SAFETY: the caller vouches for the record.
    unsafe {
        Memory::Shared.free((*record).contact.s as *mut _);
        Memory::Shared.free((*record).record_route.s as *mut _);
        Memory::Shared.free(record as *mut _);
    }
}

/// Who locks a bucket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Locked {
    /// The function that looks at it.
    Here,
    /// The caller needs no lock: nobody else is there.
    Needless,
}

/// A bucket, locked; let go when dropped.
struct Bucket {
    entry: *mut sys::subs_entry,
    locked: bool,
}

impl Bucket {
    /// # Safety
    /// `table` has a bucket of this number.
    unsafe fn lock(table: *mut sys::subs_entry, hash: c_uint, lock: Locked) -> Bucket {
        // SAFETY: the caller vouches for table and number.
        unsafe {
            let entry = table.add(hash as usize);
            if lock == Locked::Here {
                sys::kr_lock_get(&raw mut (*entry).lock as *mut _);
            }
            Bucket { entry, locked: lock == Locked::Here }
        }
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        if self.locked {
            // SAFETY: locked by `lock`.
            unsafe { sys::kr_lock_release(&raw mut (*self.entry).lock as *mut _) }
        }
    }
}

/// The record before the one of a dialog.
///
/// # Safety
/// The bucket is locked; the strings are valid.
unsafe fn find_before(head: *mut subs_t, callid: &[u8], to_tag: &[u8], from_tag: &[u8]) -> Option<*mut subs_t> {
    // SAFETY: the list ends in null and its records are valid while the bucket is locked.
    unsafe {
        let mut before = head;
        while !before.is_null() && !(*before).next.is_null() {
            let record = (*before).next;
            if view(&(*record).callid) == callid
                && view(&(*record).to_tag) == to_tag
                && view(&(*record).from_tag) == from_tag
            {
                return Some(before);
            }
            before = record;
        }
        None
    }
}

pub(crate) unsafe extern "C" fn new_shtable(size: c_int) -> *mut sys::subs_entry {
    entry!(new_shtable, null_mut(), {
        let Ok(count) = usize::try_from(size) else { return null_mut() };
        let table = Memory::Shared.allocate(count * size_of::<sys::subs_entry>()) as *mut sys::subs_entry;
        if table.is_null() {
            return null_mut();
        }
        for index in 0..count {
            let head = Memory::Shared.allocate(size_of::<subs_t>()) as *mut subs_t;
            // SAFETY: `index` is below the number of buckets; a head is zeroed before it is linked.
            unsafe {
                if head.is_null() {
                    free_buckets(table, index);
                    return null_mut();
                }
                std::ptr::write_bytes(head, 0, 1);
                let entry = table.add(index);
                (*entry).entries = head;
                sys::kr_lock_init(&raw mut (*entry).lock as *mut _);
            }
        }
        table
    })
}

/// # Safety
/// `table` has at least `count` buckets and nobody else uses it.
unsafe fn free_buckets(table: *mut sys::subs_entry, count: usize) {
    // SAFETY: the caller vouches for the table.
    unsafe {
        for index in 0..count {
            let head = (*table.add(index)).entries;
            let mut record = if head.is_null() { head } else { (*head).next };
            while !record.is_null() {
                let next = (*record).next;
                free_record(record);
                record = next;
            }
            Memory::Shared.free(head as *mut _);
        }
        Memory::Shared.free(table as *mut _);
    }
}

pub(crate) unsafe extern "C" fn destroy_shtable(table: *mut sys::subs_entry, size: c_int) {
    entry!(destroy_shtable, (), {
        if !table.is_null() {
            // SAFETY: a table of `new_shtable` that its owner gives up.
            unsafe { free_buckets(table, size.max(0) as usize) }
        }
    })
}

pub(crate) unsafe extern "C" fn search_shtable(
    table: *mut sys::subs_entry,
    callid: str_t,
    to_tag: str_t,
    from_tag: str_t,
    hash: c_uint,
) -> *mut subs_t {
    entry!(search_shtable, null_mut(), {
        if table.is_null() {
            return null_mut();
        }
        // SAFETY: the caller holds the bucket's lock, as the API says.
        unsafe {
            let head = (*table.add(hash as usize)).entries;
            find_before(head, view(&callid), view(&to_tag), view(&from_tag)).map_or(null_mut(), |before| (*before).next)
        }
    })
}

pub(crate) unsafe extern "C" fn insert_shtable(table: *mut sys::subs_entry, hash: c_uint, subs: *mut subs_t) -> c_int {
    entry!(insert_shtable, -1, {
        if table.is_null() || subs.is_null() {
            return -1;
        }
        // SAFETY: the caller's table and subscription; the record is complete before it is linked.
        unsafe {
            let record = copy(subs, Memory::Shared, Part::WithoutTarget);
            if record.is_null() {
                return -1;
            }
            let (Some(contact), Some(route)) = (own_block(&(*subs).contact), own_block(&(*subs).record_route)) else {
                free_record(record);
                return -1;
            };
            (*record).contact = contact;
            (*record).record_route = route;
            (*record).expires = expires_at((*subs).expires, clock::wall().0 as c_uint, crate::HOST_VERSION);
            let bucket = Bucket::lock(table, hash, Locked::Here);
            let head = (*bucket.entry).entries;
            (*record).next = (*head).next;
            (*head).next = record;
            0
        }
    })
}

/// When a record expires of which the caller said `given`: seconds from now, which the host counts as such from 6.1 on
/// only where it is no point in time that has yet to come, and where it is not 0.
fn expires_at(given: c_uint, now: c_uint, host_version: u32) -> c_uint {
    if host_version >= 6_001_000 && (given == 0 || given >= now) { given } else { given.wrapping_add(now) }
}

/// Removes a record. The CSeq that a last NOTIFY carries comes back, or -1 when there was none.
pub(crate) unsafe extern "C" fn delete_shtable(table: *mut sys::subs_entry, hash: c_uint, subs: *mut subs_t) -> c_int {
    entry!(delete_shtable, -1, {
        if table.is_null() || subs.is_null() {
            return -1;
        }
        // SAFETY: the caller's table and subscription; the record is unlinked under the lock and freed after it.
        unsafe {
            let record = {
                let bucket = Bucket::lock(table, hash, Locked::Here);
                let head = (*bucket.entry).entries;
                let (callid, to, from) = (view(&(*subs).callid), view(&(*subs).to_tag), view(&(*subs).from_tag));
                let Some(before) = find_before(head, callid, to, from) else { return -1 };
                let record = (*before).next;
                (*before).next = (*record).next;
                record
            };
            let cseq = (*record).local_cseq.wrapping_add(1) as c_int;
            free_record(record);
            cseq
        }
    })
}

pub(crate) unsafe extern "C" fn update_shtable(
    table: *mut sys::subs_entry,
    hash: c_uint,
    subs: *mut subs_t,
    kind: c_int,
) -> c_int {
    entry!(update_shtable, -1, {
        if table.is_null() || subs.is_null() {
            return -1;
        }
        // SAFETY: the caller's table and subscription; new blocks are made before the lock is taken, old ones freed
        // after.
        unsafe {
            let given = &mut *subs;
            let (Some(contact), Some(route)) = (own_block(&given.contact), own_block(&given.record_route)) else {
                return -1;
            };
            let (mut old_contact, mut old_route) = (contact, route);
            let found = {
                let bucket = Bucket::lock(table, hash, Locked::Here);
                let head = (*bucket.entry).entries;
                let before = find_before(head, view(&given.callid), view(&given.to_tag), view(&given.from_tag));
                if let Some(before) = before {
                    let record = &mut *(*before).next;
                    if kind == REMOTE_TYPE {
                        record.expires = given.expires.wrapping_add(clock::wall().0 as c_uint);
                        record.remote_cseq = given.remote_cseq;
                    } else {
                        record.local_cseq = record.local_cseq.wrapping_add(1);
                        record.version = record.version.wrapping_add(1);
                        given.local_cseq = record.local_cseq;
                        given.version = record.version;
                    }
                    if contact.len > 0 {
                        old_contact = std::mem::replace(&mut record.contact, contact);
                    }
                    if route.len > 0 {
                        old_route = std::mem::replace(&mut record.record_route, route);
                    }
                    record.status = given.status;
                    record.event = given.event;
                    given.db_flag = record.db_flag;
                    if record.db_flag & CLEAN != 0 {
                        record.db_flag = UPDATE;
                    }
                }
                before.is_some()
            };
            Memory::Shared.free(old_contact.s as *mut _);
            Memory::Shared.free(old_route.s as *mut _);
            if found { 0 } else { -1 }
        }
    })
}

pub(crate) unsafe extern "C" fn mem_copy_subs(subs: *mut subs_t, kind: c_int) -> *mut subs_t {
    entry!(mem_copy_subs, null_mut(), {
        if subs.is_null() {
            return null_mut();
        }
        let memory = if kind & PKG_MEM_TYPE != 0 { Memory::Private } else { Memory::Shared };
        // SAFETY: the caller's subscription.
        unsafe { copy(subs, memory, Part::All) }
    })
}

/// What the timer found in one bucket.
struct Due {
    expired: Vec<*mut subs_t>,
    changed: Vec<(*mut subs_t, bool)>,
}

/// Takes what has run out off a bucket's list, and copies what its rows need.
///
/// # Safety
/// A table of `new_shtable`.
unsafe fn collect(table: *mut sys::subs_entry, index: c_uint, lock: Locked) -> Due {
    let mut due = Due { expired: Vec::new(), changed: Vec::new() };
    let now = clock::wall().0 as c_uint;
    // SAFETY: the bucket is locked (or its owner says that nobody else is there) while the list is walked.
    unsafe {
        let bucket = Bucket::lock(table, index, lock);
        let mut before = (*bucket.entry).entries;
        while !before.is_null() && !(*before).next.is_null() {
            let record = (*before).next;
            if (*record).expires < now {
                (*before).next = (*record).next;
                due.expired.push(record);
                continue;
            }
            if (*record).db_flag & (UPDATE | INSERT) != 0 {
                let copied = copy(record, Memory::Private, Part::All);
                if !copied.is_null() {
                    due.changed.push((copied, (*record).db_flag & INSERT != 0));
                    (*record).db_flag = CLEAN;
                }
            }
            before = record;
        }
    }
    due
}

/// # Safety
/// A valid subscription.
unsafe fn write_row(db: &Borrowed<'_>, subs: &subs_t, insert: bool) -> Result<(), DbError> {
    // SAFETY: the caller vouches for the strings.
    unsafe {
        let text = |s: &str_t| Value::Text(view(s));
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
        if !insert {
            let conditions: Vec<Cond<'_>> = key.iter().map(|(name, value)| (*name, Op::Eq, *value)).collect();
            return db.update(&changing, &conditions);
        }
        let event = if subs.event.is_null() { &[][..] } else { view(&(*subs.event).name) };
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
            ("event", Value::Text(event)),
            ("event_id", text(&subs.event_id)),
            ("record_route", text(&subs.record_route)),
            ("local_contact", text(&subs.local_contact)),
            ("socket_info", text(&subs.sockinfo_str)),
        ]);
        db.insert(&cells)
    }
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
        // SAFETY: the calling module's own connection, functions and table.
        unsafe {
            let db = functions.as_ref().filter(|_| !connection.is_null()).map(|f| Borrowed::new(f, connection));
            for index in 0..size.max(0) as c_uint {
                let lock = if no_lock == 0 { Locked::Here } else { Locked::Needless };
                let due = collect(table, index, lock);
                for record in due.expired {
                    if let Some(handle) = handle_expired {
                        handle(record);
                    }
                    if let Some(db) = &db {
                        delete_row(db, &*record);
                    }
                    free_record(record);
                }
                for (copied, insert) in due.changed {
                    if let Some(Err(error)) = db.as_ref().map(|db| write_row(db, &*copied, insert)) {
                        crate::limited!(Error, "cannot write the row of a subscription: {error}");
                    }
                    Memory::Private.free(copied as *mut _);
                }
            }
        }
    })
}

/// # Safety
/// A valid record.
unsafe fn delete_row(db: &Borrowed<'_>, record: &subs_t) {
    // SAFETY: the caller vouches for the strings.
    let deleted = unsafe {
        db.delete(&[
            ("callid", Op::Eq, Value::Text(view(&record.callid))),
            ("to_tag", Op::Eq, Value::Text(view(&record.to_tag))),
            ("from_tag", Op::Eq, Value::Text(view(&record.from_tag))),
        ])
    };
    if let Err(error) = deleted {
        crate::limited!(Error, "cannot delete the row of an expired subscription: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_lives_as_long_as_the_host_makes_it() {
        for host in [5_006_003, 6_000_001, 6_001_005] {
            assert_eq!(expires_at(60, 1_000, host), 1_060);
        }
        assert_eq!(expires_at(0, 1_000, 6_000_001), 1_000);
        assert_eq!(expires_at(0, 1_000, 6_001_005), 0);
        assert_eq!(expires_at(1_060, 1_000, 6_000_001), 2_060);
        assert_eq!(expires_at(1_060, 1_000, 6_001_005), 1_060);
    }
}
