/* Answers that are taken from the datagram, before the core makes a message of it. */
#include "kr_shim.h"
#include "core/cfg/cfg.h"
#include "core/cfg/cfg_struct.h"
#include "core/counters.h"
#include "core/dprint.h"
#include "core/events.h"
#include "core/globals.h"
#include "core/kemi.h"
#include "core/receive.h"
#include "core/route.h"
#include "core/sr_module.h"

/* Modules whose script callbacks are run for each reply. kex, which counts them, is served by kr_datagram_count; dialog
 * forgets what it noted of the message in hand, and nothing was noted of one that there is not. */
static const char *const reply_callbacks[] = {"debugger", "cfgt", "utils", "pv_headers", "db2_ops", "uid_avp_db", NULL};

static int has_early_route(void)
{
	return ksr_evrt_received_mode != 0 || kemi_pre_routing_callback.len > 0
			|| route_lookup(&event_rt, "core:pre-routing") >= 0;
}

/* Who would miss the message that is not made; NULL: nobody. */
const char *kr_datagram_onlooker(void)
{
	int i;
	if(kr_reply_checks() == KR_REPLY_CHECKS_UNKNOWN)
		return "reply_route";
	if(has_early_route())
		return "event_route[core:msg-received] or [core:pre-routing]";
	if(check_via)
		return "check_via";
	for(i = 0; reply_callbacks[i] != NULL; i++)
		if(find_module_by_name((char *)reply_callbacks[i]) != NULL)
			return reply_callbacks[i];
	return NULL;
}

/* The same for what may come and go while the server runs. The core takes settings over that were changed meanwhile
 * once nobody has taken the datagram: a process that is sent nothing but answers would keep the old ones. */
int kr_datagram_is_watched(void)
{
	cfg_update();
	return sr_event_enabled(SREV_NET_DATA_IN) || sr_event_enabled(SREV_NET_DATA_RECV)
		   || is_printable(cfg_get(core, core_cfg, latency_cfg_log));
}

/* Takes the core's only place for those who look at datagrams; -1 where another module has it. */
int kr_datagram_take(int (*own)(struct sr_event_param *))
{
	return sr_event_enabled(SREV_NET_DGRAM_IN) ? -1 : sr_event_register_cb(SREV_NET_DGRAM_IN, own);
}

/* A datagram in the hand of the core: its text and who sent it. */
void kr_datagram_text(struct sr_event_param *event, str *text)
{
	void **parts = event->data;
	text->s = parts[0];
	text->len = *(int *)parts[1];
}

int kr_datagram_is_from(struct sr_event_param *event, const struct kr_destination *destination)
{
	receive_info_t *received = ((void **)event->data)[2];
	return su_cmp(&received->src_su, (union sockaddr_union *)&destination->to);
}

/* The core's statistics of a received reply with a final 2xx, which kex counts; -1 where nobody counts them. */
static int received = -1, received_2xx = -1;

static int number_of(const char *name)
{
	counter_handle_t handle;
	return counter_lookup(&handle, "core", name) >= 0 ? handle.id : -1;
}

void kr_datagram_find_counters(void)
{
	received = number_of("rcv_replies");
	received_2xx = number_of("rcv_replies_2xx");
}

void kr_datagram_count(void)
{
	if(received >= 0)
		kr_counter_add(received, 1);
	if(received_2xx >= 0)
		kr_counter_add(received_2xx, 1);
}
