//! Watcher information (RFC 3857) and its document (RFC 3858).
use super::subscription::{Field, Status, Subscription};
use crate::sip::text::{push_number, push_xml};

/// One watcher in a winfo document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watcher {
    /// Its URI.
    pub uri: Vec<u8>,
    /// An id, the same for the life of its subscription.
    pub id: Vec<u8>,
    /// Its status.
    pub status: Status,
    /// What made its status: `subscribe`, `approved`, `timeout` ...
    pub event: &'static [u8],
}

impl Watcher {
    /// The watcher of a subscription.
    pub fn of<B: AsRef<[u8]>>(subscription: &Subscription<B>) -> Watcher {
        Watcher {
            uri: crate::sip::uri::join(subscription.get(Field::WatcherUser), subscription.get(Field::WatcherDomain)),
            id: subscription.get(Field::CallId).to_vec(),
            status: subscription.numbers.status,
            event: b"subscribe",
        }
    }
}

/// Whether a document lists every watcher or only those that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Every watcher.
    Full,
    /// Those that changed.
    Partial,
}

/// Writes a winfo document.
pub fn document(version: u32, extent: Extent, resource: &[u8], package: &[u8], watchers: &[Watcher]) -> Vec<u8> {
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
        out.extend_from_slice(watcher.event);
        out.extend_from_slice(b"\" status=\"");
        out.extend_from_slice(watcher.status.word());
        out.extend_from_slice(b"\">");
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
        let text = document(1, Extent::Full, b"sip:a@b", b"presence", &[]);
        assert!(text.ends_with(b"<watcher-list resource=\"sip:a@b\" package=\"presence\"/>\n</watcherinfo>\n"));
    }

    #[test]
    fn hostile_uris_are_escaped() {
        let watcher =
            Watcher { uri: b"sip:<&>@h".to_vec(), id: b"\"".to_vec(), status: Status::Pending, event: b"subscribe" };
        let text = String::from_utf8(document(2, Extent::Partial, b"sip:a@b", b"presence", &[watcher])).unwrap();
        assert!(
            text.contains(
                "<watcher id=\"&quot;\" event=\"subscribe\" status=\"pending\">sip:&lt;&amp;&gt;@h</watcher>"
            )
        );
    }
}
