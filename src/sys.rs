//! The host's types and shim functions as bindgen reads them from the host's own headers.
//! `host`, `abi` and the two `callbacks.rs` use it.
#![allow(clippy::allow_attributes_without_reason, reason = "bindgen writes them")]
#![allow(unknown_lints)]
#![allow(non_camel_case_types, non_upper_case_globals, non_snake_case, dead_code, missing_docs, unnecessary_transmutes)]
#![allow(clippy::multiple_unsafe_ops_per_block, clippy::fn_params_excessive_bools)]
#![allow(unreachable_pub)]
#![allow(unused_imports, clippy::all, clippy::undocumented_unsafe_blocks, unsafe_op_in_unsafe_fn, improper_ctypes)]
include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
