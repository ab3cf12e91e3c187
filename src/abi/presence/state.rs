//! The state of the modules in this process.
use crate::callbacks::event_packages::PackageRegistry;
use crate::host::msg::SipMsg;
use crate::host::params::ParameterBlock;
use crate::presence::config;
use crate::server::context::{Context, Process};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

static PROCESS: AtomicPtr<Process> = AtomicPtr::new(std::ptr::null_mut());

/// Keeps the state for the life of the process (and of every process forked from it).
pub fn set(process: Process) {
    PROCESS.store(Box::into_raw(Box::new(process)), Ordering::Release);
}

/// The state, once `mod_init` has run.
pub fn process() -> Option<&'static Process> {
    // SAFETY: `set` stored a leaked box, or nothing was stored.
    unsafe { PROCESS.load(Ordering::Acquire).as_ref() }
}

static PARAMETERS: OnceLock<ParameterBlock> = OnceLock::new();

/// The module's parameters, as the host has filled them so far.
pub fn parameters() -> &'static ParameterBlock {
    PARAMETERS.get_or_init(|| ParameterBlock::new(config::PARAMETERS))
}

/// A context without a message; `None` before `mod_init`.
pub fn context() -> Option<Context<'static>> {
    process().map(Context::new)
}

/// A context for a request; `None` before `mod_init`.
pub fn context_for(message: SipMsg<'_>) -> Option<Context<'_>> {
    process().map(|process| Context::for_request(process, message))
}

/// The event packages; other modules may register before the rest is set up.
pub fn registry() -> Option<&'static PackageRegistry> {
    process().map(|process| process.registry)
}
