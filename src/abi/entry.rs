//! Every C entry is written with `entry!` (`caught.rs`).
pub(crate) use crate::caught::guarded;

/// What the entry of an RPC command does: the function that carries it out, the call of the host, how many arguments it
/// takes at most, and what is done with them.
macro_rules! command {
    ($carry_out:path, ($rpc:ident, $ctx:ident), $most:expr, $run:expr) => {{
        // SAFETY: the host calls the entry of a command with the call that a transport has in hand, and both live until
        // the entry returns.
        unsafe { $carry_out($rpc, $ctx, $most, $run) }
    }};
}
