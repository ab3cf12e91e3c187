//! What has happened, as far as it is remembered and an operator wants to see it (`presence.history`).
use crate::presence::event_package::PackageId;
use crate::presence::history::occurrence::Occurrence;
use crate::server::history::History;
use crate::server::operator::selection::{Filter, Listed};
use std::collections::BTreeSet;

/// The step that this is, as `what=` names it.
pub(crate) fn name_of(occurrence: &Occurrence) -> &'static str {
    match occurrence {
        Occurrence::Changed(change) => change.kind.step(),
        Occurrence::Notified(_) => "notified",
        Occurrence::Answered(_) => "answered",
        Occurrence::Ended(_) => "ended",
    }
}

/// The steps that are meant, in their order. A change concerns all who watch: with a watcher given, the changes of what
/// this one watches are shown, too.
fn story(history: &History, filter: &Filter) -> Vec<Occurrence> {
    let mut all = history.all(|occurrence| {
        let (presentity, event, watcher) = occurrence.subject();
        filter.wants_resource(presentity, event) && watcher.is_none_or(|watcher| filter.wants_watcher(watcher))
    });
    if filter.names_watcher() {
        let watched: BTreeSet<(Vec<u8>, PackageId)> = all
            .iter()
            .map(Occurrence::subject)
            .filter(|(.., watcher)| watcher.is_some())
            .map(|(presentity, event, _)| (presentity.to_vec(), event))
            .collect();
        all.retain(|occurrence| {
            let (presentity, event, watcher) = occurrence.subject();
            watcher.is_some() || watched.contains(&(presentity.to_vec(), event))
        });
    }
    if let Some(what) = &filter.what {
        all.retain(|occurrence| name_of(occurrence).as_bytes() == what);
    }
    all
}

/// The newest of the steps that are meant, in the order in which they happened.
pub(crate) fn selected(history: &History, filter: &Filter) -> Listed<Occurrence> {
    let mut all = story(history, filter);
    if filter.count {
        return Listed::Count(all.len());
    }
    all.truncate(all.len().saturating_sub(filter.offset));
    Listed::Page(all.split_off(all.len().saturating_sub(filter.limit)))
}
