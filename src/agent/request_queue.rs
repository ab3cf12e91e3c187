//! One publication or subscription with a request under way: what was sent, what waits behind it, and who waits for the
//! answers.
use crate::host::no_memory::NoMemory;
use crate::host::shm::{self, Shm, ShmBox, ShmVec};
use crate::pua::error::RequestError;
use crate::pua::pending_request::{AtServer, Claim, PendingRequestId};
use crate::pua::record::{Record, RecordChange};
use crate::pua::request::{Request, RequestKind, RequestedExpires};
use crate::shm_safe::shm_safe;
use crate::sip::entity_tag::EntityTag;
use crate::time::{Seconds, Tick};

type ShmBytes = ShmBox<[u8]>;

/// How long an answer is awaited: longer than tm waits, whatever its timers say, is a sign that none will
/// come.
pub(crate) const ANSWER_TIMEOUT: Seconds = Seconds(600);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestPhase {
    /// The request's answer is awaited; after this time nobody will give one.
    UnderWay { until: Tick },
    /// Work on the request was broken off: it is due at once.
    BrokenOff,
    /// The request waits for another try.
    Waiting { at: Tick },
    /// What its answer says waits to be stored.
    Unstored { at: Tick },
}

shm_safe!(enum RequestPhase { UnderWay { until }, BrokenOff, Waiting { at }, Unstored { at } });

/// What goes next on a pending request.
pub(super) struct NextRequest {
    pub(super) request: Request<ShmBytes>,
    pub(super) since: Tick,
    pub(super) not_before: Option<Tick>,
    pub(super) claims: ShmVec<Claim>,
}

shm_safe!(NextRequest { request, since, not_before, claims });

pub(super) struct QueueEntry {
    pub(super) id: PendingRequestId,
    pub(super) key: u64,
    pub(super) kind: RequestKind,
    pub(super) phase: RequestPhase,
    pub(super) attempts: u32,
    /// What the server may have of it.
    pub(super) at_server: AtServer,
    /// For how long it was asked for last, and when.
    pub(super) asked: (RequestedExpires, Tick),
    pub(super) sent: Option<(Request<ShmBytes>, Record<ShmBytes>)>,
    /// The entity tag of what was sent last; `None` before anything was.
    pub(super) etag: Option<EntityTag<ShmBytes>>,
    /// The tag before that, until the next request is sent: the record may still have it.
    pub(super) former_etag: Option<EntityTag<ShmBytes>>,
    /// There was another one of this key: requests that name no entity tag mean that one.
    pub(super) is_second: bool,
    /// Callers that wait for what is under way.
    pub(super) claims: ShmVec<Claim>,
    pub(super) next: Option<NextRequest>,
    pub(super) change: Option<RecordChange<ShmBytes>>,
    /// What an entry from the host has taken and is at work on.
    pub(super) in_hand: Option<TakenPart>,
    /// Something was broken off since another request was taken.
    pub(super) was_broken_off: bool,
}

/// The part that learns that work on a pending request was broken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestHolder {
    /// The caller that is still there, from its call.
    Caller,
    /// Nobody at once: the timer goes on with it.
    Queue,
}

/// What an entry from the host takes of a pending request to go on with it.
pub(super) enum TakenPart {
    /// What was sent: its answer has come, or none will.
    Sent(Request<ShmBytes>, Record<ShmBytes>),
    /// What goes next.
    Next(Request<ShmBytes>),
    /// What an answer says.
    Change(RecordChange<ShmBytes>),
    /// A request that is given up: those who wait for it are to be answered.
    GivenUp(Request<ShmBytes>),
}

shm_safe!(
    enum TakenPart {
        Sent(request, record),
        Next(request),
        Change(change),
        GivenUp(request),
    }
);

shm_safe!(QueueEntry {
    id,
    key,
    kind,
    phase,
    attempts,
    at_server,
    asked,
    sent,
    etag,
    former_etag,
    is_second,
    claims,
    next,
    change,
    in_hand,
    was_broken_off
});

/// How far the ends of two options may lie apart and still be the same: a SUBSCRIBE asks for ten more than
/// it has to.
const SAME_END: Seconds = Seconds(10);

impl QueueEntry {
    /// Takes what waits, aged by the time it waited; the callers behind it wait for its answer now.
    pub(super) fn take_next(&mut self, now: Tick) -> Option<Request<ShmBytes>> {
        let mut next = self.next.take()?;
        let options = &mut next.request.options;
        let waited = now - next.since;
        if let (RequestedExpires::For(time), true) = (options.expires, waited > Seconds(1)) {
            // What nobody wants any more is ended.
            options.expires = if time > waited { RequestedExpires::For(time - waited) } else { RequestedExpires::End };
        }
        self.asked = (options.expires, now);
        self.phase = RequestPhase::UnderWay { until: now + ANSWER_TIMEOUT };
        if self.claims.is_empty() {
            self.claims = next.claims;
        } else {
            // Without memory they are answered by nobody; that there are two lists at all needs a pending request that
            // failed to leave.
            let _ = next.claims.iter().try_for_each(|claim| shm::push(&mut self.claims, *claim));
        }
        Some(next.request)
    }

    /// The same for somebody who sends it; it comes back when that is broken off.
    pub(super) fn hand_out_next(&mut self, now: Tick) -> Option<Request> {
        let next = self.take_next(now)?;
        let copy = next.to_private();
        self.in_hand = Some(TakenPart::Next(next));
        Some(copy)
    }

    /// What was handed out last was broken off: it is due at once, for one more try. What is broken off again is given
    /// up: those who wait for it are answered, and what waits behind it goes on. So is the request of a caller that is
    /// still there: that one alone learns it from its call.
    pub(super) fn break_off(&mut self, holder: RequestHolder, now: Tick) {
        self.phase = RequestPhase::BrokenOff;
        if holder == RequestHolder::Caller && !self.claims.is_empty() {
            self.claims.remove(0);
        }
        if std::mem::replace(&mut self.was_broken_off, true) || holder == RequestHolder::Caller {
            return self.give_up();
        }
        match self.in_hand.take() {
            Some(TakenPart::Sent(request, record)) => self.sent = Some((request, record)),
            Some(TakenPart::Change(change)) => {
                self.change = Some(change);
                self.phase = RequestPhase::Unstored { at: now };
            }
            Some(TakenPart::Next(request)) if self.next.is_none() => {
                let claims = ShmVec::new_in(Shm);
                self.next = Some(NextRequest { request, since: now, not_before: None, claims });
                self.phase = RequestPhase::Waiting { at: now };
            }
            // Something newer waits in its place.
            Some(TakenPart::Next(_) | TakenPart::GivenUp(_)) | None => {}
        }
    }

    fn give_up(&mut self) {
        let sent = self.sent.take().map(|(request, _)| request);
        let taken = match self.in_hand.take() {
            Some(TakenPart::Sent(request, _) | TakenPart::Next(request)) => Some(request),
            Some(TakenPart::Change(_) | TakenPart::GivenUp(_)) | None => None,
        };
        self.in_hand = sent.or(taken).map(TakenPart::GivenUp);
    }

    /// Whether it was given up: what those who wait for it asked for.
    pub(super) fn take_given_up(&mut self) -> Option<Request> {
        let taken = self.in_hand.take_if(|part| matches!(part, TakenPart::GivenUp(_)));
        let Some(TakenPart::GivenUp(request)) = taken else { return None };
        Some(request.to_private())
    }

    /// Whether the answer under way is that of `request`, too.
    pub(super) fn covers(&self, request: &Request, now: Tick) -> bool {
        let (asked, at) = self.asked;
        let wanted = request.options.expires;
        let same_end = match (asked, wanted) {
            (RequestedExpires::Forever, RequestedExpires::Forever) => true,
            (RequestedExpires::For(asked), RequestedExpires::For(wanted)) => {
                ((at + asked) - (now + wanted)).abs() <= SAME_END
            }
            _ => false,
        };
        self.kind == RequestKind::Subscription
            && matches!(self.phase, RequestPhase::UnderWay { .. } | RequestPhase::BrokenOff)
            && self.next.is_none()
            && self.sent.is_some()
            && same_end
    }

    /// What waits is not with the server, and nobody wants it any more: `request` goes in its place at once.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub(super) fn give_way(&mut self, request: &Request, now: Tick) -> Result<Option<NextRequest>, NoMemory> {
        let mut claims = ShmVec::new_in(Shm);
        let waiting = self.next.iter().flat_map(|next| next.claims.iter());
        for claim in Claim::of(request).iter().chain(self.claims.iter()).chain(waiting) {
            shm::push(&mut claims, *claim)?;
        }
        self.claims = claims;
        self.asked = (request.options.expires, now);
        self.phase = RequestPhase::UnderWay { until: now + ANSWER_TIMEOUT };
        self.was_broken_off = false;
        Ok(self.next.take())
    }

    /// Whether it is about the publication with this entity tag, by the tag it has or had until now.
    pub(super) fn has_tag(&self, tag: EntityTag<&[u8]>) -> bool {
        [&self.etag, &self.former_etag].into_iter().flatten().any(|known| *known == tag)
    }

    /// How many callers wait.
    pub(super) fn waiting(&self) -> usize {
        self.claims.len() + self.next.as_ref().map_or(0, |next| next.claims.len())
    }

    /// Puts a request behind what is under way.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out, or when the request has no body and would begin what is about to end.
    pub(super) fn queue(
        &mut self,
        request: &Request,
        now: Tick,
        not_before: Option<Tick>,
    ) -> Result<Option<NextRequest>, RequestError> {
        let follows = request.etag().is_some_and(|tag| self.has_tag(tag));
        let mut merged = match &self.next {
            None => request.clone(),
            Some(waiting) => {
                if request.body().is_none()
                    && !request.options.expires.is_end()
                    && waiting.request.options.expires.is_end()
                    && self.kind == RequestKind::Publication
                {
                    return Err(RequestError::NoBody);
                }
                request.in_place_of(&waiting.request.to_private())
            }
        };
        merged.options.follows = follows;
        let mut fresh =
            NextRequest { request: merged.map(shm::copy)?, since: now, not_before, claims: ShmVec::new_in(Shm) };
        if let Some(claim) = Claim::of(request) {
            let claims = self.next.as_mut().map_or(&mut fresh.claims, |next| &mut next.claims);
            shm::push(claims, claim)?;
        }
        if let Some(old) = &mut self.next {
            std::mem::swap(&mut fresh.claims, &mut old.claims);
            fresh.not_before = old.not_before;
        }
        Ok(self.next.replace(fresh))
    }
}

/// A record's first request.
///
/// # Errors
///
/// Fails when shared memory runs out.
pub(super) fn new_entry(
    key: u64,
    request: &Request,
    phase: RequestPhase,
    now: Tick,
) -> Result<ShmBox<QueueEntry>, NoMemory> {
    let mut claims = ShmVec::new_in(Shm);
    if let Some(claim) = Claim::of(request) {
        shm::push(&mut claims, claim)?;
    }
    shm::boxed(QueueEntry {
        id: 0,
        key,
        kind: request.kind(),
        phase,
        attempts: 0,
        at_server: AtServer::Nothing,
        asked: (request.options.expires, now),
        sent: None,
        etag: None,
        former_etag: None,
        is_second: false,
        claims,
        next: None,
        change: None,
        in_hand: None,
        was_broken_off: false,
    })
}
