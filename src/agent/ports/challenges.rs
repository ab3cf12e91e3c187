//! Challenges of servers, in shared memory.
use crate::agent::context::AgentContext;
use crate::host::clock;
use crate::pua::ports::challenges::Challenges;

impl Challenges for AgentContext<'_> {
    fn new_cnonce(&mut self) -> Vec<u8> {
        format!("{:016x}", clock::random_number()).into_bytes()
    }
    fn known_challenges(&mut self, server: &[u8]) -> Vec<u8> {
        self.process.shared.known_challenges.of(server)
    }
    fn count_nonce(&mut self, server: &[u8], challenge: &[u8]) -> u32 {
        self.process.shared.known_challenges.count(server, challenge)
    }
    fn forget_challenges(&mut self, server: &[u8]) {
        self.process.shared.known_challenges.forget(server);
    }
}
