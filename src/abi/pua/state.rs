//! The state of the user agent in this process.
use crate::agent::context::{AgentContext, AgentProcess};
use crate::host::params::ParameterBlock;
use crate::pua::config;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

static PROCESS: AtomicPtr<AgentProcess> = AtomicPtr::new(std::ptr::null_mut());

/// Keeps the state for the life of the process (and of every process forked from it).
pub fn set(process: AgentProcess) {
    PROCESS.store(Box::into_raw(Box::new(process)), Ordering::Release);
}

/// The state, once `mod_init` has run.
pub fn process() -> Option<&'static AgentProcess> {
    // SAFETY: `set` stored a leaked box, or nothing was stored.
    unsafe { PROCESS.load(Ordering::Acquire).as_ref() }
}

static PARAMETERS: OnceLock<ParameterBlock> = OnceLock::new();

/// The module's parameters, as the host has filled them so far.
pub fn parameters() -> &'static ParameterBlock {
    PARAMETERS.get_or_init(|| ParameterBlock::new(config::PARAMETERS))
}

/// A context without a reply; `None` before `mod_init`.
pub fn context() -> Option<AgentContext<'static>> {
    process().map(AgentContext::new)
}
