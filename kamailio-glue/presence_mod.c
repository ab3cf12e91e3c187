/* presence.so: what it exports. Each row points at a Rust entry; the wrappers only turn script parameters into
 * strings. */
#include "core/dprint.h"
#include "core/kemi.h"
#include "core/mod_fix.h"
#include "core/sr_module.h"
#include "kamailio_presence.h"

MODULE_VERSION

/* scripts/build.sh says which sources these are. */
#ifndef KR_COMMIT
#define KR_COMMIT "unknown"
#endif

/* script functions */

static int script_handle_publish0(sip_msg_t *msg, char *p1, char *p2)
{
	return kr_presence_handle_publish(msg, NULL);
}

static int script_handle_publish1(sip_msg_t *msg, char *sender, char *p2)
{
	str uri;
	if(get_str_fparam(&uri, msg, (fparam_t *)sender) != 0) {
		LM_ERR("invalid sender uri parameter\n");
		return -1;
	}
	return kr_presence_handle_publish(msg, &uri);
}

static int script_handle_subscribe0(sip_msg_t *msg, char *p1, char *p2)
{
	return kr_presence_handle_subscribe(msg, NULL);
}

static int script_handle_subscribe1(sip_msg_t *msg, char *watcher, char *p2)
{
	str uri;
	if(get_str_fparam(&uri, msg, (fparam_t *)watcher) != 0) {
		LM_ERR("invalid watcher uri parameter\n");
		return -1;
	}
	return kr_presence_handle_subscribe(msg, &uri);
}

static int two_strings(sip_msg_t *msg, char *p1, char *p2, str *first, str *second)
{
	if(get_str_fparam(first, msg, (fparam_t *)p1) != 0 || get_str_fparam(second, msg, (fparam_t *)p2) != 0) {
		LM_ERR("invalid parameters\n");
		return -1;
	}
	return 0;
}

static int script_pres_auth_status(sip_msg_t *msg, char *watcher, char *presentity)
{
	str first, second;
	if(two_strings(msg, watcher, presentity, &first, &second) < 0)
		return -1;
	return kr_presence_auth_status(msg, &first, &second);
}

static int script_pres_has_subscribers(sip_msg_t *msg, char *presentity, char *event)
{
	str first, second;
	if(two_strings(msg, presentity, event, &first, &second) < 0)
		return -1;
	return kr_presence_has_subscribers(msg, &first, &second);
}

static int script_pres_refresh_watchers(sip_msg_t *msg, char *uri, char *event, char *type)
{
	str first, second;
	int kind;
	if(two_strings(msg, uri, event, &first, &second) < 0 || get_int_fparam(&kind, msg, (fparam_t *)type) != 0)
		return -1;
	return kr_presence_refresh_watchers(&first, &second, kind, NULL, NULL);
}

static int script_pres_refresh_watchers5(
		sip_msg_t *msg, char *uri, char *event, char *type, char *file_uri, char *filename)
{
	str first, second, third, fourth;
	int kind;
	if(two_strings(msg, uri, event, &first, &second) < 0 || two_strings(msg, file_uri, filename, &third, &fourth) < 0
			|| get_int_fparam(&kind, msg, (fparam_t *)type) != 0)
		return -1;
	return kr_presence_refresh_watchers(&first, &second, kind, &third, &fourth);
}

static int script_pres_update_watchers(sip_msg_t *msg, char *uri, char *event)
{
	str first, second;
	if(two_strings(msg, uri, event, &first, &second) < 0)
		return -1;
	return kr_presence_update_watchers(&first, &second);
}

static int fixup_refresh(void **param, int param_no)
{
	return param_no == 3 ? fixup_igp_null(param, 1) : fixup_spve_null(param, 1);
}

static int fixup_uri(void **param, int param_no)
{
	return fixup_spve_null(param, 1);
}

/* Without a database, and without keeping everything in memory, presence is a library for other modules. */
static int fixup_server(const char *function)
{
	if(kr_presence_is_server())
		return 0;
	LM_ERR("Bad config - you can not call '%s' function (db_url not set)\n", function);
	return -1;
}

static int fixup_publish(void **param, int param_no)
{
	if(fixup_server("handle_publish") < 0)
		return -1;
	return param_no == 0 ? 0 : fixup_uri(param, param_no);
}

static int fixup_subscribe(void **param, int param_no)
{
	if(fixup_server("handle_subscribe") < 0)
		return -1;
	return param_no == 0 ? 0 : fixup_uri(param, param_no);
}

static int script_presence_metrics(sip_msg_t *msg, char *p1, char *p2)
{
	return kr_presence_metrics(msg);
}

static int fixup_metrics(void **param, int param_no)
{
	return kr_metrics_fixup();
}

/* clang-format off */
static cmd_export_t commands[] = {
	{"handle_publish", (cmd_function)script_handle_publish0, 0, fixup_publish, 0, REQUEST_ROUTE},
	{"handle_publish", (cmd_function)script_handle_publish1, 1, fixup_publish, 0, REQUEST_ROUTE},
	{"handle_subscribe", (cmd_function)script_handle_subscribe0, 0, fixup_subscribe, 0, REQUEST_ROUTE},
	{"handle_subscribe", (cmd_function)script_handle_subscribe1, 1, fixup_subscribe, 0, REQUEST_ROUTE},
	{"pres_auth_status", (cmd_function)script_pres_auth_status, 2, fixup_uri, 0, REQUEST_ROUTE},
	{"pres_refresh_watchers", (cmd_function)script_pres_refresh_watchers, 3, fixup_refresh, 0, ANY_ROUTE},
	{"pres_refresh_watchers", (cmd_function)script_pres_refresh_watchers5, 5, fixup_refresh, 0, ANY_ROUTE},
	{"pres_update_watchers", (cmd_function)script_pres_update_watchers, 2, fixup_uri, 0, ANY_ROUTE},
	{"pres_has_subscribers", (cmd_function)script_pres_has_subscribers, 2, fixup_uri, 0, ANY_ROUTE},
	{"presence_metrics", (cmd_function)script_presence_metrics, 0, fixup_metrics, 0, ANY_ROUTE},
	{"bind_presence", (cmd_function)kr_bind_presence, 1, 0, 0, 0},
	{0, 0, 0, 0, 0, 0}
};

static pv_export_t variables[] = {
	{{"subs", sizeof("subs") - 1}, PVT_OTHER, kr_presence_pv_get_subs, 0, kr_presence_pv_parse_subs, 0, 0, 0},
	{{"notify_reply", sizeof("notify_reply") - 1}, PVT_OTHER, kr_presence_pv_get_notify_reply, 0,
			kr_presence_pv_parse_notify_reply, 0, 0, 0},
	{{"presence_status", sizeof("presence_status") - 1}, PVT_OTHER, kr_presence_pv_get_status, 0, 0, 0, 0, 0},
	{{"presence_status_script", sizeof("presence_status_script") - 1}, PVT_OTHER,
		kr_presence_pv_get_status_script, 0, 0, 0, 0, 0},
	{{"presence_status_style", sizeof("presence_status_style") - 1}, PVT_OTHER,
		kr_presence_pv_get_status_style, 0, 0, 0, 0, 0},
	{{0, 0}, 0, 0, 0, 0, 0, 0, 0}
};
/* clang-format on */

/* KEMI */

static int ki_handle_publish(sip_msg_t *msg)
{
	return kr_presence_handle_publish(msg, NULL);
}

static int ki_handle_publish_uri(sip_msg_t *msg, str *sender)
{
	return kr_presence_handle_publish(msg, sender);
}

static int ki_handle_subscribe(sip_msg_t *msg)
{
	return kr_presence_handle_subscribe(msg, NULL);
}

static int ki_handle_subscribe_uri(sip_msg_t *msg, str *watcher)
{
	return kr_presence_handle_subscribe(msg, watcher);
}

static int ki_pres_refresh_watchers(sip_msg_t *msg, str *uri, str *event, int type)
{
	/* scripts see 1 for success, KEMI sees 0, as in stock */
	return kr_presence_refresh_watchers(uri, event, type, NULL, NULL) > 0 ? 0 : -1;
}

static int ki_pres_refresh_watchers_file(
		sip_msg_t *msg, str *uri, str *event, int type, str *file_uri, str *filename)
{
	/* the script function refuses a document beside another type, KEMI's does not look at it, as in stock */
	if(type != 2)
		file_uri = filename = NULL;
	return kr_presence_refresh_watchers(uri, event, type, file_uri, filename) > 0 ? 0 : -1;
}

static int ki_pres_update_watchers(sip_msg_t *msg, str *uri, str *event)
{
	return kr_presence_update_watchers(uri, event);
}

#define NAMED(text) str_init("presence"), str_init(text), SR_KEMIP_INT
#define PARAMS(a, b, c, d, e) {SR_KEMIP_##a, SR_KEMIP_##b, SR_KEMIP_##c, SR_KEMIP_##d, SR_KEMIP_##e, SR_KEMIP_NONE}

/* clang-format off */
static sr_kemi_t kemi_exports[] = {
	{NAMED("handle_publish"), ki_handle_publish, PARAMS(NONE, NONE, NONE, NONE, NONE)},
	{NAMED("handle_publish_uri"), ki_handle_publish_uri, PARAMS(STR, NONE, NONE, NONE, NONE)},
	{NAMED("handle_subscribe"), ki_handle_subscribe, PARAMS(NONE, NONE, NONE, NONE, NONE)},
	{NAMED("handle_subscribe_uri"), ki_handle_subscribe_uri, PARAMS(STR, NONE, NONE, NONE, NONE)},
	{NAMED("pres_refresh_watchers"), ki_pres_refresh_watchers, PARAMS(STR, STR, INT, NONE, NONE)},
	{NAMED("pres_refresh_watchers_file"), ki_pres_refresh_watchers_file, PARAMS(STR, STR, INT, STR, STR)},
	{NAMED("pres_update_watchers"), ki_pres_update_watchers, PARAMS(STR, STR, NONE, NONE, NONE)},
	{NAMED("pres_has_subscribers"), kr_presence_has_subscribers, PARAMS(STR, STR, NONE, NONE, NONE)},
	{NAMED("pres_auth_status"), kr_presence_auth_status, PARAMS(STR, STR, NONE, NONE, NONE)},
	{NAMED("presence_metrics"), kr_presence_metrics, PARAMS(NONE, NONE, NONE, NONE, NONE)},
	{{0, 0}, {0, 0}, 0, NULL, {0, 0, 0, 0, 0, 0}}
};
/* clang-format on */

static int module_init(void)
{
	return kr_presence_mod_init(KR_COMMIT, VERSION);
}

struct module_exports exports = {
	"presence",
	DEFAULT_DLFLAGS,
	commands,
	0, /* mod_register fills it in */
	0, /* likewise */
	variables,
	kr_presence_on_response,
	module_init,
	kr_presence_child_init,
	kr_presence_destroy,
};

int mod_register(char *path, int *dlflags, void *p1, void *p2)
{
	exports.params = kr_presence_parameters();
	exports.rpc_methods = kr_presence_commands();
	sr_kemi_modules_add(kemi_exports);
	return 0;
}
