//! The check of who may speak with this node as a node of its cluster, and receive what it sends: the addresses in
//! `cluster_peers`, and nodes that know `cluster_secret`.
use crate::cluster::clock::Stamp;
use crate::cluster::mark::{About, RelayMark};
use crate::cluster::seal::{Refusal, Sealed, Secrets};
use crate::host::dmq::Channel;
use crate::presence::config::Config;
use std::net::IpAddr;

/// The secrets, and the addresses.
#[derive(Default)]
pub struct NodeAdmission {
    secrets: Secrets,
    peers: Vec<Network>,
}

/// Addresses with the same first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u32,
}

/// Why a message is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAdmitted {
    /// The sender's address is not in `cluster_peers`.
    Stranger,
    /// The message does not come from a node that knows the secret.
    Refused(Refusal),
    /// No node that dmq knows has its address.
    Unknown,
}

impl NotAdmitted {
    /// For the log.
    pub fn text(self) -> &'static str {
        match self {
            NotAdmitted::Stranger => "its address is not in cluster_peers",
            NotAdmitted::Refused(why) => why.text(),
            NotAdmitted::Unknown => "no node that dmq knows has its address",
        }
    }
}

/// `cluster_peers` has at most this many entries.
const MOST_PEERS: usize = 256;

impl Network {
    fn parse(text: &str) -> Option<Network> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.trim_matches(|c| c == '[' || c == ']').parse().ok()?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(longest), |bits| bits.parse().ok()).filter(|bits| *bits <= longest)?;
        Some(Network { address, bits })
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                same_start(own.to_bits().into(), other.to_bits().into(), 32 - self.bits)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => same_start(own.to_bits(), other.to_bits(), 128 - self.bits),
            _ => false,
        }
    }
}

/// Whether two numbers are equal without their last bits.
fn same_start(one: u128, other: u128, without: u32) -> bool {
    one.checked_shr(without) == other.checked_shr(without)
}

/// The address that a text is.
pub(crate) fn address_of(text: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(text).ok()?.trim_matches(|c| c == '[' || c == ']').parse().ok()
}

impl NodeAdmission {
    /// As the parameters say.
    ///
    /// # Errors
    ///
    /// Fails when a parameter has a value that it cannot have; secrets are not named.
    pub fn new(config: &Config) -> Result<NodeAdmission, String> {
        let secrets = Secrets::parse(config.cluster_secret)
            .map_err(|allowed| format!("parameter cluster_secret must be {allowed}"))?;
        let text = String::from_utf8_lossy(config.cluster_peers);
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let peers: Vec<Network> = parts
            .map(|part| {
                Network::parse(part).ok_or_else(|| {
                    format!("parameter cluster_peers names {part}: it must be an address, or a network as 192.0.2.0/24")
                })
            })
            .collect::<Result<_, _>>()?;
        if peers.len() > MOST_PEERS {
            return Err(format!("parameter cluster_peers has more than {MOST_PEERS} addresses: write networks"));
        }
        Ok(NodeAdmission { secrets, peers })
    }

    /// Whether everybody is accepted.
    pub fn is_open(&self) -> bool {
        self.secrets.is_empty() && self.peers.is_empty()
    }

    /// A message of a node as it is sent: sealed, if there is a secret.
    pub fn seal(&self, channel: Channel, message: Vec<u8>, by: &Sealed) -> Vec<u8> {
        self.secrets.seal(channel as u8, message, by)
    }

    /// Whether the host `name` is listed in `cluster_peers`; `None` where nothing is.
    pub fn lists_host(&self, name: &[u8]) -> Option<bool> {
        (!self.peers.is_empty()).then(|| self.lists(address_of(name)))
    }

    /// Whether messages are authenticated.
    pub fn has_secret(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// The header of a request that this node sends on.
    pub fn mark(&self, mark: &RelayMark, about: &About<'_>) -> Vec<u8> {
        mark.text(&self.secrets, about)
    }

    /// Whether a request that says so was sent on by a node; `is_of_node`: dmq knows a node at its address, which is
    /// `source`; `own`: that of this node. Returns the authenticated header, which is good once; `None`: there is no
    /// secret.
    ///
    /// # Errors
    ///
    /// Fails when the request was not sent on by a node, as far as its address and its header show.
    pub fn admit_request(
        &self,
        source: &[u8],
        (own, is_of_node): (&[u8], bool),
        (value, about): (&[u8], &About<'_>),
        now: Stamp,
    ) -> Result<Option<RelayMark>, NotAdmitted> {
        let address = address_of(source);
        // A node that asks the next one may be that one itself.
        let is_own = || address.is_some() && address == address_of(own);
        if !self.peers.is_empty() && !self.lists(address) && !is_own() {
            return Err(NotAdmitted::Stranger);
        }
        match self.secrets.is_empty() {
            true if self.peers.is_empty() && !is_of_node => Err(NotAdmitted::Unknown),
            true => Ok(None),
            false => RelayMark::open(&self.secrets, value, about, now).map(Some).map_err(NotAdmitted::Refused),
        }
    }

    fn lists(&self, address: Option<IpAddr>) -> bool {
        address.is_some_and(|address| self.peers.iter().any(|network| network.contains(address)))
    }

    /// Names the sender of a message that came from an address without a port; `None` where nobody has to say so.
    ///
    /// # Errors
    ///
    /// Fails when the sender may not speak as a node.
    pub fn admit(&self, channel: Channel, source: &[u8], message: &[u8]) -> Result<Option<Sealed>, NotAdmitted> {
        let is_listed = self.lists(address_of(source));
        if !self.peers.is_empty() && !is_listed {
            return Err(NotAdmitted::Stranger);
        }
        if self.secrets.is_empty() {
            return Ok(None);
        }
        match self.secrets.open(channel as u8, message) {
            Ok(sealed) => Ok(Some(sealed)),
            // Stock's nodes do not know the secret: their address has to be listed.
            Err(Refusal::Unsealed) if channel == Channel::Publications && is_listed => Ok(None),
            Err(why) => Err(NotAdmitted::Refused(why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Moment;
    use crate::time::UnixMillis;

    fn admission(secret: &str, peers: &str) -> NodeAdmission {
        let parts = peers.split(',').filter(|part| !part.is_empty());
        NodeAdmission {
            secrets: Secrets::parse(secret.as_bytes()).unwrap(),
            peers: parts.map(|p| Network::parse(p).unwrap()).collect(),
        }
    }

    #[test]
    fn addresses_are_compared_by_their_bits() {
        let open = admission("", "10.0.0.1,192.0.2.0/24,2001:db8::/32");
        for (address, listed) in [
            ("10.0.0.1", true),
            ("10.0.0.2", false),
            ("192.0.2.77", true),
            ("192.0.3.1", false),
            ("2001:db8:1::7", true),
            ("[2001:db8::1]", true),
            ("2001:db9::1", false),
            ("node.example.org", false),
        ] {
            assert_eq!(open.lists(address_of(address.as_bytes())), listed, "{address}");
        }
        assert!(admission("", "0.0.0.0/0").lists(address_of(b"8.8.8.8")));
        for bad in ["", "10.0.0", "10.0.0.0/33", "10.0.0.1:5060", "name", "::/129"] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn who_is_not_of_the_cluster_is_not_accepted() {
        let message = b"{\"action\":1}".as_slice();
        let listed = admission("", "10.0.0.1");
        assert_eq!(listed.admit(Channel::Nodes, b"10.0.0.2", message), Err(NotAdmitted::Stranger));
        assert_eq!(listed.admit(Channel::Nodes, b"10.0.0.1", message), Ok(None));
        let secret = admission("a secret of sixteen", "");
        for channel in [Channel::Nodes, Channel::Publications] {
            assert_eq!(secret.admit(channel, b"10.0.0.1", message), Err(NotAdmitted::Refused(Refusal::Unsealed)));
        }
        let by = Sealed { sender: b"n:1".to_vec(), started: UnixMillis(1), number: 2 };
        let sealed = secret.secrets.seal(Channel::Nodes as u8, message.to_vec(), &by);
        assert_eq!(secret.admit(Channel::Nodes, b"10.0.0.9", &sealed), Ok(Some(by)));
        // A node of stock's, whose address is listed.
        let both = admission("a secret of sixteen", "10.0.0.1");
        assert_eq!(both.admit(Channel::Publications, b"10.0.0.1", message), Ok(None));
        assert_eq!(both.admit(Channel::Nodes, b"10.0.0.1", message), Err(NotAdmitted::Refused(Refusal::Unsealed)));
        assert_eq!(both.admit(Channel::Nodes, b"10.0.0.9", &sealed), Err(NotAdmitted::Stranger));
    }

    #[test]
    fn a_request_is_sent_on_by_nodes_alone() {
        let (about, now) = (About { method: b"PUBLISH", ..About::default() }, Stamp::of_time(UnixMillis(1_000_000)));
        let (node, stranger, own) = (b"10.0.0.1".as_slice(), b"10.0.0.9".as_slice(), b"10.0.0.2".as_slice());
        let mark = RelayMark { node: b"10.0.0.1:5060".to_vec(), at: now };
        let (open, peers, secret) =
            (admission("", ""), admission("", "10.0.0.1"), admission("a secret of sixteen", ""));
        let both = admission("a secret of sixteen", "10.0.0.1");
        let ask = |admission: &NodeAdmission, source: &[u8], value: &[u8]| {
            let is_of_node = source == node || source == own;
            let admitted = admission.admit_request(source, (own, is_of_node), (value, &about), now)?;
            assert_eq!(admitted, admission.has_secret().then(|| mark.clone()));
            Ok(())
        };
        let (plain, sealed) = (open.mark(&mark, &about), secret.mark(&mark, &about));
        assert_eq!(plain, mark.node);
        for (admission, source, value, expected) in [
            (&open, node, &plain, Ok(())),
            (&open, own, &plain, Ok(())),
            (&open, stranger, &plain, Err(NotAdmitted::Unknown)),
            (&peers, node, &plain, Ok(())),
            (&peers, own, &plain, Ok(())),
            (&peers, stranger, &plain, Err(NotAdmitted::Stranger)),
            (&secret, node, &plain, Err(NotAdmitted::Refused(Refusal::Unsealed))),
            (&secret, stranger, &sealed, Ok(())),
            (&both, node, &sealed, Ok(())),
            (&both, own, &sealed, Ok(())),
            (&both, own, &plain, Err(NotAdmitted::Refused(Refusal::Unsealed))),
            (&both, stranger, &sealed, Err(NotAdmitted::Stranger)),
        ] {
            assert_eq!(ask(admission, source, value), expected, "{:?} {:?}", source, value);
        }
    }

    #[test]
    fn more_addresses_than_there_may_be_stop_the_start() {
        let listed = |count: usize| {
            let peers: Vec<String> = (0..count).map(|n| format!("10.0.{}.{}", n / 250, n % 250)).collect();
            let peers = peers.join(",");
            let defaults = Config::defaults(None, b"", b"", 0, Moment::at(0), false);
            NodeAdmission::new(&Config { cluster_peers: Box::leak(peers.into_boxed_str()).as_bytes(), ..defaults })
        };
        assert_eq!(listed(MOST_PEERS).unwrap().peers.len(), MOST_PEERS);
        let why = listed(MOST_PEERS + 1).err().unwrap();
        assert!(why.contains("cluster_peers") && why.contains("256"), "{why}");
    }
}
