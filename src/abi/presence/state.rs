//! The state of the modules in this process.
use crate::abi::module_state::ModuleState;
use crate::callbacks::event_packages::PackageRegistry;
use crate::host::msg::SipMsg;
use crate::host::params::ParameterBlock;
use crate::presence::config;
use crate::server::context::{Context, Process};

static STATE: ModuleState<Process> = ModuleState::new(config::PARAMETERS);

/// Keeps the state for the life of the process (and of every process forked from it).
pub fn set(process: Process) {
    STATE.set(process);
}

/// The state, once `mod_init` has run.
pub fn process() -> Option<&'static Process> {
    STATE.process()
}

/// The module's parameters, as the host has filled them so far.
pub fn parameters() -> &'static ParameterBlock {
    STATE.parameters()
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
