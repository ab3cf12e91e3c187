"""Notifier processes (`subs_db_mode` 3): a change on their own server wakes them, others they find in the table."""
import sqlite3
import time

import pytest

from kit.sip import pidf
from test_authorization import XML, put, rules

TABLE = dict(subs_db_mode=3, publ_cache=0)


@pytest.mark.parametrize("processes", [1, 3])
def test_a_change_on_this_server_is_sent_at_once(ours, phones, processes):
    """COMPAT, "database-only with notifier processes"."""
    server = ours(presence=dict(TABLE, notifier_processes=processes, waitn_time=60))
    watchers, took = [], []
    for index in range(8):
        alice, bob = phones(server, "alice%d" % index), phones(server, "bob%d" % index)
        etag = alice.publish(body=pidf(alice.user)).get("SIP-ETag")
        watch = bob.subscribe(alice.uri)
        watch.wait(1)
        watchers.append((alice, watch, etag))
    for alice, watch, etag in watchers:
        seen, began = len(watch.notifies), time.monotonic()
        assert alice.publish(body=pidf(alice.user, basic="closed"), etag=etag).code == 200
        watch.wait(seen + 1, timeout=30)
        took.append(time.monotonic() - began)
        assert "closed" in watch.notifies[-1].text
    # The turns of a minute would be spread over it.
    assert max(took) < 5, took


def test_a_change_of_another_server_is_found(ours, phones):
    server = ours(presence=dict(TABLE, notifier_processes=1, waitn_time=1))
    bob = phones(server, "bob")
    watch = bob.subscribe("sip:alice@example.org")
    watch.wait(1)
    for turn in (0, 9):
        seen = len(watch.notifies)
        with sqlite3.connect(str(server.db_path), timeout=10) as table:
            table.execute("update active_watchers set updated=%d" % turn)
        assert len(watch.wait(seen + 1, timeout=10)) == seen + 1


# What stock leaves to a notifier when a SUBSCRIBE comes: the status and the time of the row that it marks.
@pytest.mark.parametrize("change, state, body", [
    ("status = 2", "pending", False),
    ("status = 3", "terminated;reason=timeout", False),
    ("status = 1, reason = 'polite-block'", "active", False),
    ("status = 1", "active", True),
], ids=["pending", "ended", "politely-blocked", "active"])
def test_what_a_stock_server_has_marked_gets_its_notify(ours, phones, change, state, body):
    """Each SUBSCRIBE is followed by a NOTIFY (RFC 6665 4.2.1.2), also where another server answered it."""
    server = ours(presence=dict(TABLE, notifier_processes=1, waitn_time=1))
    alice, bob = phones(server, "alice"), phones(server, "bob")
    alice.publish(body=pidf(alice.user))
    watch = bob.subscribe(alice.uri)
    watch.wait(1)
    with sqlite3.connect(str(server.db_path), timeout=10) as table:
        table.execute("update active_watchers set local_cseq = 7, remote_cseq = remote_cseq + 1, updated = 4, "
                      + change)
    last = watch.wait(2, timeout=10)[-1]
    assert last.get("Subscription-State").startswith(state) and bool(last.body) == body
    with sqlite3.connect(str(server.db_path), timeout=10) as table:
        rows = table.execute("select updated from active_watchers").fetchall()
    assert rows == ([] if state.startswith("terminated") else [(-1,)])
    bob.quiet(1.5)
    assert len(watch.notifies) == 2


def test_a_block_stands_for_the_notify_that_was_due(ours, phones):
    """Who is blocked politely must not notice that something has changed (RFC 5025 3.2.1)."""
    server = ours(presence=dict(TABLE, notifier_processes=1, waitn_time=60), **XML)
    alice, bob = phones(server, "alice"), phones(server, "bob")
    put(server, "alice", rules(bob="allow"))
    watch = bob.subscribe(alice.uri)
    watch.wait(1)
    put(server, "alice", rules(bob="polite-block"))
    with sqlite3.connect(str(server.db_path), timeout=10) as table:
        # A turn that comes within the minute.
        table.execute("update active_watchers set updated = 599")
    server.rpc("presence.updateWatchers", alice.uri, "presence")
    assert not watch.wait(2)[-1].body
    with sqlite3.connect(str(server.db_path), timeout=10) as table:
        assert table.execute("select updated, reason from active_watchers").fetchall() == [(-1, "polite-block")]


@pytest.mark.parametrize("rule", ["confirm", "polite-block", "block"])
def test_who_may_not_see_the_state_learns_of_no_change(both, rule):
    """"database-only with notifier processes, a watcher who may not see the state": stock's notifiers send all rows."""

    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        put(server, alice.user, rules(**{bob.user: rule}))
        watch = bob.subscribe(alice.uri)
        bob.quiet(1.5)
        trace.note("at first", len(watch.notifies))
        alice.publish(body=pidf(alice.user))
        bob.quiet(1.5)
        trace.note("of a change", len(watch.notifies) - 1)

    both(scenario, {"of a change": ("RFC 5025 3.2.1", lambda count: count == "0")}, workers=1,
         presence=dict(TABLE, notifier_processes=1, waitn_time=1), **XML)


@pytest.mark.parametrize("reason, notifies", [("polite-block", 1), ("", 2)], ids=["blocked", "only-counted"])
def test_what_another_server_has_made_of_a_marked_row_meanwhile(ours, phones, reason, notifies):
    """The other server notifies the watcher of its authorization, and has taken the mark off with it."""
    server = ours(presence=dict(TABLE, notifier_processes=1, waitn_time=1))
    alice, bob = phones(server, "alice"), phones(server, "bob")
    alice.publish(body=pidf(alice.user))
    watch = bob.subscribe(alice.uri)
    watch.wait(1)
    with sqlite3.connect(str(server.db_path), timeout=10) as table:
        table.execute("create trigger faster before update of updated on active_watchers when old.updated <> -1 "
                      "and new.updated = -1 begin update active_watchers set updated = -1, reason = '%s', "
                      "local_cseq = new.local_cseq, version = new.version where id = old.id; "
                      "select raise(ignore); end" % reason)
        table.execute("update active_watchers set updated = 4")
    bob.quiet(2.5)
    assert len(watch.notifies) == notifies


# A driver that lost its connection and tried again: the first time was carried out.
CARRIED_OUT_TWICE = {
    "taken": "create trigger twice before update of updated on active_watchers when old.updated <> -1 "
             "and new.updated = -1 begin update active_watchers set updated = -1, local_cseq = new.local_cseq, "
             "version = new.version where id = old.id; select raise(ignore); end",
    "made": "create trigger twice after insert on active_watchers begin select raise(fail, 'no'); end",
    "ended": "create trigger twice before delete on active_watchers begin delete from active_watchers "
             "where id = old.id; select raise(ignore); end",
}


@pytest.mark.parametrize("processes", [0, 1])
@pytest.mark.parametrize("what", sorted(CARRIED_OUT_TWICE))
def test_a_statement_that_was_carried_out_and_seems_to_have_failed(ours, phones, what, processes):
    server = ours(presence=dict(TABLE, notifier_processes=processes, waitn_time=1))
    alice, bob = phones(server, "alice"), phones(server, "bob")
    etag = alice.publish(body=pidf(alice.user)).get("SIP-ETag")
    if what != "made":
        watch = bob.subscribe(alice.uri)
        watch.wait(1)
    with sqlite3.connect(str(server.db_path), timeout=10) as table:
        table.execute(CARRIED_OUT_TWICE[what])
    if what == "made":
        watch = bob.subscribe(alice.uri)
        assert watch.reply.code == 200
        assert watch.wait(1)[0].body
    elif what == "ended":
        assert watch.unsubscribe().code == 200
        assert watch.wait(2)[-1].get("Subscription-State").startswith("terminated")
        # The end of what is over is none any more.
        assert watch.unsubscribe().code == 481
        bob.quiet(0.3)
        assert len(watch.notifies) == 2
    else:
        assert alice.publish(body=pidf(alice.user, basic="closed"), etag=etag).code == 200
        assert "closed" in watch.wait(2, timeout=8)[-1].text
    numbers = [notify.cseq for notify in watch.notifies]
    assert numbers == sorted(set(numbers))
