/* Replies through sl, and the headers they carry. */
#include "kr_shim.h"
#include "core/data_lump_rpl.h"

static sl_api_t sl;

int kr_sl_load(void)
{
	return sl_load_api(&sl);
}

int kr_sl_reply(struct sip_msg *msg, int code, str *reason)
{
	return sl.freply(msg, code, reason);
}

int kr_sl_totag(struct sip_msg *msg, str *tag)
{
	return sl.get_reply_totag(msg, tag);
}

int kr_add_reply_header(struct sip_msg *msg, str *header)
{
	return add_lump_rpl(msg, header->s, header->len, LUMP_RPL_HDR) == 0;
}
