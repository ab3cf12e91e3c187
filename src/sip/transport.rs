//! The transport of a dialog, and how a Contact names it (RFC 3261 19.1.1, RFC 4168, RFC 7118 5).
use crate::shm_safe::shm_safe;

/// A transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// The transport is not known.
    #[default]
    Unknown,
    /// UDP, which needs no name.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// SCTP.
    Sctp,
    /// WebSocket, with TLS or without: both have the same name in a URI.
    Ws,
}

shm_safe!(
    enum Transport {
        Unknown,
        Udp,
        Tcp,
        Tls,
        Sctp,
        Ws,
    }
);

impl Transport {
    /// By the host's name for it (`udp`, `TLS`, `wss`).
    pub fn named(name: &[u8]) -> Transport {
        const NAMES: [(&[u8], Transport); 6] = [
            (b"udp", Transport::Udp),
            (b"tcp", Transport::Tcp),
            (b"tls", Transport::Tls),
            (b"ws", Transport::Ws),
            (b"wss", Transport::Ws),
            (b"sctp", Transport::Sctp),
        ];
        let known = NAMES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known));
        known.map_or(Transport::Unknown, |(_, transport)| *transport)
    }

    /// The value of the `transport` parameter; empty where there is none to give.
    pub fn word(self) -> &'static [u8] {
        match self {
            Transport::Unknown | Transport::Udp => b"",
            Transport::Tcp => b"tcp",
            Transport::Tls => b"tls",
            Transport::Sctp => b"sctp",
            Transport::Ws => b"ws",
        }
    }

    /// What is likely of a dialog whose request is gone: by the socket it came in on (`tcp:host:port`), and by the
    /// watcher's Contact, for a WebSocket comes in on a TCP or TLS socket.
    pub fn of_dialog(socket: &[u8], watcher_contact: &[u8]) -> Transport {
        let of_socket = socket.split(|c| *c == b':').next().map_or(Transport::Unknown, Transport::named);
        match (of_socket, parameter(watcher_contact).map(Transport::named)) {
            (Transport::Tcp | Transport::Tls, Some(Transport::Ws)) => Transport::Ws,
            (known, _) => known,
        }
    }
}

/// The value of the `transport` parameter of a URI.
fn parameter(uri: &[u8]) -> Option<&[u8]> {
    let uri = uri.split(|c| *c == b'?').next().unwrap_or(uri);
    uri.split(|c| *c == b';').skip(1).find_map(|param| {
        let (name, value) = param.split_at(param.iter().position(|c| *c == b'=')?);
        name.eq_ignore_ascii_case(b"transport").then(|| &value[1..])
    })
}

/// Appends our Contact's URI with the transport of its dialog, unless it names one itself.
pub fn push_contact(out: &mut Vec<u8>, uri: &[u8], transport: Transport) {
    let word = transport.word();
    if word.is_empty() || parameter(uri).is_some() {
        out.extend_from_slice(uri);
        return;
    }
    let headers = uri.iter().position(|c| *c == b'?').unwrap_or(uri.len());
    for part in [&uri[..headers], b";transport=", word, &uri[headers..]] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(uri: &str, transport: &str) -> String {
        let mut out = Vec::new();
        push_contact(&mut out, uri.as_bytes(), Transport::named(transport.as_bytes()));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_contact_names_its_transport_once() {
        assert_eq!(contact("sip:server:5060", "udp"), "sip:server:5060");
        assert_eq!(contact("sip:server:5060", "TCP"), "sip:server:5060;transport=tcp");
        assert_eq!(contact("sip:server;lr?x=1", "tls"), "sip:server;lr;transport=tls?x=1");
        assert_eq!(contact("sip:server", "wss"), "sip:server;transport=ws");
        assert_eq!(contact("sip:server;Transport=udp", "tcp"), "sip:server;Transport=udp");
        assert_eq!(contact("sip:server", "nothing"), "sip:server");
    }

    #[test]
    fn a_websocket_is_known_by_the_contact() {
        let of = |socket: &str, contact: &str| Transport::of_dialog(socket.as_bytes(), contact.as_bytes());
        assert_eq!(of("tcp:10.0.0.1:80", "sip:x@h.invalid;transport=ws"), Transport::Ws);
        assert_eq!(of("tls:10.0.0.1:443", "sip:x@h.invalid;transport=WSS;alias=1"), Transport::Ws);
        assert_eq!(of("tcp:10.0.0.1:80", "sip:x@h"), Transport::Tcp);
        assert_eq!(of("udp:10.0.0.1:80", "sip:x@h;transport=ws"), Transport::Udp);
        assert_eq!(of("", ""), Transport::Unknown);
    }
}
