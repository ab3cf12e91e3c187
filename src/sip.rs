//! Values of SIP and its event framework, pure: no Kamailio, no clock, no unsafe.
#![deny(unsafe_code)]
pub mod answer;
pub mod bare_markup;
pub mod blocks;
pub mod branch;
pub mod byte_class;
pub mod checked;
pub mod client_transaction;
pub mod columns;
pub mod entity_tag;
pub mod event;
pub mod packed;
pub mod party_uri;
pub mod request;
pub mod route_set;
pub mod sane_answer;
pub mod subscription_state;
pub mod target;
pub mod text;
pub mod transport;
pub mod uri;
pub mod xml_form;
