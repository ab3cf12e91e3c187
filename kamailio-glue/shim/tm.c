/* Requests of our own, through tm. */
#include "kr_shim.h"

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
