//! The arrays of RPC commands that the modules export, made of their tables.
use crate::reference::command::{Answer, Command};
use crate::sys;
use std::ffi::{CString, c_char, c_void};

/// What the host calls.
pub type Handler = unsafe extern "C" fn(*mut sys::rpc, *mut c_void);

/// A command and what carries it out.
pub type CommandEntry = (Command, Handler);

/// Declares commands once: the text (a doc comment), what carries the command out, and what
/// [`crate::reference::command`] knows of it.
macro_rules! commands {
    ($(#[$meta:meta])* $TABLE:ident; $($(#[doc = $text:literal])+ $handler:path = $entry:expr;)*) => {
        $(#[$meta])*
        pub static $TABLE: &[$crate::abi::commands::CommandEntry] =
            &[$(($entry.described(concat!($($text),+)), $handler)),*];
    };
}

/// The array that a module exports, for the life of the server; an entry without a name ends it.
pub fn exports(table: &[CommandEntry]) -> *mut sys::rpc_export {
    let entry = |(command, handler): &CommandEntry| sys::rpc_export {
        name: command.name.as_ptr(),
        function: Some(*handler),
        doc_str: help(command),
        flags: if matches!(command.answer, Answer::Many(_)) { sys::kr_rpc_KR_RPC_RET_ARRAY } else { 0 },
    };
    let mut exports: Vec<sys::rpc_export> = table.iter().map(entry).collect();
    exports.push(sys::rpc_export::default());
    Box::leak(exports.into_boxed_slice()).as_mut_ptr()
}

/// The lines that the host's `help` shows, ended by a null.
fn help(command: &Command) -> *mut *const c_char {
    let text = CString::new(command.help()).unwrap_or_default();
    Box::leak(Box::new([text.into_raw().cast_const(), std::ptr::null()])).as_mut_ptr()
}
