//! Watcher information (RFC 3857) and its document (RFC 3858).
pub mod watcher_changes;

use super::subscription::field::Field;
use super::subscription::{Status, Subscription};
use crate::shm_safe::shm_safe;
use crate::sip::text::{push_number, push_xml, to_base64};
use crate::time::{Moment, Seconds};

/// What made the status of a watcher (RFC 3857 4.7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatcherEvent {
    /// The watcher subscribed.
    Subscribe,
    /// The presentity's rules allow it.
    Approved,
    /// The presentity's rules refuse it.
    Rejected,
    /// The watcher's subscription ran out.
    Timeout,
    /// An operator ended its subscription.
    Deactivated,
}

shm_safe!(
    enum WatcherEvent {
        Subscribe,
        Approved,
        Rejected,
        Timeout,
        Deactivated,
    }
);

impl WatcherEvent {
    /// The event of a decision about a watcher. The steps of RFC 3857 4.7.1 have none from active back to pending: the
    /// watcher is listed as one who subscribes and waits.
    pub fn of_decision(status: Status) -> WatcherEvent {
        match status {
            Status::Active => WatcherEvent::Approved,
            Status::Pending | Status::Waiting => WatcherEvent::Subscribe,
            Status::Terminated => WatcherEvent::Rejected,
        }
    }

    /// The watcher's word in the document.
    pub fn word(self) -> &'static [u8] {
        match self {
            WatcherEvent::Subscribe => b"subscribe",
            WatcherEvent::Approved => b"approved",
            WatcherEvent::Rejected => b"rejected",
            WatcherEvent::Timeout => b"timeout",
            WatcherEvent::Deactivated => b"deactivated",
        }
    }
}

/// When the subscription of a watcher began and when it ends, as far as that is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WatcherTimes {
    /// When it began.
    pub since: Option<Moment>,
    /// When it ends.
    pub expires_at: Option<Moment>,
}

shm_safe!(WatcherTimes { since, expires_at });

/// One watcher in a winfo document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watcher {
    /// The watcher's URI.
    pub uri: Vec<u8>,
    /// An id, the same for the life of its subscription.
    pub id: Vec<u8>,
    /// The watcher's status.
    pub status: Status,
    /// What made its status.
    pub event: WatcherEvent,
    /// When its subscription began and when it ends.
    pub times: WatcherTimes,
}

impl Watcher {
    /// The watcher of a subscription.
    pub fn of_subscription<B: AsRef<[u8]>>(subscription: &Subscription<B>) -> Watcher {
        Watcher {
            uri: crate::sip::uri::join(subscription.get(Field::WatcherUser), subscription.get(Field::WatcherDomain)),
            id: subscription.get(Field::CallId).to_vec(),
            status: subscription.state.status,
            event: WatcherEvent::Subscribe,
            times: WatcherTimes { since: subscription.state.since, expires_at: Some(subscription.state.expires_at) },
        }
    }
}

impl Watcher {
    /// One whose subscription has ended before anybody decided about it (RFC 3857 4.7.1). Its id is stock's.
    pub fn waiting(uri: Vec<u8>) -> Watcher {
        let (status, event, times) = (Status::Waiting, WatcherEvent::Subscribe, WatcherTimes::default());
        Watcher { id: to_base64(&uri), uri, status, event, times }
    }
}

/// Whether a document lists every watcher or only those that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Extent {
    /// Every watcher.
    Full,
    /// The watchers that changed.
    #[default]
    Partial,
}

/// How many changed watchers a document names; when more have changed it lists all.
pub const MOST_CHANGES: usize = 64;

/// What a document says of a watcher beyond stock's three attributes (RFC 3858 4.2), at this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Details {
    /// Now.
    pub now: Moment,
}

fn push_details(out: &mut Vec<u8>, watcher: &Watcher, details: Details) {
    let mut push = |name: &[u8], time: Seconds| {
        out.extend_from_slice(name);
        push_number(out, time.0.max(0));
        out.push(b'"');
    };
    let is_live = matches!(watcher.status, Status::Active | Status::Pending);
    if let Some(end) = watcher.times.expires_at.filter(|_| is_live) {
        push(b" expiration=\"", end - details.now);
    }
    if let Some(since) = watcher.times.since {
        push(b" duration-subscribed=\"", details.now - since);
    }
}

/// Writes a winfo document; with `details`, all that RFC 3858 knows of a watcher.
pub fn document(
    version: u32,
    extent: Extent,
    resource: &[u8],
    package: &[u8],
    watchers: &[Watcher],
    details: Option<Details>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + watchers.len() * 128);
    out.extend_from_slice(
        b"<?xml version=\"1.0\"?>\n<watcherinfo xmlns=\"urn:ietf:params:xml:ns:watcherinfo\" version=\"",
    );
    push_number(&mut out, i64::from(version));
    out.extend_from_slice(match extent {
        Extent::Full => b"\" state=\"full\">\n  <watcher-list resource=\"",
        Extent::Partial => b"\" state=\"partial\">\n  <watcher-list resource=\"",
    });
    push_xml(&mut out, resource);
    out.extend_from_slice(b"\" package=\"");
    push_xml(&mut out, package);
    if watchers.is_empty() {
        out.extend_from_slice(b"\"/>\n</watcherinfo>\n");
        return out;
    }
    out.extend_from_slice(b"\">\n");
    for watcher in watchers {
        out.extend_from_slice(b"    <watcher id=\"");
        push_xml(&mut out, &watcher.id);
        out.extend_from_slice(b"\" event=\"");
        out.extend_from_slice(watcher.event.word());
        out.extend_from_slice(b"\" status=\"");
        out.extend_from_slice(watcher.status.word());
        out.push(b'"');
        if let Some(details) = details {
            push_details(&mut out, watcher, details);
        }
        out.push(b'>');
        push_xml(&mut out, &watcher.uri);
        out.extend_from_slice(b"</watcher>\n");
    }
    out.extend_from_slice(b"  </watcher-list>\n</watcherinfo>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_is_an_empty_element() {
        let text = document(1, Extent::Full, b"sip:a@b", b"presence", &[], None);
        assert!(text.ends_with(b"<watcher-list resource=\"sip:a@b\" package=\"presence\"/>\n</watcherinfo>\n"));
    }

    #[test]
    fn details_say_how_long() {
        let watcher = Watcher {
            uri: b"sip:a".to_vec(),
            id: b"1".to_vec(),
            status: Status::Active,
            event: WatcherEvent::Approved,
            times: WatcherTimes { since: Some(Moment::at(90)), expires_at: Some(Moment::at(160)) },
        };
        let text =
            document(2, Extent::Full, b"sip:a@b", b"presence", &[watcher], Some(Details { now: Moment::at(100) }));
        let wanted =
            "event=\"approved\" status=\"active\" expiration=\"60\" duration-subscribed=\"10\">sip:a</watcher>";
        assert!(String::from_utf8(text).unwrap().contains(wanted));
    }

    #[test]
    fn hostile_uris_are_escaped() {
        let watcher = Watcher {
            uri: b"sip:<&>@h".to_vec(),
            id: b"\"".to_vec(),
            status: Status::Pending,
            event: WatcherEvent::Subscribe,
            times: WatcherTimes::default(),
        };
        let text = String::from_utf8(document(2, Extent::Partial, b"sip:a@b", b"presence", &[watcher], None)).unwrap();
        assert!(
            text.contains(
                "<watcher id=\"&quot;\" event=\"subscribe\" status=\"pending\">sip:&lt;&amp;&gt;@h</watcher>"
            )
        );
    }
}
