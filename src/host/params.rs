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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::parameter::{Allowed, Origin};
    use crate::reference::reading::BadParameter;
    use crate::time::Moment;
    use crate::{presence, pua};

    #[test]
    fn defaults_are_read_back() {
        for table in [presence::config::PARAMETERS, pua::config::PARAMETERS] {
            let block = ParameterBlock::new(table);
            for (at, entry) in table.iter().enumerate() {
                assert_eq!(block.value(at), entry.default, "{:?}", entry.name);
                assert!(entry.allows(entry.default), "{:?}", entry.name);
            }
        }
    }

    /// Values next to the ends of a range, and texts that no parameter takes.
    fn outside(entry: &Parameter) -> Vec<ParameterValue> {
        let numbers = match entry.range {
            Allowed::AtLeast(least) => vec![least - 1],
            Allowed::Between(least, most) => vec![least - 1, most + 1],
            Allowed::ZeroOrBetween(least, most) => vec![-1, least - 1, most + 1],
            Allowed::OneOf(values) => {
                let numbers = values.iter().map(|(number, _)| *number);
                vec![numbers.clone().min().unwrap() - 1, numbers.max().unwrap() + 1]
            }
            Allowed::Switch(_) => vec![-1, 2],
            _ => Vec::new(),
        };
        let mut all: Vec<ParameterValue> = numbers.into_iter().map(ParameterValue::Number).collect();
        if matches!(entry.default, ParameterValue::Text(_)) && !matches!(entry.range, Allowed::Any) {
            all.extend([
                ParameterValue::Text(b"a\nb"),
                ParameterValue::Text(b"a\0"),
                ParameterValue::Text(keep(&vec![b'a'; entry.longest + 1])),
            ]);
        }
        if matches!(entry.range, Allowed::Words(_) | Allowed::Letters(..)) {
            all.push(ParameterValue::Text(b"no; word"));
        }
        all
    }

    #[test]
    fn what_is_outside_of_a_range_is_corrected_aloud_and_refused_where_stock_refuses_it_or_lacks_the_parameter() {
        type Read = dyn Fn(&dyn Fn(usize) -> ParameterValue) -> Result<Vec<String>, BadParameter>;
        let server: &Read = &|given| {
            let (mut config, mut said) =
                presence::config::Config::read(given, None, b"", b"", 0, Moment::at(0), false)?;
            said.extend(config.settle()?);
            Ok(said)
        };
        let agent: &Read = &|given| pua::config::Config::read(given).map(|(_, said)| said);
        for (table, read) in [(presence::config::PARAMETERS, server), (pua::config::PARAMETERS, agent)] {
            for (at, entry) in table.iter().enumerate() {
                for bad in outside(entry) {
                    let given = |place: usize| match (place == at, table[place].name.to_bytes()) {
                        (true, _) => bad,
                        // Where notifier processes have an effect.
                        (false, b"subs_db_mode") => ParameterValue::Number(3),
                        (false, b"publ_cache") => ParameterValue::Number(0),
                        // Where retrieve_order_by has one.
                        (false, b"retrieve_order") => ParameterValue::Number(1),
                        (false, _) => table[place].default,
                    };
                    match read(&given) {
                        Err(error) => {
                            assert_eq!(error.name, entry.name_text(), "{bad}");
                            assert!(matches!(entry.origin, Origin::Ours(_)) || stock_refuses(entry, bad), "{error}");
                            assert!(!error.allowed.is_empty() && error.value.len() < 120, "{error}");
                        }
                        Ok(said) => {
                            assert!(said.iter().any(|line| line.contains(entry.name_text())), "{} {bad}", error(entry));
                            assert!(!matches!(entry.origin, Origin::Ours(_)), "{}", error(entry));
                        }
                    }
                }
            }
        }
    }

    /// Values with which stock's module does not start, or starts as nobody means it to.
    fn stock_refuses(entry: &Parameter, value: ParameterValue) -> bool {
        match (entry.name_text(), value) {
            ("min_expires_action" | "check_remote_contact", _) => true,
            // Stock starts with these, and keeps state elsewhere or shorter than is meant.
            ("subs_db_mode" | "publ_cache" | "min_expires" | "dmq_peer_id", _) => true,
            (name, ParameterValue::Text(_)) if name.ends_with("_table") => true,
            ("update_period", ParameterValue::Number(number)) => number < 6,
            _ => false,
        }
    }

    fn error(entry: &Parameter) -> String {
        format!("{}: nothing is said", entry.name_text())
    }

    #[test]
    fn a_number_that_the_host_writes_is_read() {
        let block = ParameterBlock::new(presence::config::PARAMETERS);
        let at = presence::config::PARAMETERS.iter().position(|entry| entry.name == c"max_expires").unwrap();
        // SAFETY: the table that the host reads has an entry for each parameter.
        let number = unsafe { (*block.exports().wrapping_add(at)).param_pointer };
        // SAFETY: what the host does with an entry of PARAM_INT.
        unsafe { number.cast::<std::ffi::c_int>().write(77) };
        assert_eq!(block.value(at), ParameterValue::Number(77));
    }

    #[test]
    fn the_default_database_is_the_hosts() {
        let block = ParameterBlock::new(pua::config::PARAMETERS);
        assert_eq!(block.text(c"db_url"), sys::DEFAULT_DB_URL.strip_suffix(b"\0").unwrap());
    }

    #[test]
    fn a_text_is_as_long_as_its_kind_may_be() {
        use crate::reference::parameter::{LONGEST_LIST, LONGEST_TEXT, LONGEST_URL};
        let kinds = [(c"db_url", LONGEST_URL), (c"cluster_peers", LONGEST_LIST), (c"cluster_secret", LONGEST_LIST)];
        let (mut texts, mut numbers) = (0, 0);
        for entry in presence::config::PARAMETERS.iter().chain(pua::config::PARAMETERS) {
            if !matches!(entry.default, ParameterValue::Text(_)) {
                numbers += 1;
                continue;
            }
            texts += 1;
            assert!([LONGEST_TEXT, LONGEST_URL, LONGEST_LIST].contains(&entry.longest), "{:?}", entry.name);
            if let Some((_, longest)) = kinds.iter().find(|(name, _)| *name == entry.name) {
                assert_eq!(entry.longest, *longest, "{:?}", entry.name);
            }
            if matches!(entry.range, Allowed::Any) {
                assert!(entry.allows(ParameterValue::Text(keep(&vec![b'a'; entry.longest]))), "{:?}", entry.name);
            }
        }
        assert!(texts > 10 && numbers > 10);
    }
}
