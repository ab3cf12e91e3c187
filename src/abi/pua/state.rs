//! The state of the user agent in this process.
use crate::abi::module_state::ModuleState;
use crate::agent::context::{AgentContext, AgentProcess};
use crate::host::params::ParameterBlock;
use crate::pua::config;

static STATE: ModuleState<AgentProcess> = ModuleState::new(config::PARAMETERS);

/// Keeps the state for the life of the process (and of every process forked from it).
pub fn set(process: AgentProcess) {
    STATE.set(process);
}

/// The state, once `mod_init` has run.
pub fn process() -> Option<&'static AgentProcess> {
    STATE.process()
}

/// The module's parameters, as the host has filled them so far.
pub fn parameters() -> &'static ParameterBlock {
    STATE.parameters()
}

/// A context without a reply; `None` before `mod_init`.
pub fn context() -> Option<AgentContext<'static>> {
    process().map(AgentContext::new)
}
