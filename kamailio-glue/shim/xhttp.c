/* Answers to HTTP requests, through the xhttp module where it is loaded. */
#include "kr_shim.h"
#include "core/parser/parse_fline.h"
#include "core/sr_module.h"
#include "modules/xhttp/api.h"

static xhttp_api_t xhttp;

int kr_xhttp_load(void)
{
	bind_xhttp_f bind = (bind_xhttp_f)find_export("bind_xhttp", 0, 0);
	return bind ? bind(&xhttp) : -1;
}

int kr_is_http(struct sip_msg *msg)
{
	return IS_HTTP(msg) ? 1 : 0;
}

int kr_xhttp_reply(struct sip_msg *msg, int code, str *phrase, str *content_type, str *body)
{
	return xhttp.reply ? xhttp.reply(msg, code, phrase, content_type, body) : -1;
}
