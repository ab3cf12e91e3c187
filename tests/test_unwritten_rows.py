"""Rows that wait to be written (`subs_db_mode` 2): never many, whatever the period of the timer, and none is lost when
the server ends."""
import contextlib
import signal
import socket
import sqlite3
import threading
import time

import pytest
from conftest import SOAK

from kit.kamailio import Kamailio
from kit.sip import Client, pidf

# So many changed rows are written before the period is over (docs/operations.md).
MOST = 20_000
WATCHERS_OF_ONE = 1_000
# What lies in the table, and what of it is unwritten when the server ends.
TABLE, UNWRITTEN = (1_000_000, 200_000) if SOAK else (4_000, 2_000)


class Watchers:
    """Answers every NOTIFY with 200."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(0.2)
        self.is_open = True
        self.thread = threading.Thread(target=self.answer, daemon=True)
        self.thread.start()

    def answer(self):
        kept = (b"Via:", b"From:", b"To:", b"Call-ID:", b"CSeq:")
        while self.is_open:
            try:
                data, source = self.socket.recvfrom(65535)
            except socket.timeout:
                continue
            lines = [line for line in data.split(b"\r\n") if line.startswith(kept)]
            reply = [b"SIP/2.0 200 OK"] + lines + [b"Content-Length: 0", b"", b""]
            self.socket.sendto(b"\r\n".join(reply), source)

    def close(self):
        self.is_open = False
        self.thread.join()
        self.socket.close()


@contextlib.contextmanager
def table(server):
    connection = sqlite3.connect(str(server.db_path), timeout=60, isolation_level=None)
    yield connection
    connection.close()


def value(server, query):
    with table(server) as rows:
        return rows.execute(query).fetchone()[0]


def presentity(number):
    return "crowded%d" % number


def fill(server, rows, port):
    """The subscription of one phone becomes that of many, each a watcher of one of the presentities."""
    with table(server) as db:
        columns = [row[1] for row in db.execute("pragma table_info(active_watchers)") if row[1] != "id"]
        one = dict(zip(columns, db.execute("select %s from active_watchers" % ",".join(columns)).fetchone()))
        domain = one["presentity_uri"].split("@")[1]
        db.execute("begin")
        for number in range(rows):
            user, watcher = presentity(number // WATCHERS_OF_ONE), "w%d" % number
            row = dict(one, presentity_uri="sip:%s@%s" % (user, domain), to_user=user, watcher_username=watcher,
                       from_user=watcher, callid="call-%d" % number, contact="sip:%s@127.0.0.1:%d" % (watcher, port))
            db.execute("insert into active_watchers (%s) values (%s)"
                       % (",".join(columns), ",".join("?" * len(columns))), [row[column] for column in columns])
        db.execute("delete from active_watchers where callid not like 'call-%'")
        db.execute("commit")


@pytest.fixture
def crowd():
    """A server whose table has this many subscriptions, and publications of the first presentities."""
    opened = []

    def start(rows):
        watchers = Watchers()
        server = Kamailio("ours", workers=2, shm=2048 if SOAK else 64,
                          presence=dict(db_update_period=3600, clean_period=3600, publ_cache=2, max_expires=7200))
        opened.extend((server.remove, watchers.close))
        server.start()
        phone = Client(server, presentity(0))
        opened.append(phone.close)
        phone.subscribe(phone.uri, expires=7200).wait(1)
        server.stop()
        fill(server, rows, watchers.socket.getsockname()[1])
        with table(server) as db:
            db.execute("create table written (number integer primary key autoincrement, id integer, cseq integer)")
            db.execute("create trigger written after update of local_cseq on active_watchers "
                       "begin insert into written (id, cseq) values (new.id, new.local_cseq); end")
            db.execute("create table marked (id integer)")
            db.execute("create trigger marked after update of updated, updated_winfo on active_watchers "
                       "begin insert into marked values (new.id); end")
        server.start()
        with table(server) as db:
            # A start counts the numbers of all rows up.
            db.execute("delete from written")
        return server

    yield start
    for close in reversed(opened):
        close()


def publish(server, presentities):
    for number in range(presentities):
        phone = Client(server, presentity(number))
        assert phone.publish(body=pidf(note="news")).code == 200
        phone.close()


def until_notified(server, count):
    deadline = time.monotonic() + (600 if SOAK else 60)
    while notified(server) < count:
        assert time.monotonic() < deadline, server.log()[-1500:]
        time.sleep(0.2)


def notified(server):
    text = server.rpc("stats.get_statistics", "presence:")
    return int(text.split("notify_2xx = ")[1].split()[0])


def test_many_changed_rows_are_written_before_their_time_and_in_order(crowd):
    server = crowd(MOST + WATCHERS_OF_ONE)
    publish(server, 2)
    until_notified(server, 2 * WATCHERS_OF_ONE)
    time.sleep(2.5)
    assert value(server, "select count(*) from written") == 0, "few changes wait for their time"
    publish(server, MOST // WATCHERS_OF_ONE + 1)
    deadline = time.monotonic() + 30
    while value(server, "select count(distinct id) from written") < MOST:
        assert time.monotonic() < deadline, "%d rows are written" % value(server, "select count(*) from written")
        time.sleep(0.2)
    with table(server) as db:
        ids = [row[0] for row in db.execute("select id from written order by number")]
    backwards = sum(1 for before, after in zip(ids, ids[1:]) if after < before)
    assert backwards <= 4, "each pass writes the rows in the order in which they lie in the table"
    assert value(server, "select count(*) from marked") == 0, "indexes that nothing changes are left alone"


@pytest.mark.suite("crash")
def test_a_stop_writes_all_that_a_locked_database_has_left(crowd, figure):
    server = crowd(TABLE)
    changed = UNWRITTEN // WATCHERS_OF_ONE
    with table(server) as other:
        other.execute("begin immediate")
        publish(server, changed)
        until_notified(server, UNWRITTEN)
        other.execute("rollback")
    began = time.monotonic()
    server.stop(timeout=60)
    figure("%d of %d rows were written in %.1f s at the end" % (UNWRITTEN, TABLE, time.monotonic() - began))
    assert value(server, "select count(distinct id) from written") == UNWRITTEN
    assert "panic" not in server.log()


@pytest.mark.suite("crash")
def test_what_a_timer_was_writing_when_the_server_ended_is_written_at_the_end(ours, phones):
    """The timer has taken rows and waits for a locked database; its process ends with the server, and nobody knows
    what it has written."""
    server = ours(presence=dict(db_update_period=1, publ_update_period=1, clean_period=3600, publ_cache=1))
    alice, bob = phones(server, "alice"), phones(server, "bob")
    old, tag = bob.subscribe(alice.uri, event="presence"), alice.publish(body=pidf(note="before")).get("SIP-ETag")
    deadline = time.monotonic() + 20
    while not (server.rows("presentity") and server.rows("active_watchers")):
        assert time.monotonic() < deadline, "nothing is written"
        time.sleep(0.1)
    with table(server) as other:
        other.execute("begin immediate")
        tag = alice.publish(body=pidf(note="after"), etag=tag).get("SIP-ETag")
        new_tag = alice.publish(alice.uri, body=pidf(note="another")).get("SIP-ETag")
        assert old.refresh(expires=1234).code == 200
        new = bob.subscribe(alice.uri)
        new.wait(1)
        time.sleep(2.5)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(1.5)
        other.execute("rollback")
    server.stop(timeout=60)
    written = {row["callid"]: row["remote_cseq"] for row in server.rows("active_watchers")}
    assert written == {old.call_id: old.cseq, new.call_id: new.cseq}, server.log()[-1500:]
    documents = {row["etag"]: "after" in str(row["body"]) for row in server.rows("presentity")}
    assert documents == {tag: True, new_tag: False}
