//! The table that a connection of a driver works on. Drivers keep the place of its name (`CON_TABLE`) and read it with
//! each statement: it stays as long as the connection.
use crate::host::bytes::lend;
use crate::sys;
use std::cell::RefCell;

/// The name that a driver was given last.
#[derive(Default)]
pub(super) struct TableName(RefCell<Option<Box<LentName>>>);

struct LentName {
    /// What `text` describes: neither is changed while the other lives.
    name: Vec<u8>,
    text: sys::_str,
}

impl TableName {
    /// Where the name of `table` is, from now on until another one is asked for, or this value is dropped.
    pub(super) fn of(&self, table: &[u8]) -> *const sys::_str {
        let mut kept = self.0.borrow_mut();
        if kept.as_ref().is_none_or(|kept| kept.name != table) {
            let name = table.to_vec();
            *kept = Some(Box::new(LentName { text: lend(&name).unbound(), name }));
        }
        kept.as_ref().map_or(std::ptr::null(), |kept| &raw const kept.text)
    }
}

#[cfg(test)]
mod tests {
    use super::TableName;
    use crate::host::bytes::view_ptr;

    #[test]
    fn a_name_stays_where_it_is_until_another_one_is_used() {
        let name = TableName::default();
        let first = name.of(b"presentity");
        assert_eq!(name.of(b"presentity"), first);
        // SAFETY: the name of the line above, which `name` keeps.
        assert_eq!(unsafe { view_ptr(first) }, Some(&b"presentity"[..]));
        let other = name.of(b"watchers");
        // SAFETY: `name` keeps the second name at the same place.
        assert_eq!(unsafe { view_ptr(other) }, Some(&b"watchers"[..]));
    }
}
