"""Bounds of docs/operations.md that show on the wire, in the database or in the answer of a command alone; the others
are driven where tests/bounds/rows.txt says."""
import collections
import contextlib
import json
import sqlite3
import time

import pytest

from conftest import MODES
from kit.servers import PostgreSQL
from kit.sip import pidf

MEMORY = dict(subs_db_mode=0, publ_cache=2)


@contextlib.contextmanager
def table_of(server):
    connection = sqlite3.connect(str(server.db_path), timeout=10, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


def until(condition, seconds, client=None):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        client.quiet(0.1) if client else time.sleep(0.1)
    return condition()


def test_a_sequence_number_has_31_bits(ours, phones):
    server = ours(workers=1, presence=MEMORY)
    alice, bob = phones(server, "alice"), phones(server, "bob")
    for cseq, code in ((2 ** 31 - 1, 200), (2 ** 31, 400)):
        assert bob.subscribe(alice.uri, cseq=cseq).reply.code == code, cseq


def test_a_parameter_of_a_command_has_a_bound(ours, phones):
    server = ours(workers=1, presence=MEMORY)
    for length in (4096, 4097):
        name = "sip:" + "x" * (length - len("sip:@example.org")) + "@example.org"
        answer = server.rpc("presence.subscription_end", ".", name, "presence", "probation")
        assert ("longer than 4096 bytes" in answer) == (length == 4097), (length, answer[-300:])


def test_a_log_line_shows_a_part_of_long_names(ours, phones):
    server = ours(workers=1, presence=MEMORY)
    bob = phones(server, "bob")
    for length, shown in ((128, "c" * 128 + ","), (129, "c" * 128 + "...,")):
        request = bob.request("SUBSCRIBE", "sip:alice@example.org", ["Event: unknown", "Expires: 60"],
                              call_id="c" * length, from_uri="sip:%s@example.org" % ("u" * 300))
        assert bob.reply_to(request).code == 489
        line = [line for line in server.log().splitlines() if "answered 489" in line][-1]
        assert "Call-ID " + shown in line and "u" * 100 in line and "u" * 129 not in line, line


def test_pages_of_answers_are_bounded(ours, phones):
    """Each command shows its default number by itself, takes a limit up to a thousand, and refuses a larger one."""
    server = ours(workers=1, presence=dict(MEMORY, history_size=2000), http=True)
    bob, alice = phones(server, "bob"), phones(server, "alice")
    for n in range(1010):
        bob.send_raw(bob.request("SUBSCRIBE", "sip:line@h%d.example.org" % n, ["Event: dialog", "Expires: 600"],
                                 call_id="c%d" % n))
        while bob.receive(0.003):
            pass
    for n in range(1010):
        alice.send_raw(alice.request("PUBLISH", "sip:p%d@example.org" % n,
                                     ["Event: presence", "Expires: 600", "Content-Type: application/pidf+xml"], pidf(),
                                     contact=None))
        while alice.receive(0.003):
            pass
    bob.quiet(1.0), alice.quiet(1.0)

    def entries(command, *arguments):
        """How many entries of the answer: each names its presentity once."""
        return json.dumps(server.json_rpc(command, *arguments)).count('"presentity": ')

    assert "count: 1010" in server.rpc("presence.subscriptions", "count=1")
    assert "count: 1010" in server.rpc("presence.publications", "count=1")
    for command, usual in (("presence.subscriptions", 100), ("presence.publications", 100), ("presence.history", 50)):
        assert entries(command) == usual, command
        assert entries(command, "limit=1000") == 1000, command
        assert entries(command, "limit=1000", "offset=1000") >= 10, command
        for bad in ("limit=1001", "limit=0"):
            assert "error" in server.rpc(command, bad), (command, bad)
    # A name that very many have: as many are explained as there may be.
    assert entries("presence.explain", "bob", "line") == 100


def test_what_nobody_has_decided_is_removed_after_a_day(ours, phones):
    server = ours(workers=1, presence=dict(MODES["write-through"]["presence"]), modules=("presence_xml",))
    with table_of(server) as table:
        for name, age, status in (("young", 23.9, 2), ("old", 24.1, 2), ("decided", 100, 1)):
            table.execute("insert into watchers (presentity_uri, watcher_username, watcher_domain, event, status, "
                          "inserted_time) values ('sip:a@b', ?, 'example.org', 'presence', ?, ?)",
                          (name, status, int(time.time() - age * 3600)))
    server.rpc("presence.cleanup")

    def names():
        return sorted(row["watcher_username"] for row in server.rows("watchers"))

    assert until(lambda: names() == ["decided", "young"], 5), names()


@pytest.mark.suite("databases")
def test_rows_go_in_transactions_of_a_bounded_size(ours, phones):
    database = PostgreSQL()
    try:
        server = ours(db=database.url, workers=1, presence=dict(subs_db_mode=2, publ_cache=1, db_update_period=100))
        bob = phones(server, "bob")
        for n in range(450):
            bob.send_raw(bob.request("SUBSCRIBE", "sip:u@example.org", ["Event: dialog", "Expires: 600"],
                                     call_id="c%d" % n))
            while bob.receive(0.003):
                pass
        bob.quiet(0.5)
        server.rpc("presence.cleanup")
        written = "select xmin from active_watchers;"
        assert until(lambda: len(database.sql(written).split()) == 450, 10)
        sizes = sorted(collections.Counter(database.sql(written).split()).values())
        assert sizes == [50, 200, 200], sizes
        server.stop()
    finally:
        database.stop()


def test_a_lock_of_sqlite_is_waited_for_ten_seconds(ours, phones):
    server = ours(workers=2, **MODES["write-through"])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    with table_of(server) as table:
        for held, code in ((7, 200), (60, 500)):
            table.execute("begin immediate")
            begun = time.monotonic()
            request = bob.request("SUBSCRIBE", alice.uri, ["Event: presence", "Expires: 600"])
            bob.send_raw(request)
            reply = None
            while time.monotonic() - begun < held and reply is None:
                message = bob.receive(0.2)
                reply = message if message is not None and not message.is_request and message.code >= 200 else None
            table.execute("rollback")
            waited = time.monotonic() - begun
            reply = reply or bob.reply_to(request, timeout=5)
            assert reply.code == code, (held, reply.code, waited)
            assert 9 < waited < 15 or code == 200, waited


def test_a_row_that_others_raise_each_time_is_left_to_them(ours, phones):
    """The statement that raises its CSeq changes nothing each time: a view takes the place of the table."""
    server = ours(workers=1, presence=dict(subs_db_mode=3, publ_cache=0, notifier_processes=0))
    alice, bob = phones(server, "alice"), phones(server, "bob")
    watch = bob.subscribe(alice.uri)
    watch.wait(1)
    with table_of(server) as table:
        table.execute("create table tries (at integer)")
        table.execute("alter table active_watchers rename to rows_of_watchers")
        table.execute("create view active_watchers as select * from rows_of_watchers")
        table.execute("create trigger tried instead of update on active_watchers begin "
                      "insert into tries values (new.local_cseq); end")
        assert alice.publish(body=pidf(note="new")).code == 200
        bob.quiet(0.3)
        tries = table.execute("select count(*) from tries").fetchone()[0]
        assert tries % 20 == 0 and 20 <= tries <= 40, tries
        assert len(watch.notifies) == 1 and "ERROR" in server.log()
        table.execute("drop view active_watchers")
        table.execute("alter table rows_of_watchers rename to active_watchers")
    assert "new" in watch.wait(2, timeout=10)[-1].text
