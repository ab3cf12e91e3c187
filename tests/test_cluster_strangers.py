"""A node that does not know the cluster's secret, or does not have the address of one, changes nothing and is sent
nothing."""
import json
import re
import time

import pytest

from kit.kamailio import Kamailio
from kit.sip import Client, dialog_info, pidf
from test_cluster import DIALOG, Cluster, count, wait_for

SECRET = "1:a secret that nodes share"
PUBLISHED = {"action": 1, "presentity": {"domain": "example.org", "user": "alice", "etag": "a.1.2.3.0", "expires": 600,
                                         "recv": 17, "event": "presence"},
             "t_new": 1, "cur_etag": "", "ruid": "pres-1-2-3", "body": pidf("alice")}


def say(stranger, node, channel, body):
    text = body if isinstance(body, str) else json.dumps(body)
    uri = "sip:%s@%s:%d" % (channel, node.address, node.port)
    return stranger.reply_to(stranger.request("KDMQ", uri, ["Content-Type: application/json"], text)).code


def counted(node, name):
    return int(re.search(name + r" = (\d+)", node.rpc("stats.get_statistics", "presence:")).group(1))


def attack(node):
    """What a stranger may try; returns the answers."""
    stranger = Client(node, "stranger")
    bodies = [("presence", PUBLISHED), ("presence", {"action": 2, "you": 1}), ("presence.nodes", "{"),
              ("presence.nodes", {"action": "hello", "node": "x:1", "answer": True}),
              ("presence.nodes", {"action": "sync", "node": "x:1"}),
              ("presence.nodes", {"action": "goodbye", "node": "127.0.0.2:%d" % node.port}),
              ("presence.nodes", {"action": "root", "node": "x:1", "kind": 0, "count": 0, "sum": "0"}),
              ("presence.nodes", {"action": "hello", "node": "x:1", "answer": True, "seal": "1 61 1 1 " + "0" * 64})]
    codes = [say(stranger, node, channel, body) for channel, body in bodies]
    for n in range(300):
        say(stranger, node, "presence.nodes", {"action": "later", "node": "n:%d" % n})
    stranger.close()
    return codes


def works(a, b):
    """The two nodes share what they have; the second goes on for the first."""
    alice, bob = Client(b, "alice"), Client(a, "bob")
    watch = bob.subscribe(alice.uri, event="dialog")
    watch.wait(1)
    wait_for(lambda: count(b) == 1, 10)
    alice.publish(body=dialog_info("early"), **DIALOG)
    assert "early" in watch.wait(2)[-1].text
    a.stop(9)
    alice.publish(body=dialog_info("confirmed", dialog_id="d2"), **DIALOG)
    assert "confirmed" in watch.wait(3, 25)[-1].text
    alice.close(), bob.close()


@pytest.mark.suite("cluster")
def test_who_does_not_know_the_secret_is_refused():
    with Cluster(2, cluster_secret=SECRET) as (a, b):
        assert attack(b) == [403] * 8
        shown = b.rpc("presence.presentity_list", "full")
        assert "alice" not in shown and counted(b, "dmq_rejected") >= 308
        lines = [line for line in b.log().split("\n") if "is refused" in line]
        assert len(lines) == 1 and "127.0.0.1:" in lines[0] and "not authenticated" in lines[0]
        assert "secret that" not in a.log() + b.log()
        works(a, b)


@pytest.mark.suite("cluster")
@pytest.mark.parametrize("secret", ["", SECRET], ids=["open", "secret"])
def test_a_stranger_who_floods_costs_little(secret):
    """Beyond a rate his messages are not looked at; the nodes reach each other all the same."""
    with Cluster(2, cluster_secret=secret) as (a, b):
        stranger = Client(b, "stranger")
        body = {"action": "later", "node": "x:1"}
        assert say(stranger, b, "presence.nodes", body) == (403 if secret else 200)
        received = counted(b, "dmq_received")
        for n in range(2_000):
            request = stranger.request("KDMQ", "sip:presence.nodes@%s:%d" % (b.address, b.port),
                                       ["Content-Type: application/json"], json.dumps(body))
            stranger.socket.sendto(request, (b.address, b.port))
            if n % 50 == 0:
                time.sleep(0.005)
        wait_for(lambda: counted(b, "dmq_received") >= received + 1_000, 20)
        assert counted(b, "dmq_limited") > 300
        lines = [line for line in b.log().split("\n") if "more than 100 in one second" in line]
        assert len(lines) == 1 and "127.0.0.1:" in lines[0], lines
        works(a, b)
        stranger.close()


@pytest.mark.suite("cluster")
@pytest.mark.parametrize("door", [dict(cluster_secret=SECRET), dict(cluster_peers="127.0.0.0/28")],
                         ids=["secret", "peers"])
def test_a_node_that_sends_from_another_address_is_no_stranger(door):
    """Behind a NAT, or with several sockets, messages do not come from the address that the node says it has."""
    cluster = Cluster(2, **door)
    a, b = cluster.nodes
    b.listen.append("udp:127.0.0.9:%d" % b.port)
    sent_from = 'modparam("dmq", "server_socket", "udp:%s:@PORT@")' % b.address
    assert sent_from in b.extra_params
    b.extra_params = b.extra_params.replace(sent_from, sent_from.replace(b.address, "127.0.0.9"))
    with cluster:
        alice = Client(b, "alice")
        began = time.monotonic()
        for n in range(600):
            assert alice.publish("sip:u%d@example.org" % n, body=pidf("u%d" % n)).code == 200
        rate = 600 / (time.monotonic() - began)
        assert rate > 150, "too slow to reach the bound of a stranger: %d a second" % rate
        wait_for(lambda: a.rpc("presence.presentity_list").count("user:") >= 600, 3)
        assert counted(a, "dmq_limited") == 0
        alice.close()


@pytest.mark.suite("cluster")
def test_the_secret_is_changed_node_by_node():
    cluster = Cluster(2, cluster_secret=SECRET + ",2:the next secret of ours")
    cluster.nodes[1].presence = dict(cluster.nodes[1].presence, cluster_secret="2:the next secret of ours," + SECRET)
    with cluster as (a, b):
        works(a, b)


@pytest.mark.suite("cluster")
def test_a_node_with_another_secret_is_no_node():
    cluster = Cluster(2, cluster_secret=SECRET)
    cluster.nodes[1].presence = dict(cluster.nodes[1].presence, cluster_secret="1:a secret of strangers")
    with cluster as (a, b):
        alice, bob = Client(a, "alice"), Client(a, "bob")
        watch = bob.subscribe(alice.uri)
        watch.wait(1)
        alice.publish(body=pidf())
        watch.wait(2)
        bob.quiet(7)
        assert count(b) == 0 and "alice" not in b.rpc("presence.presentity_list", "full")
        assert "another secret" in b.log() + a.log()
        alice.close(), bob.close()


@pytest.mark.suite("cluster")
@pytest.mark.parametrize("others", ["", "1:a secret of strangers"], ids=["none", "another"])
def test_a_node_that_others_refuse_says_so_itself(others):
    cluster = Cluster(2, cluster_secret=SECRET)
    cluster.nodes[1].presence = dict(cluster.nodes[1].presence, cluster_secret=others)
    with cluster as (a, b):
        wait_for(lambda: "refuses the messages of this node" in b.log())
        wait_for(lambda: counted(b, "dmq_refused") > 1)
        lines = [line for line in b.log().split("\n") if "refuses the messages of this node" in line]
        assert len(lines) == 1 and "%s:%d" % (a.address, a.port) in lines[0] and "cluster_secret" in lines[0]
        assert not any(secret in a.log() + b.log() for secret in ("secret that", "secret of strangers"))


@pytest.mark.suite("cluster")
def test_only_the_addresses_of_nodes_are_accepted():
    cluster = Cluster(2)
    for node, peer in zip(cluster.nodes, ("127.0.0.2", "127.0.0.3,127.0.0.0/31")):
        node.presence = dict(node.presence, cluster_peers=peer)
    with cluster as (a, b):
        assert attack(a) == [403] * 8
        assert "cluster_peers" in a.log()
        works(a, b)


@pytest.mark.suite("cluster")
@pytest.mark.parametrize("name, value, word", [("cluster_secret", "short", "16 characters"),
                                               ("cluster_peers", "10.0.0.1:5060", "address")])
def test_what_cannot_be_is_said_at_start(name, value, word):
    node = Kamailio("ours", modules=("dmq", "presence", "presence_xml"),
                    presence={"subs_db_mode": 0, "publ_cache": 2, "enable_dmq": 1, name: value})
    node.extra_params = 'modparam("dmq", "server_address", "sip:127.0.0.1:@PORT@")\n'
    try:
        node.start(expect_failure=True)
        line = next(line for line in node.log().split("\n") if "cannot start" in line)
        assert name in line and word in line
        assert value not in line or name != "cluster_secret"
    finally:
        node.remove()
