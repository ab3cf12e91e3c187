//! Entity tags and record ids: unique over processes and restarts; tags carry bits that nobody can guess.
use crate::host::{clock, process};

/// Makes ids for one process.
pub struct Ids {
    started: i64,
    /// Tells this server from others that were started in the same second with the same process numbers.
    node: u32,
    count: u32,
    pool: [u8; 256],
    used: usize,
}

impl Ids {
    /// Ids of this process in a server started at `started`.
    pub fn new(started: i64) -> Self {
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
    pub fn entity_tag(&mut self, changes: u32) -> Vec<u8> {
        self.count += 1;
        let random = self.number();
        format!("a.{}.{}.{}x{random:016x}.{changes}", self.started, process::pid(), self.count).into_bytes()
    }

    /// `pres-<start>-<server and process>-<counter>` in hexadecimal digits. The server's part is random: processes of
    /// two servers in containers may have the same number and start in the same second.
    pub fn ruid(&mut self) -> Vec<u8> {
        self.count += 1;
        format!("pres-{:x}-{:x}{:06x}-{:x}", self.started, self.node, process::pid(), self.count).into_bytes()
    }

    /// An id for a tuple that has none: an XML name (RFC 3863 4.1.2), as long as those of stock.
    pub fn tuple_id(&mut self) -> Vec<u8> {
        format!("t{:013x}", self.number() >> 12).into_bytes()
    }
}
