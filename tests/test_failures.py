"""Watchers that are dead, move, or refuse; subscriptions that run out."""
import collections
import socket
import threading
import time

import pytest

from conftest import MODES, SOAK
from kit.kamailio import Kamailio
from kit.sip import Client, pidf

DATABASE_ONLY = dict(subs_db_mode=3, publ_cache=0, notifier_processes=0, db_update_period=1, clean_period=1)


@pytest.mark.suite("notify-answers")
@pytest.mark.parametrize("mode", ["memory", "write-through", "database-only"])
def test_answers_that_end_a_subscription(ours, phones, mode, figure):
    """RFC 6665 4.2.2, where the switch asks for it; 404 and 481 always."""
    ending = {0: [404, 481], 1: [404, 405, 410, 416, 480, 481, 482, 483, 484, 485, 489, 501, 604]}
    others = [302, 401, 403, 405, 410, 480, 486, 500, 503, 600, 603]
    for switch in (0, 1):
        presence = dict(MODES[mode]["presence"], notify_failures=switch)
        server = ours(presence=presence, workers=2)
        gone = []
        for code in sorted(set(ending[1] + others)):
            bob = phones(server, "bob")
            watch = bob.subscribe("sip:alice@example.org")
            watch.wait(1)
            bob.answer, bob.answer_headers = code, "Retry-After: 5" if code == 503 else ""
            watch.refresh()
            watch.wait(2)
            bob.quiet(0.1)
            bob.answer = 200
            if watch.refresh().code == 481:
                gone.append(code)
        assert gone == ending[switch]
        figure("notify_failures %d: %d of %d answers end a subscription"
               % (switch, len(gone), len(set(ending[1] + others))))


@pytest.mark.suite("dead-watchers")
@pytest.mark.parametrize("mode", ["memory", "write-through"])
def test_dead_watchers_do_not_stop_the_others(mode, figure):
    """60 live watchers among 30 whose TCP connections are gone and 10 whose contacts lead nowhere."""
    server = Kamailio("ours", workers=2, tcp=True, **MODES[mode])
    server.extra_params = 'modparam("tm", "fr_timer", 2000)\n'
    with server:
        alice = Client(server, "alice")
        live, dead = [Client(server, "live%d" % n) for n in range(60)], Client(server, "dead")
        watches = []
        for n, phone in enumerate(live):
            watches.append(phone.subscribe(alice.uri))
            if n % 2 == 0:
                # A listener that is closed again: connections to it are refused.
                with socket.socket() as gone:
                    gone.bind(("127.0.0.1", 0))
                    port = gone.getsockname()[1]
                dead.subscribe(alice.uri, contact="<sip:dead%d@127.0.0.1:%d;transport=tcp>" % (n, port))
            if n % 6 == 0:
                dead.subscribe(alice.uri, contact="<sip:nobody%d@no-such-host.invalid>" % n)
        for watch in watches:
            watch.wait(1)
        assert server.rpc("presence.subscriptions", "limit=500").count("callid:") == 100
        began = time.monotonic()
        assert alice.publish(body=pidf()).code == 200
        answered = time.monotonic() - began
        for watch in watches:
            assert "open" in watch.wait(2, timeout=10)[-1].text
        figure("60 of 60 live watchers notified %.0f ms after the PUBLISH, which was answered after %.0f ms" %
               ((time.monotonic() - began) * 1000, answered * 1000))
        deadline = time.monotonic() + 15
        while server.rpc("presence.subscriptions", "limit=500").count("callid:") > 70 and time.monotonic() < deadline:
            time.sleep(0.5)
        left = server.rpc("presence.subscriptions", "limit=500")
        assert left.count("callid:") == 60 + left.count("no-such-host"), "connections that fail are failures"
        assert all(watch.refresh().code == 200 for watch in watches)
        for client in live + [alice, dead]:
            client.close()


@pytest.mark.suite("refresh")
@pytest.mark.parametrize("mode", ["memory", "write-through", "defaults", "database-only"])
def test_a_refresh_during_a_fanout(ours, phones, mode, figure):
    """A new Contact and route count from the answer to the SUBSCRIBE on, whatever is being sent."""
    # Without memory there is nothing to collapse changes in: all of them are sent, and tm keeps them for seconds.
    server = ours(workers=4, shm=64 if mode != "database-only" else 512,
                  presence=dict(MODES[mode]["presence"], db_update_period=1))
    alice = phones(server, "alice")
    crowd = phones(server, "crowd")
    for _ in range(80):
        crowd.subscribe(alice.uri)
    bob, moved = phones(server, "bob"), phones(server, "bob")
    watch = bob.subscribe(alice.uri)
    watch.wait(1)
    tag, stop = alice.publish(body=pidf()).get("SIP-ETag"), threading.Event()

    def publish():
        own = tag
        while not stop.is_set():
            own = alice.publish(body=pidf(), etag=own).get("SIP-ETag")
            time.sleep(0.02)

    def listen():
        while not stop.is_set():
            crowd.receive(0.02)

    threads = [threading.Thread(target=publish), threading.Thread(target=listen)]
    [thread.start() for thread in threads]
    time.sleep(0.3)
    rounds = 10
    for turn in range(rounds):
        target = (moved, bob)[turn % 2]
        target.quiet(0.1)
        since = len(target.notifies)
        # The target moves, the route set does not (RFC 3261 12.2.1.1).
        route = "<sip:127.0.0.1:%d;lr;turn=%d>" % (target.port, turn)
        assert watch.refresh(contact="<sip:bob%d@127.0.0.1:%d>" % (turn, target.port),
                             extra=["Record-Route: " + route]).code == 200
        target.wait_notifies(since + 3, timeout=5)
        fresh = target.notifies[since:]
        assert fresh and all("bob%d@" % turn in n.start for n in fresh), [n.start for n in fresh]
        assert not any(n.get("Route") for n in fresh), fresh[-1].headers
    stop.set()
    [thread.join() for thread in threads]
    assert watch.refresh(contact="<sip:last@127.0.0.1:%d>" % bob.port,
                         extra=["Record-Route: <sip:127.0.0.1:%d;lr;turn=last>" % bob.port]).code == 200
    bob.quiet(2.5)
    if mode != "memory":
        row = [row for row in server.rows("active_watchers") if row["callid"] == watch.call_id][0]
        assert "last@" in row["contact"] and not row["record_route"]
    numbers = [n.cseq for n in bob.notifies + moved.notifies]
    assert len(numbers) == len(set(numbers))
    figure("%s: %d moves under fire, none notified at the old place" % (mode, rounds))


@pytest.mark.suite("one-end")
@pytest.mark.parametrize("mode", ["memory", "write-through", "defaults", "database-only"])
@pytest.mark.parametrize("offset", [0, 2])
def test_the_end_is_notified_once(ours, phones, mode, offset, figure):
    """Whatever watchers answer, the timers do, and expires_offset says: one last NOTIFY, not before its time, and no
    row."""
    presence = dict(MODES[mode]["presence"], db_update_period=1, clean_period=2, expires_offset=offset)
    server = ours(workers=2, presence=presence, extra_params='modparam("tm", "fr_timer", 1500)\n')
    ends = {}
    for answer in (200, 481, 500, None):
        bob = phones(server, "bob%s" % answer)
        watch = bob.subscribe("sip:alice@example.org", expires=2)
        watch.wait(1)
        ends[answer] = (bob, watch, time.monotonic())
        bob.answer = answer
    live = phones(server, "live")
    watch = live.subscribe("sip:alice@example.org", expires=60)
    watch.wait(1)
    deadline = time.monotonic() + 9 + offset
    while time.monotonic() < deadline:
        for bob, ending, began in ends.values():
            bob.quiet(0.05)
            if len(ending.notifies) > 1 and not hasattr(ending, "after"):
                ending.after = time.monotonic() - began
    live.quiet(0.1)
    for answer, (bob, ending, _) in ends.items():
        states = [n.get("Subscription-State") for n in ending.notifies[1:]]
        assert states == ["terminated;reason=timeout"], (answer, states)
        assert ending.after >= 2 + offset - 0.05, (answer, ending.after)
    assert len(watch.notifies) == 1
    left = server.rpc("presence.subscriptions").count("callid:")
    assert left == 1
    if mode != "memory":
        assert len(server.rows("active_watchers")) == 1
    figure("%s, expires_offset %d: 4 ends notified once, %.1f to %.1f s after the SUBSCRIBE for 2 s" % (
        (mode, offset) + tuple(f(e.after for _, e, _ in ends.values()) for f in (min, max))))


@pytest.mark.suite("mass-expiry")
def test_thousands_end_in_one_second(figure):
    """Each is notified once, and SUBSCRIBEs are answered meanwhile (soak: 20,000)."""
    total = 20000 if SOAK else 1500
    server = Kamailio("ours", workers=2, shm=1024 if SOAK else 256,
                      presence=dict(subs_db_mode=0, publ_cache=2, db_update_period=1))
    with server:
        crowd, bob = Client(server, "crowd"), Client(server, "bob")
        lifetime = max(4, total // 400)
        began = time.monotonic()
        for n in range(total):
            left = max(1, round(lifetime + began - time.monotonic()))
            assert crowd.subscribe("sip:u%d@example.org" % (n % 500), expires=left).reply.code == 200
        crowd.quiet(0.2)
        assert time.monotonic() - began < lifetime, "this machine is too slow for the lifetime chosen"
        stop, waits = threading.Event(), []

        def listen():
            while not stop.is_set():
                crowd.receive(0.05)

        listener = threading.Thread(target=listen)
        listener.start()
        # This phone answers a thousand a second, and the server does not run ahead of its answers.
        until = began + lifetime + 6 + total / 500
        while time.monotonic() < until and not (time.monotonic() > began + lifetime + 6
                                                and len(crowd.notifies) >= 2 * total):
            asked = time.monotonic()
            assert bob.subscribe("sip:fresh@example.org").reply.code == 200
            waits.append((time.monotonic() - asked) * 1000)
            bob.quiet(0.01)
        stop.set()
        listener.join()
        ends = collections.Counter(n.get("Call-ID") for n in crowd.notifies
                                   if "terminated" in n.get("Subscription-State"))
        assert len(ends) == total and set(ends.values()) == {1}, (len(ends), collections.Counter(ends.values()))
        waits.sort()
        figure("%d ended once each; SUBSCRIBE meanwhile p50 %.1f ms, p99 %.1f ms, longest %.1f ms" % (
            total, waits[len(waits) // 2], waits[len(waits) * 99 // 100], waits[-1]))
        crowd.close(), bob.close()
