//! What simulated nodes hold, and what they say to each other.
use crate::layers::cluster::clock::{ClusterSecond, Stamp};
use crate::layers::cluster::consent::Ticket;
use crate::layers::cluster::digest::mixed;
use crate::layers::cluster::exchange::ExchangeMessage;
use crate::layers::cluster::version::{DocumentVersion, Version};

pub type NodeId = usize;
pub type DialogId = u32;
pub type PresentityId = u32;

#[derive(Debug, Clone, PartialEq)]
pub struct Sub {
    pub dialog: DialogId,
    pub presentity: PresentityId,
    pub owner: NodeId,
    /// The lease it is owned under; 0 without an arbiter.
    pub lease: u32,
    pub version: Version,
    pub ceiling: u32,
    pub local: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Doc {
    pub presentity: PresentityId,
    pub record: u32,
    pub changes: u32,
    pub received_at: ClusterSecond,
    pub etag: Vec<u8>,
    pub value: u32,
    /// When it runs out, in milliseconds since the simulation began; nodes see that up to a second later.
    pub ends: u64,
}

impl Doc {
    pub fn version(&self) -> DocumentVersion<'_> {
        DocumentVersion {
            changes: self.changes,
            received_at: Some(self.received_at),
            etag: &self.etag,
            body: u64::from(self.value),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    Sub(Sub),
    End(DialogId, Version),
    Doc(Doc),
    /// A document was removed, and with it what is older of the same presentity.
    Gone(Removal),
}

/// The removal of a document.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Removal {
    pub record: u32,
    /// Up to which of its states it was removed; `None`: none of them, it has run out.
    pub states: Option<u32>,
    /// From version 4 on, where not every node holds everything: the presentity, and when the document was received.
    pub ended: Option<(PresentityId, ClusterSecond)>,
}

/// What a SUBSCRIBE has changed of a subscription that is otherwise as `unchanged` says.
#[derive(Debug, Clone, Copy)]
pub struct Refresh {
    pub dialog: DialogId,
    pub unchanged: u64,
    pub word: u32,
    pub stamp: Stamp,
}

/// Whether a hello asks for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HelloReply {
    /// An answer is wanted.
    Wanted,
    /// The hello is an answer itself.
    Given,
}

#[derive(Debug, Clone)]
pub enum Wire {
    /// The sender is there.
    Beat,
    /// The cluster's clock, as a hello and a comparison say it.
    Clock(Stamp),
    /// How the sender places records: whether it has all that it should hold.
    Share(bool),
    /// What the first node holds and should not; those that should hold it after the receiver.
    Offer {
        record: Record,
        first: NodeId,
        rest: Vec<NodeId>,
    },
    /// The record is held by all of them now.
    Held(Record),
    /// Which version its sender's messages have; whether to answer with the same.
    Hello {
        speaks: u8,
        reply: HelloReply,
    },
    /// From version 3 on.
    Refresh(Refresh),
    /// A message could not be read (400).
    Unread,
    Record(Record),
    /// The sender has taken a subscription from another node, and sends its NOTIFYs once this is answered.
    Claim {
        sub: Sub,
        ticket: Ticket,
    },
    /// What dmq answers to the message with this ticket, once it is carried out: whether the sender knew nothing newer.
    Taken(Ticket, bool),
    Exchange(ExchangeMessage<Record>),
    /// The sender ends, and has handed its lease over to this node.
    Leave(Option<NodeId>),
}

/// The version of the messages, and the first one with refreshes.
pub const MESSAGES: u8 = 4;
pub const REFRESHES: u8 = 3;
/// The first one in which removals name what has ended, and nodes say the cluster's clock.
pub const CLOCKED: u8 = 4;

/// A digest of what a refresh leaves as it is.
pub fn unchanged_of(sub: &Sub) -> u64 {
    let Sub { presentity, owner, lease, ceiling, version, .. } = sub;
    let numbers = [*presentity, *owner as u32, *lease, *ceiling, version.epoch];
    numbers.iter().fold(0, |digest, number| mixed(digest ^ mixed(u64::from(*number) + 1)))
}
