//! Composition (RFC 3903 6, docs/composition.md): what watchers see of the documents of a presentity.
pub mod dialog_info;
pub mod dialogs;
pub(crate) mod held_back;
pub mod late;
pub mod order;
pub(crate) mod plain_tags;
pub mod readable;
pub mod tuples;
pub mod unreadable;
pub(crate) mod xml_value;
