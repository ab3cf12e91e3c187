"""Resource lists (RFC 4662): the stock rls module with both of our modules under it shows what it shows on stock's."""
import re

import pytest

from kit.kamailio import Kamailio
from kit.servers import MariaDB
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
    if (is_method("PUBLISH")) {
        handle_publish();
    } else {
        rls_handle_subscribe();
        if ($retcode == 5) handle_subscribe();
    }
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
    made = Kamailio(which, db="text", modules=("presence_xml", "pua", "xcap_client", "rls"), route=ROUTE,
                    presence=dict(subs_db_mode=1))
    made.extra_params = PARAMS % (presence or made).port
    return made


def store_services(server):
    server.make_database()
    table = server.folder / "dbtext" / "xcap"
    row = "1:bob:example.org:%s:8:e1:0:/rls:0" % services().replace(":", "\\:")
    table.write_text(table.read_text().split("\n")[0] + "\n" + row + "\n")


LIST = dict(extra=["Supported: eventlist"], accept="application/pidf+xml, application/rlmi+xml, multipart/related")


def life(server, presence):
    store_services(server)
    with server:
        buddies = [Client(presence, "u%d" % n) for n in range(BUDDIES)]
        etags = [buddy.publish(body=pidf(buddy.user)).get("SIP-ETag") for buddy in buddies[:3]]
        bob = Client(server, "bob")
        watch = bob.subscribe("sip:list@example.org", **LIST)
        seen = [(watch.reply.code, watch.reply.get("Require"))]
        bob.quiet(4)
        first = len(watch.notifies)
        buddies[0].publish(etag=etags[0], body=pidf("u0", basic="closed"))
        bob.quiet(6)
        seen.append(shown(watch.notifies[0]))
        notified = {}
        for message in watch.notifies:
            notified.update(dict(shown(message)[2]))
        seen += [notified, len(watch.notifies) > first]
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


def later_life(which, database):
    """A list subscription is refreshed, outlives a restart, is ended; another runs out."""
    database.sql("delete from presentity; delete from active_watchers; delete from watchers; delete from pua; delete "
                 "from rls_watchers; "
                 "delete from rls_presentity; delete from xcap;")
    database.sql("insert into xcap (username, domain, doc, doc_type, etag, source, doc_uri, port) values ('bob', "
                 "'example.org', '%s', 8, "
                 "'e1', 0, '/rls', 0)" % services())
    server = rls_server(which)
    server.db = database.url
    server.extra_params += 'modparam("rls", "reload_db_subs", 1)\nmodparam("rls", "db_mode", 2)\n'
    seen = []
    with server:
        bob, carol = Client(server, "bob"), Client(server, "carol")
        buddy = Client(server, "u0")
        etag = buddy.publish(body=pidf("u0")).get("SIP-ETag")
        watch = bob.subscribe("sip:list@example.org", **LIST)
        bob.quiet(3)
        before = len(watch.notifies)
        watch.refresh(extra=LIST["extra"])
        bob.quiet(2.5)
        seen.append(("refreshed", watch.reply.code, before > 0, shown(watch.notifies[0])[0][1]))
        seen.append(("rows",
                     database.sql("select presentity_uri, to_user, event, status from rls_watchers").split("\n")))
        server.restart()
        watch.refresh(extra=LIST["extra"])
        bob.quiet(3)
        numbers = [n.cseq for n in watch.notifies]
        seen.append(("restarted", watch.reply.code, numbers == sorted(numbers)))
        seen.append(("modified", buddy.publish(etag=etag, body=pidf("u0", basic="closed")).code))
        bob.quiet(2)
        seen.append(("ended", watch.unsubscribe(extra=LIST["extra"]).code))
        # Whether the last NOTIFY comes, and the row goes, depends on the turns of rls's own notifiers, on stock as on
        # ours.
        bob.quiet(1)
        short = carol.subscribe("sip:list@example.org", expires=2, **LIST)
        carol.quiet(2)
        seen.append(("short", short.reply.code, short.reply.get("Expires"), len(short.notifies) > 0))
        for client in (bob, carol, buddy):
            client.close()
        assert server.alive()
    return seen


def test_refresh_restart_and_end_of_a_list():
    database = MariaDB()
    try:
        stock, ours = later_life("stock", database), later_life("ours", database)
    finally:
        database.stop()
    assert ours == stock
