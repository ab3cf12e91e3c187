"""Header values that are seldom written so and mean what they mean: routes, Contacts, media types; on stock and on
ours."""
import pytest

from kit.responder import Responder
from kit.sip import dialog_info, pidf
from test_pua import server
from test_pua_heals import subscribe

ALICE = "sip:alice@example.org"

ROUTES = [
    ['<sip:{0};lr;x="y">'],
    ['<sip:{0};lr;x="a;b">'],
    ['<sip:{0};lr;x="a,b">, <sip:10.0.0.1;lr>'],
    ['<sip:{0};lr>,<sip:10.0.0.1;lr;x="y">', '<sip:10.0.0.2;lr>'],
    ['<sip:{0};lr>', '<sip:10.0.0.1;lr;x="y">'],
    ['<sip:{0};lr>', '<tel:+1>'],
    ['<sip:u;x="y"@{0};lr>'],
    ['<sip:a b@{0};lr>'],
    ['<sip:{0};lr;x=a b>'],
    ['<sip:{0};lr;x=<a>'],
    [',<sip:{0};lr>'],
    ['<sip:{0};lr>,,<sip:10.0.0.1;lr>'],
    ['Edge, 1 <sip:{0};lr>'],
    ['"an <edge>" <sip:{0};lr;x="y">;z="1, 2"'],
]


@pytest.mark.parametrize("mode", [0, 1, 3])
def test_notifies_pass_routes_of_any_form(both, mode):
    """RFC 3261 12.1.1: the URIs of the route set are those of Record-Route, with all their parameters."""
    def scenario(server, phone, trace):
        for routes in ROUTES:
            bob, proxy = phone("bob"), phone("proxy")
            extra = ["Record-Route: " + route.format("127.0.0.1:%d" % proxy.port) for route in routes]
            watch = bob.subscribe(ALICE, extra=extra)
            trace.note("answer to %s" % routes, watch.reply.code)
            proxy.wait_notifies(1)
            trace.note("routes at the proxy", [notify.all("Route") for notify in proxy.notifies])
            assert len(proxy.notifies) == 1, (server.which, routes)
            trace.note("end", watch.unsubscribe().code)
            proxy.wait_notifies(2)
            trace.note("at the proxy in all", len(proxy.notifies))

    both(scenario, workers=1, presence=dict(subs_db_mode=mode, publ_cache=2 if mode == 0 else 0))


def test_a_row_has_the_routes_as_they_came(both):
    def scenario(server, phone, trace):
        bob = phone("bob")
        for number, routes in enumerate(ROUTES):
            extra = ["Record-Route: " + route.format("127.0.0.1:%d" % bob.port) for route in routes]
            bob.subscribe("sip:alice%d@example.org" % number, extra=extra)
        rows = sorted(server.rows("active_watchers"), key=lambda row: row["presentity_uri"])
        trace.note("rows", [(row["presentity_uri"], row["record_route"]) for row in rows])
        assert len(rows) == len(ROUTES)

    both(scenario, workers=1, presence=dict(subs_db_mode=1, publ_cache=1))


def test_a_fold_in_a_route_is_a_space(ours, phones):
    """RFC 3261 7.3.1; a row and a NOTIFY are single lines."""
    kamailio = ours(presence=dict(subs_db_mode=1, publ_cache=1))
    bob, proxy = phones(kamailio, "bob"), phones(kamailio, "proxy")
    bob.subscribe(ALICE, extra=['Record-Route: <sip:127.0.0.1:%d;lr;x="a\r\n b">' % proxy.port])
    assert proxy.wait_notifies(1)[0].all("Route") == ['<sip:127.0.0.1:%d;lr;x="a b">' % proxy.port]
    rows = kamailio.rows("active_watchers")
    assert [row["record_route"] for row in rows] == ['<sip:127.0.0.1:%d;lr;x="a b">' % proxy.port]


def test_pua_sends_along_routes_of_any_form():
    """Both modules take from a 2xx what the host's parser takes."""
    seen = {}
    for which in ("stock", "ours"):
        responder = Responder()
        try:
            responder.expires = 8
            address = "127.0.0.1:%d" % responder.port
            routes = ['Record-Route: <sip:%s;lr;n="1">, <sip:%s;lr;n="2, 3">' % (address, address)]
            responder.script = lambda message: (200, routes)
            with server(which) as kamailio:
                subscribe(kamailio, responder)
                refresh = responder.wait(2, timeout=12)[1]
                seen[which] = [line.replace(address, "ADDRESS") for line in refresh.all("Route")]
        finally:
            responder.close()
    assert seen["ours"] == seen["stock"] and '<sip:ADDRESS;lr;n="1">' in seen["ours"][0]


@pytest.mark.parametrize("mode", [0, 1, 3])
def test_contacts_that_a_proxy_knows(both, mode):
    """Hosts with an underscore or a mark at the beginning, leading zeros: behind a proxy nobody here resolves them."""
    def scenario(server, phone, trace):
        for host in ("my_host", "host_name.local:5060", "_x.y", "x_.y", "-x.y", "x.y:00005060", "127.0.0.1:005060"):
            bob, proxy = phone("bob"), phone("proxy")
            watch = bob.subscribe(ALICE, contact="<sip:b@%s;ob>" % host, extra=[
                "Record-Route: <sip:127.0.0.1:%d;lr>" % proxy.port])
            trace.note("answer to %s" % host, watch.reply.code)
            proxy.wait_notifies(1)
            trace.note("NOTIFY", [(notify.start, notify.all("Route")) for notify in proxy.notifies])
            assert len(proxy.notifies) == 1, (server.which, host)
            if mode:
                trace.note("row", sorted(row["contact"] for row in server.rows("active_watchers")))
            trace.note("end", watch.unsubscribe().code)
            proxy.wait_notifies(2)

    both(scenario, workers=1, presence=dict(subs_db_mode=mode, publ_cache=2 if mode == 0 else 0))


@pytest.mark.parametrize("mode", [0, 1, 3])
def test_parameters_of_a_contact_inside_of_its_brackets(both, mode):
    def scenario(server, phone, trace):
        for parameter in ('+sip.instance="<urn:uuid:1>"', 'x="y"', '+sip.instance="<urn:uuid:2>";ob', "x=%3C"):
            bob = phone("bob")
            contact = "<sip:b@127.0.0.1:%d;%s>" % (bob.port, parameter)
            watch = bob.subscribe(ALICE, contact=contact)
            trace.note("answer to %s" % parameter, watch.reply.code)
            trace.note("NOTIFY", [notify.start for notify in watch.wait(1)])
            assert len(watch.notifies) == 1, (server.which, parameter)
            watch.send(contact=contact)
            trace.note("NOTIFY of the refresh", watch.wait(2)[1].start)
            if mode:
                trace.note("row", sorted(row["contact"] for row in server.rows("active_watchers")))
            watch.send(expires=0, contact=contact)
            watch.wait(3)

    both(scenario, workers=1, presence=dict(subs_db_mode=mode, publ_cache=2 if mode == 0 else 0))


@pytest.mark.parametrize("bad", ["sip:b@", "sip:b@[h", "sip:b@h:x", "sip:b@h:65536", "sip:b@h;x=\"a b\"", "b@h",
                                 "mailto:b@h"])
def test_a_contact_that_leads_nowhere_is_refused(ours, phones, bad):
    bob = phones(ours(presence=dict(subs_db_mode=0, publ_cache=2)), "bob")
    assert bob.subscribe(ALICE, contact="<%s>" % bad).reply.code == 400


@pytest.mark.parametrize("mode", [0, 1])
def test_media_types_with_white_space_and_parameters(both, mode):
    """RFC 3261 25.1: white space, and a fold, may stand around a slash."""
    types = ["%s / %s", "%s/ %s", "%s /%s", "%s /\r\n %s", "%s\t/\t%s ; charset=utf-8", "%s/%s;x=\"a;b / c\"",
             "%s / %s;\r\n x=\"a, b\""]
    packages = [("presence", "application", "pidf+xml"), ("presence", "APPLICATION", "PIDF+XML"),
                ("dialog", "application", "dialog-info+xml"),
                ("message-summary", "Application", "simple-message-summary")]

    def scenario(server, phone, trace):
        for event, kind, subtype in packages:
            for form in types:
                alice, bob = phone("alice"), phone("bob")
                bodies = {"presence": pidf(alice.user), "dialog": dialog_info("confirmed", alice.user)}
                body = bodies.get(event, "Messages-Waiting: yes\r\n")
                answer = alice.publish(event=event, body=body, ctype=form % (kind, subtype))
                trace.note("%s as %r" % (event, form), answer.code)
                assert answer.code == 200, (server.which, event, form)
                watch = bob.subscribe(alice.uri, event=event)
                trace.messages("NOTIFYs of %s" % event, watch.wait(1))
                assert len(watch.notifies) == 1 and watch.notifies[0].body, (server.which, event, form)

    both(scenario, workers=1, modules=("presence_xml", "presence_dialoginfo", "presence_mwi"),
         presence=dict(subs_db_mode=mode, publ_cache=2 if mode == 0 else 1))
