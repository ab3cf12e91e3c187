//! Ending what an operator names: subscriptions (`presence.subscription_end`), a publication
//! (`presence.publication_expire`).
use crate::host::log;
use crate::presence::error::StoreError;
use crate::presence::expires::Expires;
use crate::presence::expiry;
use crate::presence::ports::publications::Publications;
use crate::presence::ports::server::Server;
use crate::presence::ports::subscriptions::Subscriptions;
use crate::presence::publication::direct_publish::{self, Direct, DirectKind};
use crate::presence::resource::Resource;
use crate::presence::subscription::Subscription;
use crate::presence::subscription::field::Field;
use crate::server::context::Context;
use crate::server::operator::names::{known_resource, uri_of};
use crate::server::operator::selection::LARGEST_PAGE;
use crate::server::operator::subscription_lists;
use crate::server::shared::Parts;
use crate::sip::entity_tag::EntityTag;
use crate::sip::{text, uri};

/// Reasons a subscription can be ended with (RFC 6665 4.1.3).
const REASONS: [&[u8]; 6] = [b"deactivated", b"timeout", b"rejected", b"noresource", b"giveup", b"probation"];

/// The reasons of a termination that may say when to come back.
const RETRY_REASONS: [&[u8]; 2] = [b"probation", b"giveup"];

/// Whose subscriptions are meant; `None` is all.
#[derive(Default)]
struct SubscriptionSelector {
    watcher: Option<Vec<u8>>,
    presentity: Option<Vec<u8>>,
    event: Option<Vec<u8>>,
}

impl SubscriptionSelector {
    fn includes(&self, subscription: &Subscription, event: &[u8]) -> bool {
        let same = |wanted: &Option<Vec<u8>>, is: &[u8]| wanted.as_ref().is_none_or(|wanted| wanted == is);
        same(&self.watcher, &subscription.watcher_uri())
            && same(&self.presentity, subscription.get(Field::PresUri))
            && same(&self.event, event)
    }
}

/// Which subscriptions to end, and the reason their NOTIFY gives.
pub(crate) struct EndCommand {
    whose: SubscriptionSelector,
    /// The reason, with `;retry-after=` where it was given.
    reason: Vec<u8>,
}

impl EndCommand {
    /// Reads the arguments of `presence.subscription_end`.
    ///
    /// # Errors
    ///
    /// Fails with a sentence about the argument that is missing or cannot be meant.
    pub(crate) fn read(mut arguments: impl Iterator<Item = Vec<u8>>, parts: &Parts) -> Result<EndCommand, String> {
        let (Some(watcher), Some(presentity), Some(event)) = (arguments.next(), arguments.next(), arguments.next())
        else {
            return Err("give a watcher, a presentity and an event, each or . for all: \
                        sip:bob@example.org sip:alice@example.org dialog"
                .into());
        };
        let some = |text: Vec<u8>| (text != b".").then_some(text);
        let (watcher, presentity, event) = (some(watcher), some(presentity), some(event));
        let watcher = watcher.map(|uri| uri_of("watcher", &uri)).transpose()?;
        let presentity = presentity.map(|uri| uri_of("presentity", &uri)).transpose()?;
        if watcher.is_none() && presentity.is_none() {
            return Err("a watcher or a presentity has to be named: presence.drain ends all subscriptions".into());
        }
        if let Some(event) = &event {
            known_resource(parts, b"", event)?;
        }
        Ok(EndCommand {
            whose: SubscriptionSelector { watcher, presentity, event },
            reason: EndCommand::reason(arguments)?,
        })
    }

    fn reason(mut arguments: impl Iterator<Item = Vec<u8>>) -> Result<Vec<u8>, String> {
        let reason = arguments.next().unwrap_or_else(|| REASONS[0].to_vec());
        if !REASONS.contains(&reason.as_slice()) {
            let known = String::from_utf8_lossy(&REASONS.join(&b", "[..])).into_owned();
            return Err(format!("reason {}: allowed is {known}", log::show(&reason)));
        }
        let Some(given) = arguments.next() else { return Ok(reason) };
        let seconds = text::parsed::<u32>(&given)
            .ok_or_else(|| format!("retry-after {}: allowed is a number of seconds", log::show(&given)))?;
        // RFC 6665 4.1.3: the other reasons say themselves when to come back, or never.
        if !RETRY_REASONS.contains(&reason.as_slice()) {
            return Err(format!("retry-after goes with probation and giveup, not with {}", log::show(&reason)));
        }
        Ok([&reason, b";retry-after=".as_slice(), seconds.to_string().as_bytes()].concat())
    }

    /// The subscriptions that are meant but the first `passed_over`, at most a page of them.
    fn page(&self, context: &mut Context, passed_over: usize) -> Result<Vec<Subscription>, StoreError> {
        let packages = context.packages().clone();
        if let (Some(presentity), Some(event)) = (&self.whose.presentity, &self.whose.event) {
            let Some(id) = packages.named(event) else { return Ok(Vec::new()) };
            let all = context.subscriptions(&context.uri_rule().resource(presentity, id))?;
            return Ok(all.into_iter().filter(|s| self.whose.includes(s, event)).skip(passed_over).collect());
        }
        subscription_lists::page_of_subscriptions(&context.inventory(), passed_over, LARGEST_PAGE, |s| {
            self.whose.includes(s, packages.get(s.state.event).name)
        })
    }

    /// Ends them, and returns how many there were. One that cannot be ended does not keep the others: what was wrong
    /// with it is the error at the end.
    ///
    /// # Errors
    ///
    /// Fails when the subscriptions cannot be read, and when one of them could not be ended.
    pub(crate) fn run(&self, context: &mut Context) -> Result<i64, StoreError> {
        let (mut total, mut passed_over, mut wrong) = (0, 0, None);
        loop {
            let page = self.page(context, passed_over)?;
            let mut ended = 0;
            for subscription in &page {
                match expiry::end(context, subscription, &self.reason) {
                    Ok(was_there) => ended += i64::from(was_there),
                    Err(error) => {
                        passed_over += 1;
                        wrong = wrong.or(Some(error));
                    }
                }
            }
            total += ended;
            if page.len() < LARGEST_PAGE || (ended == 0 && wrong.is_none()) {
                return wrong.map_or(Ok(total), Err);
            }
        }
    }
}

/// Ends a publication, as its publisher would; `false`: there is none with this entity tag.
///
/// # Errors
///
/// Fails with a sentence when the publications cannot be read, or this one cannot be removed.
pub(crate) fn end_publication(context: &mut Context<'_>, resource: &Resource, etag: &[u8]) -> Result<bool, String> {
    let documents = context.documents(resource).map_err(|error| error.to_string())?;
    if !documents.iter().any(|document| document.etag.bytes() == etag) {
        return Ok(false);
    }
    let uri::PlainUri { user, host: domain } = uri::split(&resource.uri);
    let removal = Direct {
        event: resource.event,
        user,
        domain,
        etag: EntityTag::new(etag),
        sender: b"",
        body: b"",
        expires: Expires::End,
        kind: DirectKind::Update,
    };
    direct_publish::publish(context, &removal).map(|_| true).map_err(|why| why.to_string())
}
