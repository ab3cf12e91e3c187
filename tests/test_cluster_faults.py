"""Nodes of one cluster that are frozen, do not reach each other, lose messages, leave: no lamp stays wrong. The phones
keep RFC 3261 12.2.2 by the letter: a CSeq that is not higher than the last one is answered 500."""
import os
import re
import signal
import time

import pytest

from kit.sip import Client, dialog_info
from test_cluster import DIALOG, Cluster, StrictAnswers, at, count, taken, wait_for


class Lamp(StrictAnswers):
    """A strict phone and what it shows."""

    def __init__(self, node, presentity):
        super().__init__()
        self.client = Client(node, "lamp")
        self.client.answer = self
        self.watch = self.client.subscribe(presentity, event="dialog")
        self.watch.wait(1)


def listen(lamps, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for lamp in lamps:
            while lamp.client.receive(0.001):
                pass
        time.sleep(0.01)


def all_show(lamps, state, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        listen(lamps, 0.2)
        if all(state in lamp.shows for lamp in lamps):
            return
    raise AssertionError([lamp.shows for lamp in lamps])


def freeze(node, stopped=True):
    for pid in node.pids():
        os.kill(pid, signal.SIGSTOP if stopped else signal.SIGCONT)


def cut(nodes, groups):
    """Each node is reached by those of its own group alone."""
    for group in groups:
        others = [n.address.replace(".", r"\.") for other in groups if other is not group for n in other]
        for node in group:
            node.rpc("pv.shvSet", "cut", "str", "^(%s)$" % "|".join(others) if others else "none")


def held(node):
    text = node.rpc("stats.get_statistics", "presence:")
    return sum(int(n) for n in re.findall(r"subscriptions(?:_replicas)? = (\d+)", text))


def close(*clients):
    for client in clients:
        getattr(client, "client", client).close()


@pytest.mark.suite("cluster")
def test_a_frozen_owner_asks_before_it_speaks():
    with Cluster(3) as (a, b, c):
        alice = Client(a, "alice")
        tag = alice.publish(body=dialog_info("early"), **DIALOG).get("SIP-ETag")
        time.sleep(0.5)
        lamps = [Lamp(b, alice.uri) for _ in range(8)]
        wait_for(lambda: count(a) == 8 and count(c) == 8, 5)
        freeze(b)
        tag = alice.publish(body=dialog_info("confirmed"), etag=tag, **DIALOG).get("SIP-ETag")
        all_show(lamps, "confirmed", 25)
        listen(lamps, 2)
        assert taken(a) + taken(c) == 8
        for lamp in lamps:
            lamp.refused = 0
        freeze(b, False)
        alice.publish(body=dialog_info("terminated"), etag=tag, **DIALOG)
        all_show(lamps, "terminated", 5)
        listen(lamps, 12)
        assert [lamp.shows for lamp in lamps] == [["terminated"]] * 8
        assert [lamp.refused for lamp in lamps] == [0] * 8, "the node that was frozen has sent NOTIFYs"
        assert "it asks the others" in b.log()
        close(alice, *lamps)


@pytest.mark.suite("cluster")
def test_a_message_that_is_lost_is_made_good():
    """The receiver's script answers 200 and throws messages away: nobody learns that they are lost."""
    cluster = Cluster(2)
    with cluster as (a, b):
        alice = Client(a, "alice")
        gone = Client(a, "gone")
        gone_tag = gone.publish(body=dialog_info("early", "gone"), **DIALOG).get("SIP-ETag")
        time.sleep(0.5)
        b.rpc("pv.shvSet", "deaf", "int", "1")
        gone.publish(etag=gone_tag, expires=0, event="dialog")
        tag = alice.publish(body=dialog_info("early"), **DIALOG).get("SIP-ETag")
        alice.publish(body=dialog_info("confirmed"), etag=tag, **DIALOG)
        lamp = Lamp(a, alice.uri)
        time.sleep(0.5)
        assert (count(a), count(b)) == (1, 0) and alice.user not in b.rpc("presence.presentity_list", "full")
        b.rpc("pv.shvSet", "deaf", "int", "0")
        wait_for(lambda: count(b) == 1, 45)
        shown = lambda: b.rpc("presence.presentity_list", "full")
        wait_for(lambda: "confirmed" in shown() and "gone" not in shown(), 45)
        # The other way: a subscription that has ended, and is still held elsewhere.
        b.rpc("pv.shvSet", "deaf", "int", "1")
        lamp.watch.unsubscribe()
        time.sleep(0.5)
        assert (count(a), count(b)) == (0, 1)
        b.rpc("pv.shvSet", "deaf", "int", "0")
        wait_for(lambda: (count(a), count(b)) == (0, 0), 45)
        close(alice, gone, lamp)


@pytest.mark.suite("cluster")
def test_a_node_that_leaves_hands_over_at_once():
    with Cluster(2) as (a, b):
        alice = Client(a, "alice")
        tag = alice.publish(body=dialog_info("early"), **DIALOG).get("SIP-ETag")
        time.sleep(0.5)
        lamps = [Lamp(b, alice.uri) for _ in range(5)]
        wait_for(lambda: count(a) == 5, 5)
        b.stop()
        left = time.monotonic()
        wait_for(lambda: taken(a) == 5, 2)
        assert time.monotonic() - left < 1, "it was noticed like a crash"
        listen(lamps, 1)
        before = [len(lamp.client.notifies) for lamp in lamps]
        alice.publish(body=dialog_info("confirmed"), etag=tag, **DIALOG)
        all_show(lamps, "confirmed", 3)
        listen(lamps, 1)
        assert [len(lamp.client.notifies) for lamp in lamps] == [n + 1 for n in before]
        assert not any(lamp.refused for lamp in lamps)
        close(alice, *lamps)


@pytest.mark.suite("cluster")
def test_numbers_go_on_above_all_that_were_sent():
    """A dialog that had more NOTIFYs than are reserved at once is taken over above all of them."""
    with Cluster(2) as (a, b):
        alice = Client(a, "alice")
        lamp = Lamp(b, alice.uri)
        tag = None
        # Changes that follow fast share a NOTIFY.
        for n in range(4000):
            state = "confirmed" if n % 2 else "early"
            tag = alice.publish(body=dialog_info(state), etag=tag, **DIALOG).get("SIP-ETag")
            while lamp.client.receive(0):
                pass
            if state == "confirmed" and lamp.highest[lamp.watch.call_id] > 1200:
                break
        all_show([lamp], "confirmed", 10)
        assert lamp.highest[lamp.watch.call_id] > 1200
        b.stop(9)
        alice.publish(body=dialog_info("terminated"), etag=tag, **DIALOG)
        all_show([lamp], "terminated", 25)
        assert lamp.refused == 0
        close(alice, lamp)


@pytest.mark.suite("cluster")
def test_a_phone_that_says_that_numbers_are_behind_is_notified_above_them():
    with Cluster(2) as (a, b):
        alice = Client(a, "alice")
        lamp = Lamp(a, alice.uri)
        # As if another node, which nobody reaches, had come to 1,500.
        lamp.highest[lamp.watch.call_id] = 1500
        alice.publish(body=dialog_info("confirmed"), **DIALOG)
        all_show([lamp], "confirmed", 5)
        refused = lamp.refused
        lamp.client.answer = 500
        alice.publish(body=dialog_info("early", dialog_id="d2"), **DIALOG)
        listen([lamp], 4)
        assert refused <= 3 and len(lamp.client.notifies) < 12, "a phone that always says so is not notified for ever"
        close(alice, lamp)


@pytest.mark.suite("cluster")
def test_after_a_cut_every_lamp_shows_what_is():
    """Phones change node while the network is cut, and publish on both sides; the same record is changed on both."""
    with Cluster(3) as (a, b, c):
        phones = [Client(a, "p%d" % n) for n in range(6)]
        for phone in phones:
            phone.tag = phone.publish(body=dialog_info("early", phone.user), **DIALOG).get("SIP-ETag")
        time.sleep(0.5)
        lamps = [Lamp(node, phone.uri) for phone in phones for node in (a, c)]
        wait_for(lambda: [count(n) for n in (a, b, c)] == [12] * 3, 5)
        cut((a, b, c), ((a, b), (c,)))
        for n, phone in enumerate(phones):
            if n % 3 != 1:
                phone.publish(body=dialog_info("confirmed", phone.user), etag=phone.tag, **DIALOG)
        listen(lamps, 14)
        for n, phone in enumerate(phones):
            # With the tag that the other side knows: the phone went there without an answer.
            reply = at(phone, c).publish(body=dialog_info("terminated", phone.user), etag=phone.tag, **DIALOG)
            assert reply.code == 200
        listen(lamps, 8)
        cut((a, b, c), ((a, b, c),))
        listen(lamps, 25)
        dumps = [sorted(re.findall(r"etag: (\S+)", n.rpc("presence.presentity_list", "full"))) for n in (a, b, c)]
        assert dumps[0] == dumps[1] == dumps[2]
        assert [count(n) for n in (a, b, c)] == [12] * 3
        owners = [sorted(re.findall(r"callid: (\S+)|node: (\S+)", n.rpc("presence.subscriptions"))) for n in (a, b, c)]
        assert owners[0] == owners[1] == owners[2]
        assert [lamp.shows for lamp in lamps] == [["terminated"]] * 12
        before = [lamp.refused for lamp in lamps]
        for phone in phones:
            phone.publish(body=dialog_info("trying", phone.user, dialog_id="x" + phone.user), **DIALOG)
        all_show(lamps, "trying", 5)
        assert [lamp.refused for lamp in lamps] == before
        close(*phones, *lamps)


@pytest.mark.suite("cluster")
@pytest.mark.parametrize("ends, mode, clean_period", [
    ("by its tag", "memory", 100), ("by a document that expires at once", "memory", 100),
    ("of its own accord", "memory", 100), ("of its own accord", "memory", 1), ("of its own accord", "defaults", 100),
    ("of its own accord", "defaults", 1)])
def test_an_older_state_of_one_side_of_a_cut_does_not_show_after_its_end_on_the_other(ends, mode, clean_period):
    """A call is published on one side, and then, by another publication that never reaches the first side, on the
    other, where it ends. When the network is whole again no watcher there sees the first publication, and no node holds
    it. What runs out may not be cleaned up yet by then."""
    with Cluster(3, mode, clean_period=clean_period) as (a, b, c):
        first, then = Client(c, "p"), Client(a, "p")
        lamps = [Lamp(node, first.uri) for node in (a, b, c)]
        wait_for(lambda: [count(n) for n in (a, b, c)] == [3] * 3, 5)
        cut((a, b, c), ((a, b), (c,)))
        assert first.publish(body=dialog_info("early", "p", dialog_id="call"), **DIALOG).code == 200
        listen(lamps, 1.3)  # before the nodes notice the cut all is over
        assert lamps[2].shows == ["early"]
        if ends == "by its tag":
            tag = then.publish(body=dialog_info("confirmed", "p", dialog_id="call"), **DIALOG).get("SIP-ETag")
            listen(lamps, 1)
            assert lamps[0].shows == ["confirmed"]
            assert then.publish(etag=tag, expires=0, event="dialog").code == 200
        elif ends == "of its own accord":
            body = dialog_info("confirmed", "p", dialog_id="call")
            assert then.publish(body=body, **{**DIALOG, "expires": 1}).code == 200
            listen(lamps, 0.4)
            assert lamps[0].shows == ["confirmed"]
            listen(lamps, 1.4)
        else:
            body = dialog_info("terminated", "p", dialog_id="call")
            assert then.publish(body=body, **{**DIALOG, "expires": 0}).code == 200
        listen(lamps, 1)
        before = [len(lamp.watch.notifies) for lamp in lamps]
        cut((a, b, c), ((a, b, c),))
        listen(lamps, 12)
        held = [n.rpc("presence.publications").count("etag:") for n in (a, b, c)]
        assert held == [0] * 3
        later = [[n.text for n in lamp.watch.notifies[seen:]] for lamp, seen in zip(lamps, before)]
        assert not any("early" in text for text in later[0] + later[1]), later
        # Who comes later sees nothing of it, wherever.
        late = [Client(node, "late%d" % n) for n, node in enumerate((a, b, c))]
        shown = [client.subscribe(first.uri, event="dialog").wait(1)[-1].text for client in late]
        assert not any(state in text for state in ("early", "confirmed") for text in shown), shown
        close(first, then, *lamps, *late)


@pytest.mark.suite("cluster")
def test_a_node_that_joins_is_sent_thousands_of_subscriptions():
    cluster = Cluster(2)
    a, b = cluster.nodes
    try:
        a.start()
        watcher = Client(a, "bob")
        for n in range(3000):
            watcher.send_raw(watcher.request("SUBSCRIBE", "sip:u%d@example.org" % (n % 100),
                                             ["Event: dialog", "Expires: 3600"], call_id="c%d" % n))
            while watcher.receive(0.003):
                pass
        watcher.quiet(2)
        made = held(a)
        assert made == 3000
        b.start()
        cluster.joined()
        wait_for(lambda: held(b) == made, 60)
        watcher.close()
    finally:
        for node in (a, b):
            node.stop(9), node.remove()
