"""The stock modules that publish and subscribe through pua: on stock's and on ours, against stock's presence server and
ours."""
import contextlib
import itertools
import re
import time
from xml.etree import ElementTree

import pytest

from kit.kamailio import Kamailio
from kit.responder import Responder
from kit.sip import Client, dialog_info
from test_pua import parameters, responder  # noqa: F401
from test_pua_heals import Phone, REGISTRAR

PROXY = """
request_route {
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    if (is_method("NOTIFY")) { pua_update_contact(); sl_send_reply("200", "OK"); exit; }
    if (has_totag()) {
        if (!loose_route()) {
            if (is_method("ACK")) { t_check_trans(); exit; }
            sl_send_reply("404", "No");
            exit;
        }
        t_relay();
        exit;
    }
    record_route();
    dlg_manage();
    $du = "sip:127.0.0.1:CALLEE";
    t_relay();
}
"""
PAIRS = list(itertools.product(("stock", "ours"), repeat=2))


class Caller(Client):
    """Places one call and ends it."""

    def call(self, to, headers=()):
        self.ids = dict(call_id="call-%s" % self.user, from_tag="caller")
        self.to = to
        reply = self.reply_to(self.request("INVITE", to, list(headers), **self.ids), resend=False)
        assert reply.code == 200
        self.to_tag, self.routes = reply.tag("To"), ["Route: " + r for r in reversed(reply.all("Record-Route"))]
        self.target = reply.get("Contact").strip("<>")
        self.send_raw(self.request("ACK", to, self.routes, ruri=self.target, to_tag=self.to_tag, **self.ids))

    def bye(self):
        reply = self.reply_to(self.request("BYE", self.to, self.routes, ruri=self.target, to_tag=self.to_tag, cseq=2,
                                           **self.ids))
        assert reply.code == 200


def callee():
    made = Responder()

    def script(message):
        if message.method == "INVITE":
            routes = ["Record-Route: " + r for r in message.all("Record-Route")]
            return 200, ["Contact: <sip:callee@127.0.0.1:%d>" % made.port] + routes
        return None if message.method == "ACK" else 200

    made.script, made.provisional = script, 180
    return made


def dialog_server(which, presence_uri, phone, **params):
    more = 'modparam("pua_dialoginfo", "include_callid", 1)\n'
    return Kamailio(which, presence=dict(), modules=("dialog", "pua", "pua_dialoginfo"),
                    route=PROXY.replace("CALLEE", str(phone.port)), before='alias="example.org"\n',
                    extra_params=parameters(outbound_proxy=presence_uri, **params) + more)


def states(messages):
    found = []
    for message in messages:
        entity = re.search(r'entity="([^"]*)"', message.text)
        state = re.search(r"<state>([^<]*)</state>", message.text)
        found.append((entity and entity.group(1), state and state.group(1), bool(message.get("SIP-If-Match"))))
    return found


def published_over_a_call(which, mode):
    watcher, phone = Responder(), callee()
    with dialog_server(which, watcher.uri, phone, db_mode=mode) as kamailio:
        caller = Caller(kamailio, "alice")
        phone.delay = 0.8
        caller.call("sip:bob@example.org")
        time.sleep(0.5)
        caller.bye()
        time.sleep(1.2)
        caller.close()
    watcher.close(), phone.close()
    bodies = [re.sub(r":\d{4,5}|tag=[\w-]+|[0-9a-f]{4,}-\w+|id=\"[^\"]*\"", "X", m.text) for m in watcher.requests]
    return sorted(map(str, states(watcher.requests))), sorted(bodies)


def test_a_call_becomes_dialog_documents():
    """Stock's db_mode 2 loses rows on SQLite: ours is compared with stock's memory."""
    expected = published_over_a_call("stock", 0)
    assert len(expected[0]) == 7
    for mode in (0, 2):
        assert published_over_a_call("ours", mode) == expected, mode


@pytest.mark.parametrize("pua,presence", PAIRS)
def test_lamps_over_a_call(pua, presence):
    phone = callee()
    # Stock loses PUBLISHes that come close together on SQLite ("database is locked"): everything is in memory here.
    memory = dict(subs_db_mode=0, publ_cache=2)
    with Kamailio(presence, presence=memory, modules=("presence_xml", "presence_dialoginfo")) as server:
        with dialog_server(pua, "sip:127.0.0.1:%d" % server.port, phone) as kamailio:
            watcher, caller = Client(server, "watcher"), Caller(kamailio, "alice")
            lamp = watcher.subscribe("sip:bob@example.org", event="dialog")
            lamp.wait(1)
            phone.delay = 0.5
            caller.call("sip:bob@example.org")
            watcher.quiet(0.6)
            caller.bye()
            watcher.quiet(0.8)
            lit = [re.findall(r"<state[^>]*>(\w+)</state>", n.text) for n in lamp.notifies]
            flat = [states_[-1] for states_ in lit if states_]
            assert flat[0] in ("early", "trying") and "confirmed" in flat and flat[-1] == "terminated", lit
            caller.close(), watcher.close()
    phone.close()


def watched_registration(pua, presence):
    """What a buddy's phone shows while a phone registers, refreshes and leaves."""
    with Kamailio(presence, presence=dict(), modules=("presence_xml",)) as server:
        more = 'modparam("pua_usrloc", "default_domain", "example.org")\n'
        params = parameters(outbound_proxy="sip:127.0.0.1:%d" % server.port)
        with Kamailio(pua, presence=dict(), modules=("usrloc", "registrar", "pua", "pua_usrloc"), route=REGISTRAR,
                      extra_params=params + more) as kamailio:
            buddy, phone = Client(server, "buddy"), Phone(kamailio, "alice")
            watch = buddy.subscribe(phone.uri)
            watch.wait(1)
            for expires in (600, 600, 0):
                phone.register(expires)
                buddy.quiet(0.4)
            buddy.close(), phone.close()
            return [re.findall(r"<basic>(\w+)", n.text) for n in watch.notifies], server.rows("presentity")


def test_registration_is_seen_by_a_buddy():
    expected = watched_registration("stock", "stock")
    assert ["open"] in expected[0] and expected[1] == []
    for pua, presence in PAIRS[1:]:
        assert watched_registration(pua, presence) == expected, (pua, presence)


@contextlib.contextmanager
def reg_event(pua, presence, settings, make_phone):
    """A watcher of the reg event at one server, and a phone at the registrar that publishes it there: the phone, the
    watcher, and what that has subscribed to."""
    with Kamailio(presence, presence=settings, modules=("presence_xml", "presence_reginfo")) as server:
        to = "sip:127.0.0.1:%d" % server.port
        more = ('modparam("pua_reginfo", "default_domain", "example.org")\nmodparam("pua_reginfo", "server_address", '
                '"sip:reginfo@127.0.0.1")\nmodparam("pua_reginfo", "outbound_proxy", "%s")\n' % to)
        with Kamailio(pua, presence=dict(), modules=("usrloc", "registrar", "pua", "pua_reginfo"),
                      route=REGISTRAR.replace("pua_set_publish(); ", ""),
                      extra_params=parameters(outbound_proxy=to) + more) as kamailio:
            with contextlib.closing(Client(server, "watcher")) as watcher, \
                    contextlib.closing(make_phone(kamailio, "alice")) as phone:
                watch = watcher.subscribe(phone.uri, event="reg")
                watch.wait(1)
                yield phone, watcher, watch


def watched_reg_event(pua, presence):
    """What a watcher of the reg event sees while a phone registers, refreshes and leaves."""
    with reg_event(pua, presence, dict(subs_db_mode=0, publ_cache=2), Phone) as (phone, watcher, watch):
        for expires in (600, 600, 0):
            phone.register(expires)
            watcher.quiet(0.5)
        return [re.findall(r'(?:state|event)="(\w+)"', n.text) for n in watch.notifies]


def test_the_reg_event_is_seen_by_a_watcher():
    expected = watched_reg_event("stock", "stock")
    assert any("active" in states_ for states_ in expected)
    for pua, presence in PAIRS[1:]:
        assert watched_reg_event(pua, presence)[-1] == expected[-1], (pua, presence)


def registration_with_markup(which, settings, user):
    """What a watcher of the reg event is shown of a phone whose Contact and User-Agent have markup in them."""
    with reg_event(which, which, settings, Client) as (phone, watcher, watch):
        for number, expires in enumerate((600, 0)):
            request = phone.request("REGISTER", phone.uri, ["Expires: %d" % expires, "User-Agent: A & <B>"],
                                    call_id="a<b", ruri="sip:example.org", cseq=number + 1,
                                    contact="<sip:%s@127.0.0.1:%d>" % (user, phone.port))
            assert phone.reply_to(request).code == 200
            watcher.quiet(0.7)
        later = watcher.subscribe(phone.uri, event="reg")
        later.wait(1)
        return [notify.text for notify in watch.notifies + later.notifies]


def test_a_contact_with_an_ampersand_is_seen_by_a_watcher():
    """pua_reginfo writes the URI into its document as it is, where `&b;` is no reference (XML 1.0 4.1)."""
    stock = registration_with_markup("stock", dict(subs_db_mode=0, publ_cache=2), "a&b;c")
    assert any("<uri>sip:a&b;c@" in text for text in stock), stock
    events = lambda texts: [re.findall(r'(?:state|event)="(\w+)"', text) for text in texts]
    for settings in (dict(subs_db_mode=0, publ_cache=2), dict(subs_db_mode=1, publ_cache=1), dict(),
                     dict(subs_db_mode=1, publ_cache=0), dict(subs_db_mode=3, publ_cache=0, notifier_processes=0)):
        ours = registration_with_markup("ours", settings, "a&b;c")
        assert any("<uri>sip:a&amp;b;c@" in text for text in ours), settings
        for text in filter(None, ours):
            ElementTree.fromstring(text)
        assert events(ours)[:len(stock) - 1] == events(stock)[:-1], settings


BLA = """
request_route {
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    if (is_method("REGISTER")) { bla_set_flag(); if (!save("location")) sl_reply_error(); exit; }
    if (is_method("NOTIFY")) { bla_handle_notify(); exit; }
    sl_send_reply("404", "Not here");
}
"""


def bridged_line(pua):
    """A phone with a shared line: it is subscribed to, and what it notifies is published."""
    presence, phone = Responder(), Responder()
    more = 'modparam("pua_bla", "header_name", "Sender")\nmodparam("pua_bla", "outbound_proxy", "%s")\n' % presence.uri
    more += ('modparam("pua_bla", "server_address", "sip:bla@127.0.0.1")\nmodparam("pua_bla", "default_domain", '
             '"example.org")\n')
    with Kamailio(pua, presence=dict(), modules=("usrloc", "registrar", "pua", "pua_bla"), route=BLA,
                  extra_params=parameters(outbound_proxy=presence.uri, check_remote_contact=0) + more) as kamailio:
        client = Phone(kamailio, "alice")
        client.reply_to(client.request("REGISTER", client.uri, ["Expires: 600"], ruri="sip:example.org",
                                       contact="<sip:alice@127.0.0.1:%d>" % phone.port))
        seen = presence.wait(1, timeout=2) + phone.wait(1, timeout=1)
        answers = []
        for count, state in enumerate(("early", "confirmed")):
            subscribe = seen[0]
            body = dialog_info(state)
            teller = phone if phone.requests else presence
            reply = teller.notify(kamailio, subscribe, cseq=count + 1, body=body, ctype="application/dialog-info+xml")
            answers.append(reply and reply.code)
            time.sleep(0.5)
        client.close()
        requests = [(m.method, m.get("Event"), m.get("SIP-If-Match"), m.get("Expires"),
                     re.findall(r"<state>(\w+)", m.text), re.findall(r'version="(\d+)"', m.text))
                    for m in seen[:1] + presence.requests]
    presence.close(), phone.close()
    return requests, answers


def test_a_bridged_line():
    stock, ours = bridged_line("stock"), bridged_line("ours")
    assert ours == stock and ours[0][0][0] == "SUBSCRIBE", (stock, ours)


def test_registration_state():
    """pua_reginfo: a binding's life as reg documents."""
    seen = {}
    for which in ("stock", "ours"):
        made = Responder()
        more = ('modparam("pua_reginfo", "default_domain", "example.org")\nmodparam("pua_reginfo", "server_address", '
                '"sip:reginfo@127.0.0.1")\n')
        more += 'modparam("pua_reginfo", "outbound_proxy", "%s")\n' % made.uri
        with Kamailio(which, presence=dict(), modules=("usrloc", "registrar", "pua", "pua_reginfo"),
                      route=REGISTRAR.replace("pua_set_publish(); ", ""),
                      extra_params=parameters(outbound_proxy=made.uri) + more) as kamailio:
            phone = Phone(kamailio, "alice")
            phone.register(), made.wait(1), time.sleep(0.3)
            phone.register(), made.wait(2), time.sleep(0.3)
            phone.register(0), made.wait(3), time.sleep(0.5)
            phone.close()
            # What is left of an interval may be counted before or after the second turns.
            seen[which] = [(m.method, m.get("Event"), round(int(m.get("Expires")), -1), m.get("SIP-If-Match"),
                            m.get("Content-Type"),
                            re.findall(r'(?:state|event)="(\w+)"', m.text)) for m in made.requests]
        made.close()
    assert seen["ours"] == seen["stock"] and len(seen["ours"]) >= 2, seen


@pytest.mark.parametrize("module,params", [
    ("pua_bla", 'modparam("pua_bla", "header_name", "Sender")\nmodparam("pua_bla", "outbound_proxy", "sip:127.0.0.1")\n'
                'modparam("pua_bla", "server_address", "sip:bla@127.0.0.1")\nmodparam("pua_bla", "default_domain", '
                '"example.org")\n'),
    ("pua_xmpp", 'modparam("pua_xmpp", "server_address", "sip:xmpp@127.0.0.1")\nmodparam("xmpp", "backend", '
                 '"component")\n'),
    ("pua_json", ""),
])
def test_other_users_load_and_bind(module, params):
    before = {"pua_bla": ("usrloc", "registrar"), "pua_xmpp": ("xmpp",), "pua_json": ("json",)}[module]
    for which in ("stock", "ours"):
        modules = before + ("pua",) + (() if module == "pua_json" else ("presence_xml",)) + (module,)
        with Kamailio(which, presence=dict(), modules=modules, extra_params=parameters() + params) as kamailio:
            wrong = [line for line in kamailio.log().split("\n") if module in line
                     and ("ERROR" in line or "CRITICAL" in line)]
            assert kamailio.alive() and not wrong, wrong
