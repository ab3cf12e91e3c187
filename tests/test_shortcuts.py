"""Each shortcut does what the long way does, is seen in a statistic, and can be turned off."""
import re
import sqlite3

import pytest

from kit.kamailio import Kamailio
from kit.sip import Client, dialog_info, pidf

SHORTCUTS = ("predict_bodies", "omit_xml_check", "sqlite_direct", "seed_memory", "shm_slab")
# The statistic that moves with a shortcut.
SHOWN_BY = {
    "predict_bodies": "bodies_predicted", "omit_xml_check": "checks_omitted", "sqlite_direct": "sqlite_direct",
    "seed_memory": "memory_seeds", "shm_slab": "slab_bytes",
}
# What the log says at the start where one is on.
SAID = {
    "sqlite_direct": "statements go to SQLite past db_sqlite", "seed_memory": "free blocks are left in shared memory",
    "shm_slab": "are cut from chunks", "predict_bodies": "have always given as expected are made without asking them",
    "omit_xml_check": "presence_xml's check of them is left out",
}


def statistics(server):
    text = server.rpc("stats.get_statistics", "presence:")
    return {name: int(value) for name, value in re.findall(r"presence:(\w+) = (-?\d+)", text)}


def body_of(notify):
    return notify.text.partition("\r\n\r\n")[2]


def bodies(server, suffix):
    """What two watchers are shown while a document and a lamp change a few times."""
    alice, bob, carol = (Client(server, name + suffix) for name in ("alice", "bob", "carol"))
    try:
        watches = [bob.subscribe(alice.uri), carol.subscribe(alice.uri), bob.subscribe(alice.uri, event="dialog")]
        etag = lamp = None
        for step in range(8):
            reply = alice.publish(body=pidf(alice.user, tuple_id="a", note="n%d" % step), etag=etag)
            assert reply.code == 200
            etag = reply.get("SIP-ETag")
            state = ("early", "confirmed")[step % 2]
            reply = alice.publish(event="dialog", ctype="application/dialog-info+xml",
                                  body=dialog_info(state, alice.user, version=step), etag=lamp)
            assert reply.code == 200
            lamp = reply.get("SIP-ETag")
            for watch in watches:
                watch.wait(step + 2)
        wrong = alice.publish(body="<?xml version='1.0'?><presence>")
        assert wrong.code == 415, "what is not well-formed is refused either way"
        return [[body_of(notify) for notify in watch.notifies] for watch in watches]
    finally:
        for client in (alice, bob, carol):
            client.close()


def life(**presence):
    # One worker, so that the statistics of a shortcut are those of one process.
    with Kamailio("ours", presence=dict(presence), workers=1, debug=2) as server:
        shown = bodies(server, "1")
        assert len(server.rows("presentity")) == 2, "both documents have a row"
        return shown, statistics(server), server.log()


@pytest.fixture(scope="module")
def all_on():
    return life()


def test_all_shortcuts_are_taken_and_seen(all_on):
    _, figures, log = all_on
    for name in SHORTCUTS:
        assert figures[SHOWN_BY[name]] > 0, name
    for name, line in SAID.items():
        assert line in log, name
    assert figures["bodies_unexpected"] == 0 and figures["checks_unexpected"] == 0


@pytest.mark.parametrize("name", SHORTCUTS)
def test_without_a_shortcut_watchers_see_the_same(all_on, name):
    shown, figures, log = life(**{name: 0})
    assert figures[SHOWN_BY[name]] == 0, "it is off"
    assert SAID.get(name, "no such line") not in log
    others = [SHOWN_BY[other] for other in SHORTCUTS if other != name]
    assert all(figures[other] > 0 for other in others), "the others are on"
    assert shown == all_on[0]


def test_bodies_that_are_not_shared_are_the_same(all_on):
    """With share_watcher_bodies 0 the package makes the body of each watcher, and none is predicted from another's."""
    shown, figures, _ = life(share_watcher_bodies=0)
    assert figures["bodies_unexpected"] == 0
    assert figures["bodies_predicted"] < all_on[1]["bodies_predicted"]
    assert shown == all_on[0]


def test_another_allocator_is_left_alone():
    with Kamailio("ours", workers=1, debug=2, options=("-x", "tlsf")) as server:
        assert statistics(server)["memory_seeds"] == 0
        assert "the allocator tlsf_malloc is not known" in server.log()


@pytest.mark.parametrize("direct", (0, 1))
def test_a_file_is_opened_as_db_sqlite_was_set(direct):
    mode = 'modparam("db_sqlite", "db_set_journal_mode", "%s=DELETE;")'
    server = Kamailio("ours", presence=dict(sqlite_direct=direct, subs_db_mode=1, publ_cache=0))
    server.extra_params = mode % server.db_path
    with server:
        alice = Client(server, "alice")
        assert alice.publish(body=pidf(alice.user)).code == 200
        alice.close()
        with sqlite3.connect(server.db_path) as file:
            assert file.execute("pragma journal_mode").fetchone()[0] == "delete"


@pytest.mark.parametrize("direct", (0, 1))
def test_a_file_that_db_sqlite_only_reads_is_not_written(direct):
    server = Kamailio("ours", presence=dict(sqlite_direct=direct, subs_db_mode=1, publ_cache=0))
    server.extra_params = 'modparam("db_sqlite", "db_set_readonly", "%s")' % server.db_path
    with server:
        alice = Client(server, "alice")
        assert alice.publish(body=pidf(alice.user)).code == 500
        alice.close()
        assert server.rows("presentity") == [] and server.alive()


def kept(database, printing):
    """What a life with a name that has to be escaped, and one that has not, leaves in the tables."""
    database.sql("delete from presentity; delete from active_watchers; delete from watchers;")
    presence = dict(print_statements=printing, subs_db_mode=3, publ_cache=0, notifier_processes=0)
    with Kamailio("ours", db=database.url, presence=presence, workers=1, debug=2) as server:
        assert statistics(server)["statements_printed"] == printing
        assert ("that need no escaping are handed to db_" in server.log()) == bool(printing)
        shown, clients = [], [Client(server, name) for name in ("alice", "bob", "o'brien")]
        alice, *watchers = clients
        reply = alice.publish(body=pidf(alice.user, note="it's \\one"))
        for watcher in watchers:
            watch = watcher.subscribe(alice.uri)
            assert (watch.reply.code, watch.refresh().code) == (200, 200)
            shown.append([body_of(notify) for notify in watch.wait(2)])
        assert alice.publish(body=pidf(alice.user, note="two"), etag=reply.get("SIP-ETag")).code == 200
        shown.append(body_of(watch.wait(3)[-1]))
        rows = database.sql("select presentity_uri, watcher_username, event, event_id, status, reason, local_cseq, "
                            "remote_cseq, version, flags from active_watchers order by watcher_username")
        rows += database.sql("select presentity_uri, watcher_username, event, status, reason from watchers "
                             "order by watcher_username")
        assert watch.unsubscribe().code == 200
        left = database.sql("select watcher_username from active_watchers")
        assert not [line for line in server.log().split("\n") if "ERROR" in line]
        for client in clients:
            client.close()
        return shown, rows, left


@pytest.mark.parametrize("name", ("postgres", "mysql"))
def test_printed_statements_leave_the_same_rows(database_server, name):
    database = database_server(name)
    assert kept(database, 1) == kept(database, 0)
