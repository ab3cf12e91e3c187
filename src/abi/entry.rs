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

/// The message that the caller of a C entry hands in.
macro_rules! given_message {
    ($message:expr) => {{
        let message: *mut $crate::sys::sip_msg = $message;
        // SAFETY: null, or the message that this process works on: the host calls script functions and callbacks
        // with it, and a module hands on the one it was called with. It lives until the entry returns.
        unsafe { $crate::host::msg::SipMsg::new(message) }
    }};
}

/// The text that the caller of a C entry hands in; `None` for a null pointer.
macro_rules! given_text {
    ($text:expr) => {{
        let text: *const $crate::sys::_str = $text;
        // SAFETY: null, or a `str` that its owner neither changes nor frees before the entry returns: the host waits
        // for a script function with its arguments, a module for a function of the API with what it hands in.
        unsafe { $crate::host::bytes::view_ptr(text) }
    }};
}

/// Where the value of a pseudo-variable goes, by the arguments of its entry.
macro_rules! getter {
    ($message:ident, $param:ident, $result:ident) => {
        // SAFETY: the host calls a getter with a message, a variable and a place for the value, all of them its own,
        // and reads the value when the entry has returned.
        unsafe { $crate::host::pv::PvResult::new($message, $param, $result) }
    };
}
