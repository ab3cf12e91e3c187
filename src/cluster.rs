//! What nodes of one cluster agree on, whatever becomes of single messages: which of two states of a record is the
//! newer one ([`version`]), what two nodes hold differently ([`digest`], [`exchange`]), how far the numbers of a dialog
//! may have been counted by others ([`numbers`]), when a node must not speak ([`lease`], [`consent`]), who goes on for
//! a lost node ([`succession`], [`arbiter`], [`inheritance`]), which nodes hold what ([`placement`]), that a message is
//! one of ours ([`seal`]), that a request was sent on by one of ours ([`mark`]), once ([`taken_marks`]), what is
//! exchanged less often because that changes nothing ([`unsettled`]), which documents are older than removed ones
//! ([`old_documents`]), and how numbers are written in few characters ([`text64`]). Nothing here knows Kamailio, SIP or
//! a clock of its own.
#![deny(unsafe_code)]
pub mod arbiter;
pub mod clock;
pub mod consent;
pub mod digest;
pub mod exchange;
pub mod inheritance;
pub mod lease;
pub mod mark;
pub mod numbers;
pub mod old_documents;
pub mod placement;
pub mod seal;
pub mod succession;
pub mod taken_marks;
pub mod text64;
pub mod unsettled;
pub mod version;
