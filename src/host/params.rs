//! The module parameters as the host's parser filled them.
use super::bytes::{c_text, view};
use super::db_url::DbUrl;
use crate::sys;

/// The parameters of presence, read once in `mod_init`.
pub struct PresenceParams<'a>(pub(crate) &'a sys::kr_presence_params);

/// The parameters of pua, read once in `mod_init`.
pub struct PuaParams<'a>(pub(crate) &'a sys::kr_pua_params);

/// A text parameter, copied for the life of the process.
fn keep(text: &sys::_str) -> &'static [u8] {
    // SAFETY: the host filled the parameter with a string that lives during start-up.
    let bytes = unsafe { view(text) };
    Box::leak(bytes.to_vec().into_boxed_slice())
}

macro_rules! texts {
    ($params:ident: $($name:ident)*) => { impl $params<'_> { $(
        /// The text parameter of this name; empty when it was not set.
        pub fn $name(&self) -> &'static [u8] { keep(&self.0.$name) }
    )* } };
}
macro_rules! urls {
    ($($params:ident)*) => { $( impl $params<'_> {
        /// `db_url`; empty when it was not set.
        pub fn db_url(&self) -> DbUrl { DbUrl::new(keep(&self.0.db_url)) }
    } )* };
}
macro_rules! state {
    ($params:ident: $($name:ident)*) => { impl $params<'_> { $(
        /// The number parameter of this name.
        pub fn $name(&self) -> i32 { self.0.$name }
    )* } };
}
urls! { PresenceParams PuaParams }
texts! { PresenceParams: presentity_table active_watchers_table watchers_table server_address xavp_cfg retrieve_order_by
default_socket dmq_peer_id to_tag_pref commit host_version }
state! { PresenceParams: clean_period cseq_offset db_update_period waitn_time notifier_poll_rate notifier_processes force_delete
startup_mode expires_offset max_expires min_expires min_expires_action subs_db_mode publ_cache subs_htable_size
pres_htable_size send_fast_notify enable_sphere_check timeout_rm_subs fetch_rows db_table_lock_type
local_log_level subs_remove_match retrieve_order sip_uri_match enable_dmq enable_pres_dmq enable_pres_sync_dmq
enable_subs_dmq enable_subs_sync_dmq skip_notify_dmq pres_subs_mode delete_same_subs timer_mode
subs_respond_200 totag_avpid lock_set_size force_active share_watcher_bodies sender_processes winfo_details
watchers_cache max_body_size max_publications max_watchers max_subscriptions min_refresh_interval overload_memory
notify_failures publ_update_period history_size }
texts! { PuaParams: db_table outbound_proxy }
state! { PuaParams: hash_size min_expires default_expires update_period dlginfo_increase_version reginfo_increase_version
db_mode db_table_lock_write check_remote_contact fetch_rows }

impl PresenceParams<'_> {
    /// `local_log_facility`: the name given, if any.
    pub fn local_log_facility(&self) -> Option<std::ffi::CString> {
        // SAFETY: null or a NUL-terminated string of the host.
        let name = unsafe { c_text(self.0.local_log_facility) };
        if name.is_empty() { None } else { std::ffi::CString::new(name).ok() }
    }
}
