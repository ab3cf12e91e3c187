"""Nodes whose leases are in a database (cluster_arbiter): whatever is cut, frozen or away, one node sends the
NOTIFYs of a dialog."""
import re
import select
import signal
import socket
import sqlite3
import threading
import time

import pytest

from kit.kamailio import ROOT, free_port
from kit.servers import MariaDB, PostgreSQL
from kit.sip import Client, dialog_info, pidf
from test_cluster import DIALOG, Cluster, at, count, taken, wait_for
from test_cluster_faults import Lamp, all_show, close, cut, freeze, listen
from test_cluster_messages import Wire, short_to
from test_faults import faulty_modules  # noqa: F401  (a fixture)
from test_last_stop import WRITTEN_LATE, rows


class Gate:
    """A node's way to the database, which can be shut."""

    def __init__(self, port):
        self.target, self.is_open, self.pairs = port, True, []
        self.door = socket.socket()
        self.door.bind(("127.0.0.1", free_port()))
        self.door.listen(16)
        self.port = self.door.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            ready, _, _ = select.select([self.door] + [one for pair in self.pairs for one in pair], [], [], 0.2)
            for one in ready if self.is_open else []:
                if one is self.door:
                    self.pairs.append((one.accept()[0], socket.create_connection(("127.0.0.1", self.target))))
                    continue
                pair = next((pair for pair in self.pairs if one in pair), None)
                if pair is None:
                    continue
                try:
                    data = one.recv(65536)
                    (pair[1] if one is pair[0] else pair[0]).sendall(data)
                except OSError:
                    data = b""
                if not data:
                    self.drop([pair])
            if not self.is_open:
                self.drop(list(self.pairs))
                time.sleep(0.05)

    def drop(self, pairs):
        for pair in pairs:
            self.pairs.remove(pair)
            for one in pair:
                one.close()

    def shut(self, is_shut=True):
        self.is_open = not is_shut


def statement():
    """The table as the documentation creates it."""
    return re.search(r"CREATE TABLE presence_leases .*?;", (ROOT / "docs" / "clustering.md").read_text(), re.S).group(0)


@pytest.fixture(scope="module")
def database():
    server = PostgreSQL()
    server.sql(statement())
    yield server
    server.stop()


def arbitrated(server, count, mode="memory", modules=("db_postgres",), **presence):
    """Nodes, and the way of each to the database."""
    server.sql("DELETE FROM presence_leases;")
    cluster = Cluster(count, mode, modules=modules, cluster_arbiter="database", **presence)
    gates = [Gate(server.port) for _ in cluster.nodes]
    for node, gate in zip(cluster.nodes, gates):
        node.presence["cluster_arbiter_url"] = server.url.replace(":%d/" % server.port, ":%d/" % gate.port)
    return cluster, gates


def voices(lamp):
    """From which nodes a lamp has been notified, one after the other."""
    found = []
    for notify in lamp.client.notifies:
        if not found or found[-1] != notify.source[0]:
            found.append(notify.source[0])
    return found


@pytest.mark.suite("cluster")
def test_a_cut_leaves_one_side_speaking(database):
    cluster, gates = arbitrated(database, 2)
    with cluster as (a, b):
        near, far = Client(a, "near"), Client(b, "far")
        near.tag = near.publish(body=dialog_info("early", "near"), **DIALOG).get("SIP-ETag")
        far.tag = far.publish(body=dialog_info("early", "far"), **DIALOG).get("SIP-ETag")
        time.sleep(0.5)
        lamps = [Lamp(b, phone.uri) for phone in (near, far) for _ in range(3)]
        all_show(lamps, "early", 5)
        wait_for(lambda: count(a) == 6, 5)
        # A node that waits for its first lease runs.
        assert not any("did not run for" in node.log() for node in (a, b))
        # Both reach the database: the owner goes on alone, and nothing is taken over.
        cut((a, b), ((a,), (b,)))
        listen(lamps, 9)
        far.tag = far.publish(body=dialog_info("confirmed", "far"), etag=far.tag, **DIALOG).get("SIP-ETag")
        near.tag = near.publish(body=dialog_info("confirmed", "near"), etag=near.tag, **DIALOG).get("SIP-ETag")
        all_show(lamps[3:], "confirmed", 3)
        listen(lamps, 2)
        assert [voices(lamp) for lamp in lamps] == [[b.address]] * 6 and taken(a) == 0
        # The owner does not reach it any more: it falls silent before the other one goes on.
        gates[1].shut()
        listen(lamps, 5)
        far.publish(body=dialog_info("terminated", "far"), etag=far.tag, **DIALOG)
        all_show(lamps[:3], "confirmed", 10)
        listen(lamps, 1)
        assert [voices(lamp) for lamp in lamps[:3]] == [[b.address, a.address]] * 3 and taken(a) == 6
        assert "terminated" not in lamps[3].shows, "the side that was cut off from the database spoke"
        gates[1].shut(False)
        cut((a, b), ((a, b),))
        all_show(lamps[3:], "terminated", 20)
        assert all(voices(lamp) == [b.address, a.address] for lamp in lamps) and not any(lamp.refused for lamp in lamps)
        assert "has taken over the lease of this node" in b.log() and "its subscriptions are served here" in a.log()
        close(near, far, *lamps)


@pytest.mark.suite("cluster")
def test_a_frozen_owner_finds_its_lease_gone(database):
    cluster, _ = arbitrated(database, 2)
    with cluster as (a, b):
        alice = Client(a, "alice")
        tag = alice.publish(body=dialog_info("early"), **DIALOG).get("SIP-ETag")
        time.sleep(0.5)
        lamps = [Lamp(b, alice.uri) for _ in range(4)]
        wait_for(lambda: count(a) == 4, 5)
        freeze(b)
        tag = alice.publish(body=dialog_info("confirmed"), etag=tag, **DIALOG).get("SIP-ETag")
        all_show(lamps, "confirmed", 15)
        freeze(b, False)
        alice.publish(body=dialog_info("terminated"), etag=tag, **DIALOG)
        all_show(lamps, "terminated", 5)
        listen(lamps, 4)
        assert [voices(lamp) for lamp in lamps] == [[b.address, a.address]] * 4
        assert not any(lamp.refused for lamp in lamps)
        assert figures(a)[2:4] == [0, 1] and figures(b)[2:4] == [1, 0]
        # A phone that speaks to the other node is served by the owner all the same.
        lamp = lamps[0]
        at(lamp.client, b)
        lamp.watch.target = None
        before = len(lamp.client.notifies)
        assert lamp.watch.refresh().code == 200
        listen(lamps, 1)
        assert len(lamp.client.notifies) == before + 1 and voices(lamp) == [b.address, a.address]
        close(alice, *lamps)


def figures(node):
    """What the node counts of its leases: held, renewals, lost, taken over, failures."""
    names = ("lease_held", "lease_renewals", "leases_lost", "leases_taken_over", "lease_failures")
    text = node.rpc("stats.get_statistics", "presence:")
    return [int(re.search(r"presence:%s = (\d+)" % name, text).group(1)) for name in names]


def sqlite_leases(cluster):
    """All nodes of one machine use one file."""
    path = cluster.nodes[0].folder / "leases.sqlite"
    with sqlite3.connect(path) as file:
        file.executescript(statement())
    for node in cluster.nodes:
        node.presence["cluster_arbiter_url"] = "sqlite:///%s" % path


@pytest.mark.suite("cluster")
@pytest.mark.parametrize("kind, count_of_nodes", [("postgres", 3), ("sqlite", 2)])
def test_a_node_that_leaves_hands_its_lease_over(database, kind, count_of_nodes):
    if kind == "postgres":
        cluster, _ = arbitrated(database, count_of_nodes)
    else:
        cluster = Cluster(count_of_nodes, modules=("db_sqlite",), cluster_arbiter="database")
        sqlite_leases(cluster)
    with cluster as nodes:
        a, b = nodes[:2]
        alice = Client(a, "alice")
        tag = alice.publish(body=dialog_info("early"), **DIALOG).get("SIP-ETag")
        time.sleep(0.5)
        lamps = [Lamp(b, alice.uri) for _ in range(6)]
        all_show(lamps, "early", 5)
        wait_for(lambda: all(count(node) == 6 for node in nodes), 5)
        assert all(figures(node)[0] == 1 and figures(node)[2:] == [0, 0, 0] for node in nodes)
        assert figures(b)[1] > 0
        before = [len(lamp.client.notifies) for lamp in lamps]
        asked = time.monotonic()
        b.process.send_signal(15)
        notified_after = {node.address: [] for node in nodes}
        end = asked + 4
        while time.monotonic() < end:
            for lamp in lamps:
                while lamp.client.receive(0.0005):
                    notified_after[lamp.client.notifies[-1].source[0]].append(time.monotonic() - asked)
        b.process.wait(10)
        successors = [address for address, times in notified_after.items() if times]
        assert len(successors) == 1 and successors[0] != b.address, notified_after
        # 200 milliseconds where the machine is idle; without the message the lease would have to run out.
        assert max(notified_after[successors[0]]) < 2, notified_after
        assert [len(lamp.client.notifies) for lamp in lamps] == [n + 1 for n in before], "notified twice"
        successor = next(node for node in nodes if node.address == successors[0])
        assert figures(successor)[2:] == [0, 1, 0] and taken(successor) == 6
        assert "its subscriptions are served here" in successor.log()
        alice.publish(body=dialog_info("confirmed"), etag=tag, **DIALOG)
        all_show(lamps, "confirmed", 3)
        listen(lamps, 1.5)
        assert all(voices(lamp) == [b.address, successor.address] for lamp in lamps)
        assert not any(lamp.refused for lamp in lamps) and figures(successor)[3] == 1
        close(alice, *lamps)


@pytest.mark.suite("cluster")
@pytest.mark.parametrize("kind", ["postgres", "mysql"])
def test_without_the_database_nobody_speaks_and_nothing_is_lost(database, kind):
    server = database if kind == "postgres" else MariaDB()
    try:
        if kind == "mysql":
            server.sql(statement())
        cluster, gates = arbitrated(server, 2, modules=("db_postgres" if kind == "postgres" else "db_mysql",))
        with cluster as (a, b):
            alice = Client(a, "alice")
            tag = alice.publish(body=dialog_info("early"), **DIALOG).get("SIP-ETag")
            time.sleep(0.5)
            lamps = [Lamp(b, alice.uri) for _ in range(3)]
            all_show(lamps, "early", 5)
            for gate in gates:
                gate.shut()
            listen(lamps, 6)
            alice.publish(body=dialog_info("confirmed"), etag=tag, **DIALOG)
            listen(lamps, 2)
            assert all("early" in lamp.shows for lamp in lamps), "a node without a lease spoke"
            assert figures(a)[0] == figures(b)[0] == 0
            for gate in gates:
                gate.shut(False)
            all_show(lamps, "confirmed", 8)
            assert taken(a) == taken(b) == 0 and all(voices(lamp) == [b.address] for lamp in lamps)
            for node in (a, b):
                held, renewals, lost, inherited, _ = figures(node)
                assert (held, lost, inherited) == (1, 0, 0) and renewals > 2
            failures = figures(a)[4]
            # A table that is not there fails each time.
            server.sql("ALTER TABLE presence_leases RENAME TO presence_leases_away;")
            wait_for(lambda: figures(a)[4] > failures + 1, 8)
            server.sql("ALTER TABLE presence_leases_away RENAME TO presence_leases;")
            wait_for(lambda: "the table of leases can be used again" in a.log(), 8)
            wait_for(lambda: figures(a)[0] == 1, 8)
            assert figures(a)[3] == 0
            close(alice, *lamps)
    finally:
        if kind == "mysql":
            server.stop()


@pytest.mark.suite("cluster")
@pytest.mark.parametrize("silent_for", [0, 6])
def test_a_stop_writes_the_rows_though_the_leases_do_not_answer(database, silent_for):
    """The table of leases accepts connections and does not answer: a connection to it may take for ever."""
    cluster, gates = arbitrated(database, 1, "defaults", **WRITTEN_LATE)
    cluster.nodes[0].before = "exit_timeout=4\n"
    with cluster as (a,):
        bob = Client(a, "bob")
        for n in range(10):
            assert bob.subscribe("sip:u%d@example.org" % n).reply.code == 200
        assert bob.publish("sip:u@example.org", body=pidf("u")).code == 200
        assert figures(a)[0] == 1 and rows(a, "active_watchers") == 0
        gates[0].shut()
        bob.quiet(silent_for + 0.2)
        assert figures(a)[0] == (0 if silent_for else 1)
        a.process.send_signal(15)
        a.process.wait(20)
        # A lease that had ended is not given back; one that is held is tried, until the host ends the server.
        assert a.process.returncode == 0 or not silent_for, a.log()[-1500:]
        a.process = None
        assert rows(a, "active_watchers") == 10 and rows(a, "presentity") == 1, a.log()[-1500:]
        bob.close()


@pytest.mark.suite("cluster")
@pytest.mark.parametrize("left_by", ["a ring", "a row that is missing"])
def test_leases_that_lead_to_nobody_are_taken_over(database, left_by):
    """Two nodes that stop at the same instant hand their leases to each other; an administrator removes a row."""
    cluster, _ = arbitrated(database, 3)
    with cluster as (a, b, c):
        alice = Client(c, "alice")
        tag = alice.publish(body=dialog_info("early"), **DIALOG).get("SIP-ETag")
        time.sleep(0.5)
        lamps = [Lamp(b, alice.uri) for _ in range(3)]
        all_show(lamps, "early", 5)
        wait_for(lambda: count(c) == 3, 5)
        for node in (a, b):
            node.stop(9)
        hand = "UPDATE presence_leases SET state = 2, heir = '%s:%d', heir_lease = 1 WHERE node = '%s:%d';"
        database.sql(hand % (a.address, a.port, b.address, b.port))
        if left_by == "a ring":
            database.sql(hand % (b.address, b.port, a.address, a.port))
        else:
            database.sql("DELETE FROM presence_leases WHERE node = '%s:%d';" % (a.address, a.port))
        assert database.sql("SELECT count(*) FROM presence_leases WHERE state = 0;").strip() == "1"
        alice.publish(body=dialog_info("confirmed"), etag=tag, **DIALOG)
        all_show(lamps, "confirmed", 15)
        assert all(voices(lamp) == [b.address, c.address] for lamp in lamps) and taken(c) == 3
        close(alice, *lamps)


@pytest.mark.suite("cluster")
def test_removed_rows_silence_no_node(database):
    cluster, _ = arbitrated(database, 1, "write-through")
    with cluster as (a,):
        alice = Client(a, "alice")
        alice.publish(body=dialog_info("early"), **DIALOG)
        lamp = Lamp(a, alice.uri)
        all_show([lamp], "early", 5)
        for _ in range(2):
            a.stop(15)
            a.start()
            wait_for(lambda: figures(a)[0] == 1, 5)
        a.stop(15)
        database.sql("DELETE FROM presence_leases WHERE state = 2;")
        a.start()
        listen([lamp], 12)
        alice.publish(body=dialog_info("trying", dialog_id="d2"), **DIALOG)
        all_show([lamp], "trying", 5)
        close(alice, lamp)


@pytest.mark.suite("cluster")
def test_all_nodes_are_restarted(database):
    cluster, _ = arbitrated(database, 2, "write-through")
    with cluster as (a, b):
        alice = Client(a, "alice")
        alice.publish(body=dialog_info("early"), **DIALOG)
        lamps = [Lamp(node, alice.uri) for node in (a, b)]
        all_show(lamps, "early", 5)
        for node in (a, b):
            node.stop(9)
        for node in (a, b):
            node.start()
        cluster.joined()
        listen(lamps, 14)
        alice.publish(body=dialog_info("trying", dialog_id="d2"), **DIALOG)
        all_show(lamps, "trying", 12)
        assert not any(lamp.refused for lamp in lamps)
        held = [row for row in database.sql("SELECT node, lease FROM presence_leases WHERE state = 0").splitlines()]
        assert len(held) == 2 and all(row.endswith("|2") for row in held), held
        close(alice, *lamps)


@pytest.mark.suite("crash")
@pytest.mark.parametrize("kept", ["in memory", "in a database"])
def test_the_lease_is_given_back_whatever_lock_is_left(faulty_modules, kept):  # noqa: F811
    """The list of the nodes is such a lock: a node that leaves reads it."""
    modes = {"in memory": dict(mode="memory"), "in a database": dict(mode="defaults", **WRITTEN_LATE)}
    cluster = Cluster(1, modules=("db_sqlite",), cluster_arbiter="database", **modes[kept])
    sqlite_leases(cluster)
    with cluster as (node,):
        bob = Client(node, "bob")
        for n in range(10):
            assert bob.subscribe("sip:u%d@example.org" % n).reply.code == 200
        bob.send_raw(bob.request("PUBLISH", "sip:x@example.org",
                                 ["Event: presence", "Content-Type: application/pidf+xml",
                                  "X-Fault: kill-at-lock-Node"], body=pidf("x")))
        time.sleep(1.0)
        began = time.monotonic()
        if node.alive():
            node.process.send_signal(signal.SIGTERM)
        node.process.wait(20)
        assert time.monotonic() - began < 12, node.log()[-1500:]
        node.process = None
        assert "a process has ended while it changed" in node.log(), node.log()[-1500:]
        if kept == "in a database":
            assert rows(node, "active_watchers") >= 9, node.log()[-1500:]
        bob.close()


@pytest.mark.suite("cluster")
def test_refreshes_at_a_node_that_does_not_own_the_subscription_are_short(database):
    """A proxy that spreads requests: the subscription stays its owner's, and one packet to each node says the rest."""
    cluster, _ = arbitrated(database, 3)
    with cluster as (a, b, c):
        alice, bob = Client(a, "alice"), Client(a, "bob")
        alice.publish(body=pidf())
        watch = bob.subscribe(alice.uri)
        watch.wait(1)
        wait_for(lambda: count(b) == 1 and count(c) == 1, 10)
        # The watcher's Contact names its port alone, and is the same for each node.
        at(bob, c)
        wire = Wire(a, b, c)
        for expires in (1800, 900, 1200):
            before = len(watch.notifies)
            assert watch.send(expires, ruri=alice.uri).code == 200
            packets = wire.among_nodes(bob, 1)
            assert [n.source for n in watch.wait(before + 1)[before:]] == [(a.address, a.port)]
        short_to(packets, a, b)
        # Each node has known which subscription that is.
        assert not [packet for packet in packets if re.match(r'\{"action":"(want|records)"', packet[3])], packets
        # And the other way round: what the owner says is known at the node that was refreshed.
        at(bob, a)
        assert watch.send(3600, ruri=alice.uri).code == 200
        packets = wire.among_nodes(bob, 1)
        short_to(packets, b, c)
        assert not [packet for packet in packets if re.match(r'\{"action":"(want|records)"', packet[3])], packets
        wire.close(), alice.close(), bob.close()


@pytest.mark.suite("cluster")
@pytest.mark.parametrize("kind", ["postgres", "mysql"])
def test_the_leases_are_reached_by_db_cluster(database, kind):
    """With db_cluster in front of two ways to one database the second one serves when the first one is shut: the nodes
    hold their leases, and one takes over from the other."""
    server = database if kind == "postgres" else MariaDB()
    try:
        if kind == "mysql":
            server.sql(statement())
        leases_by_two_ways(server, kind)
    finally:
        if kind == "mysql":
            server.stop()


def leases_by_two_ways(server, kind):
    cluster = Cluster(2, modules=("db_" + kind, "db_cluster"), cluster_arbiter="database")
    server.sql("DELETE FROM presence_leases;")
    gates = [Gate(server.port) for _ in range(2)]
    for node in cluster.nodes:
        for n, gate in enumerate(gates):
            url = server.url.replace(":%d/" % server.port, ":%d/" % gate.port)
            node.extra_params += 'modparam("db_cluster", "connection", "way%d=>%s")\n' % (n, url)
        node.extra_params += 'modparam("db_cluster", "cluster", "leases=>way0=9s9s;way1=8s8s")\n'
        if kind == "postgres":
            node.extra_params += 'modparam("db_postgres", "timeout", 2)\n'
        node.presence["cluster_arbiter_url"] = "cluster://leases"
    with cluster as (a, b):
        alice = Client(a, "alice")
        alice.publish(body=dialog_info("early"), **DIALOG)
        time.sleep(0.5)
        lamps = [Lamp(b, alice.uri) for _ in range(4)]
        all_show(lamps, "early", 5)
        wait_for(lambda: count(a) == 4, 5)

        def hold():
            return all("lease_held = 1" in n.rpc("stats.get_statistics", "presence:") for n in (a, b))

        assert hold()
        gates[0].shut()
        listen(lamps, 8)
        wait_for(hold, 30)
        b.stop(signal.SIGKILL)
        wait_for(lambda: taken(a) == 4, 20)
        alice.publish(body=dialog_info("confirmed"), **DIALOG)
        all_show(lamps, "confirmed", 5)
        close(alice, *lamps)
