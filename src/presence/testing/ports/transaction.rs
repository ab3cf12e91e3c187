//! Answers are kept in a list.
use crate::presence::error::Failure;
use crate::presence::ports::transaction::ServerTransaction;
use crate::presence::testing::{MemoryPorts, Reply};

impl ServerTransaction for MemoryPorts {
    fn reply(&mut self, code: u16, _reason: &str, headers: &[u8]) {
        self.replies.push(Reply { code, headers: String::from_utf8_lossy(headers).into_owned() });
        self.interrupt();
    }
    fn reply_tag(&mut self) -> Result<Vec<u8>, Failure> {
        self.next_id += 1;
        Ok(self.reply_tag.map_or_else(|| format!("to{}", self.next_id), str::to_string).into_bytes())
    }
}
