"""Intervals belong to the steady clock: a wall clock that is set ends nothing and prolongs nothing."""
import signal
import time

import pytest

from kit.kamailio import Kamailio
from kit.responder import Responder
from kit.sip import Client, dialog_info, pidf
from kit.wall_clock import WallClock
from test_cluster import DIALOG, Cluster, at, wait_for

MODES = {
    "memory": dict(subs_db_mode=0, publ_cache=2), "write-through": dict(subs_db_mode=1, publ_cache=1),
    "defaults": dict(),
    "written-later": dict(publ_update_period=1),
}
LONG, SHORT = 600, 4


def states(watch):
    return [notify.get("Subscription-State").split(";expires")[0] for notify in watch.notifies]


def life(server, clock, step):
    """What a long and a short subscription, and a long and a short document, live through while the clock is set."""
    alice, brief, bob, con = (Client(server, user) for user in ("alice", "brief", "bob", "con"))
    etag = alice.publish(body=pidf(note="long"), expires=LONG).get("SIP-ETag")
    assert brief.publish(body=pidf("brief", note="short"), expires=SHORT).code == 200
    watch, of_brief = bob.subscribe(alice.uri, expires=LONG), con.subscribe(brief.uri, expires=LONG)
    short = con.subscribe(alice.uri, expires=SHORT)
    began = time.monotonic()
    for one in (watch, of_brief, short):
        one.wait(1)
    bob.quiet(1.2)
    clock.set_by(step)
    while time.monotonic() - began < SHORT - 1.2:
        bob.quiet(0.1), con.quiet(0.1)
    seen = dict(before=(states(watch), states(short), len(of_brief.notifies)))
    while time.monotonic() - began < SHORT + 4.5:
        bob.quiet(0.1), con.quiet(0.1)
    seen["after"] = (states(watch), states(short), len(of_brief.notifies))
    reply = alice.publish(etag=etag, expires=LONG)
    bob.quiet(0.3)
    renewed = watch.refresh(expires=LONG)
    seen["refreshed"] = (reply.code, renewed.code, 590 <= int(renewed.get("Expires") or 0) <= LONG)
    watch.wait(len(watch.notifies) + 1, 0.5)
    seen["shown"] = b"<note>long</note>" in watch.notifies[-1].body
    if server.rows("active_watchers"):
        bob.quiet(1.5)
        rows = server.rows("active_watchers") + server.rows("presentity")
        ends = [row["expires"] for row in rows if row["expires"] > 0]
        now = time.time() + clock.ahead
        seen["rows"] = all(now + LONG - 60 < end < now + LONG + 10 for end in ends), ends, now
        server.restart()
        published = alice.publish(etag=reply.get("SIP-ETag"), expires=LONG)
        seen["restarted"] = (watch.refresh(expires=LONG).code, published.code)
    for client in (alice, brief, bob, con):
        client.close()
    return seen


@pytest.mark.parametrize("step", [7200, -7200])
@pytest.mark.parametrize("mode", sorted(MODES))
def test_a_clock_that_is_set_ends_and_prolongs_nothing(ours, tmp_path, mode, step):
    clock = WallClock(tmp_path)
    settings = dict(MODES[mode], clean_period=1, db_update_period=1, expires_offset=0)
    server = ours(presence=settings, workers=2, environment=clock.environment)
    seen = life(server, clock, step)
    assert seen["before"] == (["active"], ["active"], 1), seen
    assert seen["after"] == (["active"], ["active", "terminated;reason=timeout"], 2), seen
    assert seen["refreshed"] == (200, 200, True) and seen["shown"], seen
    if mode != "memory":
        assert seen["rows"][0] and seen["restarted"] == (200, 200), seen
        assert "the wall clock was set by" in server.log()


def test_stock_ends_what_the_wall_clock_says(tmp_path):
    """The other way: this is what a step of the clock does to stock."""
    clock = WallClock(tmp_path)
    settings = dict(clean_period=1, db_update_period=1, expires_offset=0)
    with Kamailio("stock", presence=settings, workers=2, environment=clock.environment) as server:
        seen = life(server, clock, 7200)
    assert seen["before"][0] == ["active", "terminated;reason=timeout"], seen


@pytest.mark.parametrize("step", [7200, -7200])
@pytest.mark.parametrize("notifiers", [0, 1])
def test_rows_go_by_the_wall_clock_and_nobody_is_left_without_a_word(ours, tmp_path, notifiers, step):
    """In the table alone the time of day is all there is, and other servers read it: what that says has ended ends,
    with a NOTIFY that has phones subscribe anew. What begins afterwards has its whole time."""
    settings = dict(subs_db_mode=3, publ_cache=0, notifier_processes=notifiers, clean_period=1, db_update_period=1,
                    expires_offset=0)
    if notifiers:
        settings.update(waitn_time=1)
    for which in ("stock", "ours"):
        clock = WallClock(tmp_path)
        with Kamailio(which, presence=settings, workers=2, environment=clock.environment) as server:
            alice, bob, con = (Client(server, user) for user in ("alice", "bob", "con"))
            alice.publish(body=pidf(note="before"), expires=LONG)
            watch, short = bob.subscribe(alice.uri, expires=LONG), con.subscribe(alice.uri, expires=SHORT)
            bob.quiet(2.5)
            clock.set_by(step)
            for _ in range(70):
                bob.quiet(0.1), con.quiet(0.1)
            ends = [[state for state in states(one) if state != "active"] for one in (watch, short)]
            over = "terminated;reason=timeout"
            if step > 0:
                assert all(end[:1] == [over] for end in ends), (which, ends)
            else:
                assert ends == [[], []], (which, ends)
            if which == "ours":
                assert all(len(end) <= 1 for end in ends), ends
                assert "removed without a NOTIFY" not in server.log()
            again = bob.subscribe("sip:later@example.org", expires=LONG)
            reply = alice.publish("sip:later@example.org", body=pidf(note="after"), expires=LONG)
            assert (again.reply.code, reply.code) == (200, 200)
            for _ in range(30):
                bob.quiet(0.1)
            assert "<note>after</note>" in again.notifies[-1].text and states(again)[-1] == "active", which
            for client in (alice, bob, con):
                client.close()


@pytest.mark.parametrize("step", [7200, -7200])
def test_the_user_agent_refreshes_by_the_steady_clock(ours, tmp_path, step):
    clock, presence_server = WallClock(tmp_path), Responder(expires=600)
    try:
        extra = ('modparam("pua", "db_url", "@DB@")\nmodparam("pua", "update_period", 6)\n'
                 'modparam("pua", "outbound_proxy", "%s")\n' % presence_server.uri)
        modules = ("presence_xml", "pua", "pua_rpc")
        server = ours(modules=modules, http=True, extra_params=extra, environment=clock.environment)
        answer = server.json_rpc("pua.publish", "sip:a@example.org", "600", "presence", "application/pidf+xml", "id",
                               ".", ".", ".", pidf("a"))
        assert "result" in answer
        clock.set_by(step)
        time.sleep(8)
        # The row is written when the timer runs, late on a busy machine.
        deadline = time.monotonic() + 20
        while not (ends := [row["expires"] for row in server.rows("pua")]) and time.monotonic() < deadline:
            time.sleep(0.5)
        assert len(presence_server.requests) == 1, "no refresh before its time, and none too many"
        assert len(ends) == 1 and abs(ends[0] - (time.time() + step + 600)) < 30, (ends, time.time())
        server.restart(signal.SIGTERM)
        time.sleep(1.5)
        assert server.rpc("pua.list").count("sip:a@example.org") == 1
    finally:
        presence_server.close()


def of_one_call(state, dialog_id="call"):
    return dialog_info(state, "p", dialog_id=dialog_id)


def received(node):
    """When the documents of a node were received, by their rows."""
    return [row["received_time"] for row in node.rows("presentity")]


def held(node):
    return node.rpc("presence.publications").count("etag:")


@pytest.mark.suite("cluster")
@pytest.mark.parametrize("step", [7200, -7200])
def test_a_document_that_follows_a_step_of_the_clock_and_a_restart_stays(tmp_path, step):
    """The clock of one node is set, its rows bear that time once, and after a restart a newer document of the same
    dialog, published at the one node and at the other, is taken by both."""
    clock = WallClock(tmp_path)
    with Cluster(2, publ_cache=1, publ_update_period=1, clean_period=1) as (a, b):
        b.stop()
        b.environment = clock.environment
        b.start()
        time.sleep(2)
        phone = Client(b, "p")
        clock.set_by(step)
        assert phone.publish(body=of_one_call("early"), **DIALOG).code == 200
        wait_for(lambda: len(received(b)) == 1, 10)
        latest = max(time.time(), time.time() + step)
        assert abs(received(b)[0] - latest) < 60 or step < 0, (received(b), time.time())
        assert received(b)[0] < latest + 60
        wait_for(lambda: held(a) == 1, 10)
        b.restart()
        time.sleep(3)
        for node, state in ((b, "confirmed"), (a, "early"), (b, "confirmed")):
            assert at(phone, node).publish(body=of_one_call(state), **DIALOG).code == 200
            wait_for(lambda: [held(n) for n in (a, b)] == [1, 1], 10)
            phone.quiet(6)
            shown = [n.rpc("presence.publications") for n in (a, b)]
            assert [held(n) for n in (a, b)] == [1, 1], shown
            lamp = phone.subscribe(phone.uri, event="dialog", expires=0)
            assert state in lamp.wait(1)[-1].text, (state, lamp.notifies[-1].text)
        phone.close()


@pytest.mark.suite("cluster")
@pytest.mark.parametrize("is_removed", [False, True])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_node_whose_clock_is_ten_minutes_ahead_keeps_nothing_from_being_published(tmp_path, is_removed, restarted):
    clock = WallClock(tmp_path)
    with Cluster(3, publ_cache=1) as (a, b, c):
        c.stop()
        clock.set_by(600)
        c.environment = clock.environment
        c.start()
        time.sleep(6)
        phone = Client(c, "p")
        tag = phone.publish(body=of_one_call("early"), **DIALOG).get("SIP-ETag")
        wait_for(lambda: [held(n) for n in (a, b, c)] == [1] * 3, 10)
        if is_removed:
            assert phone.publish(etag=tag, expires=0, event="dialog").code == 200
            wait_for(lambda: [held(n) for n in (a, b, c)] == [0] * 3, 10)
        if restarted:
            a.restart()
            time.sleep(7)
        assert at(phone, a).publish(body=of_one_call("confirmed"), **DIALOG).code == 200
        phone.quiet(8)
        assert [held(n) for n in (a, b, c)] == [1] * 3, [n.rpc("presence.publications") for n in (a, b, c)]
        for node in (a, b, c):
            lamp = at(phone, node).subscribe(phone.uri, event="dialog", expires=0)
            assert "confirmed" in lamp.wait(1)[-1].text, lamp.notifies[-1].text
        phone.close()
