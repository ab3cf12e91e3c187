"""Publications that are written some time after they are answered (publ_update_period)."""
import re
import signal
import sqlite3
import time

import pytest

from kit.kamailio import Kamailio
from kit.sip import dialog_info, pidf

PERIOD = 2


@pytest.fixture
def later(ours):
    return lambda **more: ours(presence=dict({"publ_update_period": PERIOD}, **more))


def etags(server):
    return [row["etag"] for row in server.rows("presentity")]


def queued(server):
    """Rows that wait to be written; counted at most once a second."""
    return int(re.search(r"db_rows_queued = (\d+)", server.rpc("stats.get_statistics", "presence:")).group(1))


def until(condition, seconds=3 * PERIOD):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_each_period_writes_the_newest_state(later, phones):
    server = later(publ_update_period=3)
    alice, bob = phones(server, "alice"), phones(server, "bob")
    watch = bob.subscribe(alice.uri)
    watch.wait(1)
    etag = alice.publish(body=pidf(note="n0")).get("SIP-ETag")
    assert server.rows("presentity") == [], "written before its time"
    until(lambda: etags(server) == [etag], 7)
    ruid = server.rows("presentity")[0]["ruid"]
    for step in range(1, 6):
        reply = alice.publish(body=pidf(note="n%d" % step), etag=etag)
        assert reply.code == 200
        etag = reply.get("SIP-ETag")
    assert "n5" in watch.wait(7)[-1].text, "watchers are notified at once"
    until(lambda: etags(server) == [etag], 7)
    row = server.rows("presentity")[0]
    assert row["ruid"] == ruid and "n5" in str(row["body"])
    assert alice.publish(etag=etag, expires=0).code == 200
    until(lambda: etags(server) == [], 7)


def test_a_document_that_comes_and_goes_within_a_period_is_never_written(later, phones):
    server = later(publ_update_period=3600)
    alice = phones(server, "alice")
    etag = alice.publish(body=pidf()).get("SIP-ETag")
    assert alice.publish(etag=etag, expires=0).code == 200
    assert queued(server) == 0
    kept = alice.publish(body=pidf(note="kept")).get("SIP-ETag")
    until(lambda: queued(server) == 1)
    assert server.stop() == 0
    assert etags(server) == [kept], "an orderly end writes everything"


def test_a_crash_loses_no_more_than_the_period(later, phones):
    server = later()
    alice, carol = phones(server, "alice"), phones(server, "carol")
    old = alice.publish(body=pidf(note="old")).get("SIP-ETag")
    removed = carol.publish(body=pidf("carol")).get("SIP-ETag")
    until(lambda: sorted(etags(server)) == sorted([old, removed]))
    new = alice.publish(body=pidf(note="new"), etag=old).get("SIP-ETag")
    assert carol.publish(carol.uri, etag=removed, expires=0).code == 200
    until(lambda: etags(server) == [new])
    late = alice.publish(body=pidf(note="late"), etag=new).get("SIP-ETag")
    server.restart(signal.SIGKILL)
    watch = phones(server, "bob").subscribe(alice.uri)
    watch.wait(1)
    known = {"new": new, "late": late}["late" if "late" in watch.notifies[-1].text else "new"]
    assert alice.publish(body=pidf(note="after"), etag=known).code == 200
    watch.wait(2)
    assert "after" in watch.notifies[-1].text


def test_what_is_read_again_from_the_table_is_written_first(later, phones):
    server = later(publ_update_period=3600)
    alice, bob = phones(server, "alice"), phones(server, "bob")
    etag = alice.publish(body=pidf(note="first")).get("SIP-ETag")
    watch = bob.subscribe(alice.uri)
    watch.wait(1)
    assert "first" in watch.notifies[-1].text
    server.rpc("presence.refreshWatchers", alice.uri, "presence", 1)
    watch.wait(2)
    assert "first" in watch.notifies[-1].text and etags(server) == [etag]
    etag = alice.publish(body=pidf(note="second"), etag=etag).get("SIP-ETag")
    server.rpc("presence.publish_cache_sync")
    assert etags(server) == [etag]
    assert alice.publish(body=pidf(note="third"), etag=etag).code == 200
    again = phones(server, "carol").subscribe(alice.uri)
    assert "third" in again.wait(1)[-1].text


def test_the_end_comes_on_time(later, phones):
    server = later(publ_update_period=3600, clean_period=1)
    alice, bob = phones(server, "alice"), phones(server, "bob")
    watch = bob.subscribe(alice.uri)
    watch.wait(1)
    etag = alice.publish(body=pidf(note="short"), expires=2).get("SIP-ETag")
    stays = alice.publish(body=pidf(note="long", tuple_id="t2"), expires=2).get("SIP-ETag")
    stays = alice.publish(etag=stays, expires=600).get("SIP-ETag")

    def one_is_over():
        bob.quiet(0.1)
        return "short" not in watch.notifies[-1].text and "long" in watch.notifies[-1].text

    until(one_is_over, 8)
    assert alice.publish(body=pidf(), etag=etag).code == 412
    assert alice.publish(body=pidf(), etag=stays).code == 200


def test_dialogs_replace_each_other(later, phones):
    server = later()
    alice = phones(server, "alice")
    kind = dict(event="dialog", ctype="application/dialog-info+xml")
    first = alice.publish(body=dialog_info("early"), **kind).get("SIP-ETag")
    until(lambda: etags(server) == [first])
    second = alice.publish(body=dialog_info("confirmed"), **kind).get("SIP-ETag")
    until(lambda: etags(server) == [second])
    assert alice.publish(body=dialog_info("confirmed"), etag=first, **kind).code == 412


def test_a_table_that_cannot_be_written_is_made_up_for(later, phones):
    server = later()
    alice = phones(server, "alice")
    etag = alice.publish(body=pidf(note="one")).get("SIP-ETag")
    until(lambda: etags(server) == [etag])
    with sqlite3.connect(str(server.db_path)) as connection:
        connection.execute("alter table presentity rename to elsewhere")
    connection.close()
    changed = alice.publish(body=pidf(note="two"), etag=etag)
    fresh = alice.publish(body=pidf(note="three", tuple_id="t3"))
    assert (changed.code, fresh.code) == (200, 200)
    until(lambda: "cannot write publications to the database" in server.log(), 4 * PERIOD)
    with sqlite3.connect(str(server.db_path)) as connection:
        connection.execute("alter table elsewhere rename to presentity")
    connection.close()
    until(lambda: sorted(etags(server)) == sorted([changed.get("SIP-ETag"), fresh.get("SIP-ETag")]), 4 * PERIOD)


def test_rows_without_a_record_id_are_changed_at_once(later, phones):
    server = later(publ_update_period=3600)
    alice = phones(server, "alice")
    etag = alice.publish(body=pidf(note="old")).get("SIP-ETag")
    server.stop()
    with sqlite3.connect(str(server.db_path)) as connection:
        connection.execute("update presentity set ruid = null")
    connection.close()
    server.start()
    changed = alice.publish(body=pidf(note="new"), etag=etag)
    assert changed.code == 200 and etags(server) == [changed.get("SIP-ETag")]
    assert alice.publish(etag=changed.get("SIP-ETag"), expires=0).code == 200
    assert etags(server) == []


@pytest.mark.parametrize("settings,said", [
    (dict(publ_update_period=-1), "0 (write at once)"),
    (dict(publ_update_period=5, publ_cache=2), "publ_cache is 1"),
    (dict(publ_update_period=5, publ_cache=0), "publ_cache is 1"),
])
def test_what_makes_no_sense_stops_the_start(settings, said):
    server = Kamailio("ours", presence=settings)
    try:
        server.start(expect_failure=True)
        assert server.process.poll() not in (None, 0)
        assert "publ_update_period" in server.log() and said in server.log()
    finally:
        server.remove()


def test_a_locked_database_is_waited_for_once(ours, phones):
    """Publications that run out meanwhile end for their watchers; their rows go when the lock does."""
    server = ours(presence=dict(subs_db_mode=0, publ_cache=1, publ_update_period=1, clean_period=1), workers=2)
    alice, bob = phones(server, "alice"), phones(server, "bob")
    watches = [bob.subscribe("sip:u%d@example.org" % n) for n in range(6)]
    for n in range(6):
        assert alice.publish("sip:u%d@example.org" % n, body=pidf("u%d" % n), expires=5).code == 200
    bob.quiet(3)
    assert len(server.rows("presentity")) == 6
    lock = sqlite3.connect(str(server.db_path), timeout=10, isolation_level=None)
    lock.execute("begin immediate")
    deadline = time.monotonic() + 110
    while not all(watch.notifies[-1].body == b"" for watch in watches) and time.monotonic() < deadline:
        bob.quiet(0.5)
    assert all(watch.notifies[-1].body == b"" for watch in watches), "each of them has waited by itself"
    lock.execute("rollback")
    lock.close()
    for _ in range(60):
        if server.rows("presentity") == []:
            break
        bob.quiet(0.5)
    assert server.rows("presentity") == []
