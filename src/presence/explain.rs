//! Why a watcher does or does not get a presentity's documents: one answer for operators.
use super::error::StoreError;
use super::ports::Ports;
use super::resource::Resource;
use super::subscription::{Field, Status, Subscription};

/// What became of the NOTIFYs of one subscription.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trail {
    /// When the last one was sent; 0: not by this server since it started.
    pub told_at: u32,
    /// CRC-32 of the body of the last one; 0: it had none.
    pub body: u32,
    /// The last status that was no success; 0: none.
    pub failed: u16,
    /// The CSeq of the NOTIFY that got it.
    pub failed_cseq: u32,
}

/// How long tm waits for an answer at most (timer F, RFC 3261 17.1.2.2), in seconds, and some more.
const ANSWERED_BY_NOW: i64 = 40;

impl Trail {
    /// How the last NOTIFY, the one with this CSeq, was answered, as far as it is known. Successes are not noted one by
    /// one: what has not failed by the time tm gives up was one.
    pub fn answer(&self, cseq: u32, now: i64) -> String {
        match self.told_at {
            0 => "not known".into(),
            _ if self.failed != 0 && self.failed_cseq == cseq => self.failed.to_string(),
            told_at if now - i64::from(told_at) > ANSWERED_BY_NOW => "2xx".into(),
            _ => "2xx or awaited".into(),
        }
    }
}

/// Who is sending for a resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// A process is sending.
    pub busy: bool,
    /// Something waits to be sent.
    pub pending: bool,
}

/// One subscription of the watcher, explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The subscription; none when the watcher has none.
    pub subscription: Option<Shown>,
    /// In a sentence.
    pub because: String,
}

/// What is shown of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Call-ID.
    pub call_id: Vec<u8>,
    /// Where NOTIFYs go.
    pub contact: Vec<u8>,
    /// Its state.
    pub status: Status,
    /// Seconds until it ends.
    pub left: i64,
    /// The CSeq of the last NOTIFY.
    pub cseq: u32,
    /// The version of the last document.
    pub version: u32,
    /// What became of its NOTIFYs.
    pub trail: Trail,
    /// How the last one was answered.
    pub answer: String,
}

/// Explains.
pub fn explain<P: Ports>(ports: &mut P, watcher: &[u8], resource: &Resource) -> Result<Vec<Finding>, StoreError> {
    let documents = ports.documents(resource)?.len();
    let traffic = ports.traffic(resource);
    let mine: Vec<Subscription> =
        ports.subscriptions(resource)?.into_iter().filter(|s| s.watcher_uri() == watcher).collect();
    if mine.is_empty() {
        let remembered = ports.waiting_watchers(resource)?.into_iter().find(|w| w.uri == watcher);
        let because = match remembered {
            Some(waiting) => format!(
                "no subscription: there was one, and nobody has decided about the watcher ({})",
                String::from_utf8_lossy(waiting.status.word())
            ),
            None => "no subscription: this watcher does not subscribe to this presentity and event here".into(),
        };
        return Ok(vec![Finding { subscription: None, because }]);
    }
    let mut findings = Vec::new();
    for subscription in mine {
        let trail = ports.trail(subscription.dialog());
        let left = subscription.numbers.expires_at - ports.now();
        let because = because(&subscription, left, trail, documents, traffic);
        findings.push(Finding {
            because,
            subscription: Some(Shown {
                call_id: subscription.get(Field::CallId).to_vec(),
                contact: subscription.get(Field::Contact).to_vec(),
                status: subscription.numbers.status,
                left,
                cseq: subscription.numbers.local_cseq.wrapping_add(1),
                version: subscription.numbers.version,
                answer: trail.answer(subscription.numbers.local_cseq, ports.now()),
                trail,
            }),
        });
    }
    Ok(findings)
}

fn because(subscription: &Subscription, left: i64, trail: Trail, documents: usize, traffic: Traffic) -> String {
    let reason = subscription.get(Field::Reason);
    match subscription.numbers.status {
        _ if left <= 0 => "it has run out and is ended at the next turn of the timer (db_update_period)".into(),
        Status::Terminated => format!("blocked: the presentity's rules refuse the watcher ({})", shown(reason)),
        Status::Pending => "pending: no rule of the presentity decides about the watcher".into(),
        Status::Waiting => "waiting: it ended while nobody had decided about the watcher".into(),
        Status::Active if reason == b"polite-block" => {
            "politely blocked: the watcher is told nothing, and not that it is".into()
        }
        Status::Active if trail.failed != 0 && trail.failed_cseq == subscription.numbers.local_cseq => {
            format!("active, but the last NOTIFY was answered {}", trail.failed)
        }
        Status::Active if traffic.busy || traffic.pending => {
            "active; a change is being told right now, or waits for its turn".into()
        }
        Status::Active if documents == 0 => "active, and there is nothing to tell: no publication".into(),
        Status::Active => format!("active: it has been told what there is ({documents} publications)"),
    }
}

fn shown(text: &[u8]) -> String {
    if text.is_empty() { "no reason given".into() } else { String::from_utf8_lossy(text).into_owned() }
}
