//! Writing what memory has and the tables have not: in its time, early where much has piled up, all of it at the end.
use crate::caught::each_on_its_own;
use crate::common::row_groups::Pass;
use crate::host::clock;
use crate::limited;
use crate::presence::error::StoreError;
use crate::server::context::{Context, Process};

/// Writes what memory has and the tables have not.
pub(crate) fn write_what_waits(process: &'static Process, pass: Pass) {
    each_on_its_own("writing subscriptions", || {
        let _ = write_subscriptions(&Context::new(process), pass);
    });
    each_on_its_own("writing the watchers", || {
        let _ = write_authorizations(process, pass);
    });
    each_on_its_own("writing publications", || {
        let _ = write_publications(&Context::new(process), pass);
    });
}

/// Writes the watchers that wait for their rows.
pub(super) fn write_watchers(process: &'static Process) {
    if process.shared.authorizations.owed() > 0 {
        let written = || write_authorizations(process, Pass::Regular);
        process.rests.watchers.unless_resting(clock::ticks(), written);
    }
}

/// Writes before its time what has piled up, so that the end of the server has little left to write.
pub(super) fn write_early(process: &'static Process) {
    if process.config.keeps_what_has_ended() {
        return;
    }
    let now = clock::ticks();
    if Context::new(process).storage.subscriptions.is_written_early(process.shared.tables.unwritten) {
        each_on_its_own("writing subscriptions early", || {
            let written = || write_subscriptions(&Context::new(process), Pass::Regular);
            process.rests.subscriptions.unless_resting(now, written);
        });
    }
    if process.shared.unwritten_publications.are_many() {
        each_on_its_own("writing publications early", || {
            let written = || write_publications(&Context::new(process), Pass::Regular);
            process.rests.publications.unless_resting(now, written);
        });
    }
}

fn write_subscriptions(context: &Context<'_>, pass: Pass) -> Result<(), StoreError> {
    let written = context.storage.subscriptions.write_back(pass).map(drop);
    written.inspect_err(|error| limited!(Error, "cannot write subscriptions to the database: {error}"))
}

fn write_authorizations(process: &'static Process, pass: Pass) -> Result<(), StoreError> {
    let written = Context::new(process).storage.authorizations.write(pass);
    written.inspect_err(|error| limited!(Error, "cannot write the watchers table: {error}"))
}

/// Writes what the tables lack of publications, and logs what is in the way.
///
/// # Errors
///
/// Fails when the database cannot be written: it is tried again.
pub(crate) fn write_publications(context: &Context<'_>, pass: Pass) -> Result<(), StoreError> {
    let written = context.storage.publications.write(pass).map(drop);
    written.inspect_err(|error| limited!(Error, "cannot write publications to the database: {error}"))
}
