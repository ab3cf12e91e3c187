//! Judging watchers first where decisions about them are outstanding: after a start, and when one could not be carried
//! out.
use crate::common::failures::{ItemOutcome, until_failed};
use crate::host::{clock, log};
use crate::limited;
use crate::presence::authorization::judgement;
use crate::presence::authorization::{NoVerdict, Outstanding};
use crate::presence::error::{Failure, StoreError};
use crate::presence::ports::server::Server;
use crate::presence::resource::Resource;
use crate::server::context::Context;

/// At most this many resources are judged again in one second while that fails: each may cost the database a
/// statement for each of its watchers.
const FAILED_JUDGEMENTS: usize = 4;

/// Judges the watchers of a resource if decisions about them are outstanding, see
/// [`crate::presence::ports::authorizations::Authorizations::judge_first`].
///
/// # Errors
///
/// Fails when they cannot be judged now: then nobody knows who of them may see the state.
pub(crate) fn judge_outstanding(context: &mut Context<'_>, resource: &Resource) -> Result<(), StoreError> {
    let tried = context.left_unjudged == Some(resource.hash);
    if !tried && context.shared.judgements.outstanding(resource).is_some() {
        // What fails is noted there.
        let _ = judgement::authorizations(context, resource);
    } else if !tried && context.shared.tables.is_unjudged(resource) {
        match judgement::restored(context, resource) {
            Ok(()) => context.shared.tables.clear_unjudged(resource),
            Err(why) => {
                let uri = log::show(&resource.uri);
                limited!(Warn, "not all watchers of {uri} are judged anew since the start, tried again: {why}");
                context.left_unjudged = Some(resource.hash);
            }
        }
    }
    why_unjudged(context, resource).map_or(Ok(()), Err)
}

fn why_unjudged(context: &Context<'_>, resource: &Resource) -> Option<StoreError> {
    let is_shut = context.shared.judgements.outstanding(resource) == Some(Outstanding::Subscribed);
    (is_shut || context.shared.tables.is_unjudged(resource)).then_some(NoVerdict::Outstanding.into())
}

/// See [`crate::presence::ports::authorizations::Authorizations::left_unjudged`].
pub(crate) fn note_unjudged(
    context: &mut Context<'_>,
    resource: &Resource,
    judgement: u32,
    outstanding: Outstanding,
    why: &Failure,
) {
    if context.config.force_active {
        return;
    }
    context.left_unjudged = Some(resource.hash);
    let is_noted = context.shared.judgements.leave(resource, judgement, outstanding, clock::now());
    if !is_noted {
        context.shared.tables.mark_unjudged(resource);
    }
    let then = if is_noted { "they are judged again" } else { "too many wait already: update its rules again" };
    let uri = log::show(&resource.uri);
    limited!(Warn, "not every decision about the watchers of {uri} is carried out, {then}: {why}");
}

/// Judges the watchers of resources again of which not every decision could be carried out.
pub fn judge_again(new_context: impl Fn() -> Context<'static>, each: impl Fn(&mut dyn FnMut())) {
    let judgements = new_context().shared.judgements;
    let due = judgements.due(clock::now(), judgements.len());
    until_failed(due, FAILED_JUDGEMENTS, |(uri, event)| {
        let mut outcome = ItemOutcome::Done;
        each(&mut || {
            let mut context = new_context();
            let resource = context.uri_rule().resource(&uri, event);
            outcome = match judgement::authorizations(&mut context, &resource) {
                Ok(_) => ItemOutcome::Done,
                Err(_) => ItemOutcome::Failed,
            };
        });
        outcome
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_ends_with_its_fourth_failure() {
        for (failing, tried) in [(FAILED_JUDGEMENTS - 1, 10), (FAILED_JUDGEMENTS, 2 * FAILED_JUDGEMENTS - 1)] {
            // Each second one can be judged.
            let mut judged = Vec::new();
            let all = until_failed(0..10, FAILED_JUDGEMENTS, |at| {
                judged.push(at);
                if at % 2 == 1 || at >= 2 * failing { ItemOutcome::Done } else { ItemOutcome::Failed }
            });
            assert_eq!((judged.len(), all), (tried, failing < FAILED_JUDGEMENTS));
        }
    }
}
