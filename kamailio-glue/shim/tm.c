/* Requests of our own, through tm. */
#include "kr_shim.h"
#include "core/data_lump.h"
#include "core/dset.h"

static struct tm_binds tm;

int kr_tm_load(void)
{
	return load_tm_api(&tm);
}

int kr_tm_request_within(uac_req_t *request)
{
	return tm.t_request_within(request);
}

int kr_tm_is_answered(struct sip_msg *msg)
{
	struct cell *cell = tm.t_gett();
	return cell != NULL && cell != T_UNDEFINED && cell->uas.status >= 200;
}

static int add_header(struct sip_msg *msg, str *header)
{
	struct lump *end;
	char *text;
	if(parse_headers(msg, HDR_EOH_F, 0) < 0)
		return -1;
	end = anchor_lump(msg, msg->unparsed - msg->buf, 0, 0);
	text = pkg_malloc(header->len);
	if(end == NULL || text == NULL)
		return -1;
	memcpy(text, header->s, header->len);
	if(insert_new_lump_before(end, text, header->len, 0) != NULL)
		return 0;
	pkg_free(text);
	return -1;
}

int kr_tm_send_on(struct sip_msg *msg, str *to)
{
	if(set_dst_uri(msg, to) < 0)
		return -1;
	ruri_mark_new();
	return tm.t_relay(msg, NULL, NULL);
}

int kr_tm_relay(struct sip_msg *msg, str *to, str *header, unsigned int timeout_millis, transaction_cb *failed,
		unsigned long word)
{
	struct lump *headers = msg->add_rm, *body = msg->body_lumps;
	int sent = -1;
	/* As it was received, and as it would be read here: what the script has changed and not applied stays here. */
	msg->add_rm = msg->body_lumps = NULL;
	if(add_header(msg, header) >= 0 && tm.set_fr(msg, 0, timeout_millis) >= 0
			&& tm.register_tmcb(msg, NULL, TMCB_ON_FAILURE, failed, (void *)word, NULL) > 0)
		sent = kr_tm_send_on(msg, to);
	free_lump_list(msg->add_rm);
	free_lump_list(msg->body_lumps);
	msg->add_rm = headers;
	msg->body_lumps = body;
	return sent;
}

void kr_tm_new_ids(str *call_id, str *tag, str *target)
{
	tm.generate_callid(call_id);
	tm.generate_fromtag(tag, call_id, target);
}

void kr_tm_cell_ids(struct cell *cell, str *from, str *to, str *call_id, str *cseq)
{
#if VERSIONVAL >= 5007000
	*from = cell->from_hdr;
	*to = cell->to_hdr;
	*call_id = cell->callid_hdr;
	*cseq = cell->cseq_hdr_n;
#else
	*from = cell->from;
	*to = cell->to;
	*call_id = cell->callid;
	*cseq = cell->cseq_n;
#endif
}
