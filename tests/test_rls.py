"""Resource lists (RFC 4662): the stock rls module with both of our modules under it shows what it shows on stock's."""
import re

import pytest

from kit.kamailio import Kamailio
from kit.sip import Client, pidf

PARAMS = """
modparam("pua", "db_url", "@DB@")
modparam("rls", "db_url", "@DB@")
modparam("rls", "xcap_db_url", "@DB@")
modparam("rls", "server_address", "sip:rls@127.0.0.1:@PORT@")
modparam("rls", "outbound_proxy", "sip:127.0.0.1:%d")
modparam("rls", "integrated_xcap_server", 1)
modparam("rls", "to_presence_code", 5)
modparam("presence_xml", "integrated_xcap_server", 1)
modparam("xcap_client", "db_url", "@DB@")
"""
ROUTE = """
request_route {
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    if (is_method("NOTIFY")) { if (rls_handle_notify()) exit; sl_send_reply("200", "OK"); exit; }
    if (!t_newtran()) exit;
    if (is_method("PUBLISH")) { handle_publish(); } else { rls_handle_subscribe(); if ($retcode == 5) handle_subscribe(); }
    t_release();
}
"""
BUDDIES = 20


def services():
    entries = "".join('<rl:entry uri="sip:u%d@example.org"/>' % n for n in range(BUDDIES))
    return ('<?xml version="1.0"?><rls-services xmlns="urn:ietf:params:xml:ns:rls-services" '
            'xmlns:rl="urn:ietf:params:xml:ns:resource-lists"><service uri="sip:list@example.org"><list>%s</list>'
            '<packages><package>presence</package></packages></service></rls-services>' % entries)


def shown(message):
    """The list part and the states of a NOTIFY, in an order that does not depend on timing."""
    listed = re.search(r'<list [^>]*version="(\d+)" fullState="(\w+)"', message.text)
    resources = sorted(re.findall(r'<resource uri="([^"]*)"', message.text))
    states = sorted(re.findall(r'entity="([^"]*)".*?<basic>(\w+)', message.text, re.S))
    return listed and listed.groups(), resources, states, message.get("Require"), message.get("Subscription-State")[:6]


def life_of_a_list(which, presence=None):
    """Both jobs in one server, or the lists in one and the presence server in another."""
    if presence is None:
        server = rls_server(which)
        return life(server, server)
    memory = dict(subs_db_mode=0, publ_cache=2)
    with Kamailio(presence, presence=memory, modules=("presence_xml",)) as other:
        return life(rls_server(which, other), other)


def rls_server(which, presence=None):
    made = Kamailio(which, db="text", modules=("presence_xml", "pua", "xcap_client", "rls"), route=ROUTE, presence=dict(subs_db_mode=1))
    made.extra_params = PARAMS % (presence or made).port
    return made


def life(server, presence):
    server.make_database()
    table = server.folder / "dbtext" / "xcap"
    row = "1:bob:example.org:%s:8:e1:0:/rls:0" % services().replace(":", "\\:")
    table.write_text(table.read_text().split("\n")[0] + "\n" + row + "\n")
    with server:
        buddies = [Client(presence, "u%d" % n) for n in range(BUDDIES)]
        etags = [buddy.publish(body=pidf(buddy.user)).get("SIP-ETag") for buddy in buddies[:3]]
        bob = Client(server, "bob")
        watch = bob.subscribe("sip:list@example.org", extra=["Supported: eventlist"],
                              accept="application/pidf+xml, application/rlmi+xml, multipart/related")
        seen = [(watch.reply.code, watch.reply.get("Require"))]
        bob.quiet(4)
        first = len(watch.notifies)
        buddies[0].publish(etag=etags[0], body=pidf("u0", basic="closed"))
        bob.quiet(6)
        seen.append(shown(watch.notifies[0]))
        told = {}
        for message in watch.notifies:
            told.update(dict(shown(message)[2]))
        seen += [told, len(watch.notifies) > first]
        for client in buddies + [bob]:
            client.close()
        assert server.alive()
    return seen


@pytest.mark.parametrize("presence", [None, "stock", "ours"])
def test_life_of_a_list(presence):
    stock, ours = life_of_a_list("stock", presence and "stock"), life_of_a_list("ours", presence)
    assert ours == stock
    assert ours[0] == (200, "eventlist") and ours[1][1] == sorted("sip:u%d@example.org" % n for n in range(BUDDIES))
    assert ours[2]["sip:u0@example.org"] == "closed" and ours[2]["sip:u1@example.org"] == "open"
