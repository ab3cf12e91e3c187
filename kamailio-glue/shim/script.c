/* Event routes, pseudo-variables, xavps. */
#include "kr_shim.h"
#include "core/action.h"
#include "core/fmsg.h"
#include "core/route.h"
#include "core/xavp.h"

int kr_event_route(const char *name)
{
	int route = route_lookup(&event_rt, (char *)name);
	if(route >= 0 && event_rt.rlist[route] == NULL)
		return -1;
	return route;
}

int kr_run_event_route(int route, struct sip_msg *msg)
{
	struct run_act_ctx ctx;
	int previous = get_route_type();
	int result;
	set_route_type(EVENT_ROUTE);
	init_run_actions_ctx(&ctx);
	result = run_actions(&ctx, event_rt.rlist[route], msg);
	set_route_type(previous);
	return result;
}

struct sip_msg *kr_faked_msg(void)
{
	return faked_msg_next();
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
