/* Event routes, pseudo-variables, xavps. */
#include "kr_shim.h"
#include "core/action.h"
#include "core/msg_translator.h"
#include "core/receive.h"
#include "core/route.h"
#include "core/xavp.h"

int kr_event_route(const char *name)
{
	int route = route_lookup(&event_rt, (char *)name);
	if(route >= 0 && event_rt.rlist[route] == NULL)
		return -1;
	return route;
}

/* Runs a route on the request of a transaction of ours, read from the bytes that were sent. -1 when they cannot be
 * read. */
int kr_run_event_route(int route, struct cell *cell)
{
	struct sip_msg msg;
	int previous = get_route_type();
	if(cell->uac == NULL || cell->uac[0].request.buffer == NULL
			|| build_sip_msg_from_buf(&msg, cell->uac[0].request.buffer, cell->uac[0].request.buffer_len, inc_msg_no()) < 0)
		return -1;
	set_route_type(LOCAL_ROUTE);
	run_top_route(event_rt.rlist[route], &msg, NULL);
	set_route_type(previous);
	free_sip_msg(&msg);
	return 0;
}

/* A reply for scripts to look at; the text lies behind the message. NULL when it cannot be made. */
struct sip_msg *kr_make_reply(const char *text, int len)
{
	struct sip_msg *msg = pkg_malloc(sizeof(*msg) + len + 1);
	char *copy;
	if(msg == NULL)
		return NULL;
	copy = (char *)(msg + 1);
	memcpy(copy, text, len);
	copy[len] = 0;
	if(build_sip_msg_from_buf(msg, copy, len, inc_msg_no()) == 0)
		return msg;
	pkg_free(msg);
	return NULL;
}

void kr_free_reply(struct sip_msg *msg)
{
	free_sip_msg(msg);
	pkg_free(msg);
}

int kr_xavp_int(str *root, char *name, int *value)
{
	str inner = {name, strlen(name)};
	sr_xavp_t *avp = xavp_get_child_with_ival(root, &inner);
	if(avp == NULL)
		return -1;
#if VERSIONVAL >= 5007000
	*value = (int)avp->val.v.l;
#else
	*value = avp->val.v.i;
#endif
	return 0;
}

int kr_pv_null(struct sip_msg *msg, pv_param_t *param, pv_value_t *res)
{
	return pv_get_null(msg, param, res);
}

int kr_pv_str(struct sip_msg *msg, pv_param_t *param, pv_value_t *res, str *value)
{
	return pv_get_strval(msg, param, res, value);
}

int kr_pv_uint(struct sip_msg *msg, pv_param_t *param, pv_value_t *res, unsigned int value)
{
	return pv_get_uintval(msg, param, res, value);
}

pv_spec_t *kr_pv_parse(str *name)
{
	return pv_cache_get(name);
}

int kr_pv_inner(struct sip_msg *msg, pv_spec_t *spec, pv_value_t *res)
{
	return pv_get_spec_value(msg, spec, res);
}
