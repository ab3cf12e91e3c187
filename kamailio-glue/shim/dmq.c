/* The cluster: one peer of ours, and its messages. */
#include "kr_shim.h"

static dmq_api_t dmq;
static dmq_peer_t *peer;
static str content_type = str_init("application/json");

static int answered(struct sip_msg *msg, int code, dmq_node_t *node, void *param)
{
	return 0;
}

static dmq_resp_cback_t on_answer = {answered, 0};

int kr_dmq_join(str *name, peer_callback_t on_message, kr_dmq_joined_f on_joined)
{
	dmq_peer_t ours = {0};
	if(dmq_load_api(&dmq) != 0)
		return -1;
	ours.peer_id = *name;
	ours.description = *name;
	ours.callback = on_message;
	ours.init_callback = (init_callback_t)on_joined;
	peer = dmq.register_dmq_peer(&ours);
	return peer == NULL ? -1 : 0;
}

int kr_dmq_send(str *body, dmq_node_t *node)
{
	if(peer == NULL)
		return -1;
	if(node != NULL)
		return dmq.send_message(peer, body, node, &on_answer, 1, &content_type);
	return dmq.bcast_message(peer, body, NULL, &on_answer, 1, &content_type);
}
