//! What a server does of its own accord, in its order: each second, with `clean_period` and `db_update_period`, and at
//! its end. What fails of it does not keep the rest from being done.
pub mod retrying;
pub mod wall_clock;
pub mod writing;

use crate::caught::each_on_its_own;
use crate::common::row_groups::Pass;
use crate::host::shm;
use crate::limited;
use crate::presence::composition::late::LateSelection;
use crate::presence::expiry;
use crate::server::announcing::arbitration::Beating;
use crate::server::cluster::{membership, messages};
use crate::server::context::{Context, Process};
use crate::server::operator::drain;

/// Removes what has ended of publications, authorizations and what other nodes have left.
pub fn clean(process: &'static Process) {
    let context = || Context::new(process).paced();
    if context().is_library() {
        return;
    }
    each_on_its_own("the wall clock", || wall_clock::follow(process));
    each_on_its_own("ending publications", || {
        if let Err(error) = expiry::publications(&mut context()) {
            limited!(Error, "cannot remove ended publications: {error}");
        }
    });
    each_on_its_own("cleaning the watchers", || {
        if let Err(error) = context().storage.authorizations.clean() {
            limited!(Error, "cannot clean the watchers table: {error}");
        }
    });
    each_on_its_own("cleaning what nodes have left", || {
        if let Err(error) = membership::forget_past(&context()) {
            limited!(Error, "cannot clean the active_watchers table: {error}");
        }
    });
}

/// Ends subscriptions that ran out, and writes what memory has and the tables have not.
pub fn update(process: &'static Process) {
    each_on_its_own("ending subscriptions", || {
        if let Err(error) = expiry::subscriptions(&mut Context::new(process).paced()) {
            limited!(Error, "cannot end subscriptions that ran out: {error}");
        }
    });
    writing::write_what_waits(process, Pass::Regular);
}

/// What is done once a second.
pub fn every_second(process: &'static Process) {
    each_on_its_own("the wall clock", || wall_clock::follow(process));
    each_on_its_own("sending again", || retrying::send_again(process));
    each_on_its_own("judging again", || retrying::judge_again(process));
    writing::write_early(process);
    each_on_its_own("writing the watchers", || writing::write_watchers(process));
    each_on_its_own("reading again", || retrying::send_unread(process));
    each_on_its_own("missed changes", || retrying::send_missed(process));
    each_on_its_own("late documents", || show_late_documents(process, LateSelection::Due));
    each_on_its_own("ending what is left over", || {
        if process.shared.senders.take_left_over() {
            update(process);
        }
    });
    each_on_its_own("drain", || {
        if let Err(error) = drain::step(&mut Context::new(process).paced()) {
            limited!(Error, "cannot end subscriptions before maintenance: {error}");
        }
    });
    each_on_its_own("spare memory", shm::return_spare_chunks);
    each_on_its_own("nodes", || messages::step(&mut Context::new(process).paced()));
}

/// One beat of this node's lease (`cluster_arbiter`).
pub fn beat(process: &Process) {
    if let Some(database) = process.leases {
        let mut beating = process.beating.borrow_mut();
        let table = process.config.cluster_leases_table;
        beating.get_or_insert_with(|| Beating::new(database, table)).step(&process.parts);
    }
}

/// The server ends: what is only in memory and belongs in the database is written, and the other nodes go on with the
/// rest. Called by the last process.
pub fn end(process: &'static Process) {
    let leave = || each_on_its_own("leaving the cluster", || messages::announce_leave(&Context::new(process)));
    // The table of leases may be in a database that does not answer: what belongs in ours is written before.
    let waits_for_leases = process.leases.is_some();
    if !waits_for_leases {
        leave();
    }
    if process.database.is_configured() {
        each_on_its_own("late documents", || show_late_documents(process, LateSelection::All));
        writing::write_what_waits(process, Pass::Last);
    }
    if waits_for_leases {
        leave();
    }
    if process.database.is_configured() {
        process.database.disconnect();
    }
}

/// Shows what was held back, see [`crate::presence::composition::late`].
fn show_late_documents(process: &'static Process, taken: LateSelection) {
    if process.shared.late_documents.is_empty() {
        return;
    }
    if let Err(error) = expiry::late_documents(&mut Context::new(process).paced(), taken) {
        limited!(Error, "the newest document of a publication is not shown yet: {error}");
    }
}
