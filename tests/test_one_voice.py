"""Phones that go from node to node while messages between the nodes are under way: one node speaks for a dialog at a
time, also where no arbiter says which (docs/clustering.md, "Subscriptions")."""
import time

import pytest

from kit.sip import Client, dialog_info
from test_cluster import DIALOG, Cluster, at, count, wait_for
from test_cluster_faults import Lamp, close, freeze, listen


def cut_off(node, other=None):
    """What `other` sends to the node is lost there; its transactions send it again."""
    node.rpc("pv.shvSet", "cut", "str", "^(%s)$" % other.address.replace(".", r"\.") if other else "none")


def goes_to(lamp, node):
    at(lamp.client, node)
    lamp.watch.target = None
    assert lamp.watch.refresh().code == 200


def sender(lamp):
    return lamp.watch.notifies[-1].get("Contact")


@pytest.mark.suite("cluster")
def test_the_former_owner_speaks_until_it_has_learnt_of_the_change_of_hands():
    """What says that the subscription has gone to another node is lost once: the owner goes on meanwhile, and its
    numbers are not behind those of the new one."""
    with Cluster(3) as nodes:
        alice = Client(nodes[0], "alice")
        tag = alice.publish(body=dialog_info("early"), **DIALOG).get("SIP-ETag")
        lamp = Lamp(nodes[0], alice.uri)
        wait_for(lambda: all(count(node) == 1 for node in nodes), 5)
        for turn in range(6):
            owner, other = nodes[turn % 3], nodes[(turn + 1) % 3]
            state = ("confirmed", "early")[turn % 2]
            cut_off(owner, other)
            goes_to(lamp, other)
            at(alice, owner)
            tag = alice.publish(body=dialog_info(state), etag=tag, **DIALOG).get("SIP-ETag")
            listen([lamp], 0.2)
            assert lamp.shows == [state] and str(owner.port) in sender(lamp), "the owner does not know yet"
            cut_off(owner)
            listen([lamp], 1.0)
            assert lamp.shows == [state] and str(other.port) in sender(lamp), "the new owner goes on"
            assert lamp.refused == 0, turn
        close(alice, lamp)


@pytest.mark.suite("cluster")
def test_a_freeze_that_is_too_short_to_be_noticed_leaves_one_voice():
    with Cluster(3) as (a, b, c):
        alice = Client(c, "alice")
        tag = alice.publish(body=dialog_info("early"), **DIALOG).get("SIP-ETag")
        lamps = [Lamp(a, alice.uri) for _ in range(4)]
        wait_for(lambda: count(b) == 4 and count(c) == 4, 5)
        freeze(a)
        for lamp in lamps:
            goes_to(lamp, b)
        alice.publish(body=dialog_info("confirmed"), etag=tag, **DIALOG)
        listen(lamps, 1.2)
        freeze(a, False)
        listen(lamps, 5)
        assert [(lamp.shows, lamp.refused) for lamp in lamps] == [(["confirmed"], 0)] * 4
        assert all(str(b.port) in sender(lamp) for lamp in lamps)
        close(alice, *lamps)


@pytest.mark.suite("cluster")
def test_who_does_not_answer_is_waited_for_once():
    with Cluster(2) as (a, b):
        alice = Client(b, "alice")
        tag = alice.publish(body=dialog_info("early"), **DIALOG).get("SIP-ETag")
        first, second = Lamp(a, alice.uri), Lamp(a, alice.uri)
        wait_for(lambda: count(b) == 2, 5)
        time.sleep(0.5)
        a.stop(9)
        listen([first, second], 0.2)
        known, begun = len(first.watch.notifies), time.monotonic()
        goes_to(first, b)
        first.watch.wait(known + 1, 6)
        waited = time.monotonic() - begun
        assert 2 < waited < 5, "the length of a lease, and the next second"
        known, begun = len(second.watch.notifies), time.monotonic()
        goes_to(second, b)
        second.watch.wait(known + 1, 2)
        assert time.monotonic() - begun < 1
        alice.publish(body=dialog_info("confirmed"), etag=tag, **DIALOG)
        listen([first, second], 1)
        assert [(lamp.shows, lamp.refused) for lamp in (first, second)] == [(["confirmed"], 0)] * 2
        close(alice, first, second)
