"""Who is notified of a change: only watchers that may see the state, in every storage mode and with notifier
processes."""
import signal
import sqlite3
import time

import pytest

from conftest import MODES
from kit.sip import pidf
from test_authorization import XML, put, rules

NOTIFIERS = dict(subs_db_mode=3, publ_cache=0, notifier_processes=1, notifier_poll_rate=10, waitn_time=1)
PLACES = dict({name: dict(mode["presence"]) for name, mode in MODES.items()}, notifiers=NOTIFIERS)
KINDS = ("allow", "confirm", "polite-block", "block", "none")


def listen(clients, seconds):
    """Reads and answers what comes for each of them."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for client in clients:
            client.quiet(0.02)


def changes(server, alice, clients):
    """Every way a state can change: a new document, another one, a command, a removal, one that runs out."""
    etag = alice.publish(body=pidf(alice.user, note="one")).get("SIP-ETag")
    listen(clients, 0.4)
    etag = alice.publish(body=pidf(alice.user, note="two"), etag=etag).get("SIP-ETag")
    listen(clients, 0.4)
    server.rpc("presence.refreshWatchers", alice.uri, "presence", 1)
    listen(clients, 0.4)
    alice.publish(etag=etag, expires=0)
    listen(clients, 0.4)
    alice.publish(body=pidf(alice.user, note="three"), expires=1)
    listen(clients, 2.6)


@pytest.mark.parametrize("place", sorted(PLACES))
def test_changes_reach_only_those_who_may_see_them(ours, phones, place):
    settings = dict(PLACES[place], clean_period=1, db_update_period=1, expires_offset=0)
    server = ours(presence=settings, workers=2, **XML)
    alice = phones(server, "alice")
    watchers = {kind: phones(server, "w" + kind.replace("-", "")) for kind in KINDS}
    put(server, "alice", rules(**{watchers[kind].user: kind for kind in KINDS if kind != "none"}))
    boss = phones(server, "alice")
    winfo = boss.subscribe(alice.uri, event="presence.winfo")
    winfo.wait(1)
    watches = {kind: watchers[kind].subscribe(alice.uri) for kind in KINDS}
    for watch in watches.values():
        watch.wait(1)
    listen(watchers.values(), 0.3)
    notified = {kind: len(watch.notifies) for kind, watch in watches.items()}
    assert notified == dict.fromkeys(KINDS, 1)
    clients = list(watchers.values()) + [boss]
    changes(server, alice, clients)
    deadline = time.monotonic() + 4
    while len(watches["allow"].notifies) < 5 and time.monotonic() < deadline:
        listen(clients, 0.2)
    assert len(watches["allow"].notifies) >= 5, "the one who may see it is notified of each change"
    for kind in KINDS[1:]:
        assert len(watches[kind].notifies) == 1, "%s: %s" % (kind, watches[kind].notifies[1:])
    # A SUBSCRIBE is answered all the same, and so is a change of the rules.
    for kind in ("confirm", "polite-block", "none"):
        watches[kind].refresh()
        assert len(watches[kind].wait(2)) == 2, kind
    put(server, "alice", rules(**{watchers[kind].user: "allow" for kind in KINDS if kind != "block"}))
    server.rpc("presence.updateWatchers", alice.uri, "presence")
    for kind in ("confirm", "polite-block"):
        last = watches[kind].wait(3)[-1]
        assert last.get("Subscription-State").startswith("active"), kind
    winfo.wait(4)
    assert len(winfo.notifies) >= 4, "who watches the watchers is notified of each of them"


@pytest.mark.parametrize("mode", ["defaults", "database-only"])
def test_stock_announces_changes_to_the_same_watchers(both, mode):
    """With a database and without notifier processes stock is right."""

    def scenario(server, phone, trace):
        alice = phone("alice")
        watchers = {kind: phone("w" + kind.replace("-", "")) for kind in KINDS}
        put(server, alice.user, rules(**{watchers[kind].user: kind for kind in KINDS if kind != "none"}))
        watches = {kind: watchers[kind].subscribe(alice.uri) for kind in KINDS}
        for watch in watches.values():
            watch.wait(1)
        etag = alice.publish(body=pidf(alice.user, note="one")).get("SIP-ETag")
        listen(watchers.values(), 0.4)
        alice.publish(body=pidf(alice.user, note="two"), etag=etag)
        listen(watchers.values(), 0.5)
        for kind, watch in watches.items():
            trace.note(kind, [(n.get("Subscription-State").split(";expires")[0], bool(n.body)) for n in watch.notifies])

    both(scenario, workers=1, presence=MODES[mode]["presence"], **XML)


def last_notifies(server, alice, watchers, watches):
    """For each watcher what the NOTIFYs say that its end, and a fetch, are followed by."""
    seen = {}
    for kind, watch in sorted(watches.items()):
        client, notified = watchers[kind], len(watch.notifies)
        if watch.reply.code == 200 and kind != "block":
            watch.unsubscribe()
            watch.wait(notified + 1)
        seen[kind, "unsubscribe"] = [(n.get("Subscription-State"), bool(n.body)) for n in watch.notifies[notified:]]
        fetch = client.subscribe(alice.uri, expires=0)
        fetch.wait(1)
        seen[kind, "fetch"] = [(n.get("Subscription-State"), bool(n.body)) for n in fetch.notifies]
    return seen


@pytest.mark.parametrize("place", sorted(PLACES))
def test_the_end_of_a_subscription_shows_its_watcher_no_more(ours, phones, place):
    """Who subscribes and unsubscribes all the time must not learn what the rules keep from it."""
    server = ours(presence=dict(PLACES[place]), workers=2, **XML)
    alice = phones(server, "alice")
    watchers = {kind: phones(server, "w" + kind.replace("-", "")) for kind in KINDS}
    put(server, "alice", rules(**{watchers[kind].user: kind for kind in KINDS if kind != "none"}))
    alice.publish(body=pidf(alice.user, note="SECRET"))
    for turn in range(2):
        watches = {kind: watchers[kind].subscribe(alice.uri) for kind in KINDS}
        for watch in watches.values():
            watch.wait(1)
        seen = last_notifies(server, alice, watchers, watches)
        assert all(len(notified) == 1 for (kind, _), notified in seen.items() if kind != "block"), seen
        for (kind, how), notified in seen.items():
            assert all(body == (kind == "allow") for _, body in notified), (kind, how, notified)
            assert all(state == "terminated;reason=timeout" for state, _ in notified), (kind, how, notified)
    for kind, client in watchers.items():
        assert kind == "allow" or not any(b"SECRET" in notify.body for notify in client.notifies), kind


@pytest.mark.parametrize("mode", ["write-through", "defaults", "database-only"])
def test_a_blocked_watcher_that_unsubscribes_or_fetches_has_timed_out(both, mode):
    """RFC 6665 4.4.3: the NOTIFY that a SUBSCRIBE with Expires 0 brings says `timeout`."""
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        put(server, alice.user, rules(**{bob.user: "block"}))
        alice.publish(body=pidf(alice.user, note="SECRET"))
        watch = bob.subscribe(alice.uri)
        watch.wait(1)
        trace.note("unsubscribe", watch.unsubscribe().code)
        watch.wait(2)
        fetch = bob.subscribe(alice.uri, expires=0)
        fetch.wait(1)
        for name, one in (("subscribed", watch), ("fetched", fetch)):
            trace.note(name, [(n.get("Subscription-State"), bool(n.body)) for n in one.notifies])

    both(scenario, workers=1, presence=MODES[mode]["presence"], **XML)


@pytest.mark.parametrize("mode", ["write-through", "database-only"])
def test_stock_ends_the_subscription_of_a_politely_blocked_watcher_without_a_body(both, mode):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        put(server, alice.user, rules(**{bob.user: "polite-block"}))
        alice.publish(body=pidf(alice.user, note="SECRET"))
        watch = bob.subscribe(alice.uri)
        watch.wait(1)
        watch.unsubscribe()
        watch.wait(2)
        trace.note("NOTIFYs", [(n.get("Subscription-State").split(";expires")[0], bool(n.body))
                               for n in watch.notifies])

    both(scenario, workers=1, presence=MODES[mode]["presence"], **XML)


@pytest.mark.parametrize("mode", sorted(MODES))
def test_who_has_run_out_is_notified_of_the_end_once(ours, phones, mode):
    """Between its end and the timer that sees it a subscription is notified of no change."""
    settings = dict(MODES[mode]["presence"], clean_period=100, db_update_period=3, expires_offset=0)
    server = ours(presence=settings, workers=1)
    alice, bob = phones(server, "alice"), phones(server, "bob")
    etag = alice.publish(body=pidf(note="one")).get("SIP-ETag")
    # Not one second: its first NOTIFY would be its last one where a second turns in between.
    watch = bob.subscribe(alice.uri, expires=2)
    watch.wait(1)
    time.sleep(3.1)
    for turn in range(3):
        etag = alice.publish(body=pidf(note="late %d" % turn), etag=etag).get("SIP-ETag")
        bob.quiet(0.1)
    deadline = time.monotonic() + 6
    while len(watch.notifies) < 2 and time.monotonic() < deadline:
        bob.quiet(0.3)
    bob.quiet(1.0)
    states = [n.get("Subscription-State") for n in watch.notifies]
    assert [state.split(";expires")[0] for state in states] == ["active", "terminated;reason=timeout"], states
    assert watch.notifies[1].body == b""


@pytest.mark.parametrize("mode", ["defaults", "write-through", "database-only"])
@pytest.mark.parametrize("decision", ["polite-block", "block", "confirm"])
def test_who_has_lost_the_right_sees_nothing_after_a_crash(ours, phones, mode, decision):
    """The rules change, kill -9 follows before any period is over: the next document is not for that watcher."""
    server = ours(presence=MODES[mode]["presence"], workers=1, **XML)
    alice, bob, friend = phones(server, "alice"), phones(server, "bob"), phones(server, "friend")
    put(server, alice.user, rules(**{bob.user: "allow", friend.user: "allow"}))
    alice.publish(body=pidf(note="one"))
    watch, other = bob.subscribe(alice.uri), friend.subscribe(alice.uri)
    watch.wait(1), other.wait(1)
    server.restart()
    put(server, alice.user, rules(**{bob.user: decision, friend.user: "allow"}))
    server.rpc("presence.updateWatchers", alice.uri, "presence")
    listen([bob, friend], 0.5)
    server.restart(signal.SIGKILL)
    notified = len(watch.notifies)
    assert alice.publish(body=pidf(note="SECRET")).code == 200
    listen([bob, friend], 0.8)
    if decision != "block":
        assert watch.refresh().code == 200
        listen([bob], 0.3)
    assert not any(b"SECRET" in notify.body for notify in watch.notifies[notified:])
    assert any(b"SECRET" in notify.body for notify in other.notifies), "the others go on"


def rename(server, table, other):
    connection = sqlite3.connect(str(server.db_path), timeout=10)
    with connection:
        connection.execute("alter table %s rename to %s" % (table, other))
    connection.close()


@pytest.mark.parametrize("mode", ["defaults", "write-through"])
@pytest.mark.parametrize("how", ["stop", "kill"])
@pytest.mark.parametrize("decision", ["polite-block", "block"])
def test_a_decision_holds_though_the_table_could_not_be_written(ours, phones, mode, how, decision):
    """The table is away while a watcher is blocked. What is made up for at an orderly stop is judged anew after a
    crash."""
    server = ours(presence=MODES[mode]["presence"], workers=1, **XML)
    alice, bob, friend = phones(server, "alice"), phones(server, "bob"), phones(server, "friend")
    put(server, alice.user, rules(**{bob.user: "allow", friend.user: "allow"}))
    watch, other = bob.subscribe(alice.uri), friend.subscribe(alice.uri)
    watch.wait(1), other.wait(1)
    gone = friend.subscribe(alice.uri)
    gone.wait(1)
    server.restart()
    rename(server, "active_watchers", "away")
    put(server, alice.user, rules(**{bob.user: decision, friend.user: "allow"}))
    server.rpc("presence.updateWatchers", alice.uri, "presence")
    assert gone.refresh(expires=0).code == 200
    listen([bob, friend], 0.3)
    rename(server, "away", "active_watchers")
    assert len(server.rows("active_watchers")) == 3
    notified = len(watch.notifies)
    server.restart(signal.SIGTERM if how == "stop" else signal.SIGKILL)
    if how == "stop":
        # The row of whom the rules block, and of whom ended it, are gone.
        left = 2 - (decision == "block")
        assert len(server.rows("active_watchers")) == left
    assert alice.publish(body=pidf(note="SECRET")).code == 200
    listen([bob, friend], 0.8)
    assert watch.refresh().code == (481 if decision == "block" else 200)
    listen([bob, friend], 0.3)
    assert not any(b"SECRET" in notify.body for notify in watch.notifies[notified:])
    assert any(b"SECRET" in notify.body for notify in other.notifies), "the others go on"
