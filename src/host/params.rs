//! The module parameters: the memory that the host's parser fills, and the table by which it does.
use super::bytes::view;
use super::db_url::DbUrl;
use crate::reference::parameter::Parameter;
use crate::reference::setting::ParameterValue;
use crate::sys;
use std::ffi::CStr;

/// The place of one parameter: which half is used, its default says.
#[repr(C)]
union ParameterSlot {
    number: std::ffi::c_int,
    text: sys::_str,
}

/// The parameters of a module. The host writes into them while it reads its configuration, in one process, before any
/// other exists; afterwards nobody does.
pub struct ParameterBlock {
    table: &'static [Parameter],
    slots: *mut ParameterSlot,
    exports: *mut sys::param_export,
}

// SAFETY: the host writes while it reads its configuration, in the only thread that the server has then. The block
// reads values at start-up, in the same thread; later nobody writes.
unsafe impl Send for ParameterBlock {}
// SAFETY: nobody writes a value while two could read it: the host writes before it starts any other thread or process.
unsafe impl Sync for ParameterBlock {}

/// A text of the table as the host has texts; nobody writes into it.
fn lend_default(text: &'static [u8]) -> sys::_str {
    sys::_str { s: text.as_ptr().cast_mut().cast(), len: text.len() as _ }
}

impl ParameterBlock {
    /// The parameters of a table with their defaults, for the life of the server.
    pub fn new(table: &'static [Parameter]) -> ParameterBlock {
        let slots: Vec<ParameterSlot> = table
            .iter()
            .map(|entry| match entry.default {
                ParameterValue::Number(number) => ParameterSlot { number: number as _ },
                ParameterValue::Text(text) => ParameterSlot { text: lend_default(text) },
            })
            .collect();
        let slots = Box::leak(slots.into_boxed_slice()).as_mut_ptr();
        let mut exports: Vec<sys::param_export> = table
            .iter()
            .enumerate()
            .map(|(at, entry)| sys::param_export {
                name: entry.name.as_ptr().cast_mut(),
                type_: match entry.default {
                    ParameterValue::Number(_) => sys::PARAM_INT,
                    ParameterValue::Text(_) => sys::PARAM_STR,
                },
                // `at` counts the table, which has as many entries as there are slots.
                param_pointer: slots.wrapping_add(at).cast(),
            })
            .collect();
        // The host looks for an entry without a name.
        exports.push(sys::param_export { name: std::ptr::null_mut(), type_: 0, param_pointer: std::ptr::null_mut() });
        ParameterBlock { table, slots, exports: Box::leak(exports.into_boxed_slice()).as_mut_ptr() }
    }

    /// The array that the module exports; an entry without a name ends it.
    pub fn exports(&self) -> *mut sys::param_export {
        self.exports
    }

    /// The value of the parameter at a place of the table.
    ///
    /// # Panics
    ///
    /// Panics when `at` is not below the length of the table.
    pub fn value(&self, at: usize) -> ParameterValue {
        assert!(at < self.table.len(), "the table has no such place");
        // SAFETY: `at` is below the number of slots, which live for ever; the host writes to them at the start alone.
        let slot = unsafe { self.slots.wrapping_add(at).read() };
        match self.table[at].default {
            // A slot whose default is a number is only ever used as one, by us and, as `exports` says PARAM_INT, by the
            // host; likewise as a text.
            // SAFETY: the table says that the parameter is a number, so that no other arm was ever written.
            ParameterValue::Number(_) => ParameterValue::Number(unsafe { slot.number }.into()),
            ParameterValue::Text(_) => {
                // SAFETY: the table says that the parameter is a text, so that no other arm was ever written.
                let text = unsafe { slot.text };
                // SAFETY: its bytes are the default's or were allocated by the host's parser, which frees none of them
                // before the server ends. They are copied all the same.
                ParameterValue::Text(keep(unsafe { view(&text) }))
            }
        }
    }

    /// The text of a parameter; empty for a number or a name that is not in the table.
    pub fn text(&self, name: &CStr) -> &'static [u8] {
        match self.table.iter().position(|entry| entry.name == name).map(|at| self.value(at)) {
            Some(ParameterValue::Text(text)) => text,
            _ => b"",
        }
    }

    /// Whether the configuration gives this text parameter, be it an empty text.
    pub fn gives_text(&self, name: &CStr) -> bool {
        let Some(at) = self.table.iter().position(|entry| entry.name == name) else { return false };
        let ParameterValue::Text(default) = self.table[at].default else { return false };
        // SAFETY: `at` is below the number of slots, which live for ever; the host writes to them at the start alone.
        let slot = unsafe { self.slots.wrapping_add(at).read() };
        // SAFETY: the table says that the parameter is a text, so that no other arm was ever written.
        let text = unsafe { slot.text };
        !std::ptr::eq(text.s.cast(), default.as_ptr())
    }

    /// The number of a parameter; 0 for a text or a name that is not in the table.
    pub fn number(&self, name: &CStr) -> i64 {
        match self.table.iter().position(|entry| entry.name == name).map(|at| self.value(at)) {
            Some(ParameterValue::Number(number)) => number,
            _ => 0,
        }
    }

    /// `db_url`; empty when it was not set.
    pub fn db_url(&self) -> DbUrl {
        DbUrl::new(self.text(c"db_url"))
    }
}

/// A text parameter, copied for the life of the process.
fn keep(text: &[u8]) -> &'static [u8] {
    Box::leak(text.to_vec().into_boxed_slice())
}
