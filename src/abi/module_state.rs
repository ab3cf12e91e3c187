//! What a module of the host has in each process: its parameters, and its state once `mod_init` has run.
use crate::host::params::ParameterBlock;
use crate::reference::parameter::Parameter;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The parameters of a module, and its state of the type `P`.
pub(crate) struct ModuleState<P: 'static> {
    table: &'static [Parameter],
    parameters: OnceLock<ParameterBlock>,
    process: AtomicPtr<P>,
}

impl<P> ModuleState<P> {
    /// The state of a module with these parameters, before `mod_init`.
    pub(crate) const fn new(table: &'static [Parameter]) -> ModuleState<P> {
        ModuleState { table, parameters: OnceLock::new(), process: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// The module's parameters, as the host has filled them so far.
    pub(crate) fn parameters(&'static self) -> &'static ParameterBlock {
        self.parameters.get_or_init(|| ParameterBlock::new(self.table))
    }

    /// Keeps the state for the life of the process (and of every process forked from it).
    pub(crate) fn set(&self, process: P) {
        self.process.store(Box::into_raw(Box::new(process)), Ordering::Release);
    }

    /// The state, once `mod_init` has run.
    pub(crate) fn process(&self) -> Option<&'static P> {
        // SAFETY: `set` stored a box that it never frees, or nothing was stored.
        unsafe { self.process.load(Ordering::Acquire).as_ref() }
    }
}
