"""The presence user agent against a scripted presence server, on stock and on ours."""
import re
import time

import pytest

from kit.compare import Trace, same
from kit.kamailio import Kamailio
from kit.responder import Responder
from kit.servers import MariaDB, PostgreSQL
from kit.sip import dialog_info, pidf

ALICE = "sip:alice@example.org"
ROUTE = """
request_route {
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    if (is_method("NOTIFY")) {
        if (pua_update_contact()) sl_send_reply("200", "OK"); else sl_send_reply("481", "Gone");
        exit;
    }
    sl_send_reply("404", "Not here");
}
"""


def shown(message, responder):
    """A request of the user agent, without what differs from run to run."""
    hidden = ("via", "call-id", "user-agent")
    lines = [message.start] + ["%s: %s" % pair for pair in message.headers if pair[0].lower() not in hidden]
    text = "\n".join(lines + ["", message.text]).replace(":%d" % responder.port, ":PORT")
    text = re.sub(r"tag=[0-9a-f]{32}-[0-9a-f]{8}", "tag=TAG", text)
    return re.sub(r'id="0x[0-9a-f]+"|id="t[0-9a-f]{13}"', 'id="GENERATED"', text)


def parameters(**more):
    given = dict(db_url="@DB@", update_period=6)
    given.update(more)
    return "".join('modparam("pua", "%s", %s)\n' % (name, '"%s"' % value if isinstance(value, str) else value)
                   for name, value in given.items())


def server(which, params=None, **options):
    options.setdefault("modules", ("pua", "pua_rpc"))
    options.setdefault("route", ROUTE)
    return Kamailio(which, http=True, presence=dict(),
                    extra_params=parameters(**(params or {})) + options.pop("more", ""),
                    **options)


def publish(kamailio, responder, body=None, expires=3600, event="presence", ctype="application/pidf+xml", ident=".",
            etag=".", headers=".", timeout=10.0):
    words = [ALICE, str(expires), event, ctype if body else ".", ident, etag, responder.uri, headers]
    return kamailio.json_rpc("pua.publish", *(words + ([body] if body else [])), timeout=timeout)


@pytest.fixture
def responder():
    made = Responder()
    yield made
    made.close()


def on_both(scenario, different=None, **options):
    traces = []
    for which in ("stock", "ours"):
        made = Responder()
        trace = Trace(which)
        try:
            with server(which, **options) as kamailio:
                scenario(kamailio, made, trace)
                assert kamailio.alive()
        finally:
            made.close()
        traces.append(trace)
    same(traces[0], traces[1], different)


def rows(trace, label, kamailio):
    for row in kamailio.rows("pua"):
        row = dict(row)
        for name in ("call_id", "from_tag", "remote_contact", "pres_uri"):
            row[name] = (re.sub(r":\d+", ":PORT", row[name]) if name in ("remote_contact", "pres_uri")
                         else bool(row[name]))
        for name in ("expires", "desired_expires"):
            row[name] = row[name] - int(time.time()) > 0 if row[name] else 0
        trace.note(label, sorted(row.items()))


def test_life_of_a_publication():
    def scenario(kamailio, responder, trace):
        for label, options in [("first", dict(body=pidf())), ("change", dict(body=pidf(basic="closed"))),
                               ("with headers", dict(body=pidf(), ident="one", headers="X-A: 1\r\n")),
                               ("changed headers", dict(body=pidf(), ident="one", headers="X-A: 2\r\n", expires=600)),
                               ("no body", dict(ident="one", expires=500)), ("end", dict(ident="one", expires=0)),
                               ("ended", dict(ident="one", expires=0, timeout=1)),
                               ("unknown etag", dict(etag="nobody's")),
                               ("no first body", dict(ident="two"))]:
            count = len(responder.requests)
            try:
                trace.note(label + " answer", publish(kamailio, responder, **options))
            except TimeoutError:
                trace.note(label + " answer", "none")
            trace.note(label + " requests", len(responder.requests) - count)
            for message in responder.requests[count:]:
                trace.note(label, shown(message, responder))
        time.sleep(7)
        rows(trace, "row", kamailio)

    on_both(scenario, {"ended answer": ("the caller is answered", lambda answer: "result" in str(answer))})


@pytest.mark.parametrize("event,ctype,body", [
    ("dialog", "application/dialog-info+xml", dialog_info("early")),
    ("dialog;sla", "application/dialog-info+xml", dialog_info("confirmed")),
    ("message-summary", "application/simple-message-summary", "Messages-Waiting: yes\r\n"),
    ("reg", "application/reginfo+xml",
     '<?xml version="1.0"?><reginfo xmlns="urn:ietf:params:xml:ns:reginfo" version="9"/>'),
    ("presence", "application/pidf+xml", pidf().replace(' id="t1"', "")),
    ("presence", "application/pidf+xml", pidf(extra="<person/>")),
    ("presence", "text/plain", pidf()),
    ("nothing", "text/plain", "x"),
])
@pytest.mark.parametrize("count", [0, 1])
def test_bodies(event, ctype, body, count):
    def scenario(kamailio, responder, trace):
        for label in ("first", "second"):
            try:
                trace.note(label + " answer",
                           publish(kamailio, responder, body=body, event=event, ctype=ctype, ident="i", timeout=2))
            except TimeoutError:
                trace.note(label + " answer", "none")
        trace.note("requests", len(responder.requests))
        for message in responder.requests:
            trace.note("request", shown(message, responder))

    # Stock counts versions of reg by the other event's parameter: both are set alike here.
    on_both(scenario, params=dict(dlginfo_increase_version=count, reginfo_increase_version=count))


def test_life_of_a_subscription():
    def scenario(kamailio, responder, trace):
        watched = "sip:bob@127.0.0.1:%d" % responder.port
        for label, expires in [("first", 3600), ("again", 1800), ("end", 0), ("ended", 0)]:
            count = len(responder.requests)
            trace.note(label + " answer", kamailio.rpc("pua.subscribe", watched, ALICE, "presence", str(expires)))
            time.sleep(0.3)
            trace.note(label + " requests", len(responder.requests) - count)
            for message in responder.requests[count:]:
                trace.note(label, shown(message, responder))
            first = responder.requests[0]
            trace.note(label + " same dialog", responder.requests[-1].get("Call-ID") == first.get("Call-ID"))

    on_both(scenario, params=dict(check_remote_contact=0))


def test_start_up():
    for name, value, word in [("update_period", 3, "update_period"), ("update_period", -1, "update_period"),
                              ("check_remote_contact", 2, "check_remote_contact"), ("db_url", "nothing://x", "db_url"),
                              ("db_table", "version", "version")]:
        for which in ("stock", "ours"):
            kamailio = server(which, params={name: value})
            try:
                kamailio.start(expect_failure=True)
                assert not kamailio.alive(), "%s %s=%s started" % (which, name, value)
                if which == "ours":
                    assert word in kamailio.log() and str(value) in kamailio.log()
            finally:
                kamailio.remove()


@pytest.mark.parametrize("engine", [MariaDB, PostgreSQL])
def test_rows_in_the_database_only(engine):
    """db_mode 2: the rows are stock's, column by column."""
    database, seen = engine(), {}
    try:
        for which in ("stock", "ours"):
            database.sql("delete from pua;")
            made = Responder()
            with server(which, params=dict(db_mode=2, check_remote_contact=0), db=database.url) as kamailio:
                for options in (dict(body=pidf(), ident="a"), dict(body=pidf(basic="closed"), ident="a"),
                                dict(body=pidf(), ident="b"), dict(ident="b", expires=0),
                                dict(body=pidf(), ident="c", headers="X-A: 1\r\n")):
                    assert "result" in publish(kamailio, made, **options)
                for expires in (3600, 1800):
                    kamailio.rpc("pua.subscribe", "sip:bob@127.0.0.1:%d" % made.port, ALICE, "presence", expires)
                    time.sleep(0.5)
                text = database.sql("select pres_uri, pres_id, event, expires > 0, desired_expires > 0, expires - "
                                    "desired_expires, flag, "
                                    "etag, tuple_id, watcher_uri, call_id > '', to_tag, from_tag > '', cseq, "
                                    "record_route, contact, "
                                    "remote_contact, version, extra_headers from pua order by pres_uri, pres_id;")
                seen[which] = text.replace(":%d" % made.port, ":PORT")
            made.close()
    finally:
        database.stop()
    assert seen["ours"] == seen["stock"] and seen["ours"].count("sip:") >= 4


LUA = """
function ksr_request_route()
    if KSR.is_method("NOTIFY") then KSR.sl.sl_send_reply(290 + KSR.pua.pua_update_contact(), "x"); return 1; end
    KSR.sl.sl_send_reply(200, "OK");
    return 1;
end
"""


def test_update_contact_from_lua(responder, tmp_path):
    script = tmp_path / "route.lua"
    script.write_text(LUA)
    more = 'modparam("app_lua", "load", "%s")\n' % script
    with server("ours", modules=("pua", "pua_rpc", "app_lua"), route='cfgengine "lua"\n', more=more) as kamailio:
        kamailio.rpc("pua.subscribe", "sip:bob@127.0.0.1:%d" % responder.port, ALICE, "presence", 600)
        first = responder.wait(1)[0]
        time.sleep(0.2)
        assert responder.notify(kamailio, first).code == 291
        assert responder.notify(kamailio, first, tag="other", cseq=2).code == 289


def test_cleanup(responder):
    """`pua.cleanup` looks through everything at once, with the timers off, too."""
    responder.expires = 4
    with server("ours", params=dict(update_period=0)) as kamailio:
        kamailio.rpc("pua.subscribe", "sip:bob@127.0.0.1:%d" % responder.port, ALICE, "presence", 600)
        time.sleep(5)
        assert len(responder.requests) == 1
        assert kamailio.rpc("pua.cleanup").strip() == ""
        assert responder.wait(2)[1].cseq == 11
