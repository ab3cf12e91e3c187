"""Subscriptions in the database only: what becomes of watchers whose rows cannot be written when they are to be
notified. The database is asked no more often than it helps, and nobody keeps an old state."""
import contextlib
import re
import threading
import time

import pytest

from kit.kamailio import Kamailio
from kit.servers import MariaDB, PostgreSQL
from kit.sip import Client, pidf

WATCHERS = 20
PRESENCE = dict(subs_db_mode=3, publ_cache=0, waitn_time=1, notifier_poll_rate=10)
# What MariaDB answers when it takes no writes at all, and when it refuses one row.
AWAY, REFUSED = 1290, 1644


@pytest.fixture(scope="module")
def database():
    server = MariaDB()
    yield server
    server.stop()


@contextlib.contextmanager
def failing(database, code, when="true"):
    database.sql("delimiter //\ncreate trigger fails before update on active_watchers for each row begin if %s then "
                 "signal sqlstate '45000' set mysql_errno = %d; end if; end//\ndelimiter ;\n" % (when, code))
    try:
        yield
    finally:
        database.sql("drop trigger fails;")


@contextlib.contextmanager
def watched(database, watchers, kamailio=(), **presence):
    """A server, its publisher, the tag of what it has published, and those who watch it."""
    database.sql("delete from active_watchers; delete from presentity; delete from watchers;")
    presence = dict(PRESENCE, **presence)
    with Kamailio("ours", db=database.url, presence=presence, **dict(kamailio)) as server:
        alice, bob = Client(server, "alice"), Client(server, "bob")
        tag = alice.publish(body=pidf(note="old")).get("SIP-ETag")
        watches = [bob.subscribe(alice.uri) for _ in range(watchers)]
        for watch in watches:
            watch.wait(1, timeout=8)
        yield server, alice, tag, watches
        alice.close(), bob.close()


def errors(server):
    return int(re.search(r"presence:db_errors = (\d+)", server.rpc("stats.get_statistics", "presence:")).group(1))


def all_see(watches, note, seconds=6.0):
    deadline = time.monotonic() + seconds
    seen = [False]
    while not all(seen) and time.monotonic() < deadline:
        watches[0].client.quiet(0.1)
        seen = ["<note>%s</note>" % note in watch.notifies[-1].text for watch in watches]
    return all(seen)


# The rows of a change are marked together; then each is taken.
@pytest.mark.suite("databases")
@pytest.mark.parametrize("processes, when", [(0, "true"), (1, "true"), (1, "new.updated = -1")],
                         ids=["counted", "marked", "taken"])
def test_a_database_that_is_away_is_not_asked_for_each_watcher(database, processes, when):
    with watched(database, WATCHERS, notifier_processes=processes) as (server, alice, tag, watches):
        before = errors(server)
        with failing(database, AWAY, when):
            assert alice.publish(body=pidf(note="new"), etag=tag).code == 200
            watches[0].client.quiet(1.5)
            assert 1 <= errors(server) - before < WATCHERS
        assert all_see(watches, "new")


@pytest.mark.suite("databases")
def test_a_row_that_is_refused_again_and_again(database):
    """A notifier process tries more and more seldom, and serves all the other rows."""
    with watched(database, 6, notifier_processes=1) as (server, alice, tag, watches):
        first = "old.callid = '%s' and new.updated = -1" % watches[0].call_id
        before = errors(server)
        with failing(database, REFUSED, first):
            assert alice.publish(body=pidf(note="new"), etag=tag).code == 200
            assert all_see(watches[1:], "new", 3.0)
            watches[0].client.quiet(3.0)
            # One in each tick would be fifty in a second.
            assert 1 <= errors(server) - before < 20
        assert all_see(watches, "new")


@pytest.mark.suite("databases")
def test_more_changes_are_missed_than_can_be_named(database):
    """All that are watched are gone through: nobody waits for a next change that may never come."""
    count = 1_040
    with watched(database, 1) as (server, alice, tag, watches):
        database.sql("delete from presentity;")
        columns = [name for name in database.sql("select column_name from information_schema.columns where "
                                                 "table_schema = database() and table_name = 'active_watchers';")
                   .split() if name not in ("id", "presentity_uri", "callid")]
        database.sql("insert into active_watchers (presentity_uri, callid, %s) select concat('sip:u', seq, "
                     "'@example.org'), concat(callid, '-', seq), %s from active_watchers, seq_1_to_%d;"
                     % (", ".join(columns), ", ".join(columns), count))
        bob, got = watches[0].client, set()
        before = int(database.sql("select max(local_cseq) from active_watchers;"))
        with failing(database, AWAY):
            for number in range(1, count + 1):
                assert alice.publish("sip:u%d@example.org" % number, body=pidf(note="new")).code == 200
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and len(got) < count:
            bob.quiet(0.5)
            got = set(database.sql("select callid from active_watchers where local_cseq > %d;" % before).split())
        assert len(got) >= count
        missed = server.rpc("stats.get_statistics", "presence:")
        assert int(re.search(r"presence:changes_missed = (\d+)", missed).group(1)) >= count


@pytest.mark.suite("databases")
def test_a_watcher_that_nobody_has_decided_about_gets_its_own_notify_later(database):
    """What is missed of one subscription is not a change of the resource, of which such a watcher is not notified."""
    presence = dict(notifier_processes=1, send_fast_notify=0)
    rules = dict(force_active=False, modules=("presence_xml",),
                 extra_params='modparam("presence_xml", "integrated_xcap_server", 1)\n')
    with watched(database, 0, rules, **presence) as (server, alice, tag, watches):
        with failing(database, REFUSED):
            bob = Client(server, "bob")
            watch = bob.subscribe(alice.uri)
            bob.quiet(1.5)
            assert (watch.reply.code, watch.notifies) == (200, [])
        watch.wait(1, timeout=6)
        assert watch.notifies[0].get("Subscription-State").startswith("pending")
        bob.close()


@pytest.mark.suite("databases")
@pytest.mark.parametrize("processes", [0, 1])
def test_one_row_that_is_refused_costs_its_own_watcher_and_nobody_else(database, processes):
    """The watcher sees the same last document as the others, who get it once."""
    with watched(database, 4, notifier_processes=processes) as (server, alice, tag, watches):
        before = [len(watch.notifies) for watch in watches]
        with failing(database, REFUSED, "old.callid = '%s'" % watches[0].call_id):
            assert alice.publish(body=pidf(note="new"), etag=tag).code == 200
            watches[0].client.quiet(4.0)
            assert [len(watch.notifies) - n for watch, n in zip(watches, before)] == [0, 1, 1, 1]
        watches[0].wait(before[0] + 1, timeout=10)
        assert "<note>new</note>" in watches[1].notifies[-1].text
        assert watches[0].notifies[-1].text == watches[1].notifies[-1].text
        assert [len(watch.notifies) - n for watch, n in zip(watches, before)] == [1, 1, 1, 1]


@pytest.mark.suite("databases")
@pytest.mark.parametrize("processes", [0, 1])
def test_a_database_that_goes_away_amid_a_pass_costs_nobody_a_second_notify(database, processes):
    """Those before the row at which it goes away have had theirs."""
    with watched(database, 6, notifier_processes=processes) as (server, alice, tag, watches):
        before = [len(watch.notifies) for watch in watches]
        with failing(database, AWAY, "old.callid = '%s'" % watches[3].call_id):
            assert alice.publish(body=pidf(note="new"), etag=tag).code == 200
            watches[0].client.quiet(0.5)
        assert all_see(watches, "new")
        watches[0].client.quiet(2.0)
        assert [len(watch.notifies) - n for watch, n in zip(watches, before)] == [1] * 6


@pytest.fixture(scope="module")
def postgres():
    server = PostgreSQL()
    yield server
    server.stop()


def waiting(database):
    """The processes whose statements wait for rows of active_watchers, the one that has waited longest first."""
    return database.sql("select pid from pg_stat_activity where query ilike 'update%active\\_watchers%' "
                        "and wait_event_type = 'Lock' order by query_start;").split()


@pytest.mark.suite("databases")
def test_an_older_change_that_is_missed_later_is_not_shown_last(postgres):
    """Two changes wait for the watcher's row; the statement of the first one is broken off after the second one has
    come in."""
    voicemail = dict(event="message-summary", ctype="application/simple-message-summary")
    text = "Messages-Waiting: yes\r\nVoice-Message: %d/0\r\n"
    modules = dict(modules=("presence_xml", "presence_mwi"), workers=2)
    with watched(postgres, 0, modules, notifier_processes=0) as (_, alice, _, _):
        bob = Client(alice.server, "bob")
        watch = bob.subscribe(alice.uri, event="message-summary")
        watch.wait(1)
        held = threading.Thread(target=postgres.sql, args=(
            "begin; select id from active_watchers for update; select pg_sleep(5); commit;",))
        held.start()
        bob.quiet(0.5)
        first = alice.publish(body=text % 1, **voicemail)
        bob.quiet(1.3)
        assert alice.publish(body=text % 2, etag=first.get("SIP-ETag"), **voicemail).code == 200
        bob.quiet(1.3)
        both = waiting(postgres)
        assert len(both) == 2
        postgres.sql("select pg_cancel_backend(%s);" % both[0])
        held.join()
        watch.wait(3, timeout=4)
        assert [text % 2 in notify.text for notify in watch.notifies[1:]] == [True, True]
        bob.close()
