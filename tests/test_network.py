"""Three nodes on machines of their own, and a network between them that loses, doubles, delays and cuts, one way and
both, while nodes are frozen, killed and stopped: when it is over every lamp shows what is, and every node knows the
same. `make test-network SECONDS=3600` lives one such life after the other."""
import os
import random
import re
import signal
import time

import pytest

from kit.lan import Lan, can_be_made
from kit.sip import Client, dialog_info
from test_cluster import DIALOG, Cluster, count, wait_for
from test_cluster_faults import Lamp, freeze, held, listen

SECONDS, SEED = float(os.environ.get("NETWORK_SECONDS", 0)), int(os.environ.get("NETWORK_SEED", 1))
PHONES, NODES = 4, 3
STATES = ("trying", "early", "confirmed", "terminated")
# All is well again this long after the last fault, in seconds.
HEALED = 30


def owners(node):
    """Which node sends the NOTIFYs of which dialog, as this node knows it."""
    text = node.rpc("presence.subscriptions")
    found = list(zip(re.findall(r"callid: (\S+)", text), re.findall(r"\bnode: (\S+)", text)))
    assert len(found) == text.count("callid: "), text
    return tuple(sorted(found))


class Life:
    """Phones that publish, lamps that watch them, and what befalls the nodes."""

    def __init__(self, nodes, lan, seed):
        self.nodes, self.lan, self.chance = nodes, lan, random.Random(seed)
        self.phones = [Client(nodes[0], "p%d" % n) for n in range(PHONES)]
        for phone in self.phones:
            phone.tag, phone.state = None, None
            self.publish(phone)
        time.sleep(1)
        self.lamps = [Lamp(self.chance.choice(nodes), phone.uri) for phone in self.phones for _ in range(3)]
        for lamp, phone in zip(self.lamps, [phone for phone in self.phones for _ in range(3)]):
            lamp.phone = phone

    def publish(self, phone):
        state = self.chance.choice([state for state in STATES if state != phone.state])
        reply = phone.publish(body=dialog_info(state, phone.user), etag=phone.tag, **DIALOG)
        if reply is not None and reply.code == 412:
            reply = phone.publish(body=dialog_info(state, phone.user), **DIALOG)
        assert reply is not None and reply.code == 200, reply
        phone.tag, phone.state = reply.get("SIP-ETag"), state

    def go_on(self, seconds):
        """Phones publish at the first node, which is never disturbed itself."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.publish(self.chance.choice(self.phones))
            listen(self.lamps, self.chance.random())

    def disturb(self, what):
        lan, victim = self.lan, self.chance.randrange(1, NODES)
        node, others = self.nodes[victim], [at for at in range(NODES) if at != victim]
        if what == "bad":
            lan.loss, lan.doubled, lan.delay = 30, 20, 0.4
            self.go_on(8)
        elif what == "deaf":
            lan.cut(*((other, victim) for other in others))
            self.go_on(9)
        elif what == "mute":
            lan.cut(*((victim, other) for other in others))
            self.go_on(9)
        elif what == "cut":
            lan.cut(*((victim, other) for other in others), *((other, victim) for other in others))
            self.go_on(14)
        elif what == "partial":
            lan.cut((victim, others[1]), (others[1], victim))
            self.go_on(14)
        elif what == "frozen":
            freeze(node)
            self.go_on(self.chance.choice([3, 7, 12]))
            freeze(node, False)
        else:
            node.stop(signal.SIGKILL if what == "killed" else signal.SIGTERM)
            self.go_on(9)
            node.start()
        lan.fair()

    def ends_well(self):
        """All lamps show the last state within a bounded time, and nodes hold the same; no strict phone has to refuse
        a NOTIFY from then on."""
        end = time.monotonic() + HEALED
        # Requests that were sent before time out now, and dmq gives up nodes that are there again.
        listen(self.lamps, 5)
        wrong = self.wrong()
        while wrong and time.monotonic() < end:
            listen(self.lamps, 0.5)
            wrong = self.wrong()
        assert not wrong, "stuck for good: %s" % wrong
        wait_for(lambda: [held(node) for node in self.nodes] == [len(self.lamps)] * NODES, HEALED)
        wait_for(lambda: len({owners(node) for node in self.nodes}) == 1, HEALED)
        # dmq sends nothing to a node before it has seen that it is back; what is published meanwhile is compared later.
        wait_for(lambda: all(node.rpc("dmq.list_nodes").count("active") == NODES for node in self.nodes), HEALED)
        for lamp in self.lamps:
            lamp.refused = 0
        for phone in self.phones:
            self.publish(phone)
        end = time.monotonic() + 8
        listen(self.lamps, 2)
        while self.wrong() and time.monotonic() < end:
            listen(self.lamps, 0.5)
        assert not self.wrong(), "not notified: %s" % self.wrong()
        assert not sum(lamp.refused for lamp in self.lamps)

    def wrong(self):
        return [(lamp.phone.user, lamp.shows, lamp.phone.state) for lamp in self.lamps
                if lamp.shows[-1:] != [lamp.phone.state]]

    def close(self):
        for client in [*self.phones, *(lamp.client for lamp in self.lamps)]:
            client.close()


def live(seed, disturbances):
    lan = Lan(NODES, seed)
    try:
        with Cluster(NODES, lan=lan) as nodes:
            life = Life(nodes, lan, seed)
            wait_for(lambda: [count(node) for node in nodes] == [len(life.lamps)] * NODES, 20)
            for what in disturbances:
                life.disturb(what)
                try:
                    life.ends_well()
                except AssertionError as error:
                    raise AssertionError("seed %d, %s: %s" % (seed, what, error)) from error
            life.close()
    finally:
        lan.close()


@pytest.mark.suite("cluster")
@pytest.mark.skipif(not can_be_made(), reason="network namespaces and /dev/net/tun are for root")
def test_every_lamp_shows_what_is_after_bad_days():
    live(1, ["bad", "deaf", "frozen"])


@pytest.mark.suite("cluster")
@pytest.mark.skipif(not SECONDS, reason="NETWORK_SECONDS says how long (make test-network)")
def test_life_after_life():
    end, seed = time.monotonic() + SECONDS, SEED
    while time.monotonic() < end:
        kinds = ["bad", "deaf", "mute", "cut", "partial", "frozen", "killed", "stopped"]
        random.Random(seed).shuffle(kinds)
        print("seed %d: %s" % (seed, " ".join(kinds)), flush=True)
        live(seed, kinds)
        seed += 1
