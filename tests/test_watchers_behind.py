"""Rows of `watchers` that are written within the second after the answer (`watchers_write_behind`)."""
import re
import sqlite3
import time

import pytest
from test_authorization import XML, put, rules

from kit.database import until_watchers_are_written
from kit.kamailio import Kamailio
from kit.sip import Client

WATCHERS = 20


def rows(server):
    """The watchers in the table now, without waiting for it."""
    with sqlite3.connect(str(server.db_path), timeout=10) as table:
        return table.execute("select watcher_username, status, reason from watchers order by id").fetchall()


def transactions(server):
    return int(re.search(r"db_writes = (\d+)", server.rpc("stats.get_statistics", "presence:"))[1])


@pytest.mark.parametrize("behind", (0, 1))
def test_rows_are_written_together_or_before_the_answer(behind):
    server = Kamailio("ours", workers=1, presence=dict(watchers_write_behind=behind, db_update_period=100), **XML)
    with server:
        alice = Client(server, "alice")
        before, at_once, began = transactions(server), [], time.monotonic()
        for number in range(WATCHERS):
            watcher = Client(server, "w%d" % number)
            assert watcher.subscribe(alice.uri).reply.code == 200
            at_once.append(len(rows(server)))
            watcher.close()
        took = time.monotonic() - began
        until_watchers_are_written(server)
        assert len(rows(server)) == WATCHERS and {row[1] for row in rows(server)} == {2}
        if behind:
            # A pass each second, and one that may have been under way.
            assert transactions(server) - before <= took + 3
        else:
            assert at_once == list(range(1, WATCHERS + 1)) and transactions(server) - before >= WATCHERS
        alice.close()


@pytest.mark.parametrize("mode", (1, 3))
def test_other_modes_write_before_the_answer(mode):
    with Kamailio("ours", workers=1, presence=dict(subs_db_mode=mode, publ_cache=0), **XML) as server:
        alice, bob = Client(server, "alice"), Client(server, "bob")
        assert bob.subscribe(alice.uri).reply.code == 200
        assert len(rows(server)) == 1
        alice.close(), bob.close()


def test_a_stop_writes_what_waits():
    server = Kamailio("ours", workers=1, presence=dict(db_update_period=100), **XML)
    with server:
        alice, bob = Client(server, "alice"), Client(server, "bob")
        assert bob.subscribe(alice.uri).reply.code == 200
        server.stop()
        assert [row[1] for row in rows(server)] == [2]
        alice.close(), bob.close()


def test_a_decision_that_changes_at_once_is_what_the_table_gets(both):
    """Stock writes the first decision and changes the row; ours may still have the first one to write."""
    def scenario(server, phone, trace):
        for turn, (first, second) in enumerate((("confirm", "allow"), ("allow", "polite-block"), ("block", "allow"))):
            alice, bob = phone("alice%d" % turn), phone("bob%d" % turn)
            put(server, alice.user, rules(**{bob.user: first}))
            watch = bob.subscribe(alice.uri)
            watch.wait(1)
            put(server, alice.user, rules(**{bob.user: second}))
            server.rpc("presence.updateWatchers", alice.uri, "presence")
            bob.quiet(0.5)
            states = [notify.get("Subscription-State").split(";")[0] for notify in watch.notifies]
            trace.note("notified %d" % turn, states)
        trace.note("decided", sorted((row["watcher_username"], row["status"], row["reason"] or "")
                                     for row in server.rows("watchers")))

    both(scenario, workers=1, **XML)


def approve(server, presentity, watcher):
    """As an application does, whether the row is there or not."""
    with sqlite3.connect(str(server.db_path), timeout=10) as table:
        table.execute("insert into watchers (presentity_uri, watcher_username, watcher_domain, event, status, reason, "
                      "inserted_time) values (?, ?, 'example.org', 'presence', 1, 'by hand', 1) on conflict "
                      "(presentity_uri, watcher_username, watcher_domain, event) do update set status = 1, "
                      "reason = 'by hand'", (presentity, watcher))


@pytest.mark.parametrize("judged", ("later", "at once"))
def test_a_first_decision_leaves_what_an_application_has_written(both, judged):
    """Stock has written the row before the answer; what comes after it counts, until the rules are asked again."""
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        put(server, alice.user, rules(**{bob.user: "confirm"}))
        first = bob.subscribe(alice.uri)
        approve(server, alice.uri, bob.user)
        if judged == "at once":
            put(server, alice.user, rules(**{bob.user: "block"}))
            server.rpc("presence.updateWatchers", alice.uri, "presence")
        first.wait(1)
        bob.quiet(2.5)
        trace.note("row", [(row["status"], row["reason"]) for row in server.rows("watchers")])
        again = bob.subscribe(alice.uri)
        trace.note("answered", again.reply.code)
        bob.quiet(0.5)
        trace.note("is shown", [notify.get("Subscription-State").split(";")[0] for notify in again.notifies])

    both(scenario, workers=1, **XML)


@pytest.mark.parametrize("reason", ("x y;z", "", "politely"))
def test_a_watcher_that_is_refused_for_an_odd_reason_is_rejected(both, reason):
    """RFC 6665 4.1.3: after "timeout", or no reason that the watcher knows, it would ask again at once."""
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        with sqlite3.connect(str(server.db_path), timeout=10) as table:
            table.execute("insert into watchers (presentity_uri, watcher_username, watcher_domain, event, status, "
                          "reason, inserted_time) values (?, ?, 'example.org', 'presence', 3, ?, 1)",
                          (alice.uri, bob.user, reason))
        watch = bob.subscribe(alice.uri)
        trace.note("answered", watch.reply.code)
        trace.note("state", [notify.get("Subscription-State") for notify in watch.wait(1)])

    both(scenario, {"state": ("RFC 6665 4.1.3", lambda text: "terminated;reason=rejected" in text)}, workers=1, **XML)
