"""What nodes send each other when a subscription is refreshed, as it is on the wire: one small packet to each node."""
import json
import re
import socket
import time
import uuid

import pytest

from kit.sip import Client, pidf
from test_cluster import Cluster, at, count, wait_for
from test_cluster_strangers import SECRET, counted

# A packet of a refresh has at most this many bytes, with the headers of IP and UDP.
MOST = 600


class Wire:
    """What nodes are sent over the loopback interface; other tests have nodes of their own there."""

    def __init__(self, *nodes):
        self.ports = {node.port for node in nodes}
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
        self.socket.bind(("lo", 0))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.socket.settimeout(0.02)

    def among_nodes(self, watcher, seconds):
        """The requests on the nodes' channel: from where, to where, how many bytes, and the body."""
        found, end = [], time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                packet, about = self.socket.recvfrom(65536)
            except TimeoutError:
                watcher.receive(0.001)
                continue
            datagram = packet[(packet[0] & 15) * 4:]
            text, port = datagram[8:], int.from_bytes(datagram[2:4], "big")
            # Each packet is seen when it is sent and when it has come.
            is_sent = about[2] == socket.PACKET_OUTGOING
            if is_sent or port not in self.ports or not text.startswith(b"KDMQ sip:presence.nodes@"):
                continue
            addresses = socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
            found.append((*addresses, len(packet), text.partition(b"\r\n\r\n")[2].decode()))
        return found

    def close(self):
        self.socket.close()


def compares(body):
    return re.match(r'\{"action":"(root|sums|keys|want|records|pull|page|hello)"', body)


def changes(packets):
    return [packet for packet in packets if not compares(packet[3])]


def short_to(packets, *nodes):
    """The changes among the packets: one to each of these nodes, none of them long."""
    sent = changes(packets)
    assert sorted(packet[1] for packet in sent) == [node.address for node in nodes], sent
    assert all(len(packet[3]) and packet[2] <= MOST for packet in sent), sent
    return sent


@pytest.mark.suite("cluster")
@pytest.mark.parametrize("secret,length,host", [
    ("", 0, None), (SECRET, 0, None), (SECRET, 80, None), (SECRET, 0, "127.100.100.10%d"),
], ids=["open", "secret", "long", "far"])
def test_a_refresh_is_one_small_packet_to_each_node(secret, length, host):
    """However long the addresses of the phones are: From and To of 100 bytes, a Contact of 200; and with the longest
    addresses of nodes that IPv4 has."""
    cluster = Cluster(3, cluster_secret=secret, **(dict(host=host) if host else {}))
    with cluster as (a, b, c):
        alice, watcher = Client(a, "alice" + "a" * length), Client(a, "watcher" + "w" * length)
        alice.publish(body=pidf())
        contact = watcher.contact.replace(">", ";line=" + "x" * (200 - len(watcher.contact)) + ">") if length else True
        watch = watcher.subscribe(alice.uri, contact=contact)
        watch.wait(1)
        wait_for(lambda: count(b) == 1 and count(c) == 1, 10)
        wire = Wire(a, b, c)
        for expires in (1800, 900, 3600):
            assert watch.send(expires, contact=contact).code == 200
            sent = short_to(wire.among_nodes(watcher, 1), b, c)
            print([packet[2] for packet in sent])
            for node in (b, c):
                shown = node.rpc("presence.watcher_list", alice.uri, "full")
                numbers = {name: int(number) for name, number in re.findall(r"(\w+): (\d+)\n", shown)}
                assert abs(numbers["expires"] - time.time() - expires) < 10, shown
                assert numbers["remote_cseq"] == watch.cseq, shown
        # The node that holds a replica goes on with what it was sent: it is the owner's, to the last digit.
        assert counted(b, "dmq_rejected") == counted(c, "dmq_rejected") == 0
        moved = at(watcher, b)
        assert watch.refresh(ruri=alice.uri).code == 200
        moved.receive(1)
        wire.close()
        for client in (alice, watcher):
            client.close()


def speak_as(node, to, body):
    """One node says something to another."""
    text = json.dumps(body).encode()
    sender = "sip:presence.nodes@%s:%d" % (node.address, node.port)
    head = ("KDMQ sip:presence.nodes@{0}:{1} SIP/2.0\r\nVia: SIP/2.0/UDP {2}:{3};branch=z9hG4bK{4}\r\n"
            "To: <sip:presence.nodes@{0}:{1}>\r\nFrom: <{5}>;tag={4}\r\nCSeq: 10 KDMQ\r\nCall-ID: {4}\r\n"
            "Max-Forwards: 1\r\nContent-Type: application/json\r\nContent-Length: {6}\r\n\r\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind((node.address, 0))
        one.settimeout(3)
        fields = to.address, to.port, *one.getsockname(), uuid.uuid4().hex, sender, len(text)
        one.sendto(head.format(*fields).encode() + text, (to.address, to.port))
        assert one.recv(65536).startswith(b"SIP/2.0 200"), body


@pytest.mark.suite("cluster")
def test_a_node_of_an_older_version_is_announced_the_whole():
    with Cluster(2) as (a, b):
        watcher = Client(a, "watcher")
        watch = watcher.subscribe("sip:alice@example.org")
        watch.wait(1)
        wait_for(lambda: count(b) == 1, 10)
        wire, name = Wire(a, b), "%s:%d" % (b.address, b.port)
        for version, kind, named in ((4, list, ""), (3, list, "%s:%d" % (a.address, a.port)), (2, dict, None),
                                     (3, list, "%s:%d" % (a.address, a.port)), (4, list, "")):
            # As it says who it is after it was replaced by that version.
            speak_as(b, a, {"action": "hello", "node": name, "answer": False, "v": version, "compares": 3})
            assert watch.refresh().code == 200
            sent = [json.loads(packet[3]) for packet in changes(wire.among_nodes(watcher, 1)) if packet[1] == b.address]
            assert [type(message) for message in sent] == [kind], sent
            assert kind is dict or sent[0][1] == named, sent
            assert kind is list or (sent[0]["action"], sent[0]["remote_cseq"]) == ("subscription", watch.cseq)
        assert counted(b, "dmq_rejected") == 0
        wire.close(), watcher.close()


@pytest.mark.suite("cluster")
def test_who_lacks_a_replica_that_was_refreshed_asks_for_it():
    with Cluster(2) as (a, b):
        watcher = Client(a, "watcher")
        b.rpc("pv.shvSet", "deaf", "int", "1")
        watch = watcher.subscribe("sip:alice@example.org")
        watch.wait(1)
        time.sleep(0.3)
        assert count(b) == 0
        b.rpc("pv.shvSet", "deaf", "int", "0")
        assert watch.refresh().code == 200
        wait_for(lambda: count(b) == 1, 3)
        watcher.close()


@pytest.mark.suite("cluster")
def test_one_message_that_a_node_cannot_read_makes_no_later_one_long():
    cluster = Cluster(2)
    a, b = cluster.nodes
    b.modules = [name for name in b.modules if name != "presence_dialoginfo"]
    with cluster:
        watcher = Client(a, "watcher")
        watch = watcher.subscribe("sip:alice@example.org")
        watch.wait(1)
        wait_for(lambda: count(b) == 1, 10)
        # A package that is not known there.
        watcher.subscribe("sip:alice@example.org", event="dialog").wait(1)
        wire = Wire(a, b)

        def sends_short():
            assert watch.refresh().code == 200
            return [type(json.loads(packet[3])) for packet in changes(wire.among_nodes(watcher, 1))] == [list]

        wait_for(sends_short, 15)
        wire.close(), watcher.close()
