/* Requests that go out without a transaction of tm, and their answers: what tm itself uses of the core. */
#include "kr_shim.h"
#include "core/cfg/cfg.h"
#include "core/dset.h"
#include "core/events.h"
#include "core/forward.h"
#include "core/globals.h"
#include "core/kemi.h"
#include "core/msg_translator.h"
#include "core/onsend.h"
#include "core/parser/parse_cseq.h"
#include "core/parser/parse_via.h"
#include "core/route.h"
#include "core/sr_module.h"
#include "core/tcp_conn.h"
#include "core/tcp_options.h"
#include "core/timer.h"
#include "modules/tm/config.h"
#include "modules/tm/t_hooks.h"
#include <dlfcn.h>
#include <errno.h>

/* tm's own settings and lists, which it exports to nobody but the linker */
static void **settings;
static str *local_request_callback;
static struct tmcb_head_list **local_request_watchers;

int kr_direct_load(void)
{
	struct sr_module *module = find_module_by_name("tm");
	if(module == NULL)
		return -1;
	settings = dlsym(module->handle, "tm_cfg");
	local_request_callback = dlsym(module->handle, "tm_event_callback");
	local_request_watchers = dlsym(module->handle, "local_req_in_tmcb_hl");
	return settings != NULL && local_request_callback != NULL && local_request_watchers != NULL ? 0 : -1;
}

int kr_direct_has_local_request_callback(void)
{
	return local_request_callback->len > 0;
}

int kr_direct_has_local_request_watchers(void)
{
	return *local_request_watchers != NULL && (*local_request_watchers)->first != 0;
}

int kr_direct_has_onsend_route(void)
{
	return onsend_route_enabled(SIP_REQUEST) ? 1 : 0;
}

int kr_direct_has_blocklist(void)
{
#ifdef USE_DST_BLOCKLIST
	return cfg_get(core, core_cfg, use_dst_blocklist) != 0;
#else
	return 0;
#endif
}

/* Whether a script may look while tm sends a request of ours, as far as the configuration says; what cannot be said
 * counts as yes. */
static int sending_is_seen = 1;

void kr_direct_note_configuration(void)
{
	sending_is_seen = kr_direct_load() < 0 || kr_event_route("tm:local-request") >= 0
					  || kr_direct_has_local_request_callback() || kr_direct_has_onsend_route();
}

/* The same, with modules that may come and go. */
int kr_direct_sending_is_seen(void)
{
	return sending_is_seen || kr_direct_has_local_request_watchers() || sr_event_enabled(SREV_NET_DATA_OUT);
}

void kr_direct_answers_first(int (*own)(struct sip_msg *))
{
	int i = 0;
	while(i < mod_response_cbk_no && mod_response_cbks[i] != own)
		i++;
	if(i == mod_response_cbk_no)
		return;
	for(; i > 0; i--)
		mod_response_cbks[i] = mod_response_cbks[i - 1];
	mod_response_cbks[0] = own;
}

void kr_direct_timers(unsigned int *t1, unsigned int *t2, unsigned int *timeout)
{
	struct cfg_group_tm *tm = *settings;
	unsigned int life = TICKS_TO_MS(tm->tm_max_noninv_lifetime);
	*t1 = tm->rt_t1_timeout_ms;
	*t2 = tm->rt_t2_timeout_ms;
	*timeout = TICKS_TO_MS(tm->fr_timeout);
	if(*timeout > life)
		*timeout = life;
}

/* In no header of the core: whether there is a connection to an address, from whichever of our own. The transport
 * came to its parameters in the releases 5.7.5, 5.8.2 and 6.0.0, as it did to those of tcpconn_lookup, which is
 * declared: the type of that one says what this server has. */
int kr_connection_exists(int id, struct ip_addr *peer, int peer_port, struct ip_addr *local, int local_port)
		__asm__("tcpconn_exists");
int kr_connection_exists_by(int id, struct ip_addr *peer, int peer_port, struct ip_addr *local, int local_port,
		sip_protos_t proto) __asm__("tcpconn_exists");
typedef struct tcp_connection *kr_lookup_t(
		int, struct ip_addr *, int, union sockaddr_union *, int, ticks_t);
/* Whichever transport it has, as where the core sends: transport=ws in a Contact also means a WebSocket over TLS. */
#define connection_exists(peer, port, local) \
	_Generic(&tcpconn_lookup, kr_lookup_t * \
			 : kr_connection_exists(0, peer, port, local, 0), default \
			 : kr_connection_exists_by(0, peer, port, local, 0, PROTO_NONE))

/* What the host makes of a URI with this address and transport: tm's uri2dst2 without the URI. A connection is a
 * way only while it is there: none is opened. */
int kr_direct_destination(const unsigned char *address, unsigned int len, unsigned short port, unsigned char proto,
		struct socket_info *socket, struct kr_destination *destination)
{
	struct ip_addr ip, any;
	union sockaddr_union to;
	ip.af = len == 4 ? AF_INET : AF_INET6;
	ip.len = len;
	memcpy(ip.u.addr, address, len);
	if(init_su(&to, &ip, port) < 0)
		return -1;
	destination->flags = socket != NULL ? SND_F_FORCE_SOCKET : 0;
	if(proto != PROTO_UDP) {
		ip_addr_mk_any(ip.af, &any);
		if(tcp_disable || !connection_exists(&ip, port, &any))
			return -1;
		destination->flags |= SND_F_FORCE_CON_REUSE;
	}
	destination->proto = proto;
	destination->to = to.sin6;
	destination->socket = get_send_socket2(socket, &to, proto, 0);
	return destination->socket != NULL ? 0 : -1;
}

/* The destination in the form that the core has for it. */
static struct dest_info whole(const struct kr_destination *destination)
{
	struct dest_info whole;
	init_dest_info(&whole);
	whole.send_sock = destination->socket;
	whole.to.sin6 = destination->to;
	whole.send_flags.f = destination->flags;
	whole.proto = destination->proto;
	return whole;
}

/* The Via line of a request with this branch, in private memory. */
char *kr_direct_via(const struct kr_destination *destination, str *branch, unsigned int *len)
{
	struct dest_info to = whole(destination);
	struct hostport host;
	str rport = str_init(";rport");
	set_hostport(&host, NULL);
	return via_builder(len, NULL, &to, branch, ksr_local_rport ? &rport : NULL, &host);
}

/* The User-Agent line that tm writes; empty where it writes none. */
void kr_direct_signature(str *line)
{
	line->s = NULL;
	line->len = 0;
	if(server_signature && user_agent_hdr.len > 0)
		*line = user_agent_hdr;
}

/* 0 when the request was sent; otherwise the errno that says why not, or -1 where none does. */
int kr_direct_send(const struct kr_destination *destination, char *text, int len)
{
	struct dest_info to = whole(destination);
	errno = 0;
	if(msg_send(&to, text, len) >= 0)
		return 0;
	/* The core has written its line in between: what only writing brings about says nothing. */
	switch(errno) {
		case EMSGSIZE:
		case ENETUNREACH:
		case EHOSTUNREACH:
		case ENETDOWN:
		case EADDRNOTAVAIL:
		case EAFNOSUPPORT:
		case EINVAL:
		case EPERM:
		case EACCES:
		case ENOBUFS:
		case ENOMEM:
		case EAGAIN:
			return errno;
		default:
			return -1;
	}
}

/* Whether several requests may go into one write: nobody looks at each of them, and the transport has no frames. */
int kr_direct_joins(const struct kr_destination *destination)
{
	return (destination->proto == PROTO_TCP || destination->proto == PROTO_TLS) && !sr_event_enabled(SREV_NET_DATA_OUT)
		   && !sr_event_enabled(SREV_NET_DATA_SENT);
}

int kr_direct_is_same(const struct kr_destination *one, const struct kr_destination *other)
{
	return one->proto == other->proto && one->socket == other->socket
		   && su_cmp((union sockaddr_union *)&one->to, (union sockaddr_union *)&other->to);
}

int kr_direct_is_from(struct sip_msg *reply, const struct kr_destination *destination)
{
	return su_cmp(&reply->rcv.src_su, (union sockaddr_union *)&destination->to);
}

/* The branch of the first Via of a reply, and its status; -1 where there is none. */
int kr_direct_branch(struct sip_msg *reply, str *branch, unsigned short *status)
{
	if(reply->first_line.type != SIP_REPLY || reply->via1 == NULL || reply->via1->branch == NULL)
		return -1;
	*branch = reply->via1->branch->value;
	*status = reply->first_line.u.reply.statuscode;
	return branch->len > 0 ? 0 : -1;
}

int kr_direct_is_of_notify(struct sip_msg *reply)
{
	if(parse_headers(reply, HDR_CSEQ_F, 0) < 0 || reply->cseq == NULL || reply->cseq->parsed == NULL)
		return 0;
	return get_cseq(reply)->method_id == METHOD_NOTIFY;
}

/* A function of ours, called again and again by the process of the fast timers, or by that of the slow ones. */
int kr_direct_timer(kr_timer_f *f, unsigned int millis, int is_fast)
{
	struct timer_ln *timer = timer_alloc();
	if(timer == NULL)
		return -1;
	timer_init(timer, f, NULL, is_fast ? F_TIMER_FAST : 0);
	if(timer_add(timer, MS_TO_TICKS(millis)) < 0) {
		timer_free(timer);
		return -1;
	}
	return 0;
}
