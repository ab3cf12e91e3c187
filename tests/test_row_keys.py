"""Rows with keys and times at the edges: far apart, beyond 31 bits, beyond 2038; and numbers that never go back after a
crash."""
import re
import signal
import sqlite3
import time

import pytest

from kit.kamailio import Kamailio
from kit.sip import Client, dialog_info, pidf

OLD = {"sqlite": 7_000_000_000, "postgres": 2_000_000_000, "mysql": 4_000_000_000}


def sql(server, database, text):
    if database is not None:
        return database.sql(text)
    connection = sqlite3.connect(str(server.db_path), timeout=10)
    connection.executescript(text)
    connection.close()


def begin(database_server, name, **options):
    if name in ("sqlite", "text"):
        return Kamailio("ours", db=name, **options), None
    database = database_server(name)
    database.sql("truncate table presentity; truncate table active_watchers; truncate table watchers;")
    return Kamailio("ours", db=database.url, **options), database


@pytest.mark.parametrize("name", ["sqlite", "postgres", "mysql"])
@pytest.mark.parametrize("mode", [1, 2, 3])
def test_an_old_row_beside_large_keys(database_server, name, mode):
    """The server starts at once and knows all rows, however far apart their keys are."""
    server, database = begin(database_server, name,
                             presence=dict(subs_db_mode=mode, db_update_period=1, publ_cache=1, fetch_rows=2),
                             modules=("presence_xml",))
    with server:
        phones = [Client(server, "w%d" % n) for n in range(5)]
        watches = [phone.subscribe("sip:alice@example.org") for phone in phones]
        tag = phones[0].publish("sip:alice@example.org", body=pidf()).get("SIP-ETag")
        time.sleep(2.5)
        server.stop()
        table = "update %s set id = id + %d where id > (select m from (select min(id) as m from %s) as t);"
        sql(server, database,
            "".join(table % (table_name, OLD[name], table_name) for table_name in ("active_watchers", "presentity")))
        began = time.monotonic()
        server.start()
        assert time.monotonic() - began < 4
        assert [watch.refresh().code for watch in watches] == [200] * 5
        assert phones[0].publish("sip:alice@example.org", etag=tag).code == 200


@pytest.mark.parametrize("mode", [1, 2])
@pytest.mark.parametrize("key", [-1, -5, -2_147_483_648, -5_000_000_000])
def test_a_row_with_a_negative_key(ours, phones, mode, key):
    """It is the first one, and hides none of those that follow on later pages."""
    server = ours(presence=dict(subs_db_mode=mode, publ_cache=1, fetch_rows=2), modules=("presence_xml",))
    people = [phones(server, "w%d" % n) for n in range(6)]
    watches = [person.subscribe("sip:alice@example.org") for person in people]
    tags = [person.publish(body=pidf()).get("SIP-ETag") for person in people]
    server.stop()
    for table in ("active_watchers", "presentity"):
        sql(server, None, "update %s set id = %d where id = (select max(id) from %s);" % (table, key, table))
    server.start()
    assert [watch.refresh().code for watch in watches] == [200] * 6
    assert [person.publish(etag=tag).code for person, tag in zip(people, tags)] == [200] * 6


def test_thousands_of_rows_in_db_text(database_server):
    """db_text knows neither an order nor a limit: its rows come in portions all the same, with little private
    memory."""
    server, _ = begin(database_server, "text", presence=dict(subs_db_mode=1), modules=("presence_xml",))
    with server:
        watch = Client(server, "bob").subscribe("sip:alice@example.org")
        server.stop()
        path = server.folder / "dbtext" / "active_watchers"
        lines = path.read_text().splitlines()
        row = [line for line in lines if "alice@example.org" in line][0]
        call_id = watch.call_id
        more = [re.sub(r"^\d+", str(1000 * n + 77), row.replace(call_id.replace(":", "\\:"), "call-%d" % n))
                for n in range(1, 5001)]
        path.write_text("\n".join(lines + more) + "\n")
        server.start()
        assert watch.refresh().code == 200
        assert int(re.search(r"subscriptions = (\d+)",
                             server.rpc("stats.get_statistics", "subscriptions")).group(1)) == 5001


@pytest.mark.parametrize("name", ["sqlite", "postgres", "mysql"])
@pytest.mark.parametrize("mode", [1, 2, 3])
def test_times_beyond_2038(database_server, name, mode):
    """A long subscription has a row whose time is no negative number, and lives on after a restart."""
    longest = 700_000_000
    server, database = begin(database_server, name,
                             presence=dict(subs_db_mode=mode, max_expires=longest, db_update_period=1, clean_period=1),
                             modules=("presence_xml",))
    with server:
        phone = Client(server, "bob")
        watch = phone.subscribe("sip:alice@example.org", expires=longest)
        assert watch.reply.code == 200
        tag = phone.publish("sip:alice@example.org", body=pidf(), expires=longest).get("SIP-ETag")
        time.sleep(2.5)
        for table in ("active_watchers", "presentity"):
            rows = database.rows(table) if name == "postgres" else None
            times = ([row["expires"] for row in rows] if rows is not None else
                     [row["expires"] for row in server.rows(table)] if database is None else
                     [int(word) for word in database.sql("select expires from %s;" % table).split()
                      if word.lstrip("-").isdigit()])
            assert len(times) == 1 and times[0] > time.time() + 300_000_000, (table, times)
        server.restart()
        time.sleep(2.2)
        assert watch.refresh().code == 200
        assert phone.publish("sip:alice@example.org", etag=tag).code == 200


def test_a_row_with_a_time_that_wrapped_around(ours, phones):
    """What an earlier version wrote with 32 bits ends in 2040, not at once."""
    server = ours(presence=dict(subs_db_mode=1, clean_period=1, db_update_period=1), modules=("presence_xml",))
    bob = phones(server, "bob")
    watch = bob.subscribe("sip:alice@example.org")
    server.stop()
    sql(server, None, "update active_watchers set expires = %d - 4294967296" % (2_200_000_000))
    server.start()
    bob.quiet(2.5)
    assert watch.refresh().code == 200


@pytest.mark.parametrize("expires", [-5, -1_000_000])
@pytest.mark.parametrize("mode,cache", [(3, 0), (1, 0), (1, 1)])
def test_a_row_that_ended_before_1970(both, mode, cache, expires):
    """It is no time beyond 2038 that wrapped around: nobody is shown the document, and the subscription has ended."""

    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        alice.publish(body=pidf(note="one"))
        watch = bob.subscribe(alice.uri)
        watch.wait(1)
        server.stop()
        for table in ("presentity", "active_watchers"):
            sql(server, None, "update %s set expires = %d" % (table, expires))
        server.start()
        later = phone("carol").subscribe(alice.uri)
        trace.note("shown", [b"one" in notify.body for notify in later.wait(1)])
        is_there = lambda: watch.call_id in [row["callid"] for row in server.rows("active_watchers")]
        deadline = time.monotonic() + 8
        while is_there() and time.monotonic() < deadline:
            bob.quiet(0.3)
        trace.note("is there", is_there())
        trace.note("documents", len(server.rows("presentity")))
        if mode == 3:
            trace.note("refresh", watch.refresh().code)

    both(scenario, workers=1, modules=("presence_xml",),
         presence=dict(subs_db_mode=mode, publ_cache=cache, clean_period=1, db_update_period=1))


def version(notify):
    return int(re.search(r'version="(\d+)"', notify.text).group(1))


def test_numbers_never_go_back_after_a_crash(ours, phones):
    """Write-back with a long period: thousands of NOTIFYs after the row was written, then kill -9; and once more at
    once."""
    server = ours(presence=dict(db_update_period=100, publ_cache=1), modules=("presence_dialoginfo",), workers=2)
    alice, bob = phones(server, "alice"), phones(server, "bob")
    watch = bob.subscribe(alice.uri, event="dialog")
    watch.wait(1)
    alice.publish(body=dialog_info("confirmed"), event="dialog", ctype="application/dialog-info+xml")
    watch.wait(2)
    server.rpc("presence.cleanup")
    until_written(server)
    for lives in range(3):
        before = watch.notifies[-1]
        for _ in range(1300 if lives == 0 else 3):
            assert watch.refresh().code == 200
        watch.wait(len(watch.notifies))
        bob.quiet(0.2)
        last = max(watch.notifies, key=lambda notify: notify.cseq)
        assert last.cseq > before.cseq and version(last) > version(before)
        server.restart(signal.SIGKILL)
        notified = len(watch.notifies)
        assert watch.refresh().code == 200
        first = watch.wait(notified + 1)[notified]
        assert first.cseq > last.cseq and version(first) > version(last)


def until_written(server):
    for _ in range(50):
        if server.rows("active_watchers"):
            return
        time.sleep(0.1)
    assert server.rows("active_watchers"), "the row is not written"


def test_a_refresh_that_is_answered_500_has_not_happened(ours, phones):
    """Write-through: the row cannot be written, so memory has the old state, and the same SUBSCRIBE may come again."""
    server = ours(presence=dict(subs_db_mode=1, db_update_period=1), modules=("presence_xml",))
    bob = phones(server, "bob")
    watch = bob.subscribe("sip:alice@example.org")
    watch.wait(1)
    shown = server.rpc("presence.subscriptions")
    sql(server, None, "create trigger no before update on active_watchers when new.expires <> old.expires "
                      "begin select raise(abort, 'no'); end;")
    assert watch.refresh(contact="<sip:elsewhere@127.0.0.1:9>", expires=60).code == 500
    contact = re.search(r"contact: (\S+)", shown).group(1)
    assert contact in server.rpc("presence.subscriptions")
    sql(server, None, "drop trigger no;")
    watch.cseq -= 1
    assert watch.refresh().code == 200, "a SUBSCRIBE that was answered 500 does not use up its CSeq"
    row = server.rows("active_watchers")[0]
    assert row["contact"] == contact


def test_an_end_whose_row_cannot_be_removed(both, ours, phones):
    """Write-through: the watcher is answered as by stock, and the row goes once it can, also at the stop."""
    options = dict(presence=dict(subs_db_mode=1, db_update_period=1), modules=("presence_xml",))
    refuse = "create trigger no before %s on active_watchers begin select raise(abort, 'no'); end;"

    def scenario(server, phone, trace):
        watch = phone("bob").subscribe("sip:alice@example.org")
        watch.wait(1)
        sql(server, None, (refuse % "delete") + (refuse % "update").replace("no before", "neither before"))
        trace.note("the end", watch.refresh(expires=0).code)
        trace.note("the last NOTIFY", watch.wait(2)[-1].get("Subscription-State"))

    both(scenario, **options)
    server = ours(**options)
    watch = phones(server, "bob").subscribe("sip:alice@example.org")
    watch.wait(1)
    sql(server, None, refuse % "delete")
    assert watch.refresh(expires=0).code == 200
    assert server.rows("active_watchers")
    sql(server, None, "drop trigger no;")
    until = time.monotonic() + 10
    while server.rows("active_watchers") and time.monotonic() < until:
        time.sleep(0.1)
    assert not server.rows("active_watchers")
    assert watch.refresh(expires=60).code == 481


def test_one_row_that_cannot_be_ended(ours, phones):
    """Database only: what ran out ends, whatever becomes of one of the rows."""
    server = ours(presence=dict(subs_db_mode=3, db_update_period=1), modules=("presence_xml",))
    names = ["bad"] + ["w%d" % n for n in range(5)]
    watches = [phones(server, name).subscribe("sip:alice@example.org", expires=2) for name in names]
    sql(server, None, "create trigger no before delete on active_watchers when old.from_user like 'bad%' "
                      "begin select raise(abort, 'no'); end;")
    for watch in watches[1:]:
        assert watch.wait(2, timeout=8)[-1].get("Subscription-State").startswith("terminated")
    assert [row["from_user"] for row in server.rows("active_watchers")] == ["bad"]
    assert len(watches[0].wait(2, timeout=0.2)) == 1
