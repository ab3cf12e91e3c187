/* weather.so: an event package of one's own, complete and as small as it can be. Documents of the package `weather`
 * are plain text; of several documents, watchers get one body with a line each. Build it with the headers and flags of
 * your Kamailio (docs/developers.md), and load it after presence.so. */
#include <string.h>

#include "core/dprint.h"
#include "core/mem/mem.h"
#include "core/sr_module.h"
#include "modules/presence/bind_presence.h"

MODULE_VERSION

static presence_api_t api;

static void free_weather(char *text)
{
	pkg_free(text);
}

/* One body of all documents, a line each. presence gives the text back with free_weather and frees the str itself. */
static str *join(str *user, str *domain, str **documents, int count, int offline)
{
	str *joined = pkg_malloc(sizeof(*joined));
	int length = 0, i;

	if(joined == NULL)
		return NULL;
	for(i = 0; i < count; i++)
		length += documents[i]->len + 1;
	joined->s = pkg_malloc(length + 1);
	joined->len = 0;
	if(joined->s == NULL) {
		pkg_free(joined);
		return NULL;
	}
	for(i = 0; i < count; i++) {
		/* The document that is about to end is not shown any more. */
		if(i == offline)
			continue;
		memcpy(joined->s + joined->len, documents[i]->s, documents[i]->len);
		joined->len += documents[i]->len;
		joined->s[joined->len++] = '\n';
	}
	return joined;
}

static int mod_init(void)
{
	pres_ev_t package;
	bind_presence_t bind = (bind_presence_t)find_export("bind_presence", 1, 0);

	if(bind == NULL || bind(&api) < 0) {
		LM_ERR("load presence.so before this module\n");
		return -1;
	}
	memset(&package, 0, sizeof(package));
	package.name.s = "weather";
	package.name.len = 7;
	package.content_type.s = "text/plain";
	package.content_type.len = 10;
	package.default_expires = 3600;
	package.type = PUBL_TYPE;
	package.agg_nbody = join;
	package.free_body = free_weather;
	return api.add_event(&package);
}

/* Kamailio's structure, field by field by name: its order differs between versions. */
struct module_exports exports = {.name = "weather", .dlflags = DEFAULT_DLFLAGS, .init_mod_f = mod_init};
