//! A record of the table: a `subs_t` and its strings in one block, but for contact and route set, which have their own.
use crate::abi::c_types::{str_t, subs_t};
use crate::host::bytes::view;
use crate::host::clock;
use crate::sys;
use std::ffi::{c_int, c_uint, c_void};
use std::ptr::null_mut;

pub(super) const REMOTE_TYPE: c_int = 1 << 1;
/// `NO_UPDATEDB_FLAG`, `UPDATEDB_FLAG`, `INSERTDB_FLAG` of `modules/pua/hash.h`.
pub(super) const CLEAN: c_int = 1 << 0;
pub(super) const UPDATE: c_int = 1 << 1;
pub(super) const INSERT: c_int = 1 << 2;

/// The strings of a `subs_t` that live in its own block, in the order they are packed.
pub(super) fn packed(subs: &mut subs_t) -> [&mut str_t; 15] {
    [
        &mut subs.pres_uri,
        &mut subs.to_user,
        &mut subs.to_domain,
        &mut subs.from_user,
        &mut subs.from_domain,
        &mut subs.watcher_user,
        &mut subs.watcher_domain,
        &mut subs.event_id,
        &mut subs.to_tag,
        &mut subs.from_tag,
        &mut subs.callid,
        &mut subs.sockinfo_str,
        &mut subs.local_contact,
        &mut subs.reason,
        &mut subs.user_agent,
    ]
}

/// One of the host's two memories.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    Private,
    Shared,
}

impl Memory {
    /// Null, and one line in the log, without memory.
    pub(super) fn allocate(self, size: usize) -> *mut u8 {
        let block = match self {
            // SAFETY: the host allocates, or returns null.
            Memory::Private => unsafe { sys::kr_pkg_malloc(size) },
            // SAFETY: shared memory is there from the host's start on; without room the host returns null.
            Memory::Shared => unsafe { sys::kr_shm_malloc(size) },
        };
        if block.is_null() {
            crate::limited!(Error, "no more {} memory", if self == Memory::Private { "pkg" } else { "share" });
        }
        block as *mut u8
    }

    /// # Safety
    /// `block` came from this memory, or is null, and nobody uses it any more.
    pub(super) unsafe fn free<T>(self, block: *mut T) {
        match self {
            _ if block.is_null() => {}
            // SAFETY: the caller vouches for the block.
            Memory::Private => unsafe { sys::kr_pkg_free(block as *mut c_void) },
            // SAFETY: the caller vouches for the block, and for the memory it is from.
            Memory::Shared => unsafe { sys::kr_shm_free(block as *mut c_void) },
        }
    }
}

/// A text in a shared block of its own, or none.
pub(super) struct OwnBlock(str_t);

impl OwnBlock {
    /// The `str`, whose block the caller has from now on.
    pub(super) fn into_raw(self) -> str_t {
        self.0
    }
}

/// A copy of a `str`'s text in its own shared block.
///
/// # Safety
/// `text` is a valid `str`.
pub(super) unsafe fn own_block(text: &str_t) -> Option<OwnBlock> {
    // SAFETY: the caller vouches for the text.
    let bytes = unsafe { view(text) };
    if bytes.is_empty() {
        return Some(OwnBlock(crate::host::bytes::null()));
    }
    let block = Memory::Shared.allocate(bytes.len());
    if block.is_null() {
        return None;
    }
    // SAFETY: the block has the size of the text, and is new: they do not overlap.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), block, bytes.len()) };
    Some(OwnBlock(str_t { s: block as *mut _, len: bytes.len() as i32 }))
}

/// How much of a subscription is copied.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CopyExtent {
    /// All of it.
    All,
    /// All but the contact and the route set.
    WithoutTarget,
}

/// Copies a subscription into one block; contact and route set are in it only where the `part` is all of it.
///
/// # Safety
/// `source` is a valid `subs_t`.
pub(super) unsafe fn copy(source: *mut subs_t, memory: Memory, part: CopyExtent) -> *mut subs_t {
    // SAFETY: the caller vouches for the source; nothing refers to it while it is read.
    let mut made = unsafe { source.read() };
    made.next = null_mut();
    made.auth_rules_doc = null_mut();
    let (mut contact, mut route) = (made.contact, made.record_route);
    if part == CopyExtent::WithoutTarget {
        (contact, route) = (crate::host::bytes::null(), crate::host::bytes::null());
    }
    let strings = packed(&mut made).into_iter().chain([&mut contact, &mut route]);
    let length = |text: &str_t| if text.s.is_null() { 0 } else { text.len.max(0) as usize };
    let strings: Vec<&mut str_t> = strings.collect();
    let text: usize = strings.iter().map(|text| length(text)).sum();
    let block = memory.allocate(size_of::<subs_t>() + text) as *mut subs_t;
    if block.is_null() {
        return null_mut();
    }
    // SAFETY: the texts come behind the structure; the block has room for both.
    let mut at = unsafe { block.add(1) } as *mut u8;
    for place in strings {
        // SAFETY: a string of the source, which is valid.
        let bytes = unsafe { view(place) };
        if bytes.is_empty() {
            *place = crate::host::bytes::null();
            continue;
        }
        // SAFETY: the lengths of all texts were added up for the block, which is new.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len()) };
        *place = str_t { s: at as *mut _, len: bytes.len() as i32 };
        // SAFETY: at most one behind the end of the block, for the same reason.
        at = unsafe { at.add(bytes.len()) };
    }
    (made.contact, made.record_route) = (contact, route);
    // SAFETY: the block begins with room for the structure.
    unsafe { block.write(made) };
    block
}

/// Frees a record of a table: its block, its contact, its route set.
///
/// # Safety
/// `record` was made by `insert` and is no longer linked.
pub(super) unsafe fn free_record(record: *mut subs_t) {
    // SAFETY: the caller vouches for the record.
    let subs_t { contact, record_route, .. } = unsafe { record.read() };
    for text in [contact, record_route] {
        // SAFETY: `own_block` made it, or it is null; the record is its only owner.
        unsafe { Memory::Shared.free(text.s) };
    }
    // SAFETY: nothing leads to the record any more.
    unsafe { Memory::Shared.free(record) };
}

/// When a record expires of which the caller said `given`: seconds from now, which the host counts as such from 6.1 on
/// only where it is no point in time that has yet to come, and where it is not 0.
pub(super) fn expires_at(given: c_uint, now: c_uint, host_version: u32) -> c_uint {
    if host_version >= 6_001_000 && (given == 0 || given >= now) { given } else { given.wrapping_add(now) }
}

/// Changes a record as a caller gives it, which learns the numbers of its next NOTIFY. `texts`: a contact and a route
/// set in blocks of their own, those of before afterwards.
pub(super) fn change(record: &mut subs_t, given: &mut subs_t, kind: c_int, texts: &mut [str_t; 2]) {
    if kind == REMOTE_TYPE {
        record.expires = given.expires.wrapping_add(clock::wall().0 as c_uint);
        record.remote_cseq = given.remote_cseq;
    } else {
        record.local_cseq = record.local_cseq.wrapping_add(1);
        record.version = record.version.wrapping_add(1);
        given.local_cseq = record.local_cseq;
        given.version = record.version;
    }
    let [contact, route] = texts;
    for (text, place) in [(contact, &mut record.contact), (route, &mut record.record_route)] {
        if text.len > 0 {
            std::mem::swap(text, place);
        }
    }
    record.status = given.status;
    record.event = given.event;
    given.db_flag = record.db_flag;
    if record.db_flag & CLEAN != 0 {
        record.db_flag = UPDATE;
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
