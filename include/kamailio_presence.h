#ifndef KAMAILIO_PRESENCE_H
#define KAMAILIO_PRESENCE_H

/* Written by cbindgen from src/abi: the Rust entries that the glue calls. `make header` writes it again. */

#include "core/sr_module.h"
#include "core/parser/msg_parser.h"
#include "core/pvar.h"
#include "core/rpc.h"
#include "modules/presence/bind_presence.h"
#include "modules/pua/pua_bind.h"
#include "modules/pua/pidf.h"


// Fills the API for another module: 0, or -1.
int kr_bind_libxml_api(libxml_api_t *api);

// Fills the API for another module: 0, or -1 before `mod_init`.
int kr_bind_presence(presence_api_t *api);

// Fills the API for another module: 0, or -1.
int kr_bind_pua(pua_api_t *api);

// Whether pages can be answered, asked once the modules are loaded: 0, or -1 where xhttp is not.
int kr_metrics_fixup(void);

// `pres_auth_status(watcher_uri, presentity_uri)`: the number of the watcher's authorization, or -1.
int kr_presence_auth_status(sip_msg_t *msg,
                            const str *watcher,
                            const str *presentity);

// Called in each process after the fork, and once before (`PROC_INIT`). 0, or -1.
int kr_presence_child_init(int rank);

// The RPC commands that the module exports.
rpc_export_t *kr_presence_commands(void);

// The server ends: what is only in memory and belongs in the database is written, and the other nodes go on with the
// rest. No lock is taken before it is known that nobody else can open one.
void kr_presence_destroy(void);

// `handle_publish([sender_uri])`: 1, or -1 when the request was refused; it has been answered in both cases.
int kr_presence_handle_publish(sip_msg_t *msg,
                               const str *sender);

// `handle_subscribe([watcher_uri])`: 1, or -1 when the request was refused; it has been answered in both cases.
int kr_presence_handle_subscribe(sip_msg_t *msg,
                                 const str *watcher);

// `handle_subscribe` of the C API: the watcher's user and host.
int kr_presence_handle_subscribe_as(sip_msg_t *msg, const str *user, const str *domain);

// `pres_has_subscribers(presentity_uri, event)`: 1, or -1 when there is none.
int kr_presence_has_subscribers(sip_msg_t *msg, const str *presentity, const str *event);

// Whether the parameters make the module a server: it has a database, or keeps everything in memory. Without either it
// is a library for other modules. 1 or 0.
int kr_presence_is_server(void);

// `presence_metrics()`: 1, or -1 when the request could not be answered. Where pua is loaded, too, its metrics are on
// the same page.
int kr_presence_metrics(sip_msg_t *msg);

// Checks the parameters, opens the database, makes the shared tables. `commit` and `host_version` say what was built.
// 0, or -1 with one line in the log.
int kr_presence_mod_init(const char *commit,
                         const char *host_version);

// A reply has come that no other module has taken: 0 when it answers a NOTIFY of ours, 1 when others are to look at
// it.
int kr_presence_on_response(sip_msg_t *msg);

// The parameters that the module exports, for the host's parser to fill.
param_export_t *kr_presence_parameters(void);

// The value of `$notify_reply(...)`: `$null` outside of `event_route[presence:notify-reply]`.
int kr_presence_pv_get_notify_reply(sip_msg_t *msg, pv_param_t *param, pv_value_t *result);

// The value of `$presence_status`.
int kr_presence_pv_get_status(sip_msg_t *msg, pv_param_t *param, pv_value_t *result);

// The value of `$presence_status_script`.
int kr_presence_pv_get_status_script(sip_msg_t *msg, pv_param_t *param, pv_value_t *result);

// The value of `$presence_status_style`.
int kr_presence_pv_get_status_style(sip_msg_t *msg, pv_param_t *param, pv_value_t *result);

// The value of `$subs(...)`: `$null` where there is no subscription in hand.
int kr_presence_pv_get_subs(sip_msg_t *msg, pv_param_t *param, pv_value_t *result);

// Parses the variable inside `$notify_reply(...)`: 0, or -1.
int kr_presence_pv_parse_notify_reply(pv_spec_t *spec, str *name);

// Parses the name inside `$subs(...)`: 0, or -1 for an unknown attribute.
int kr_presence_pv_parse_subs(pv_spec_t *spec, str *name);

// `pres_refresh_watchers(uri, event, type[, file_uri, filename])`: 1, or -1.
int kr_presence_refresh_watchers(const str *uri,
                                 const str *event,
                                 int kind,
                                 const str *file_uri,
                                 const str *filename);

// `presence.busiest [limit]`.
void kr_presence_rpc_busiest(rpc_t *rpc, void *ctx);

// `presence.cleanup`.
void kr_presence_rpc_cleanup(rpc_t *rpc, void *ctx);

// `presence.config`.
void kr_presence_rpc_config(rpc_t *rpc, void *ctx);

// `presence.drain [seconds]`.
void kr_presence_rpc_drain(rpc_t *rpc, void *ctx);

// `presence.explain watcher presentity [event]`.
void kr_presence_rpc_explain(rpc_t *rpc, void *ctx);

// `presence.failing [limit]`.
void kr_presence_rpc_failing(rpc_t *rpc, void *ctx);

// `presence.history [name=value ...]`.
void kr_presence_rpc_history(rpc_t *rpc, void *ctx);

// `presence.presentity_list [full]`.
void kr_presence_rpc_presentity_list(rpc_t *rpc, void *ctx);

// `presence.presentity_show uri [full]`.
void kr_presence_rpc_presentity_show(rpc_t *rpc, void *ctx);

// `presence.publication_expire presentity event etag`.
void kr_presence_rpc_publication_expire(rpc_t *rpc, void *ctx);

// `presence.publications [name=value ...]`.
void kr_presence_rpc_publications(rpc_t *rpc, void *ctx);

// `presence.publish_cache_sync`.
void kr_presence_rpc_publish_cache_sync(rpc_t *rpc, void *ctx);

// `presence.refreshWatchers uri event type`.
void kr_presence_rpc_refresh_watchers(rpc_t *rpc, void *ctx);

// `presence.subscription_end watcher|. presentity|. event|. [reason] [retry-after]`.
void kr_presence_rpc_subscription_end(rpc_t *rpc, void *ctx);

// `presence.subscriptions [name=value ...]`.
void kr_presence_rpc_subscriptions(rpc_t *rpc, void *ctx);

// `presence.updateWatchers uri event`.
void kr_presence_rpc_update_watchers(rpc_t *rpc, void *ctx);

// `presence.version`.
void kr_presence_rpc_version(rpc_t *rpc, void *ctx);

// `presence.watcher_list uri [full]`.
void kr_presence_rpc_watcher_list(rpc_t *rpc, void *ctx);

// `pres_update_watchers(uri, event)`: 1, or -1.
int kr_presence_update_watchers(const str *uri, const str *event);

// Called in each process after the fork, and once before (`PROC_INIT`). 0, or -1.
int kr_pua_child_init(int rank);

// The RPC commands that the module exports.
rpc_export_t *kr_pua_commands(void);

// The server ends: what is only in memory and belongs in the database is written.
void kr_pua_destroy(void);

// `pua_metrics()`: the page of pua alone, for servers without presence. 1, or -1.
int kr_pua_metrics(sip_msg_t *msg);

// Checks the parameters, opens the database, makes the shared tables. 0, or -1 with one line in the log.
int kr_pua_mod_init(void);

// The parameters that the module exports, for the host's parser to fill.
param_export_t *kr_pua_parameters(void);

// `pua.cleanup`: all records are looked through at once.
void kr_pua_rpc_cleanup(rpc_t *rpc, void *ctx);

// `pua.config`.
void kr_pua_rpc_config(rpc_t *rpc, void *ctx);

// `pua.list [presentity|.] [offset] [limit]`.
void kr_pua_rpc_list(rpc_t *rpc, void *ctx);

// `pua_update_contact()`: 1, or -1 when the NOTIFY belongs to no dialog of ours.
int kr_pua_update_contact(sip_msg_t *msg);

#endif  /* KAMAILIO_PRESENCE_H */
