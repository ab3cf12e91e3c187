/* pua.so: what it exports. Each row points at a Rust entry. */
#include "core/dprint.h"
#include "core/kemi.h"
#include "core/mod_fix.h"
#include "core/sr_module.h"
#include "kamailio_presence.h"

MODULE_VERSION

static int script_pua_update_contact(sip_msg_t *msg, char *p1, char *p2)
{
	return kr_pua_update_contact(msg);
}

static int script_pua_metrics(sip_msg_t *msg, char *p1, char *p2)
{
	return kr_pua_metrics(msg);
}

static int fixup_metrics(void **param, int param_no)
{
	return kr_metrics_fixup();
}

/* clang-format off */
static cmd_export_t commands[] = {
	{"pua_update_contact", (cmd_function)script_pua_update_contact, 0, 0, 0, REQUEST_ROUTE},
	{"pua_metrics", (cmd_function)script_pua_metrics, 0, fixup_metrics, 0, ANY_ROUTE},
	{"bind_libxml_api", (cmd_function)kr_bind_libxml_api, 1, 0, 0, 0},
	{"bind_pua", (cmd_function)kr_bind_pua, 1, 0, 0, 0},
	{0, 0, 0, 0, 0, 0}
};

static sr_kemi_t kemi_exports[] = {
	{str_init("pua"), str_init("pua_update_contact"), SR_KEMIP_INT, kr_pua_update_contact,
			{SR_KEMIP_NONE, SR_KEMIP_NONE, SR_KEMIP_NONE, SR_KEMIP_NONE, SR_KEMIP_NONE, SR_KEMIP_NONE}},
	{str_init("pua"), str_init("pua_metrics"), SR_KEMIP_INT, kr_pua_metrics,
			{SR_KEMIP_NONE, SR_KEMIP_NONE, SR_KEMIP_NONE, SR_KEMIP_NONE, SR_KEMIP_NONE, SR_KEMIP_NONE}},
	{{0, 0}, {0, 0}, 0, NULL, {0, 0, 0, 0, 0, 0}}
};
/* clang-format on */

static int module_init(void)
{
	return kr_pua_mod_init();
}

struct module_exports exports = {
	"pua",
	DEFAULT_DLFLAGS,
	commands,
	0, /* mod_register fills it in */
	0, /* likewise */
	0,
	0,
	module_init,
	kr_pua_child_init,
	kr_pua_destroy,
};

int mod_register(char *path, int *dlflags, void *p1, void *p2)
{
	exports.params = kr_pua_parameters();
	exports.rpc_methods = kr_pua_commands();
	sr_kemi_modules_add(kemi_exports);
	return 0;
}
