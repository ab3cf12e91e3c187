//! Digest authentication (RFC 7616): what servers have asked for, and numbers that are new.

/// The challenges that servers have sent.
pub trait Challenges {
    /// A client nonce (RFC 7616 3.4): random letters and digits.
    fn new_cnonce(&mut self) -> Vec<u8>;
    /// The challenges that a server has sent, one a line, see [`crate::pua::digest::challenges`].
    fn known_challenges(&mut self, server: &[u8]) -> Vec<u8>;
    /// How often the nonce of a server's challenge has been used, this time included. It is known from then on.
    fn count_nonce(&mut self, server: &[u8], challenge: &[u8]) -> u32;
    /// Forgets the challenges of a server.
    fn forget_challenges(&mut self, server: &[u8]);
}
