//! The host's types under the names its headers use: cbindgen writes them into the header as they stand.
#![expect(non_camel_case_types, reason = "these are C names")]
use crate::sys;

pub type param_export_t = sys::param_export;
pub type sip_msg_t = sys::sip_msg;
pub type str_t = sys::_str;
pub type pv_spec_t = sys::pv_spec_t;
pub type pv_param_t = sys::pv_param_t;
pub type pv_value_t = sys::pv_value_t;
pub type rpc_t = sys::rpc;
pub type rpc_export_t = sys::rpc_export;
pub type pres_ev_t = sys::pres_ev;
pub type event_t = sys::event;
pub type subs_t = sys::subscription;
pub type presence_api_t = sys::presence_api;
pub type pua_api_t = sys::pua_api;
pub type libxml_api_t = sys::libxml_api;
