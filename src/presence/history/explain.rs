//! Why a watcher does or does not get a presentity's documents: one answer for operators.
use super::ended::Ended;
use super::remembered::{NotifyOutcome, SentNotify};
use crate::presence::error::StoreError;
use crate::presence::notification::{NotifyHistory, QueueState};
use crate::presence::ports::Ports;
use crate::presence::resource::Resource;
use crate::presence::subscription::field::Field;
use crate::presence::subscription::{Status, Subscription};
use crate::time::{MicroMoment, Micros, Seconds};

/// One subscription of the watcher, explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The subscription; none when the watcher has none.
    pub subscription: Option<ExplainedSubscription>,
    /// The end of the last one that is remembered, where there is none any more.
    pub ended: Option<Ended>,
    /// In a sentence.
    pub because: String,
    /// The one thing to do next; empty where everything is as it should be.
    pub next: String,
}

/// What is shown of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedSubscription {
    /// Call-ID.
    pub call_id: Vec<u8>,
    /// Where NOTIFYs go.
    pub contact: Vec<u8>,
    /// The subscription's state.
    pub status: Status,
    /// How long until it ends.
    pub left: Seconds,
    /// The CSeq of the last NOTIFY.
    pub cseq: u32,
    /// The version of the last document.
    pub version: u32,
    /// What became of its NOTIFYs.
    pub notify_history: NotifyHistory,
    /// How the last one was answered.
    pub answer: String,
    /// The node that serves it, where that is another one.
    pub node: Option<Vec<u8>>,
}

/// Explains.
///
/// # Errors
///
/// Fails when the documents, the subscriptions or the remembered authorization cannot be read.
pub fn explain<P: Ports>(ports: &mut P, watcher: &[u8], resource: &Resource) -> Result<Vec<Explanation>, StoreError> {
    let documents = ports.documents(resource)?.len();
    let queue_state = ports.queue_state(resource);
    let mine: Vec<Subscription> =
        ports.subscriptions(resource)?.into_iter().filter(|s| s.watcher_uri() == watcher).collect();
    if mine.is_empty() {
        return Ok(vec![missing(ports, watcher, resource)?]);
    }
    let mut findings = Vec::new();
    for subscription in mine {
        let notify_history = ports.notify_history(subscription.dialog());
        let node = ports.served_elsewhere(subscription.dialog());
        let left = subscription.state.expires_at - ports.now();
        let cseq = subscription.state.local_cseq.wrapping_add(1);
        let sent = ports.last_notify(resource, subscription.dialog()).filter(|sent| sent.cseq == cseq);
        let now = ports.now_in_micros();
        let Diagnosis { because, next } = match &node {
            Some(node) => elsewhere(node),
            None => stuck(&subscription, sent.as_ref(), now)
                .unwrap_or_else(|| because(&subscription, left, notify_history, documents, queue_state)),
        };
        findings.push(Explanation {
            because,
            next,
            ended: None,
            subscription: Some(ExplainedSubscription {
                call_id: subscription.get(Field::CallId).to_vec(),
                contact: subscription.get(Field::Contact).to_vec(),
                status: subscription.state.status,
                left,
                cseq,
                version: subscription.state.version,
                answer: match sent {
                    Some(sent) => sent.answer_in_words(now),
                    None => notify_history.answer(subscription.state.local_cseq, ports.now()),
                },
                notify_history,
                node,
            }),
        });
    }
    Ok(findings)
}

/// Why there is no subscription.
fn missing<P: Ports>(ports: &mut P, watcher: &[u8], resource: &Resource) -> Result<Explanation, StoreError> {
    if let Some(ended) = ports.latest_end(watcher, resource) {
        let because = format!("no subscription any more: {}", ended.cause.sentence());
        let next = ended.cause.advice().into();
        return Ok(Explanation { subscription: None, ended: Some(ended), because, next });
    }
    let remembered = ports.waiting_watchers(resource)?.into_iter().find(|w| w.uri == watcher);
    let (because, next) = match remembered {
        Some(waiting) => (
            format!(
                "no subscription: there was one, and nobody has decided about the watcher ({})",
                String::from_utf8_lossy(waiting.status.word())
            ),
            "let the presentity's rules decide, and the phone subscribe again",
        ),
        None => (
            "no subscription: this watcher does not subscribe to this presentity and event here".into(),
            "look at the phone's configuration, at the counters subscribe_4xx and subscribe_481, and at the \
            proxy's route",
        ),
    };
    Ok(Explanation { subscription: None, ended: None, because, next: next.into() })
}

/// Why a lamp shows what it shows, and what to do next.
struct Diagnosis {
    because: String,
    next: String,
}

impl Diagnosis {
    fn new(because: impl Into<String>, next: impl Into<String>) -> Diagnosis {
        Diagnosis { because: because.into(), next: next.into() }
    }
}

fn elsewhere(node: &[u8]) -> Diagnosis {
    let node = String::from_utf8_lossy(node);
    Diagnosis::new(
        format!("held here as a copy: node {node} serves it"),
        format!("ask there: presence.explain on {node}"),
    )
}

/// An answer that has not come within this time is worth a word.
const SLOW: Micros = Micros(2_000_000);

/// What keeps the last NOTIFY of an active subscription from arriving, where something does.
fn stuck(subscription: &Subscription, sent: Option<&SentNotify>, now: MicroMoment) -> Option<Diagnosis> {
    let sent = sent.filter(|_| subscription.state.status == Status::Active)?;
    match sent.answer {
        NotifyOutcome::Awaited if now.since(sent.at) > SLOW => Some(Diagnosis::new(
            format!("active, but the answer to the last NOTIFY is {}", sent.answer_in_words(now)),
            "look at NAT, the firewall and the contact: the phone does not answer there",
        )),
        NotifyOutcome::NotSent => Some(Diagnosis::new(
            "active, but the last NOTIFY could not be sent",
            "look at the contact and at the log: no way leads to the phone",
        )),
        NotifyOutcome::Dropped => Some(Diagnosis::new(
            "active, but the script dropped the last NOTIFY",
            "look at event_route[tm:local-request] of the configuration",
        )),
        NotifyOutcome::Awaited | NotifyOutcome::Final(_) => None,
    }
}

fn because(
    subscription: &Subscription,
    left: Seconds,
    notify_history: NotifyHistory,
    documents: usize,
    queue_state: QueueState,
) -> Diagnosis {
    let reason = subscription.get(Field::Reason);
    let answered = |because: &str, next: &str| Diagnosis::new(because, next);
    match (subscription.state.status, notify_history.failed_with(subscription.state.local_cseq)) {
        _ if left <= Seconds::ZERO => answered(
            "it has run out and is ended at the next turn of the timer (db_update_period)",
            "look whether the phone is registered and reachable: it stopped refreshing",
        ),
        (Status::Terminated, _) => Diagnosis::new(
            format!("blocked: the presentity's rules refuse the watcher ({})", shown(reason)),
            "change the presentity's rules, then: presence.refreshWatchers URI EVENT 0",
        ),
        (Status::Pending, _) => answered(
            "pending: no rule of the presentity decides about the watcher",
            "add a rule for the watcher (force_active 1 does without rules), then: presence.refreshWatchers \
            URI EVENT 0",
        ),
        (Status::Waiting, _) => answered(
            "waiting: it ended while nobody had decided about the watcher",
            "let the presentity's rules decide, and the phone subscribe again",
        ),
        (Status::Active, _) if reason == b"polite-block" => answered(
            "politely blocked: the watcher gets documents that say nothing, and does not learn that it is blocked",
            "change the presentity's rules, then: presence.refreshWatchers URI EVENT 0",
        ),
        (Status::Active, Some(status)) => {
            let next = match status.get() {
                408 => "look at NAT, the firewall and the contact: the phone cannot be reached there",
                503 => {
                    "look for \"could not be sent\" in this server's log, else at the phone's: it refused the NOTIFY"
                }
                _ => "look at the phone's own log: it refused the NOTIFY",
            };
            Diagnosis::new(format!("active, but the last NOTIFY was answered {status}"), next)
        }
        (Status::Active, _) if queue_state.busy || queue_state.pending => answered(
            "active; a NOTIFY is being sent right now, or waits for its turn",
            "ask again in a second; when this stays, look at fanouts_queued",
        ),
        (Status::Active, _) if documents == 0 => answered(
            "active, but nothing is published: no publication",
            "look at the publisher: publish_2xx, publish_412 and, where it is pua, pua.list URI",
        ),
        (Status::Active, _) => Diagnosis::new(
            format!("active: the watcher has the newest state ({documents} publications)"),
            "look at the documents: presence.publications presentity=URI",
        ),
    }
}

fn shown(text: &[u8]) -> String {
    if text.is_empty() { "no reason given".into() } else { String::from_utf8_lossy(text).into_owned() }
}
