//! Statistics that are computed when somebody asks: how much there is.
use crate::abi::presence::state;
use crate::abi::pua::state as pua_state;
use crate::agent::records::RecordCounts;
use crate::common::counters;
use crate::host::counters::{Compute, register_computed};
use crate::host::{clock, slab, warm_up};
use crate::server::context::Process;
use crate::server::notifications::outstanding::UnansweredNotifies;
use crate::server::operator::statistics;
use crate::server::operator::statistics::{Counts, Statistics};
use crate::time::Moment;
use std::cell::RefCell;
use std::ffi::{CStr, c_long, c_ushort, c_void};

/// What a gauge shows of a count.
#[derive(Clone, Copy)]
#[repr(usize)]
enum Of {
    Subscriptions,
    Replicas,
    Pending,
    Publications,
    Presentities,
}

impl Of {
    const ALL: [Of; 5] = [Of::Subscriptions, Of::Replicas, Of::Pending, Of::Publications, Of::Presentities];

    fn value(self, counts: &Counts) -> i64 {
        match self {
            Of::Subscriptions => counts.subscriptions,
            Of::Replicas => counts.replicas,
            Of::Pending => counts.pending,
            Of::Publications => counts.publications,
            Of::Presentities => counts.presentities,
        }
    }
}

/// Packages with gauges of their own, and the names of these.
const PACKAGES: [(&[u8], &CStr, &CStr); 6] = [
    (b"presence", c"subscriptions_presence", c"publications_presence"),
    (b"dialog", c"subscriptions_dialog", c"publications_dialog"),
    (b"message-summary", c"subscriptions_message_summary", c"publications_message_summary"),
    (b"presence.winfo", c"subscriptions_presence_winfo", c"publications_presence_winfo"),
    (b"reg", c"subscriptions_reg", c"publications_reg"),
    (b"conference", c"subscriptions_conference", c"publications_conference"),
];

thread_local! {
    static LAST: RefCell<(Option<Moment>, Statistics)> = const { RefCell::new((None, Vec::new())) };
}

/// Shows the statistics, which are collected once a second.
fn with_statistics<T>(show: impl FnOnce(&Statistics) -> T) -> T {
    LAST.with(|last| {
        let mut last = last.borrow_mut();
        let now = Some(clock::now());
        if last.0 != now {
            *last = (now, state::context().map(|context| statistics::count(&context.inventory())).unwrap_or_default());
        }
        show(&last.1)
    })
}

unsafe extern "C" fn total(_id: c_ushort, what: *mut c_void) -> c_long {
    entry!(total, 0, {
        let Some(of) = Of::ALL.get(what as usize) else { return 0 };
        with_statistics(|statistics| statistics.iter().map(|counts| of.value(counts)).sum::<i64>()) as c_long
    })
}

/// The low bit chooses between subscriptions and publications, the rest is the place in [`PACKAGES`].
unsafe extern "C" fn of_package(_id: c_ushort, what: *mut c_void) -> c_long {
    entry!(of_package, 0, {
        let what = what as usize;
        let (Some(process), Some((name, ..))) = (state::process(), PACKAGES.get(what / 2)) else { return 0 };
        let Some(id) = process.registry.packages().named(name) else { return 0 };
        let of = if what % 2 == 0 { Of::Subscriptions } else { Of::Publications };
        with_statistics(|statistics| statistics.get(usize::from(id.0)).map_or(0, |counts| of.value(counts))) as c_long
    })
}

unsafe extern "C" fn fanouts_queued(_id: c_ushort, _what: *mut c_void) -> c_long {
    entry!(fanouts_queued, 0, { state::process().map_or(0, |process| process.shared.senders.waiting()) as c_long })
}

unsafe extern "C" fn fanouts_oldest_age(_id: c_ushort, _what: *mut c_void) -> c_long {
    entry!(fanouts_oldest_age, 0, {
        state::process().map_or(0, |process| process.shared.senders.oldest_age().0) as c_long
    })
}

unsafe extern "C" fn notify_under_way(_id: c_ushort, _what: *mut c_void) -> c_long {
    entry!(notify_under_way, 0, { state::process().map_or(0, |process| process.shared.engine.under_way()) as c_long })
}

unsafe extern "C" fn notify_outstanding(_id: c_ushort, _what: *mut c_void) -> c_long {
    entry!(notify_outstanding, 0, {
        let count = |outstanding: &UnansweredNotifies| outstanding.count(clock::micro_tick());
        state::process().map_or(0, |process| count(&process.shared.senders.outstanding)) as c_long
    })
}

/// Subscriptions and publications whose rows are older than the memory.
unsafe extern "C" fn rows_to_write(_id: c_ushort, _what: *mut c_void) -> c_long {
    entry!(rows_to_write, 0, {
        with_statistics(|statistics| statistics.iter().map(|counts| counts.rows_waiting).sum::<i64>()) as c_long
    })
}

/// Authorizations that the table `watchers` does not have yet.
unsafe extern "C" fn watchers_to_write(_id: c_ushort, _what: *mut c_void) -> c_long {
    entry!(watchers_to_write, 0, {
        state::process().map_or(0, |process| process.shared.authorizations.owed()) as c_long
    })
}

unsafe extern "C" fn pua_records(_id: c_ushort, what: *mut c_void) -> c_long {
    entry!(pua_records, 0, {
        let RecordCounts { publications, subscriptions } =
            pua_state::process().map(|p| p.records.count()).unwrap_or_default();
        (if what.is_null() { publications } else { subscriptions }) as c_long
    })
}

unsafe extern "C" fn pua_pending_requests(_id: c_ushort, _what: *mut c_void) -> c_long {
    entry!(pua_pending_requests, 0, {
        pua_state::process().map_or(0, |process| process.shared.pending_requests.count()) as c_long
    })
}

/// Bytes of shared memory in chunks.
unsafe extern "C" fn slab_bytes(_id: c_ushort, _what: *mut c_void) -> c_long {
    entry!(slab_bytes, 0, { slab::bytes_held() as c_long })
}

/// Chunks that no block is in use of.
unsafe extern "C" fn slab_spare_chunks(_id: c_ushort, _what: *mut c_void) -> c_long {
    entry!(slab_spare_chunks, 0, { slab::spare_chunks() as c_long })
}

/// Free blocks that were left in shared memory at start.
unsafe extern "C" fn memory_seeds(_id: c_ushort, _what: *mut c_void) -> c_long {
    entry!(memory_seeds, 0, { warm_up::seeded_blocks() as c_long })
}

/// Whether this process's statements go past db_sqlite.
unsafe extern "C" fn sqlite_direct(_id: c_ushort, _what: *mut c_void) -> c_long {
    entry!(sqlite_direct, 0, { state::process().map_or(0, |process| process.database.goes_past_driver().into()) })
}

/// Whether statements are printed here where nothing has to be escaped.
unsafe extern "C" fn statements_printed(_id: c_ushort, _what: *mut c_void) -> c_long {
    entry!(statements_printed, 0, { state::process().map_or(0, |process| process.database.prints_statements().into()) })
}

/// Whether this node may send NOTIFYs, by the word of the arbiter.
unsafe extern "C" fn lease_held(_id: c_ushort, _what: *mut c_void) -> c_long {
    entry!(lease_held, 0, {
        let is_held = |process: &Process| process.shared.cluster_state.arbitration.is_held(clock::instant());
        state::process().is_some_and(is_held).into()
    })
}

/// A statistic that is computed: name, what it says, the function, and the word that the function gets.
type Gauge = (&'static CStr, &'static CStr, Compute, usize);

const PRESENCE: [Gauge; 17] = [
    (c"subscriptions", c"subscriptions that this node serves", total, Of::Subscriptions as usize),
    (c"subscriptions_replicas", c"subscriptions of other nodes that are held here, too", total, Of::Replicas as usize),
    (c"subscriptions_pending", c"subscriptions that nobody has decided about", total, Of::Pending as usize),
    (c"publications", c"live publications", total, Of::Publications as usize),
    (c"presentities", c"presentities with publications", total, Of::Presentities as usize),
    (c"fanouts_queued", c"changes that wait for a sender process", fanouts_queued, 0),
    (c"fanouts_oldest_age", c"seconds for which the oldest of them has waited", fanouts_oldest_age, 0),
    (c"db_rows_queued", c"rows that wait to be written back", rows_to_write, 0),
    (c"watchers_queued", c"rows of watchers that wait to be written", watchers_to_write, 0),
    (c"notify_under_way", c"NOTIFY requests under way without tm", notify_under_way, 0),
    (
        c"notify_outstanding",
        c"NOTIFY requests over UDP of the last 100 ms that wait for their answer",
        notify_outstanding,
        0,
    ),
    (c"slab_bytes", c"bytes of shared memory in chunks of small blocks", slab_bytes, 0),
    (c"slab_spare_chunks", c"chunks without a block in use, kept for the next burst", slab_spare_chunks, 0),
    (c"memory_seeds", c"free blocks left in shared memory at start", memory_seeds, 0),
    (c"lease_held", c"1 where this node holds a lease of the arbiter", lease_held, 0),
    (c"sqlite_direct", c"1 where statements go past db_sqlite", sqlite_direct, 0),
    (c"statements_printed", c"1 where statements are handed to the driver as text", statements_printed, 0),
];

const PUA: [Gauge; 3] = [
    (c"publications", c"publications kept alive (memory)", pua_records, 0),
    (c"subscriptions", c"subscriptions kept alive (memory)", pua_records, 1),
    (c"in_flight", c"requests under way or waiting for another try", pua_pending_requests, 0),
];

/// The gauges of a group.
fn gauges(group: &CStr) -> Vec<Gauge> {
    if group != c"presence" {
        return PUA.to_vec();
    }
    let of_packages = PACKAGES.iter().enumerate().flat_map(|(place, (_, subscriptions, publications))| {
        let of: [Gauge; 2] = [
            (subscriptions, c"subscriptions of this package", of_package, place * 2),
            (publications, c"publications of this package", of_package, place * 2 + 1),
        ];
        of
    });
    PRESENCE.into_iter().chain(of_packages).collect()
}

/// The gauges of a group: name, and what it says.
#[cfg(test)]
pub(crate) fn described(group: &'static CStr) -> impl Iterator<Item = (&'static CStr, &'static CStr)> {
    gauges(group).into_iter().map(|(name, help, ..)| (name, help))
}

/// Counters and gauges of a group; call in `mod_init`.
fn register(group: &'static CStr) -> Result<(), String> {
    counters::register(group);
    let all = gauges(group);
    let taken = all.iter().filter(|(name, help, compute, word)| register_computed(group, name, help, *compute, *word));
    if taken.count() == all.len() { Ok(()) } else { Err("the host does not take our statistics".into()) }
}

/// Counters and gauges of the group `presence`; call in `mod_init`.
///
/// # Errors
///
/// Fails when shared memory runs out, or the host refuses a counter; the text says which.
pub(crate) fn register_presence() -> Result<(), String> {
    register(c"presence")
}

/// Counters and gauges of the group `pua`; call in `mod_init`.
///
/// # Errors
///
/// Fails when shared memory runs out, or the host refuses a counter; the text says which.
pub(crate) fn register_pua() -> Result<(), String> {
    register(c"pua")
}
