//! The subscription table of the C API (`modules/presence/hash.h`): buckets of `subs_t` with a head sentinel and a lock
//! that callers take and walk themselves. Its memory layout is part of the API; our own subscriptions live elsewhere.
mod record;
pub(crate) mod timer;

use crate::abi::c_types::{str_t, subs_t};
use crate::host::bytes::null;
use crate::host::bytes::view;
use crate::host::clock;
use crate::sys;
use record::{CopyExtent, Memory, OwnBlock, change, copy, expires_at, free_record, own_block};
use std::ffi::{c_int, c_uint, c_void};
use std::marker::PhantomData;
use std::ptr::null_mut;

const PKG_MEM_TYPE: c_int = 1 << 1;

/// The one who locks a bucket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Locked {
    /// The function that looks at it.
    Here,
    /// The caller needs no lock, or holds it.
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
        let entry = unsafe { table.add(hash as usize) };
        let bucket = Bucket { entry, locked: lock == Locked::Here };
        if bucket.locked {
            // SAFETY: `new_shtable` has initialised the lock.
            unsafe { sys::kr_lock_get(bucket.word()) };
            fault_point!("bucket");
        }
        bucket
    }

    /// The lock as the host's functions take it.
    fn word(&self) -> *mut c_void {
        // SAFETY: only the place of a field is computed, in a bucket that `lock` was promised.
        unsafe { &raw mut (*self.entry).lock as *mut c_void }
    }

    /// The sentinel before the first record.
    fn head(&self) -> *mut subs_t {
        // SAFETY: the bucket lives; its head is set when the table is made and never changed.
        unsafe { (*self.entry).entries }
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        if self.locked {
            // SAFETY: locked by `lock`, and let go once.
            unsafe { sys::kr_lock_release(self.word()) }
        }
    }
}

/// The record behind another one, or null.
///
/// # Safety
/// `record` is null, or one of a list that does not change meanwhile.
unsafe fn after(record: *mut subs_t) -> *mut subs_t {
    // SAFETY: the caller says that the record is in a list whose bucket is locked, or null.
    unsafe { record.as_ref() }.map_or(null_mut(), |record| record.next)
}

/// Takes the record behind this one off its list.
///
/// # Safety
/// The bucket is locked, and `before` is one of its records, or its head, and not the last.
unsafe fn unlink_after(before: *mut subs_t) -> *mut subs_t {
    // SAFETY: the caller holds the lock of the bucket that `before` belongs to.
    let record = unsafe { after(before) };
    // SAFETY: `before` was not the last one, so this is a record of the same locked bucket.
    let rest = unsafe { after(record) };
    // SAFETY: `before` is a record under the lock, and no reference to it is held.
    unsafe { (*before).next = rest };
    record
}

/// A dialog as the API names it.
struct DialogKey<'a> {
    callid: &'a [u8],
    to_tag: &'a [u8],
    from_tag: &'a [u8],
}

impl<'a> DialogKey<'a> {
    /// # Safety
    /// The strings are valid for `'a`.
    unsafe fn new(callid: &str_t, to_tag: &str_t, from_tag: &str_t) -> DialogKey<'a> {
        // SAFETY: the caller hands in strings that live for `'a`.
        let text = |text: &str_t| unsafe { view(text) };
        DialogKey { callid: text(callid), to_tag: text(to_tag), from_tag: text(from_tag) }
    }

    fn is(&self, other: &DialogKey<'_>) -> bool {
        self.callid == other.callid && self.to_tag == other.to_tag && self.from_tag == other.from_tag
    }
}

/// A subscription that a caller of the API has handed in: its structure, and strings that live for `'a`.
struct GivenRecord<'a> {
    record: subs_t,
    strings: PhantomData<&'a [u8]>,
}

impl<'a> GivenRecord<'a> {
    /// # Safety
    /// `subs` is a whole subscription, nobody changes it during the call, and its strings are valid for `'a`.
    unsafe fn read(subs: *const subs_t) -> GivenRecord<'a> {
        // SAFETY: the caller says that it is whole. It is copied: it may be a record of a table, which is changed.
        GivenRecord { record: unsafe { subs.read() }, strings: PhantomData }
    }

    fn dialog(&self) -> DialogKey<'a> {
        let given = &self.record;
        // SAFETY: the caller of `read` has said that they are valid for `'a`, and nothing here changes where they are.
        unsafe { DialogKey::new(&given.callid, &given.to_tag, &given.from_tag) }
    }

    /// Contact and route set in blocks of their own; `None` where there is no memory.
    fn target_in_blocks(&self) -> [Option<OwnBlock>; 2] {
        // SAFETY: as for the dialog; what is made are copies.
        [&self.record.contact, &self.record.record_route].map(|text| unsafe { own_block(text) })
    }
}

/// The record before the one of a dialog.
///
/// # Safety
/// The bucket is locked, and `head` is its sentinel.
unsafe fn find_before(head: *mut subs_t, wanted: &DialogKey<'_>) -> Option<*mut subs_t> {
    let mut before = head;
    loop {
        // SAFETY: the list ends in null, and its records are valid while the bucket is locked.
        let record = unsafe { after(before) };
        // SAFETY: a record of the locked bucket, or the null that ends its list.
        let found = unsafe { record.as_ref() }?;
        // SAFETY: the strings of a record live as long as it does.
        let dialog = unsafe { DialogKey::new(&found.callid, &found.to_tag, &found.from_tag) };
        if dialog.is(wanted) {
            return Some(before);
        }
        before = record;
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
            // SAFETY: `index` is below the number of buckets that the block has room for.
            let entry = unsafe { table.add(index) };
            if head.is_null() {
                // SAFETY: this many buckets are complete, and nobody knows the table yet.
                unsafe { free_buckets(table, index) };
                return null_mut();
            }
            // SAFETY: a `subs_t` of zeroes is valid: null pointers, numbers, no functions.
            unsafe { head.write_bytes(0, 1) };
            // SAFETY: a bucket of zeroes is valid, too, until its lock is initialised below.
            unsafe { entry.write_bytes(0, 1) };
            // SAFETY: the line above has written the bucket; nobody else knows it yet.
            unsafe { (*entry).entries = head };
            let bucket = Bucket { entry, locked: false };
            // SAFETY: nobody knows the lock yet.
            unsafe { sys::kr_lock_init(bucket.word()) };
        }
        table
    })
}

/// # Safety
/// `table` has at least `count` buckets and nobody else uses it.
unsafe fn free_buckets(table: *mut sys::subs_entry, count: usize) {
    for index in 0..count {
        // SAFETY: `index` is below the count of buckets that the caller has given.
        let entry = unsafe { table.add(index) };
        let head = Bucket { entry, locked: false }.head();
        // SAFETY: the records of a list whose table nobody else uses.
        while !unsafe { after(head) }.is_null() {
            // SAFETY: the table is nobody else's, and the record behind this one was found to exist.
            let record = unsafe { unlink_after(head) };
            // SAFETY: it is in no list any more.
            unsafe { free_record(record) };
        }
        // SAFETY: the head is a block of its own, of `new_shtable`.
        unsafe { Memory::Shared.free(head) };
    }
    // SAFETY: all that the table led to was given back.
    unsafe { Memory::Shared.free(table) };
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
        // SAFETY: the caller's strings stay as they are until this call returns.
        let wanted = unsafe { DialogKey::new(&callid, &to_tag, &from_tag) };
        // SAFETY: the caller holds the bucket's lock, as the API says: it is not taken here.
        let bucket = unsafe { Bucket::lock(table, hash, Locked::Needless) };
        // SAFETY: the caller of the API holds the lock of this bucket until the call returns.
        let before = unsafe { find_before(bucket.head(), &wanted) };
        // SAFETY: null, or a record of the same list.
        unsafe { after(before.unwrap_or(null_mut())) }
    })
}

pub(crate) unsafe extern "C" fn insert_shtable(table: *mut sys::subs_entry, hash: c_uint, subs: *mut subs_t) -> c_int {
    entry!(insert_shtable, -1, {
        if table.is_null() || subs.is_null() {
            return -1;
        }
        // SAFETY: the API has the caller keep the subscription and its strings as they are until this returns.
        let given = unsafe { GivenRecord::read(subs) };
        // SAFETY: the same subscription, of which a copy is made.
        let record = unsafe { copy(subs, Memory::Shared, CopyExtent::WithoutTarget) };
        if record.is_null() {
            return -1;
        }
        let [contact, route] = given.target_in_blocks();
        let is_whole = contact.is_some() && route.is_some();
        // SAFETY: `copy` made the record, and nobody else knows it yet.
        let made = unsafe { &mut *record };
        made.contact = contact.map_or(null(), OwnBlock::into_raw);
        made.record_route = route.map_or(null(), OwnBlock::into_raw);
        made.expires = expires_at(given.record.expires, clock::wall().0 as c_uint, crate::HOST_VERSION);
        if !is_whole {
            // SAFETY: the record was not linked.
            unsafe { free_record(record) };
            return -1;
        }
        // SAFETY: the caller's table, and a number of one of its buckets.
        let bucket = unsafe { Bucket::lock(table, hash, Locked::Here) };
        let head = bucket.head();
        // SAFETY: the head of a bucket that is locked.
        made.next = unsafe { after(head) };
        // SAFETY: the bucket is locked here, and the record is complete before the list leads to it.
        unsafe { (*head).next = record };
        0
    })
}

/// Removes a record. The CSeq that a last NOTIFY carries comes back, or -1 when there was none.
pub(crate) unsafe extern "C" fn delete_shtable(table: *mut sys::subs_entry, hash: c_uint, subs: *mut subs_t) -> c_int {
    entry!(delete_shtable, -1, {
        if table.is_null() || subs.is_null() {
            return -1;
        }
        // SAFETY: the caller names the dialog by a subscription of its own, which is not touched before this returns.
        let wanted = unsafe { GivenRecord::read(subs) }.dialog();
        // SAFETY: the caller's table, and a number of one of its buckets.
        let bucket = unsafe { Bucket::lock(table, hash, Locked::Here) };
        // SAFETY: the bucket is locked until it is dropped below, so that its list stays as it is.
        let Some(before) = (unsafe { find_before(bucket.head(), &wanted) }) else { return -1 };
        // SAFETY: the bucket is locked here, and the dialog's record comes behind `before`.
        let record = unsafe { unlink_after(before) };
        drop(bucket);
        // SAFETY: it is in no list any more, and has not been freed.
        let cseq = unsafe { (*record).local_cseq };
        // SAFETY: the bucket was unlocked after the record had left its list: nobody else can find it.
        unsafe { free_record(record) };
        cseq.wrapping_add(1) as c_int
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
        // SAFETY: the caller's subscription, or the record itself, whose strings are given back at the end of the call.
        let mut given = unsafe { GivenRecord::read(subs) };
        let [contact, route] = given.target_in_blocks();
        let is_whole = contact.is_some() && route.is_some();
        // What is given back at the end: the new blocks, until a record has them in place of its own.
        let mut old = [contact, route].map(|text| text.map_or(null(), OwnBlock::into_raw));
        let wanted = given.dialog();
        // SAFETY: the caller's table, and a number of one of its buckets.
        let bucket = unsafe { Bucket::lock(table, hash, Locked::Here) };
        // SAFETY: the bucket is locked until the entry ends, so that its list stays as it is.
        let before = if is_whole { unsafe { find_before(bucket.head(), &wanted) } } else { None };
        // SAFETY: null, or the dialog's record, of the same list.
        let record = unsafe { after(before.unwrap_or(null_mut())) };
        // SAFETY: nothing else refers to a record while its bucket is locked.
        if let Some(record) = unsafe { record.as_mut() } {
            change(record, &mut given.record, kind, &mut old);
        }
        drop(bucket);
        if !record.is_null() && record != subs {
            // SAFETY: the caller's structure, of which these fields are results.
            unsafe { (*subs).local_cseq = given.record.local_cseq };
            // SAFETY: a field of the caller's structure that the API defines as a result, as the CSeq is.
            unsafe { (*subs).version = given.record.version };
            // SAFETY: the third field that the API defines as a result.
            unsafe { (*subs).db_flag = given.record.db_flag };
        }
        for text in old {
            // SAFETY: a block of `own_block`, or null, that nothing leads to.
            unsafe { Memory::Shared.free(text.s) };
        }
        if record.is_null() { -1 } else { 0 }
    })
}

pub(crate) unsafe extern "C" fn mem_copy_subs(subs: *mut subs_t, kind: c_int) -> *mut subs_t {
    entry!(mem_copy_subs, null_mut(), {
        if subs.is_null() {
            return null_mut();
        }
        let memory = if kind & PKG_MEM_TYPE != 0 { Memory::Private } else { Memory::Shared };
        // SAFETY: the caller's subscription is not null, and stays valid until this call returns.
        unsafe { copy(subs, memory, CopyExtent::All) }
    })
}
