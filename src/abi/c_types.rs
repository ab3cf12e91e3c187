//! The host's types under the names its headers use: cbindgen writes them into the header as they stand.
#![expect(non_camel_case_types, reason = "these are C names")]
use crate::sys;

/// A module parameter as the core reads it (`core/sr_module.h`).
pub type param_export_t = sys::param_export;
/// A SIP message that the core has received (`core/parser/msg_parser.h`).
pub type sip_msg_t = sys::sip_msg;
/// A text with its length, the `str` of the host's headers (`core/str.h`).
pub type str_t = sys::_str;
/// A pseudo-variable as a script names it (`core/pvar.h`).
pub type pv_spec_t = sys::pv_spec_t;
/// The name and the index within a pseudo-variable (`core/pvar.h`).
pub type pv_param_t = sys::pv_param_t;
/// The value of a pseudo-variable (`core/pvar.h`).
pub type pv_value_t = sys::pv_value_t;
/// The functions that read an RPC command's arguments and write its answer (`core/rpc.h`).
pub type rpc_t = sys::rpc;
/// An RPC command (`core/rpc.h`).
pub type rpc_export_t = sys::rpc_export;
/// An event package as its module registers it (`presence/event_list.h`).
pub type pres_ev_t = sys::pres_ev;
/// The Event header field as it was parsed (`core/parser/parse_event.h`).
pub type event_t = sys::event;
/// A subscription as other modules see it (`presence/subscribe.h`).
pub type subs_t = sys::subscription;
/// The functions that presence gives other modules (`presence/bind_presence.h`).
pub type presence_api_t = sys::presence_api;
/// The functions that pua gives other modules (`pua/pua_bind.h`).
pub type pua_api_t = sys::pua_api;
/// The look-ups in documents that pua gives other modules (`pua/pidf.h`).
pub type libxml_api_t = sys::libxml_api;
