/* The cluster: our peers, its nodes, and the messages between them. */
#include <dlfcn.h>
#include "kr_shim.h"
#include "modules/dmq/dmqnode.h"

static dmq_api_t dmq;
static dmq_peer_t *peers[KR_DMQ_PEERS];
static dmq_node_list_t **nodes;
static kr_dmq_answered_f told;
static str content_type = str_init("application/json");

static int answered(struct sip_msg *msg, int code, dmq_node_t *node, void *param)
{
	if(told != NULL && node != NULL)
		told(&node->uri.host, node->uri.port_no, code);
	return 0;
}

static dmq_resp_cback_t on_answer = {answered, 0};

int kr_dmq_load(kr_dmq_answered_f on_answered)
{
	struct sr_module *module = find_module_by_name("dmq");
	if(module == NULL || dmq_load_api(&dmq) != 0)
		return -1;
	nodes = (dmq_node_list_t **)dlsym(module->handle, "dmq_node_list");
	told = on_answered;
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

int kr_dmq_broadcast(int which, str *body)
{
	if(peers[which] == NULL)
		return -1;
	return dmq.bcast_message(peers[which], body, NULL, &on_answer, 1, &content_type);
}

int kr_dmq_send(int which, str *body, str *host, unsigned short port)
{
	dmq_node_t *node;
	int done = -1;
	if(peers[which] == NULL || *nodes == NULL)
		return -1;
	lock_get(&(*nodes)->lock);
	for(node = (*nodes)->nodes; node != NULL; node = node->next) {
		if(!node->local && node->uri.port_no == port && STR_EQ(node->uri.host, *host)) {
			done = dmq.send_message(peers[which], body, node, &on_answer, 1, &content_type);
			break;
		}
	}
	lock_release(&(*nodes)->lock);
	return done;
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

void kr_dmq_node_address(dmq_node_t *node, str *host, unsigned short *port)
{
	*host = node->uri.host;
	*port = node->uri.port_no;
}
