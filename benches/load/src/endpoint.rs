//! All watchers and publishers behind one UDP socket: sends requests, again where no answer comes, answers NOTIFYs at
//! once, and checks what they say.
mod mixed;

use crate::latency::Latencies;
use crate::message::{self, Message};
use crate::work::{Kind, Work};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// RFC 3261 T1: after this time without an answer a request is sent again, then after twice as long, and so on.
const T1: Duration = Duration::from_millis(500);
/// RFC 3261 T2: the longest time between two sendings.
const T2: Duration = Duration::from_secs(4);
/// RFC 3261 timer F.
const GIVE_UP: Duration = Duration::from_secs(32);

/// How long to wait for a datagram, and how often to look for what has to be sent again.
const MOMENT: Duration = Duration::from_millis(1);

/// One subscription of one watcher.
#[derive(Default, Clone)]
struct Watcher {
    resource: usize,
    to_tag: String,
    target: String,
    cseq: u32,
    subscribed: bool,
    /// CSeq of the last NOTIFY.
    last_notify: u32,
    notifies: u64,
    /// The newest document that a NOTIFY brought it.
    seen: u64,
}

/// One presentity with its publication.
#[derive(Default, Clone)]
struct Resource {
    etag: String,
    /// The newest document.
    number: u64,
    published_at: Option<Instant>,
    /// Whether a PUBLISH of it waits for its answer.
    in_flight: bool,
    watchers: Vec<usize>,
    /// How many of them do not know the newest document yet.
    behind: usize,
}

/// A request that waits for its answer, or for its NOTIFY.
struct PendingRequest {
    kind: Kind,
    index: usize,
    text: String,
    first: Instant,
    again_at: Instant,
    wait: Duration,
    /// NOTIFYs of the watcher before it was sent.
    notifies: u64,
    answered: bool,
}

/// What is counted while some work goes on.
#[derive(Default)]
struct Tally {
    done: u64,
    latency: Latencies,
    /// From a PUBLISH until a watcher knows its document.
    notified_within: Latencies,
    codes: BTreeMap<u16, u64>,
    sent_again: u64,
    notifies: u64,
    notified_again: u64,
    out_of_order: u64,
    unknown: u64,
    gave_up: u64,
}

/// The endpoint.
pub struct Endpoint {
    socket: UdpSocket,
    server: SocketAddr,
    address: SocketAddr,
    domain: String,
    run: u32,
    next_branch: u64,
    watchers: Vec<Watcher>,
    resources: Vec<Resource>,
    pending_requests: HashMap<u64, PendingRequest>,
    /// Watchers whose SUBSCRIBE is answered and whose NOTIFY is not there yet, and the other way round: watcher to
    /// branch.
    waiting: HashMap<usize, u64>,
    seen_branches: HashSet<String>,
    tally: Tally,
    looked_at: Instant,
    /// When the last request was sent for the first time.
    sent_at: Instant,
    buffer: Vec<u8>,
}

impl Endpoint {
    /// Binds the socket. `run` sets this run's dialogs apart from others.
    pub fn new(server: SocketAddr, run: u32) -> std::io::Result<Endpoint> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        socket.set_recv_buffer_size(16 << 20)?;
        let socket: UdpSocket = socket.into();
        socket.set_read_timeout(Some(MOMENT))?;
        Ok(Endpoint {
            address: socket.local_addr()?,
            socket,
            server,
            domain: "bench.invalid".to_owned(),
            run,
            next_branch: 0,
            watchers: Vec::new(),
            resources: Vec::new(),
            pending_requests: HashMap::new(),
            waiting: HashMap::new(),
            seen_branches: HashSet::new(),
            tally: Tally::default(),
            looked_at: Instant::now(),
            sent_at: Instant::now(),
            buffer: vec![0; 65_536],
        })
    }

    /// Takes in one datagram, if one comes within a moment, and sends again what got no answer.
    pub fn listen(&mut self) {
        if let Ok(length) = self.socket.recv(&mut self.buffer) {
            let buffer = std::mem::take(&mut self.buffer);
            self.receive(&buffer[..length]);
            self.buffer = buffer;
        }
        if self.looked_at.elapsed() > MOMENT {
            self.looked_at = Instant::now();
            self.send_again();
        }
    }

    /// Carries out a piece of work; returns its figures.
    pub fn carry_out(&mut self, work: &Work) -> Value {
        self.tally = Tally::default();
        self.resources.resize_with(self.resources.len().max(work.presentities), Resource::default);
        self.watchers.resize_with(self.watchers.len().max(work.watchers_needed()), Watcher::default);
        let (start, mut next) = (Instant::now(), 0);
        loop {
            while next < work.count && self.may_send(work, next, start) {
                self.send_request(work, work.from + next);
                next += 1;
            }
            if next == work.count && self.pending_requests.is_empty() {
                break;
            }
            self.listen();
        }
        let (answered, behind) = (start.elapsed(), self.wait_for_notifies(work));
        self.figures(work, answered, start.elapsed(), behind)
    }

    fn may_send(&self, work: &Work, next: usize, start: Instant) -> bool {
        let on_time = work.rate == 0.0 || start.elapsed().as_secs_f64() * work.rate >= next as f64;
        // A watcher that was not notified for this long will not be.
        let given_up = || self.sent_at.elapsed() > work.timeout;
        let all_notified = !work.lockstep || next == 0 || self.behind(work) == 0 || given_up();
        on_time && all_notified && self.pending_requests.len() < work.window
    }

    /// How many watchers do not know the newest document yet.
    fn behind(&self, work: &Work) -> usize {
        work.touched().map(|index| self.resources[index].behind).sum()
    }

    /// Waits until every watcher knows the newest document, or for as long as the work allows; returns how many do not.
    fn wait_for_notifies(&mut self, work: &Work) -> usize {
        if !matches!(work.kind, Kind::Publish | Kind::Modify) {
            return 0;
        }
        let until = Instant::now() + work.timeout;
        loop {
            let behind = self.behind(work);
            if behind == 0 || Instant::now() > until {
                return behind;
            }
            self.listen();
        }
    }

    fn figures(&mut self, work: &Work, answered: Duration, whole: Duration, behind: usize) -> Value {
        let tally = &mut self.tally;
        json!({
            "do": work.kind.name(),
            "count": work.count,
            "done": tally.done,
            "seconds": answered.as_secs_f64(),
            "whole_seconds": whole.as_secs_f64(),
            "rate": tally.done as f64 / answered.as_secs_f64(),
            "latency": tally.latency.summary(),
            "notified": tally.notified_within.summary(),
            "behind": behind,
            "codes": tally
                .codes
                .iter()
                .map(|(code, n)| (code.to_string(), json!(n)))
                .collect::<serde_json::Map<_, _>>(),
            "sent_again": tally.sent_again,
            "gave_up": tally.gave_up,
            "notifies": tally.notifies,
            "notified_again": tally.notified_again,
            "out_of_order": tally.out_of_order,
            "unknown": tally.unknown,
        })
    }

    fn send_request(&mut self, work: &Work, index: usize) {
        self.send_request_due(work, index, Instant::now());
    }

    /// Sends a request whose time counts from `due` on.
    fn send_request_due(&mut self, work: &Work, index: usize, due: Instant) {
        self.next_branch += 1;
        let branch = self.next_branch;
        let (text, notifies) = match work.kind {
            Kind::Subscribe | Kind::Refresh | Kind::Unsubscribe => {
                (self.subscribe(work, index, branch), self.watchers[index].notifies)
            }
            Kind::Publish | Kind::Modify | Kind::Remove => (self.publish(work, index % work.presentities, branch), 0),
        };
        let now = Instant::now();
        self.sent_at = now;
        let _ = self.socket.send_to(text.as_bytes(), self.server);
        let index = if work.kind.is_subscribe() { index } else { index % work.presentities };
        if work.kind.is_subscribe() {
            self.waiting.insert(index, branch);
        } else {
            self.resources[index].in_flight = true;
            self.resources[index].published_at = self.resources[index].published_at.map(|_| due);
        }
        let pending = PendingRequest {
            kind: work.kind,
            index,
            text,
            first: due,
            again_at: now + T1,
            wait: T1,
            notifies,
            answered: false,
        };
        self.pending_requests.insert(branch, pending);
    }

    fn subscribe(&mut self, work: &Work, index: usize, branch: u64) -> String {
        let (address, run, domain) = (self.address, self.run, &self.domain);
        if work.kind == Kind::Subscribe {
            let resource = index % work.presentities;
            self.watchers[index] = Watcher { resource, ..Watcher::default() };
        }
        let watcher = &mut self.watchers[index];
        watcher.cseq += 1;
        let entity = format!("sip:p{}@{domain}", watcher.resource);
        let target = if watcher.target.is_empty() { &entity } else { &watcher.target };
        let to_tag = if watcher.to_tag.is_empty() { String::new() } else { format!(";tag={}", watcher.to_tag) };
        let expires = if work.kind == Kind::Unsubscribe { 0 } else { work.expires };
        format!(
            "SUBSCRIBE {target} SIP/2.0\r\nVia: SIP/2.0/UDP {address};branch=z9hG4bKload{branch}-{run}\r\n\
             From: <sip:w{index}@{domain}>;tag=f{index}\r\nTo: <{entity}>{to_tag}\r\nCall-ID: w{index}-{run}\r\n\
             CSeq: {} SUBSCRIBE\r\nContact: <sip:w{index}@{address}>\r\nMax-Forwards: 70\r\nEvent: {}\r\n\
             Accept: {}\r\nExpires: {expires}\r\nContent-Length: 0\r\n\r\n",
            watcher.cseq,
            work.package.name(),
            work.package.content_type(),
        )
    }

    fn publish(&mut self, work: &Work, index: usize, branch: u64) -> String {
        let (address, run, domain) = (self.address, self.run, &self.domain);
        let resource = &mut self.resources[index];
        let entity = format!("sip:p{index}@{domain}");
        let mut text = format!(
            "PUBLISH {entity} SIP/2.0\r\nVia: SIP/2.0/UDP {address};branch=z9hG4bKload{branch}-{run}\r\n\
             From: <{entity}>;tag=p{branch}\r\nTo: <{entity}>\r\nCall-ID: p{branch}-{run}\r\nCSeq: 1 PUBLISH\r\n\
             Max-Forwards: 70\r\nEvent: {}\r\nExpires: {}\r\n",
            work.package.name(),
            if work.kind == Kind::Remove { 0 } else { work.expires },
        );
        if work.kind != Kind::Publish {
            let _ = write!(text, "SIP-If-Match: {}\r\n", resource.etag);
        }
        if work.kind == Kind::Remove {
            text.push_str("Content-Length: 0\r\n\r\n");
            return text;
        }
        resource.number += 1;
        resource.published_at = Some(Instant::now());
        resource.behind = resource.watchers.len();
        let body = work.package.document(&entity, resource.number);
        let _ = write!(
            text,
            "Content-Type: {}\r\nContent-Length: {}\r\n\r\n{body}",
            work.package.content_type(),
            body.len()
        );
        text
    }

    fn send_again(&mut self) {
        let now = Instant::now();
        let mut lost = Vec::new();
        for (branch, pending) in &mut self.pending_requests {
            if now < pending.again_at {
                continue;
            }
            if now > pending.first + GIVE_UP {
                lost.push(*branch);
                continue;
            }
            pending.wait = (pending.wait * 2).min(T2);
            pending.again_at = now + pending.wait;
            if !pending.answered {
                self.tally.sent_again += 1;
                let _ = self.socket.send_to(pending.text.as_bytes(), self.server);
            }
        }
        for branch in lost {
            self.tally.gave_up += 1;
            if let Some(pending) = self.pending_requests.remove(&branch).filter(|one| !one.kind.is_subscribe()) {
                self.resources[pending.index].in_flight = false;
            }
        }
    }

    /// Takes in what has arrived, and waits for nothing.
    fn take_in_what_is_there(&mut self) {
        let _ = self.socket.set_nonblocking(true);
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Ok(length) = self.socket.recv(&mut buffer) {
            self.receive(&buffer[..length]);
        }
        self.buffer = buffer;
        let _ = self.socket.set_nonblocking(false);
    }

    /// Waits no longer for what has not been answered.
    fn forget_pending(&mut self) {
        self.pending_requests.clear();
        self.waiting.clear();
        self.resources.iter_mut().for_each(|resource| resource.in_flight = false);
    }

    fn receive(&mut self, datagram: &[u8]) {
        let Some(message) = Message::parse(datagram) else { return };
        match message.code() {
            Some(code) if code >= 200 => self.answered(code, &message),
            Some(_) => {}
            None => {
                let _ = self.socket.send_to(message.ok().as_bytes(), self.server);
                if message.first_line.starts_with("NOTIFY ") {
                    self.notified(&message);
                }
            }
        }
    }

    fn answered(&mut self, code: u16, message: &Message<'_>) {
        let Some(branch) = message.branch() else { return };
        let Some(pending) = self.pending_requests.get_mut(&branch).filter(|pending| !pending.answered) else { return };
        pending.answered = true;
        *self.tally.codes.entry(code).or_default() += 1;
        self.tally.latency.add(pending.first.elapsed());
        let (kind, index) = (pending.kind, pending.index);
        let good = (200..300).contains(&code);
        if !kind.is_subscribe() {
            self.resources[index].in_flight = false;
            self.pending_requests.remove(&branch);
            self.tally.done += u64::from(good);
            if good {
                self.resources[index].etag = message.etag.to_owned();
            }
            return;
        }
        if !good {
            self.pending_requests.remove(&branch);
            return;
        }
        let watcher = &mut self.watchers[index];
        if kind == Kind::Subscribe && !watcher.subscribed {
            watcher.subscribed = true;
            let resource = &mut self.resources[watcher.resource];
            resource.watchers.push(index);
            resource.behind += usize::from(watcher.seen < resource.number);
        }
        let watcher = &mut self.watchers[index];
        watcher.to_tag = message::tag(message.to).to_owned();
        watcher.target = message::uri(message.contact).to_owned();
        self.finish(index);
    }

    fn notified(&mut self, message: &Message<'_>) {
        if !self.seen_branches.insert(message.raw_branch().to_owned()) {
            self.tally.notified_again += 1;
            return;
        }
        self.tally.notifies += 1;
        let named = message.call_id.strip_prefix('w').and_then(|rest| rest.split_once('-'));
        let ours =
            named.filter(|(_, run)| run.parse() == Ok(self.run)).and_then(|(index, _)| index.parse::<usize>().ok());
        let Some(index) = ours.filter(|index| *index < self.watchers.len()) else {
            self.tally.unknown += 1;
            return;
        };
        let watcher = &mut self.watchers[index];
        if message.sequence() <= watcher.last_notify {
            self.tally.out_of_order += 1;
        }
        watcher.last_notify = watcher.last_notify.max(message.sequence());
        watcher.notifies += 1;
        if let Some(number) = message::mark(message.body).filter(|number| *number > watcher.seen) {
            watcher.seen = number;
            let resource = &mut self.resources[watcher.resource];
            if resource.number == number && watcher.subscribed {
                resource.behind -= 1;
                // The first NOTIFY brings a document that may be old.
                if watcher.notifies > 1 {
                    self.tally.notified_within.add(resource.published_at.map_or(Duration::ZERO, |at| at.elapsed()));
                }
            }
        }
        if watcher.subscribed && message.state.starts_with("terminated") {
            watcher.subscribed = false;
            let resource = &mut self.resources[watcher.resource];
            resource.behind -= usize::from(watcher.seen < resource.number);
            resource.watchers.retain(|other| *other != index);
        }
        self.finish(index);
    }

    /// A SUBSCRIBE is done when it is answered and its NOTIFY is there.
    fn finish(&mut self, index: usize) {
        let Some(branch) = self.waiting.get(&index).copied() else { return };
        let Some(pending) = self.pending_requests.get(&branch) else { return };
        if pending.answered && self.watchers[index].notifies > pending.notifies {
            self.pending_requests.remove(&branch);
            self.waiting.remove(&index);
            self.tally.done += 1;
        }
    }
}
