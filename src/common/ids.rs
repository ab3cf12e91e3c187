//! Entity tags and record ids: unique over processes and restarts; tags carry bits that nobody can guess.
use crate::host::{clock, process};
use crate::sip::entity_tag::EntityTag;
use crate::sip::text::{push_hex, push_number};
use crate::time::Moment;

/// No id is longer, in bytes.
const LONGEST_ID: usize = 80;

/// Makes ids for one process.
pub struct Ids {
    started: Moment,
    /// Distinguishes this server from others that were started in the same second with the same process numbers.
    node: u32,
    count: u32,
    pool: [u8; 256],
    used: usize,
}

impl Ids {
    /// Ids of this process in a server started at `started`.
    pub fn new(started: Moment) -> Self {
        let mut node = [0; 4];
        clock::random(&mut node);
        Ids { started, node: u32::from_ne_bytes(node), count: 0, pool: [0; 256], used: 256 }
    }

    /// A number nobody can guess.
    pub fn number(&mut self) -> u64 {
        if self.used + 8 > self.pool.len() {
            clock::random(&mut self.pool);
            self.used = 0;
        }
        let bytes: [u8; 8] = self.pool[self.used..self.used + 8].try_into().unwrap_or_default();
        self.used += 8;
        u64::from_ne_bytes(bytes)
    }

    /// `a.<start>.<process>.<counter>x<random>.<changes>`: stock's form, with bits nobody can guess behind its
    /// counter. Stock reads the last part of a tag it finds in the table: it has to be a number. Tags sort as stock's
    /// do.
    pub fn entity_tag(&mut self, changes: u32) -> EntityTag {
        self.count += 1;
        let random = self.number();
        let mut tag = Vec::with_capacity(LONGEST_ID);
        tag.extend_from_slice(b"a.");
        push_number(&mut tag, self.started.seconds());
        tag.push(b'.');
        push_number(&mut tag, process::pid().into());
        tag.push(b'.');
        push_number(&mut tag, self.count.into());
        tag.push(b'x');
        push_hex(&mut tag, random, 16);
        tag.push(b'.');
        push_number(&mut tag, changes.into());
        EntityTag::new(tag)
    }

    /// `pres-<start>-<server and process>-<counter>` in hexadecimal digits. The server's part is random: processes of
    /// two servers in containers may have the same number and start in the same second.
    pub fn ruid(&mut self) -> Vec<u8> {
        self.count += 1;
        let mut id = Vec::with_capacity(LONGEST_ID);
        id.extend_from_slice(b"pres-");
        push_hex(&mut id, self.started.seconds() as u64, 1);
        id.push(b'-');
        push_hex(&mut id, self.node.into(), 1);
        push_hex(&mut id, u64::from(process::pid().unsigned_abs()), 6);
        id.push(b'-');
        push_hex(&mut id, self.count.into(), 1);
        id
    }

    /// An id for a tuple that has none: an XML name (RFC 3863 4.1.2), as long as those of stock.
    pub fn tuple_id(&mut self) -> Vec<u8> {
        let mut id = vec![b't'];
        push_hex(&mut id, self.number() >> 12, 13);
        id
    }
}
