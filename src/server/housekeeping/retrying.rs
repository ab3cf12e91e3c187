//! What could not be done before is tried again: NOTIFYs that were broken off, decisions that were not carried out,
//! state that could not be read, changes that not all watchers could be notified of.
use crate::caught::each_on_its_own;
use crate::common::failures::{ItemOutcome, until_failed};
use crate::host::clock;
use crate::limited;
use crate::presence::error::StoreError;
use crate::server::context::{Context, Process};
use crate::server::judging;
use crate::server::notify::{missed_sweep, retries};

/// At most this many resources whose state cannot be read are tried in one pass: each costs the database a statement.
const FAILED_READS: usize = 4;

/// Sends for the resources whose sending was broken off.
pub(super) fn send_again(process: &'static Process) {
    let interrupted = process.shared.interrupted;
    interrupted.find_more(&process.shared.tables);
    for hash in (0..interrupted.len()).map_while(|_| interrupted.take()) {
        each_on_its_own("sending again", || retries::send_again(Context::new(process).paced(), hash));
    }
}

/// Judges watchers again about whom decisions could not be carried out.
pub(super) fn judge_again(process: &'static Process) {
    if !process.shared.judgements.is_empty() {
        judging::judge_again(|| Context::new(process).paced(), |judge| each_on_its_own("judging again", judge));
    }
}

/// Sends for the resources whose state could not be read before.
pub(super) fn send_unread(process: &'static Process) {
    let unread = process.shared.unread;
    if unread.is_idle() {
        return;
    }
    let mut pass = unread.begin_pass(&process.shared.tables, clock::instant());
    let unread = std::iter::from_fn(|| unread.next(&mut pass));
    until_failed(unread, FAILED_READS, |hash| {
        let mut is_read = Ok(false);
        each_on_its_own("reading again", || is_read = retries::send_if_readable(Context::new(process).paced(), hash));
        match is_read {
            Ok(true) => ItemOutcome::Done,
            // The others would wait for the database, too.
            Err(StoreError::Database) => ItemOutcome::Hopeless,
            Ok(false) | Err(_) => ItemOutcome::Failed,
        }
    });
}

/// Notifies the watchers of changes that not all of them could be notified of (database-only mode).
pub(super) fn send_missed(process: &'static Process) {
    let list = process.shared.missed_changes;
    let missed = (0..list.len()).map_while(|_| list.take());
    let all = until_failed(missed, FAILED_READS, |missed| {
        let mut outcome = ItemOutcome::Done;
        each_on_its_own("missed changes", || {
            let mut context = Context::new(process).paced();
            missed_sweep::notify(&mut context, missed);
            outcome = match &context.work.rows {
                rows if rows.is_database_away => ItemOutcome::Hopeless,
                rows if rows.has_missed => ItemOutcome::Failed,
                _ => ItemOutcome::Done,
            };
        });
        outcome
    });
    if !all {
        return;
    }
    each_on_its_own("a sweep of missed changes", || {
        if let Err(error) = missed_sweep::step(&mut Context::new(process).paced()) {
            limited!(Error, "the watchers of changes that were missed are notified later: {error}");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_ends_with_its_fourth_failure() {
        for (failing, tried) in [(3, 10), (4, 4), (10, 4)] {
            let mut count = 0;
            let all = until_failed(0..10, FAILED_READS, |at| {
                count += 1;
                if at < failing { ItemOutcome::Failed } else { ItemOutcome::Done }
            });
            assert_eq!((count, all), (tried, failing < 4), "{failing}");
        }
    }
}
