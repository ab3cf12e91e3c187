"""A state that cannot be read is not an empty one: no lamp goes dark because the table was away when its watchers were
to be notified."""
import sqlite3
import time

import pytest

from kit.servers import MariaDB
from kit.sip import pidf
from test_authorization import XML, rules

MODES = {"cached": dict(subs_db_mode=2, publ_cache=1), "write-through": dict(subs_db_mode=1, publ_cache=1),
         "table": dict(subs_db_mode=2, publ_cache=0),
         "rows": dict(subs_db_mode=3, publ_cache=0, notifier_processes=0)}


def rename(server, old, new):
    connection = sqlite3.connect(str(server.db_path), timeout=10)
    connection.execute("alter table %s rename to %s" % (old, new))
    connection.commit()
    connection.close()


def notes(watch):
    return [("one" if b"<note>one</note>" in notify.body else "none" if not notify.body else "?")
            for notify in watch.notifies]


def wait_for(watch, last, seconds=6.0):
    deadline = time.monotonic() + seconds
    while notes(watch)[-1:] != [last] and time.monotonic() < deadline:
        watch.client.quiet(0.1)
    return notes(watch)


@pytest.mark.suite("stuck-lamp")
@pytest.mark.parametrize("mode", sorted(MODES))
def test_a_change_waits_until_the_table_can_be_read(ours, phones, mode):
    server = ours(presence=dict(MODES[mode], db_update_period=1), workers=1)
    alice, lost = phones(server, "alice"), phones(server, "lost")
    assert alice.publish(body=pidf(note="one")).code == 200
    watch, other = phones(server, "bob").subscribe(alice.uri), phones(server, "con").subscribe(lost.uri)
    assert wait_for(watch, "one") == ["one"] and wait_for(other, "none") == ["none"]
    rename(server, "presentity", "away")
    server.rpc("presence.refreshWatchers", alice.uri, "presence", 1)
    server.rpc("presence.refreshWatchers", lost.uri, "presence", 1)
    watch.client.quiet(2.5)
    assert notes(watch) == ["one"], "nobody is notified of a state that is not there"
    # A SUBSCRIBE has its NOTIFY (RFC 6665 4.2.1.2), and the state follows.
    assert watch.refresh().code == 200
    assert wait_for(watch, "none") == ["one", "none"]
    rename(server, "away", "presentity")
    assert wait_for(watch, "one")[:3] == ["one", "none", "one"]
    numbers = [notify.cseq for notify in watch.notifies]
    first = numbers[0]
    assert numbers == list(range(first, first + len(numbers))), "what was not sent has used no number"
    assert server.log().count("cannot be read for its watchers") <= 4


@pytest.mark.suite("stuck-lamp")
def test_after_a_restart_without_the_table(ours, phones):
    server = ours(presence=dict(MODES["cached"], db_update_period=1), workers=1)
    alice, bob = phones(server, "alice"), phones(server, "bob")
    alice.publish(body=pidf(note="one"))
    watch = bob.subscribe(alice.uri)
    assert wait_for(watch, "one") == ["one"]
    server.restart()
    rename(server, "presentity", "away")
    assert watch.refresh().code == 200
    assert wait_for(watch, "none") == ["one", "none"]
    rename(server, "away", "presentity")
    assert wait_for(watch, "one") == ["one", "none", "one"]


@pytest.mark.suite("stuck-lamp")
def test_stock_says_nothing_when_the_table_is_back(both):
    """Both answer the SUBSCRIBE without a state; ours alone brings it when it can."""

    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        alice.publish(body=pidf(alice.user, note="one"))
        watch = bob.subscribe(alice.uri)
        assert wait_for(watch, "one") == ["one"]
        rename(server, "presentity", "away")
        watch.refresh()
        trace.note("away", [watch.reply.code, wait_for(watch, "none")])
        rename(server, "away", "presentity")
        trace.note("back", wait_for(watch, "one", 3.0))

    both(scenario, workers=1, presence=MODES["table"], 
         different={"back": ("the state follows when it can be read",
                             lambda seen: seen == str(["one", "none", "one"]))})


def test_stock_answers_a_fetch_without_the_state(both):
    """No NOTIFY follows the one of a fetch: it would be taken for the state."""

    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        alice.publish(body=pidf(alice.user, note="one"))
        rename(server, "presentity", "away")
        fetch = bob.subscribe(alice.uri, expires=0)
        bob.quiet(0.5)
        trace.note("away", [fetch.reply.code, notes(fetch)])
        rename(server, "away", "presentity")
        fetch = bob.subscribe(alice.uri, expires=0)
        trace.note("back", [fetch.reply.code, wait_for(fetch, "one", 3.0)])

    both(scenario, workers=1, presence=MODES["table"], different={
        "away": ("nothing looks as if there were no state", lambda seen: seen == str([500, []]))})


def test_names_that_a_collation_takes_for_equal(ours, phones):
    """RFC 3261 19.1.4: the user part is compared with its case. MariaDB's usual collation does not: a decision about
    `dora` must not let `DORA` see what the rules keep from her, nor may the decision about her change that of
    `dora`."""
    database = MariaDB()
    try:
        server = ours(presence=dict(subs_db_mode=3, publ_cache=0, notifier_processes=0), workers=2, db=database.url,
                      **XML)
        document = rules(dora="allow", DORA="block", Emil="polite-block", emil="allow")
        database.sql("insert into xcap (username, domain, doc, doc_type, etag, source, doc_uri, port) values "
                     "('alice', 'example.org', '%s', 2, 'e', 0, '/index', 0)" % document)
        alice = phones(server, "alice")
        alice.publish(body=pidf(note="one"))
        for turn in range(2):
            seen = {}
            for user in ("dora", "DORA", "Dora", "emil", "Emil"):
                watch = phones(server, user).subscribe(alice.uri)
                watch.wait(1)
                seen[user] = (watch.notifies[0].get("Subscription-State").split(";expires")[0], notes(watch))
            assert seen == {
                "dora": ("active", ["one"]), "DORA": ("terminated;reason=rejected", ["none"]),
                "Dora": ("pending", ["none"]),
                "emil": ("active", ["one"]), "Emil": ("active", ["none"]),
            }, turn
            server.rpc("presence.updateWatchers", alice.uri, "presence")
        assert "takes the watcher for another one" in server.log()
        statuses = dict(line.split("\t")
                        for line in database.sql("select watcher_username, status from watchers").splitlines())
        assert statuses == {"dora": "1", "emil": "1"}
    finally:
        database.stop()
