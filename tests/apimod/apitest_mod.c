/* An outside author's module: binds presence, registers an event package with every callback, calls every function of
 * the API, and says what happened in lines that begin with APITEST. It is built and loaded by the tests only, on stock
 * and on ours. */
#include <stdio.h>
#include <string.h>

#include "core/dprint.h"
#include "core/mem/mem.h"
#include "core/mod_fix.h"
#include "core/rpc.h"
#include "core/rpc_lookup.h"
#include "core/sr_module.h"
#include "modules/presence/bind_presence.h"
#include "modules/presence/hash.h"
#include "modules/presence/subscribe.h"

MODULE_VERSION

static presence_api_t api;
static pres_ev_t *registered;
static int auth, aggregate, aux, keep_etag, default_expires = 1800;

#define SAY(fmt, ...) LM_NOTICE("APITEST " fmt "\n", ##__VA_ARGS__)
#define S(text) length_of(text), chars_of(text)

static int length_of(const str *text)
{
	return text == NULL || text->s == NULL ? 0 : text->len;
}

static const char *chars_of(const str *text)
{
	return text == NULL || text->s == NULL ? "" : text->s;
}

static str *private_text(const char *format, const str *a, const str *b)
{
	char buffer[4096];
	str *made = pkg_malloc(sizeof(str));
	int n;
	if(made == NULL)
		return NULL;
	n = snprintf(buffer, sizeof(buffer), format, S(a), S(b));
	made->s = pkg_malloc(n + 1);
	if(made->s == NULL) {
		pkg_free(made);
		return NULL;
	}
	memcpy(made->s, buffer, n + 1);
	made->len = n;
	return made;
}

/* callbacks of the package */

static int on_publish(struct sip_msg *msg)
{
	SAY("publish");
	return 1;
}

static int on_subscribe(struct sip_msg *msg)
{
	SAY("subscribe");
	return 1;
}

static str *on_aggregate(str *user, str *domain, str **bodies, int n, int off)
{
	str joined = {0, 0};
	char buffer[4096];
	int i, at = 0;
	for(i = 0; i < n; i++)
		at += snprintf(buffer + at, sizeof(buffer) - at, "%s%.*s%s", i ? "+" : "", S(bodies[i]), i == off ? "(off)" : "");
	joined.s = buffer;
	joined.len = at;
	SAY("aggregate %.*s@%.*s n=%d off=%d %.*s", S(user), S(domain), n, off, S(&joined));
	return private_text("[%.*s]%.*s", &joined, NULL);
}

static void on_free(char *body)
{
	SAY("free %.20s", body);
	pkg_free(body);
}

static str *on_aux(struct subscription *subs, str *body)
{
	char version[32];
	str text = {version, snprintf(version, sizeof(version), "v%d", subs->version)};
	SAY("aux %.*s v%d %.*s", S(&subs->watcher_user), subs->version, S(body));
	return private_text("%.*s:%.*s", &text, body);
}

static void on_aux_free(char *body)
{
	SAY("aux_free %.20s", body);
	pkg_free(body);
}

static int on_rules(str *user, str *domain, str **rules)
{
	str text = str_init("rules");
	SAY("rules %.*s@%.*s", S(user), S(domain));
	*rules = private_text("%.*s%.*s", &text, NULL);
	return *rules ? 0 : -1;
}

static int on_status(struct subscription *subs)
{
	static char rejected[] = "rejected", polite[] = "polite-block";
	const char *user = subs->watcher_user.s;
	SAY("status %.*s rules=%.*s before=%u", S(&subs->watcher_user), S(subs->auth_rules_doc), subs->status);
	subs->reason.s = NULL;
	subs->reason.len = 0;
	subs->status = ACTIVE_STATUS;
	if(strncmp(user, "blocked", 7) == 0) {
		subs->status = TERMINATED_STATUS;
		subs->reason.s = rejected;
		subs->reason.len = 8;
	} else if(strncmp(user, "pending", 7) == 0) {
		subs->status = PENDING_STATUS;
	} else if(strncmp(user, "polite", 6) == 0) {
		subs->reason.s = polite;
		subs->reason.len = 12;
	}
	return 0;
}

static int on_filter(str *body, struct subscription *subs, str **filtered)
{
	SAY("filter %.*s %.*s", S(&subs->watcher_user), S(body));
	*filtered = private_text("<%.*s>%.*s", body, NULL);
	return *filtered ? 1 : -1;
}

static int add_package(void)
{
	pres_ev_t package;
	memset(&package, 0, sizeof(package));
	package.name.s = "apitest";
	package.name.len = 7;
	package.content_type.s = "text/plain";
	package.content_type.len = 10;
	package.default_expires = default_expires;
	package.type = PUBL_TYPE;
	package.etag_not_new = keep_etag;
	package.req_auth = auth;
	package.get_rules_doc = auth ? on_rules : NULL;
	package.get_auth_status = auth ? on_status : NULL;
	package.apply_auth_nbody = auth ? on_filter : NULL;
	package.agg_nbody = aggregate ? on_aggregate : NULL;
	package.free_body = on_free;
	package.aux_body_processing = aux ? on_aux : NULL;
	package.aux_free_body = aux ? on_aux_free : NULL;
	package.evs_publ_handl = on_publish;
	package.evs_subs_handl = on_subscribe;
	if(api.add_event(&package) < 0)
		return -1;
	memset(&package, 0, sizeof(package));
	package.name.s = "apitest.winfo";
	package.name.len = 13;
	package.content_type.s = "application/watcherinfo+xml";
	package.content_type.len = 27;
	package.default_expires = default_expires;
	package.type = WINFO_TYPE;
	return api.add_event(&package);
}

/* what an RPC asks for */

static void call_events(void)
{
	str name = str_init("apitest"), none = str_init("none"), winfo = str_init("apitest.winfo"), *list = NULL;
	event_t parsed;
	memset(&parsed, 0, sizeof(parsed));
	registered = api.contains_event(&name, &parsed);
	SAY("contains %d none %d winfo %d", registered != NULL, api.contains_event(&none, NULL) != NULL,
			api.contains_event(&winfo, NULL) != NULL);
	SAY("search %d", api.search_event(&parsed) == registered);
	SAY("fields %.*s %.*s expires=%u type=%d keep=%d auth=%d peer=%.*s", S(&registered->name),
			S(&registered->content_type), registered->default_expires, registered->type,
			registered->etag_not_new, registered->req_auth, S(registered->wipeer ? &registered->wipeer->name : NULL));
	SAY("again %d", add_package());
	SAY("list %d", api.get_event_list(&list));
	SAY("listed %d %d", list != NULL, list != NULL && strstr(list->s, "apitest.winfo") != NULL);
	if(list != NULL) {
		pkg_free(list->s);
		pkg_free(list);
	}
}

static void call_presentity(void)
{
	str uri = str_init("sip:alice@example.org"), nobody = str_init("sip:nobody@example.org"), event = str_init("apitest");
	str realm = str_init("example.org"), user = str_init("alice"), etag = str_init("api-etag");
	str body = str_init("from-api");
	str changed = str_init("changed"), sender = {0, 0}, *text;
	pres_ev_t *package = api.contains_event(&event, NULL);
	SAY("update new %d", api.update_presentity(&event, &realm, &user, &etag, &sender, &body, 300, 1, 0));
	SAY("update same %d", api.update_presentity(&event, &realm, &user, &etag, &sender, &changed, 300, 0, 1));
	text = api.get_presentity(uri, package, NULL, NULL);
	SAY("get %.*s", S(text));
	if(text != NULL)
		api.free_presentity(text, package);
	text = api.get_presentity(nobody, package, NULL, NULL);
	SAY("get nobody %d", text != NULL);
	SAY("refresh %d", api.pres_refresh_watchers(&uri, &event, 1));
	SAY("watchers %d", api.update_watchers_status(&uri, package, NULL));
	SAY("update end %d", api.update_presentity(&event, &realm, &user, &etag, &sender, &body, 0, 0, 0));
}

static void fill(subs_t *subs, char *callid)
{
	static str empty = str_init("");
	str event = str_init("apitest");
	memset(subs, 0, sizeof(*subs));
	subs->pres_uri.s = "sip:alice@example.org";
	subs->pres_uri.len = 21;
	subs->to_user = subs->to_domain = subs->from_user = subs->from_domain = empty;
	subs->watcher_user = subs->watcher_domain = subs->event_id = subs->sockinfo_str = empty;
	subs->event = api.contains_event(&event, NULL);
	subs->to_tag.s = "to";
	subs->to_tag.len = 2;
	subs->from_tag.s = "from";
	subs->from_tag.len = 4;
	subs->callid.s = callid;
	subs->callid.len = strlen(callid);
	subs->contact.s = "sip:contact@host";
	subs->contact.len = 16;
	subs->local_contact = subs->record_route = subs->user_agent = empty;
	subs->expires = 100;
	subs->status = ACTIVE_STATUS;
	subs->remote_cseq = 7;
}

static int count(shtable_t table, int size)
{
	int i, n = 0;
	subs_t *s;
	for(i = 0; i < size; i++) {
		lock_get(&table[i].lock);
		for(s = table[i].entries->next; s; s = s->next)
			n++;
		lock_release(&table[i].lock);
	}
	return n;
}

/* Whether an insertion takes the expiry for a point in time, as it is, or for seconds from now. */
static void insert_until(shtable_t table, char *callid, unsigned int expires)
{
	subs_t one, *found;
	unsigned int now = (unsigned int)time(NULL);
	fill(&one, callid);
	one.expires = expires;
	SAY("insert %s %d", callid, api.insert_shtable(table, 3, &one));
	found = api.search_shtable(table, one.callid, one.to_tag, one.from_tag, 3);
	SAY("kept %d added %d", found && found->expires == expires, found && found->expires - expires - now <= 2);
}

static void call_table(void)
{
	subs_t one, two, *found, *copy;
	shtable_t table = api.new_shtable(4);
	SAY("table %d", table != NULL);
	fill(&one, "call-1");
	fill(&two, "call-2");
	SAY("insert %d %d", api.insert_shtable(table, 1, &one), api.insert_shtable(table, 1, &two));
	SAY("count %d", count(table, 4));
	found = api.search_shtable(table, one.callid, one.to_tag, one.from_tag, 1);
	SAY("found %d %.*s cseq=%u", found != NULL, S(found ? &found->contact : NULL), found ? found->remote_cseq : 0);
	SAY("elsewhere %d", api.search_shtable(table, one.callid, one.to_tag, one.from_tag, 2) != NULL);
	one.remote_cseq = 8;
	one.contact.s = "sip:moved@host";
	one.contact.len = 14;
	SAY("update %d", api.update_shtable(table, 1, &one, REMOTE_TYPE));
	found = api.search_shtable(table, one.callid, one.to_tag, one.from_tag, 1);
	SAY("updated %.*s cseq=%u", S(found ? &found->contact : NULL), found ? found->remote_cseq : 0);
	one.remote_cseq = 3;
	SAY("older %d", api.update_shtable(table, 1, &one, REMOTE_TYPE));
	SAY("local %d", api.update_shtable(table, 1, &one, LOCAL_TYPE));
	copy = api.mem_copy_subs(&two, PKG_MEM_TYPE);
	SAY("copy %d %.*s %.*s expires=%u", copy != NULL, S(copy ? &copy->callid : NULL), S(copy ? &copy->contact : NULL),
			copy ? copy->expires : 0);
	if(copy != NULL)
		pkg_free(copy);
	SAY("delete %d", api.delete_shtable(table, 1, &two) >= 0);
	SAY("gone %d", api.delete_shtable(table, 1, &two) >= 0);
	SAY("count %d", count(table, 4));
	insert_until(table, "seconds", 100);
	insert_until(table, "point", (unsigned int)time(NULL) + 100);
	insert_until(table, "passed", (unsigned int)time(NULL) - 100);
	insert_until(table, "none", 0);
	api.destroy_shtable(table, 4);
}

static void rpc_run(rpc_t *rpc, void *ctx)
{
	call_events();
	call_table();
	call_presentity();
}

static const char *run_doc[] = {"Calls every function of the API.", 0};
static rpc_export_t rpc_commands[] = {{"apitest.run", rpc_run, run_doc, 0}, {0, 0, 0, 0}};

/* script functions that go through the API */

static int script_publish(sip_msg_t *msg, char *p1, char *p2)
{
	return api.handle_publish(msg, 0, 0);
}

static int script_subscribe(sip_msg_t *msg, char *p1, char *p2)
{
	return api.handle_subscribe0(msg);
}

static int script_subscribe_as(sip_msg_t *msg, char *p1, char *p2)
{
	str user = str_init("robert"), domain = str_init("example.org");
	return api.handle_subscribe(msg, user, domain);
}

static int script_status(sip_msg_t *msg, char *p1, char *p2)
{
	str watcher = str_init("sip:bob@example.org"), uri = str_init("sip:alice@example.org");
	SAY("auth_status %d", api.pres_auth_status(msg, watcher, uri));
	return 1;
}

/* clang-format off */
static cmd_export_t commands[] = {
	{"apitest_publish", (cmd_function)script_publish, 0, 0, 0, REQUEST_ROUTE},
	{"apitest_subscribe", (cmd_function)script_subscribe, 0, 0, 0, REQUEST_ROUTE},
	{"apitest_subscribe_as", (cmd_function)script_subscribe_as, 0, 0, 0, REQUEST_ROUTE},
	{"apitest_status", (cmd_function)script_status, 0, 0, 0, REQUEST_ROUTE},
	{0, 0, 0, 0, 0, 0}
};

static param_export_t parameters[] = {
	{"auth", PARAM_INT, &auth},
	{"aggregate", PARAM_INT, &aggregate},
	{"aux", PARAM_INT, &aux},
	{"keep_etag", PARAM_INT, &keep_etag},
	{"default_expires", PARAM_INT, &default_expires},
	{0, 0, 0}
};
/* clang-format on */

static int module_init(void)
{
	bind_presence_t bind = (bind_presence_t)find_export("bind_presence", 1, 0);
	void **pointer = (void **)&api;
	size_t i;
	if(bind == NULL || bind(&api) < 0) {
		LM_ERR("cannot bind presence\n");
		return -1;
	}
	for(i = 0; i < sizeof(api) / sizeof(void *); i++)
		if(pointer[i] == NULL)
			SAY("function %d is missing", (int)i);
	SAY("functions %d", (int)(sizeof(api) / sizeof(void *)));
	return add_package();
}

struct module_exports exports = {
	"apitest", DEFAULT_DLFLAGS, commands, parameters, rpc_commands, 0, 0, module_init, 0, 0,
};
