//! Judging watchers first where decisions about them are outstanding: after a start, and when one could not be carried
//! out.
use crate::host::{clock, log};
use crate::limited;
use crate::presence::authorization::{NoVerdict, Outstanding};
use crate::presence::error::{Failure, StoreError};
use crate::presence::judgement;
use crate::presence::ports::server::Server;
use crate::presence::resource::Resource;
use crate::server::context::Context;

/// So many resources are judged again in one second while that fails: each may cost the database a statement for each
/// of its watchers.
const FAILED_JUDGEMENTS: usize = 4;

impl Context<'_> {
    /// Judges the watchers of a resource if decisions about them are outstanding, see
    /// [`crate::presence::ports::authorizations::Authorizations::judge_first`].
    ///
    /// # Errors
    ///
    /// Fails when they cannot be judged now: then nobody knows who of them may see the state.
    pub(crate) fn judge_outstanding(&mut self, resource: &Resource) -> Result<(), StoreError> {
        let tried = self.left_unjudged == Some(resource.hash);
        if !tried && self.shared.judgements.outstanding(resource).is_some() {
            // What fails is noted there.
            let _ = judgement::authorizations(self, resource);
        } else if !tried && self.shared.tables.is_unjudged(resource) {
            match judgement::restored(self, resource) {
                Ok(()) => self.shared.tables.clear_unjudged(resource),
                Err(why) => {
                    let uri = log::show(&resource.uri);
                    limited!(Warn, "not all watchers of {uri} are judged anew since the start, tried again: {why}");
                    self.left_unjudged = Some(resource.hash);
                }
            }
        }
        self.why_unjudged(resource).map_or(Ok(()), Err)
    }

    fn why_unjudged(&self, resource: &Resource) -> Option<StoreError> {
        let is_shut = self.shared.judgements.outstanding(resource) == Some(Outstanding::Subscribed);
        (is_shut || self.shared.tables.is_unjudged(resource)).then_some(NoVerdict::Outstanding.into())
    }

    /// See [`crate::presence::ports::authorizations::Authorizations::left_unjudged`].
    pub(crate) fn note_unjudged(
        &mut self,
        resource: &Resource,
        judgement: u32,
        outstanding: Outstanding,
        why: &Failure,
    ) {
        if self.config.force_active {
            return;
        }
        self.left_unjudged = Some(resource.hash);
        let is_noted = self.shared.judgements.leave(resource, judgement, outstanding, clock::now());
        if !is_noted {
            self.shared.tables.mark_unjudged(resource);
        }
        let then = if is_noted { "they are judged again" } else { "too many wait already: update its rules again" };
        let uri = log::show(&resource.uri);
        limited!(Warn, "not every decision about the watchers of {uri} is carried out, {then}: {why}");
    }

    /// Judges the watchers of resources again of which not every decision could be carried out.
    pub fn judge_again(context: impl Fn() -> Context<'static>, each: impl Fn(&mut dyn FnMut())) {
        let judgements = context().shared.judgements;
        let (now, mut failed) = (clock::now(), 0);
        for (uri, event) in judgements.due(now, judgements.len()) {
            each(&mut || {
                let mut context = context();
                let resource = context.uri_rule().resource(&uri, event);
                failed += usize::from(judgement::authorizations(&mut context, &resource).is_err());
            });
            if failed >= FAILED_JUDGEMENTS {
                return;
            }
        }
    }
}
