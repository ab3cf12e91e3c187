"""SUBSCRIBE and NOTIFY (RFC 6665): the life of a subscription and what is refused; on stock and on ours."""
import re
import time

import pytest

from conftest import MODES
from kit.sip import pidf


@pytest.mark.parametrize("mode", ["memory", "write-through", "database-only"])
def test_life_of_a_subscription(both, mode):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        alice.publish(body=pidf(alice.user))
        watch = bob.subscribe(alice.uri, extra=["User-Agent: phone 1"])
        trace.message("subscribe", watch.reply)
        watch.wait(1)
        watch.refresh(extra=["User-Agent: phone 1"])
        trace.message("refresh", watch.reply)
        watch.wait(2)
        if mode != "memory":
            trace.rows("watchers", server, "watchers")
            trace.rows("active", server, "active_watchers")
        watch.unsubscribe()
        trace.message("unsubscribe", watch.reply)
        watch.wait(3)
        if mode != "memory":
            trace.rows("active at the end", server, "active_watchers")
        watch.refresh()
        trace.message("after the end", watch.reply)
        trace.messages("NOTIFY", watch.notifies)

    both(scenario, workers=1, **MODES[mode])


def test_rows_that_the_timer_writes(both):
    """Write-back: new subscriptions with and without a route set, then a refresh, then after a restart."""
    def scenario(server, phone, trace):
        def note(label):
            for row in server.rows("active_watchers", "event"):
                del row["id"]   # They are written in the order of hash tables.
                trace.note("%s: %s" % (label, row["event"]), row)

        alice, bob = phone("alice"), phone("bob")
        routed = bob.subscribe(alice.uri, event="dialog", extra=["Record-Route: <sip:127.0.0.1:%d;lr>" % bob.port])
        watch = bob.subscribe(alice.uri)
        watch.wait(1)
        routed.wait(1)
        server.rpc("presence.cleanup")
        note("new")
        watch.refresh()
        watch.wait(2)
        server.rpc("presence.cleanup")
        note("refreshed")
        watch.refresh(contact="<sip:new@127.0.0.1:%d>" % bob.port)
        watch.wait(3)
        server.restart()
        note("after a restart")

    # Rows do not tell an orderly stop from a crash: what was sent since the last writing must not be sent again.
    raised = "CSeq and version never go back (RFC 3261 12.2.1.1, RFC 4235 4.3)"
    both(scenario, workers=1, **MODES["defaults"], different={
        "after a restart: dialog": (raised, lambda row: "'local_cseq': 1001," in row and "'version': 1001," in row),
        "after a restart: presence": (raised, lambda row: "'local_cseq': 1003," in row and "'version': 1003," in row)})


def test_fetch(both):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        alice.publish(body=pidf(alice.user))
        watch = bob.subscribe(alice.uri, expires=0)
        trace.message("fetch", watch.reply)
        watch.wait(1)
        trace.messages("NOTIFY", watch.notifies)
        trace.rows("active", server, "active_watchers")

    both(scenario, workers=1, **MODES["write-through"])


def test_refused_requests(both):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        for label, options in [
            ("unknown package", dict(event="foo")),
            ("no event", dict(event=None)),
            ("unknown dialog", dict(to_tag="nobody")),
            ("no contact", dict(contact=None)),
            ("contact is no URI", dict(contact="garbage")),
            ("event with id", dict(event="presence;id=7")),
            ("Expires is no number", dict(expires="soon")),
            ("too long", dict(expires=99999)),
        ]:
            trace.message(label, bob.subscribe(alice.uri, **options).reply)
        watch = bob.subscribe(alice.uri)
        watch.cseq -= 1
        trace.message("same CSeq", watch.refresh())
        watch.cseq = 5
        trace.message("other package in the dialog", watch.refresh(event="message-summary"))

    both(scenario, workers=1, **MODES["memory"], different={
        "no contact": ("RFC 3261 8.1.1.8", lambda t: t.startswith("SIP/2.0 400")),
        "contact is no URI": ("RFC 3261 20.10", lambda t: t.startswith("SIP/2.0 400")),
        "event with id": ("RFC 6665 8.2.1", lambda t: t.startswith("SIP/2.0 200")),
        "Expires is no number": ("RFC 3261 20.19", lambda t: t.startswith("SIP/2.0 400")),
        "other package in the dialog": ("RFC 6665 4.1.2.2", lambda t: t.startswith("SIP/2.0 481")),
    })


def test_event_id_is_echoed(ours, phones):
    server = ours(**MODES["memory"])
    bob = phones(server, "bob")
    watch = bob.subscribe("sip:alice@example.org", event="presence;id=42")
    assert watch.wait(1)[0].get("Event") == "presence;id=42"


@pytest.mark.suite("one-end")
def test_expiry_says_timeout_once(both):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        alice.publish(body=pidf(alice.user))
        watch = bob.subscribe(alice.uri, expires=1)
        watch.wait(1)
        watch.wait(2, timeout=6)
        bob.quiet(2.2)
        trace.messages("NOTIFY", watch.notifies)
        trace.rows("active", server, "active_watchers")

    both(scenario, workers=1, presence=dict(subs_db_mode=1, publ_cache=1, db_update_period=1))


@pytest.mark.suite("one-end")
def test_expiry_in_the_database_only(ours, phones):
    """Stock repeats the last NOTIFY each period with the same CSeq and keeps the row."""
    server = ours(presence=dict(subs_db_mode=3, publ_cache=0, notifier_processes=0, db_update_period=1))
    bob = phones(server, "bob")
    watch = bob.subscribe("sip:alice@example.org", expires=1)
    watch.wait(2, timeout=6)
    bob.quiet(2.5)
    assert [n.get("Subscription-State") for n in watch.notifies][1:] == ["terminated;reason=timeout"]
    assert server.rows("active_watchers") == []


@pytest.mark.suite("notify-answers")
@pytest.mark.parametrize("code,kept", [(200, 1), (404, 0), (481, 0), (500, 1), (603, 1)])
def test_answers_to_notify(both, code, kept):
    def scenario(server, phone, trace):
        bob = phone("bob")
        watch = bob.subscribe("sip:alice@example.org")
        watch.wait(1)
        bob.answer = code
        watch.refresh()
        watch.wait(2)
        bob.quiet(0.3)
        trace.note("rows", len(server.rows("active_watchers")))
        assert len(server.rows("active_watchers")) == kept

    both(scenario, workers=1, **MODES["write-through"])


def test_refresh_changes_the_target(ours, phones):
    server = ours(**MODES["write-through"])
    alice, bob, other = phones(server, "alice"), phones(server, "bob"), phones(server, "bob")
    watch = bob.subscribe(alice.uri)
    watch.wait(1)
    watch.refresh(contact="<sip:bob@127.0.0.1:%d>" % other.port)
    other.wait_notifies(1)
    alice.publish(body=pidf())
    other.wait_notifies(2)
    assert "<basic>open</basic>" in other.notifies[-1].text
    assert str(other.port) in server.rows("active_watchers")[0]["contact"]


def test_record_route_becomes_the_route(both):
    def scenario(server, phone, trace):
        alice, bob, proxy = phone("alice"), phone("bob"), phone("proxy")
        watch = bob.subscribe(alice.uri, extra=["Record-Route: <sip:127.0.0.1:%d;lr>" % proxy.port])
        trace.message("subscribe", watch.reply)
        proxy.wait_notifies(1)
        trace.messages("at the proxy", proxy.notifies)
        trace.rows("active", server, "active_watchers")

    both(scenario, workers=1, presence=dict(subs_db_mode=1, publ_cache=1), different={
        # Stock writes the row before the NOTIFY is counted and uses the number again after a restart.
        "active row 1": ("the CSeq never goes back", lambda t: "'local_cseq': 1" in t),
    })


@pytest.mark.parametrize("mode", ["memory", "write-through", "database-only"])
def test_the_route_set_is_that_of_the_first_request(both, mode):
    """RFC 3261 12.2: a request in the dialog changes the remote target, and no route."""
    def scenario(server, phone, trace):
        alice, bob, proxy = phone("alice"), phone("bob"), phone("proxy")
        route = lambda number: ["Record-Route: <sip:127.0.0.1:%d;lr;n=%d>" % (proxy.port, number)]
        routed, direct = bob.subscribe(alice.uri, extra=route(1)), phone("carol").subscribe(alice.uri)
        proxy.wait_notifies(1)
        direct.wait(1)
        routed.refresh(extra=route(2))
        direct.refresh(extra=route(3))
        proxy.wait_notifies(2)
        direct.wait(2)
        alice.publish(body=pidf(alice.user))
        proxy.wait_notifies(3)
        direct.wait(3)
        trace.note("routes", [message.get("Route") for message in proxy.notifies + direct.notifies])
        assert len(proxy.notifies) == 3 and all(";n=1" in message.get("Route") for message in proxy.notifies)

    both(scenario, workers=1, **MODES[mode])


def test_allowed_answers_of_old(ours, phones):
    server = ours(presence=dict(subs_db_mode=0, publ_cache=2, subs_respond_200=0))
    bob = phones(server, "bob")
    assert bob.subscribe("sip:alice@example.org").reply.code == 202
    assert bob.subscribe("sip:alice@example.org", event="presence.winfo").reply.code == 200


ALICE = "sip:alice@example.org"

# Requests with two flaws: an event package that is not there, and something that is looked at later.
TWO_FLAWS = {
    "no contact": lambda phone: phone.subscribe(ALICE, event="nothing", contact=None).reply,
    "no Event, no contact": lambda phone: phone.subscribe(ALICE, event=None, contact=None).reply,
    "Expires": lambda phone: phone.subscribe(ALICE, event="nothing", expires="soon").reply,
    "a contact that is no URI": lambda phone: phone.subscribe(ALICE, event="nothing", contact=None,
                                                              extra=["Contact: <x>"]).reply,
    "in a dialog": lambda phone: phone.subscribe(ALICE, event="nothing", to_tag="x", contact=None).reply,
    "a body without its type": lambda phone: phone.publish(ALICE, event="nothing", body=pidf(), ctype=None),
    "no body": lambda phone: phone.publish(ALICE, event="nothing", body=None),
}


@pytest.mark.parametrize("flaw", TWO_FLAWS)
def test_an_event_package_that_is_not_there_is_named_first(both, flaw):
    """489 with Allow-Events, whatever else the request lacks: a phone that tries another package has it mended."""

    def scenario(server, phone, trace):
        reply = TWO_FLAWS[flaw](phone("bob"))
        assert reply.code == 489 or "Expires" in flaw, (server.which, reply.code)
        trace.message("reply", reply)

    both(scenario, workers=1, presence=dict(subs_db_mode=0, publ_cache=2))


@pytest.mark.parametrize("lacking", [dict(contact=None), dict(contact=None, extra=["Contact: <x>"])])
def test_an_interval_that_is_too_short_is_named_before_the_contact(both, lacking):
    def scenario(server, phone, trace):
        trace.message("reply", phone("bob").subscribe(ALICE, expires=1, **lacking).reply)

    both(scenario, workers=1, presence=dict(subs_db_mode=0, publ_cache=2, min_expires=60, min_expires_action=1))


@pytest.mark.parametrize("mode", [0, 3])
def test_a_record_route_that_cannot_be_read_refuses_nothing(both, mode):
    """As with stock: NOTIFYs go to the Contact, a refresh and the end find the dialog."""
    def scenario(server, phone, trace):
        for broken in ("", "<", "nonsense", "<sip:10.0.0.1;lr"):
            bob = phone("bob")
            watch = bob.subscribe(ALICE, extra=["Record-Route: " + broken])
            trace.message("answer to %r" % broken, watch.reply)
            assert watch.wait(1), (server.which, broken)
            trace.note("refresh", watch.refresh().code)
            watch.wait(2)
            trace.note("end", watch.unsubscribe().code)
            trace.messages("NOTIFYs of %r" % broken, watch.wait(3))

    both(scenario, workers=1, presence=dict(subs_db_mode=mode, publ_cache=2 if mode == 0 else 0))


@pytest.mark.parametrize("mode", [0, 1, 3])
def test_routes_above_a_broken_record_route_are_kept(both, mode):
    """"a Record-Route that cannot be read below others": a proxy adds its own on top of what the client wrote, and
    NOTIFYs pass it, whatever that was. Stock sends them past the proxy."""
    broken = ["<", "nonsense", "", "<sip:10.0.0.1;lr>;;"]
    seventy = ["Record-Route: <sip:127.0.0.1:%d;lr;n=%d>"] * 70

    def routes_of(notify):
        return re.findall("n=([0-9]+)", " ".join(notify.all("Route")))

    def scenario(server, phone, trace):
        for below in broken + ["many"]:
            bob, proxy = phone("bob"), phone("proxy")
            above = ["Record-Route: <sip:127.0.0.1:%d;lr;n=1>, <sip:127.0.0.1:%d;lr;n=2>" % (proxy.port, proxy.port),
                     "Record-Route: <sip:127.0.0.1:%d;lr;n=3>" % proxy.port]
            rest = [line % (proxy.port, 4 + at) for at, line in enumerate(seventy)] if below == "many" else [
                "Record-Route: " + below, "Record-Route: <sip:127.0.0.1:%d;lr;n=4>" % bob.port]
            watch = bob.subscribe(ALICE, extra=above + rest)
            assert watch.reply.code == 200, (server.which, server.log()[-1500:])
            deadline = time.monotonic() + 5
            while not bob.notifies and not proxy.notifies and time.monotonic() < deadline:
                bob.receive(0.02)
                proxy.receive(0.02)
            assert len(bob.notifies) + len(proxy.notifies) == 1
            passed = "proxy" if proxy.notifies else "nobody"
            trace.note("way below %r" % below, (passed, len(routes_of((proxy.notifies + bob.notifies)[0]))))

    wanted = {"way below %r" % below: ("RFC 3261 12.1.1", lambda way: way == "('proxy', 3)") for below in broken}
    wanted["way below 'many'"] = ("RFC 3261 12.1.1", lambda way: way == "('proxy', 73)")
    both(scenario, workers=1, presence=dict(subs_db_mode=mode, publ_cache=2 if mode == 0 else 0), different=wanted)


def test_a_later_record_route_is_not_looked_at(ours, phones):
    """The route set is that of the first request (RFC 3261 12.2.1.1): a broken one refuses no refresh."""
    server = ours(presence=dict(subs_db_mode=0, publ_cache=2))
    watch = phones(server, "bob").subscribe(ALICE)
    for broken in ("", "<", "nonsense", "<sip:10.0.0.1;lr>, <"):
        watch.send(extra=["Record-Route: " + broken])
        assert watch.reply.code == 200, broken


@pytest.mark.parametrize("mode", ["memory", "write-through"])
def test_the_end_is_said_once(both, mode):
    """Changes in the very second in which the subscription ends."""

    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        watch = bob.subscribe(alice.uri, expires=2)
        etag, deadline = None, time.monotonic() + 5
        while time.monotonic() < deadline:
            etag = alice.publish(body=pidf(alice.user), etag=etag).get("SIP-ETag")
            bob.quiet(0.1)
        states = [notify.get("Subscription-State").split(";expires")[0] for notify in watch.notifies]
        trace.note("begins", states[:2])
        trace.note("ends", states.count("terminated;reason=timeout"))

    options = dict(MODES[mode]["presence"], db_update_period=1, clean_period=1)
    both(scenario, workers=1, presence=options, different={
        "ends": ("after that NOTIFY there is no subscription (RFC 6665 4.4.1)", lambda seen: seen == "1")})


@pytest.mark.parametrize("mode", ["memory", "write-through"])
@pytest.mark.parametrize("second", ["bob", "carol"])
def test_one_call_with_several_subscriptions(both, mode, second):
    """delete_same_subs: a phone that has restarted and uses its Call-ID again, and a B2BUA with one Call-ID for all."""

    def scenario(server, phone, trace):
        alice, users = phone("alice"), {"bob": phone("bob"), "carol": phone("carol")}
        older = users["bob"].subscribe(alice.uri)
        older.wait(1)
        users[second].subscribe(alice.uri, call_id=older.call_id)
        alice.publish(body=pidf(alice.user))
        for user in users.values():
            user.quiet(0.4)
        trace.note("notified", [len(user.notifies) for user in users.values()])

    both(scenario, workers=1, presence=dict(MODES[mode]["presence"], delete_same_subs=1),
         different={"notified": ("that of another watcher is no older one", lambda seen: seen == str([2, 2]))}
         if second == "carol" else None)
