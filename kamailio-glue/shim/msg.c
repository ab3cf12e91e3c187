/* SIP messages: the host's parsers. */
#include "kr_shim.h"
#include "core/dset.h"
#include "core/parser/contact/parse_contact.h"
#include "core/parser/parse_cseq.h"
#include "core/parser/parse_event.h"
#include "core/parser/parse_expires.h"
#include "core/parser/parse_from.h"
#include "core/parser/parse_param.h"
#include "core/parser/parse_rr.h"
#include "core/parser/parse_to.h"
#include "core/parser/parse_uri.h"
#include "core/socket_info.h"
#include "core/strutils.h"
#include "core/resolve.h"
#include "core/hashes.h"

int kr_parse_headers(struct sip_msg *msg)
{
	return parse_headers(msg, HDR_EOH_F, 0);
}

int kr_parse_ruri(struct sip_msg *msg)
{
	return parse_sip_msg_uri(msg);
}

int kr_parse_uri(char *uri, int len, struct sip_uri *out)
{
	return parse_uri(uri, len, out);
}

int kr_event_parser(char *text, int len, event_t *event)
{
	return event_parser(text, len, event);
}

int kr_parse_from(struct sip_msg *msg, struct to_body **from)
{
	if(parse_from_header(msg) < 0)
		return -1;
	*from = get_from(msg);
	return 0;
}

int kr_parse_to(struct sip_msg *msg, struct to_body **to)
{
	if(parse_to_header(msg) < 0)
		return -1;
	*to = get_to(msg);
	return 0;
}

int kr_first_contact(struct sip_msg *msg, str *uri)
{
	contact_t *contact;
	if(msg->contact == NULL || msg->contact->body.len <= 0 || parse_contact(msg->contact) < 0)
		return -1;
	contact = ((contact_body_t *)msg->contact->parsed)->contacts;
	if(contact == NULL)
		return -1;
	*uri = contact->uri;
	return 0;
}

int kr_cseq_number(struct sip_msg *msg, unsigned int *number)
{
	if(msg->cseq == NULL || msg->cseq->body.len <= 0 || get_cseq(msg) == NULL)
		return -1;
	return str2int(&(get_cseq(msg)->number), number);
}

int kr_parse_expires(struct sip_msg *msg)
{
	if(msg->expires == NULL || msg->expires->body.len <= 0)
		return 1;
	return msg->expires->parsed != NULL || parse_expires(msg->expires) >= 0 ? 0 : -1;
}

int kr_get_body(struct sip_msg *msg, str *body)
{
	body->s = get_body(msg);
	if(body->s == NULL)
		return -1;
	body->len = (int)(msg->buf + msg->len - body->s);
	return 0;
}

struct socket_info *kr_find_socket(str *name)
{
	int port = 0, proto = PROTO_NONE;
	str host = {0, 0};
	if(parse_phostport(name->s, &host.s, &host.len, &port, &proto) < 0)
		return NULL;
	return grep_sock_info(&host, (unsigned short)port, (unsigned short)proto);
}

int kr_parse_rr_body(char *text, int len, rr_t **head)
{
	return parse_rr_body(text, len, head);
}

void kr_free_rr(rr_t *head)
{
	free_rr(&head);
}

int kr_proto_name(int proto, str *name)
{
	return get_valid_proto_string(proto, 0, 0, name);
}

void kr_source(struct sip_msg *msg, str *address, unsigned short *port)
{
	address->s = ip_addr2a(&msg->rcv.src_ip);
	address->len = (int)strlen(address->s);
	*port = msg->rcv.src_port;
}

unsigned int kr_case_hash(str *a, str *b)
{
	return core_case_hash(a, b, 0);
}

/* The flags of the first branch of the message that the script has in hand. */
unsigned int kr_branch_flags(void)
{
	flag_t flags = 0;
	return getbflagsval(0, &flags) < 0 ? 0 : flags;
}
