/* The module parameters as Kamailio's parser fills them: one plain struct a module, read by the glue and by bindgen. */
#ifndef KR_PARAMS_H
#define KR_PARAMS_H
#include "core/str.h"

typedef struct kr_presence_params
{
	str db_url;
	str presentity_table;
	str active_watchers_table;
	str watchers_table;
	str server_address;
	str xavp_cfg;
	str retrieve_order_by;
	str default_socket;
	str dmq_peer_id;
	str to_tag_pref;
	char *local_log_facility;
	int clean_period;
	int cseq_offset;
	int db_update_period;
	int waitn_time;
	int notifier_poll_rate;
	int notifier_processes;
	int force_delete;
	int startup_mode;
	int expires_offset;
	int max_expires;
	int min_expires;
	int min_expires_action;
	int subs_db_mode;
	int publ_cache;
	int subs_htable_size;
	int pres_htable_size;
	int send_fast_notify;
	int enable_sphere_check;
	int timeout_rm_subs;
	int fetch_rows;
	int db_table_lock_type;
	int local_log_level;
	int subs_remove_match;
	int retrieve_order;
	int sip_uri_match;
	int enable_dmq;
	int enable_pres_dmq;
	int enable_pres_sync_dmq;
	int enable_subs_dmq;
	int enable_subs_sync_dmq;
	int skip_notify_dmq;
	int pres_subs_mode;
	int delete_same_subs;
	int timer_mode;
	int subs_respond_200;
	int totag_avpid;
	int lock_set_size;
	int force_active;
	int share_watcher_bodies;
	int sender_processes;
	int winfo_details;
	int watchers_cache;
	int max_body_size;
	int max_publications;
	int max_watchers;
	int max_subscriptions;
	int min_refresh_interval;
	int overload_memory;
	int notify_failures;
	int publ_update_period;
} kr_presence_params_t;

typedef struct kr_pua_params
{
	str db_url;
	str db_table;
	str outbound_proxy;
	int hash_size;
	int min_expires;
	int default_expires;
	int update_period;
	int dlginfo_increase_version;
	int reginfo_increase_version;
	int db_mode;
	int db_table_lock_write;
	int check_remote_contact;
	int fetch_rows;
} kr_pua_params_t;
#endif
