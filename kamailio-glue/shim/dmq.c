/* The cluster: our peers, its nodes, and the messages between them. */
#include <dlfcn.h>
#include "kr_shim.h"
#include "modules/dmq/dmqnode.h"

/* As many as the modules know. */
#define KR_DMQ_MOST_NODES 256

static dmq_api_t dmq;
static dmq_peer_t *peers[KR_DMQ_PEERS];
static dmq_node_list_t **nodes;
static kr_dmq_answered_f report;
static str content_type = str_init("application/json");

static int answered(struct sip_msg *msg, int code, dmq_node_t *node, void *param)
{
	unsigned long word = (unsigned long)param;
	if(report != NULL && node != NULL)
		report((int)(word & 15), &node->uri.host, node->uri.port_no, code, (unsigned int)(word >> 4));
	return 0;
}

static dmq_peer_t *peer_of(int channel)
{
	return peers[channel < KR_DMQ_PEERS ? channel : 0];
}

int kr_dmq_load(kr_dmq_answered_f on_answered)
{
	struct sr_module *module = find_module_by_name("dmq");
	if(module == NULL || dmq_load_api(&dmq) != 0)
		return -1;
	nodes = (dmq_node_list_t **)dlsym(module->handle, "dmq_node_list");
	report = on_answered;
	return nodes == NULL ? -1 : 0;
}

int kr_dmq_join(int which, str *name, peer_callback_t on_message, kr_dmq_joined_f on_joined)
{
	dmq_peer_t ours = {0};
	ours.peer_id = *name;
	ours.description = *name;
	ours.callback = on_message;
	ours.init_callback = (init_callback_t)on_joined;
	peers[which] = dmq.register_dmq_peer(&ours);
	return peers[which] == NULL ? -1 : 0;
}

/* A node as dmq lists it, copied under the list's lock: sending runs script routes and looks names up, which must not
 * hold the lock. */
struct kr_node
{
	dmq_node_t node;
	char uri[256];
};

static int copy_node(const dmq_node_t *from, struct kr_node *to)
{
	if(from->orig_uri.len <= 0 || from->orig_uri.len >= (int)sizeof(to->uri))
		return -1;
	to->node = *from;
	to->node.next = NULL;
	memcpy(to->uri, from->orig_uri.s, from->orig_uri.len);
	to->node.orig_uri.s = to->uri;
	return parse_uri(to->uri, to->node.orig_uri.len, &to->node.uri);
}

static int send_to(int which, str *body, struct kr_node *to, unsigned int ticket)
{
	/* dmq copies it. */
	dmq_resp_cback_t on_answer = {answered, (void *)((unsigned long)ticket << 4 | (unsigned long)which)};
	return dmq.send_message(peer_of(which), body, &to->node, &on_answer, 1, &content_type);
}

/* The active nodes but this one, at most KR_DMQ_MOST_NODES; the caller frees the list. */
static struct kr_node *active_nodes(int *count)
{
	dmq_node_t *node;
	struct kr_node *list;
	*count = 0;
	list = pkg_malloc(KR_DMQ_MOST_NODES * sizeof(*list));
	if(list == NULL)
		return NULL;
	lock_get(&(*nodes)->lock);
	for(node = (*nodes)->nodes; node != NULL && *count < KR_DMQ_MOST_NODES; node = node->next) {
		if(!node->local && node->status == DMQ_NODE_ACTIVE && copy_node(node, &list[*count]) == 0)
			(*count)++;
	}
	lock_release(&(*nodes)->lock);
	return list;
}

int kr_dmq_broadcast(int which, str *body)
{
	struct kr_node *list;
	int i, count, done = 0;
	if(peer_of(which) == NULL || nodes == NULL || *nodes == NULL)
		return -1;
	list = active_nodes(&count);
	if(list == NULL)
		return -1;
	for(i = 0; i < count; i++) {
		if(send_to(which, body, &list[i], 0) < 0)
			done = -1;
	}
	pkg_free(list);
	return done;
}

int kr_dmq_send(int which, str *body, str *host, unsigned short port, unsigned int ticket)
{
	dmq_node_t *node;
	struct kr_node to;
	int found = 0;
	if(peer_of(which) == NULL || nodes == NULL || *nodes == NULL)
		return -1;
	lock_get(&(*nodes)->lock);
	for(node = (*nodes)->nodes; node != NULL && !found; node = node->next)
		found = !node->local && node->uri.port_no == port && STR_EQ(node->uri.host, *host) && copy_node(node, &to) == 0;
	lock_release(&(*nodes)->lock);
	return found ? send_to(which, body, &to, ticket) : -1;
}

void kr_dmq_each_node(kr_dmq_node_f take, void *context)
{
	dmq_node_t *node;
	if(nodes == NULL || *nodes == NULL)
		return;
	lock_get(&(*nodes)->lock);
	for(node = (*nodes)->nodes; node != NULL; node = node->next)
		take(context, &node->uri.host, node->uri.port_no, node->status == (DMQ_NODE_ACTIVE), node->local);
	lock_release(&(*nodes)->lock);
}

int kr_dmq_uri(str *host, unsigned short port, char *uri, int size)
{
	dmq_node_t *node;
	int len = -1;
	if(nodes == NULL || *nodes == NULL)
		return -1;
	lock_get(&(*nodes)->lock);
	for(node = (*nodes)->nodes; node != NULL && len < 0; node = node->next) {
		if(node->uri.port_no == port && STR_EQ(node->uri.host, *host) && node->orig_uri.len < size) {
			len = node->orig_uri.len;
			memcpy(uri, node->orig_uri.s, len);
		}
	}
	lock_release(&(*nodes)->lock);
	return len;
}

void kr_dmq_node_address(dmq_node_t *node, str *host, unsigned short *port)
{
	*host = node->uri.host;
	*port = node->uri.port_no;
}
