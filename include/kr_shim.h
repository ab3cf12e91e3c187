/* What Rust calls of the host: one function a Kamailio macro, inline or exported function. No logic lives behind it. */
#ifndef KR_SHIM_H
#define KR_SHIM_H
#include <stddef.h>
#include <stdint.h>
#include "core/str.h"
#include "core/parser/msg_parser.h"
#include "core/parser/parse_event.h"
#include "core/parser/parse_rr.h"
#include "core/parser/parse_to.h"
#include "core/socket_info.h"
#include "core/timer.h"
#include "core/timer_proc.h"
#include "core/route.h"
#include "core/pvar.h"
#include "core/rpc.h"
#include "lib/srdb1/db.h"
#include "modules/tm/tm_load.h"
#include "modules/sl/sl.h"
#include "modules/dmq/bind_dmq.h"

/* names that differ between the versions of the host */
enum kr_rpc { KR_RPC_RET_ARRAY = RET_ARRAY };

/* memory */
void *kr_shm_malloc(size_t size);
void kr_shm_free(void *block);
void *kr_pkg_malloc(size_t size);
void kr_pkg_free(void *block);

/* locks */
size_t kr_lock_size(void);
int kr_lock_init(void *lock);
void kr_lock_get(void *lock);
int kr_lock_try(void *lock);
void kr_lock_release(void *lock);

/* log; `text` is not a format */
int kr_log_enabled(int level);
void kr_log(int facility, int level, const char *module, const char *text, int len);
int kr_log_facility(char *name);
int kr_log_default_facility(void);

/* processes, time */
int kr_pid(void);
int kr_register_timer(timer_function *f, void *param, unsigned int interval);
int kr_wtimer_add(timer_function *f, void *param, int interval);
int kr_register_basic_timers(int count);
int kr_register_procs(int count);
void kr_cfg_register_child(int count);
int kr_cfg_child_init(void);
void kr_cfg_update(void);
int kr_fork_process(int rank, char *name, int make_sock);
size_t kr_shm_available(void);
const char *kr_shm_manager(void);
const char *kr_pkg_manager(void);
size_t kr_shm_size(void);
size_t kr_pkg_available(void);
int kr_fork_basic_timer_us(char *name, timer_function *f, void *param, int micros);

/* SIP messages */
int kr_parse_headers(struct sip_msg *msg);
int kr_parse_ruri(struct sip_msg *msg);
int kr_parse_uri(char *uri, int len, struct sip_uri *out);
int kr_event_parser(char *text, int len, event_t *event);
int kr_parse_from(struct sip_msg *msg, struct to_body **from);
int kr_parse_to(struct sip_msg *msg, struct to_body **to);
int kr_first_contact(struct sip_msg *msg, str *uri);
int kr_cseq_number(struct sip_msg *msg, unsigned int *number);
int kr_parse_expires(struct sip_msg *msg);
int kr_get_body(struct sip_msg *msg, str *body);
struct socket_info *kr_find_socket(str *name);
int kr_parse_rr_body(char *text, int len, rr_t **head);
void kr_free_rr(rr_t *head);

/* replies */
int kr_sl_load(void);
int kr_sl_reply(struct sip_msg *msg, int code, str *reason);
int kr_sl_totag(struct sip_msg *msg, str *tag);
int kr_add_reply_header(struct sip_msg *msg, str *header);

/* transactions */
int kr_tm_load(void);
int kr_tm_request_within(uac_req_t *request);
/* Whether the transaction of the request in hand has its final reply. */
int kr_tm_is_answered(struct sip_msg *msg);

void kr_tm_new_ids(str *call_id, str *tag, str *target);

/* Sends a request on, with one more header line; its copies in other servers are waited for so many milliseconds.
 * `word` is what `failed` finds behind its parameter. Negative: it was neither sent nor answered. */
int kr_tm_relay(struct sip_msg *msg, str *to, str *header, unsigned int timeout_millis,
		transaction_cb *failed, unsigned long word);
int kr_tm_send_on(struct sip_msg *msg, str *to);

/* the From, To and Call-ID lines of a transaction of ours */
void kr_tm_cell_ids(struct cell *cell, str *from, str *to, str *call_id, str *cseq);

/* Has each UDP socket keep so many bytes that were not read yet, or as many as the system allows; none keeps less
 * than before. What the smallest has then; -1 where there are no sockets. */
int kr_raise_receive_buffers(int bytes);

/* what the reply_route of the configuration looks at; see shim/reply_route.c */
enum kr_reply_route {
	KR_REPLY_ROUTE_PLAIN,
	/* it is in another language, or has what is not followed */
	KR_REPLY_ROUTE_UNREADABLE,
	/* functions or variables of tm */
	KR_REPLY_ROUTE_ASKS_TM
};
enum kr_reply_route kr_reply_route(void);

/* what the reply_route of the configuration does with an answer to a request of ours; see shim/reply_checks.c */
enum kr_reply_checks {
	/* there is none */
	KR_REPLY_CHECKS_NONE,
	/* nothing, where sanity_check() lets the answer pass */
	KR_REPLY_CHECKS_SANITY,
	KR_REPLY_CHECKS_UNKNOWN
};
enum kr_reply_checks kr_reply_checks(void);

/* requests without a transaction of tm; see shim/direct.c */
typedef ticks_t kr_timer_f(ticks_t now, struct timer_ln *timer, void *param);
int kr_direct_load(void);
int kr_direct_has_local_request_callback(void);
int kr_direct_has_local_request_watchers(void);
int kr_direct_has_onsend_route(void);
/* Whether the core keeps a list of addresses that did not answer (`use_dst_blocklist`), as it is set now. */
int kr_direct_has_blocklist(void);
/* Has answers given to this module before others see them; call once modules are initialised, before the processes
 * fork. */
void kr_direct_note_configuration(void);
int kr_direct_sending_is_seen(void);
void kr_direct_answers_first(int (*own)(struct sip_msg *));
/* in milliseconds */
void kr_direct_timers(unsigned int *t1, unsigned int *t2, unsigned int *timeout);
/* Where a request goes: what its dest_info says, in a quarter of the room. */
struct kr_destination
{
	struct socket_info *socket;
	/* or a sockaddr_in */
	struct sockaddr_in6 to;
	unsigned short flags;
	char proto;
};
int kr_direct_destination(const unsigned char *address, unsigned int len, unsigned short port, unsigned char proto,
		struct socket_info *socket, struct kr_destination *destination);
int kr_direct_joins(const struct kr_destination *destination);
int kr_direct_is_same(const struct kr_destination *one, const struct kr_destination *other);
char *kr_direct_via(const struct kr_destination *destination, str *branch, unsigned int *len);
void kr_direct_signature(str *line);
int kr_direct_send(const struct kr_destination *destination, char *text, int len);
int kr_direct_is_from(struct sip_msg *reply, const struct kr_destination *destination);
int kr_direct_branch(struct sip_msg *reply, str *branch, unsigned short *status);
int kr_direct_is_of_notify(struct sip_msg *reply);
int kr_direct_timer(kr_timer_f *f, unsigned int millis, int is_fast);

/* answers taken from the datagram; see shim/datagram.c */
struct sr_event_param;
/* Who would miss the message that is not made, NULL where nobody would; the same for what may come and go. */
const char *kr_datagram_onlooker(void);
int kr_datagram_is_watched(void);
int kr_datagram_take(int (*own)(struct sr_event_param *));
void kr_datagram_text(struct sr_event_param *event, str *text);
int kr_datagram_is_from(struct sr_event_param *event, const struct kr_destination *destination);
void kr_datagram_find_counters(void);
void kr_datagram_count(void);

/* databases */
int kr_db_bind(str *url, db_func_t *functions);
/* The bytes a driver has for one statement (`sql_buffer_size`). */
unsigned int kr_db_statement_size(void);
int kr_db_table_version(db_func_t *functions, db1_con_t *con, str *table, unsigned int version);

/* XML: the host's libxml2 */
void kr_xml_free(void *text);

/* statistics */
typedef long (*kr_counter_f)(unsigned short id, void *param);
int kr_counter_register(const char *group, const char *name, const char *doc);
int kr_counter_computed(const char *group, const char *name, const char *doc, kr_counter_f compute, void *param);
void kr_counter_add(int id, int n);
long kr_counter_value(int id);

/* HTTP, through xhttp where it is loaded */
int kr_xhttp_load(void);
int kr_is_http(struct sip_msg *msg);
int kr_xhttp_reply(struct sip_msg *msg, int code, str *phrase, str *content_type, str *body);

/* the cluster */
/* Publications, our nodes, and subscriptions in stock's form, which go to the peer of the publications. */
#define KR_DMQ_PEERS 2
#define KR_DMQ_CHANNELS 3
typedef int (*kr_dmq_joined_f)(void);
typedef void (*kr_dmq_answered_f)(int channel, str *host, unsigned short port, int code, unsigned int ticket);
typedef void (*kr_dmq_node_f)(void *context, str *host, unsigned short port, int active, int local);
int kr_dmq_load(kr_dmq_answered_f on_answered);
int kr_dmq_join(int which, str *name, peer_callback_t on_message, kr_dmq_joined_f on_joined);
int kr_dmq_broadcast(int which, str *body);
/* to the node with this address; below 0 when there is none. The answer is reported with the ticket, below 2^26. */
int kr_dmq_send(int which, str *body, str *host, unsigned short port, unsigned int ticket);
void kr_dmq_each_node(kr_dmq_node_f take, void *context);
/* The SIP URI of a node as dmq has it; its length, or negative: there is none, or it is longer. */
int kr_dmq_uri(str *host, unsigned short port, char *uri, int size);
void kr_dmq_node_address(dmq_node_t *node, str *host, unsigned short *port);

/* routes and variables */
int kr_event_route(const char *name);
int kr_run_event_route(int route, struct cell *cell);
struct sip_msg *kr_make_reply(const char *text, int len);
void kr_free_reply(struct sip_msg *msg);
int kr_xavp_int(str *root, char *name, int *value);
int kr_pv_null(struct sip_msg *msg, pv_param_t *param, pv_value_t *res);
int kr_pv_str(struct sip_msg *msg, pv_param_t *param, pv_value_t *res, str *value);
int kr_pv_uint(struct sip_msg *msg, pv_param_t *param, pv_value_t *res, unsigned int value);
pv_spec_t *kr_pv_parse(str *name);
int kr_pv_inner(struct sip_msg *msg, pv_spec_t *spec, pv_value_t *res);

/* texts of the host */
unsigned int kr_case_hash(str *a, str *b);
/* The flags of the first branch of the message that the script has in hand. */
unsigned int kr_branch_flags(void);
int kr_proto_name(int proto, str *name);
void kr_source(struct sip_msg *msg, str *address, unsigned short *port);
#endif
