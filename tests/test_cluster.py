"""Nodes that share subscriptions (enable_subs_dmq): one sends, the others hold replicas and go on when it is lost."""
import json
import re
import time

import pytest

from kit.kamailio import Kamailio
from kit.sip import Client, dialog_info, pidf

# A node receives nothing from the nodes in $shv(cut): a network that is split, seen from it.
ROUTE = """
request_route {
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    if (is_method("KDMQ")) {
        if ($si =~ $shv(cut)) exit;
        if ($shv(deaf) == 1 && $rU != "notification_peer") { sl_send_reply("200", "OK"); exit; }
        dmq_handle_message();
        exit;
    }
    if (!t_newtran()) exit;
    if (is_method("PUBLISH")) { handle_publish(); } else { handle_subscribe(); }
    t_release();
}
"""
MODES = {"memory": dict(subs_db_mode=0, publ_cache=2), "write-through": dict(subs_db_mode=1), "defaults": dict()}
DIALOG = dict(event="dialog", ctype="application/dialog-info+xml")


def nodes(count, mode="memory", modules=(), lan=None, begins=1, host="127.0.0.%d", **presence):
    """Nodes with loopback addresses of their own, from 127.0.0.`begins` on, or each on a machine of `lan`."""
    made = []
    for n in range(count):
        address = lan.address(n) if lan else host % (n + begins)
        node = Kamailio("ours", modules=(*modules, "dmq", "presence", "presence_xml", "presence_dialoginfo"),
                        route=ROUTE,
                        debug=2,
                        address=address, presence=dict(MODES[mode], enable_dmq=1, enable_subs_dmq=1, **presence))
        if lan:
            node.near, node.wrap = lan.near, lan.machine(n)
        node.extra_params = ('modparam("pv", "shvset", "cut=s:none")\nmodparam("pv", "shvset", '
                             '"deaf=i:0")\nmodparam("tm", "fr_timer", 1000)\n')
        node.extra_params += 'modparam("presence", "default_socket", "udp:%s:@PORT@")\n' % address
        node.extra_params += 'modparam("dmq", "server_address", "sip:%s:@PORT@")\n' % address
        node.extra_params += ('modparam("dmq", "server_socket", "udp:%s:@PORT@")\nmodparam("dmq", "ping_interval", '
                              '4)\n' % address)
        if n:
            first = "sip:%s:%d" % (made[0].address, made[0].port)
            node.extra_params += 'modparam("dmq", "notification_address", "%s")\n' % first
        made.append(node)
    return made


class Cluster:
    def __init__(self, *args, **more):
        self.nodes = nodes(*args, **more)

    def __enter__(self):
        for node in self.nodes:
            node.start()
        self.joined()
        return self.nodes

    def joined(self):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if all(n.rpc("dmq.list_nodes").count("active") >= len(self.nodes) for n in self.nodes if n.alive()):
                time.sleep(1.5)
                return
            time.sleep(0.2)
        raise AssertionError("the nodes do not find each other:\n" + self.nodes[0].rpc("dmq.list_nodes"))

    def __exit__(self, *_):
        for node in self.nodes:
            node.stop(9 if not node.alive() else 15)
            node.remove()


def taken(node):
    found = re.search(r"subscriptions_taken_over = (\d+)", node.rpc("stats.get_statistics", "presence:"))
    return int(found.group(1))


def wait_for(what, seconds=25):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if what():
            return
        time.sleep(0.2)
    raise AssertionError("it did not happen within %d seconds" % seconds)


def rising(watch):
    numbers = [n.cseq for n in watch.notifies]
    assert numbers == sorted(set(numbers)), numbers
    return numbers


class StrictAnswers:
    """What a strict phone answers NOTIFYs with (RFC 3261 12.2.2): 500 to a CSeq that is not above the last one."""

    def __init__(self):
        self.highest, self.shows, self.refused, self.answers = {}, [], 0, {}

    def __call__(self, message):
        if message.method != "NOTIFY":
            return 200
        # A copy of a request is answered as the request was (RFC 3261 17.2.2).
        branch = message.get("Via")
        if branch not in self.answers:
            self.answers[branch] = self.judge(message)
        return self.answers[branch]

    def judge(self, message):
        number, call = message.cseq, message.get("Call-ID")
        if number <= self.highest.get(call, 0):
            self.refused += 1
            return 500
        self.highest[call] = number
        self.shows = re.findall(r"<state>(\w+)</state>", message.text)
        return 200


def at(client, node):
    """The same phone, speaking to another node."""
    client.server = node
    return client


def count(node):
    return node.rpc("presence.subscriptions").count("callid:")


@pytest.mark.suite("cluster")
def test_one_node_sends(tmp_path):
    """All nodes hold the subscription; a change on any of them is notified once, by the owner."""
    with Cluster(3) as (a, b, c):
        alice, bob = Client(b, "alice"), Client(a, "bob")
        watch = bob.subscribe(alice.uri)
        watch.wait(1)
        wait_for(lambda: [count(n) for n in (a, b, c)] == [1, 1, 1], 5)
        reply = alice.publish(body=pidf())
        assert "open" in watch.wait(2)[-1].text
        # The third node learns of the publication in a message of its own.
        wait_for(lambda: alice.user in c.rpc("presence.presentity_list"), 5)
        at(alice, c).publish(body=pidf(basic="closed"), etag=reply.get("SIP-ETag"))
        assert "closed" in watch.wait(3)[-1].text
        bob.quiet(1)
        assert rising(watch) == [2, 3, 4] and all(taken(n) == 0 for n in (a, b, c))
        watch.unsubscribe()
        watch.wait(4)
        wait_for(lambda: [count(n) for n in (a, b, c)] == [0, 0, 0], 5)
        bob.quiet(0.5)
        assert len(watch.notifies) == 4 and "terminated" in watch.notifies[-1].get("Subscription-State")
        alice.close(), bob.close()


@pytest.mark.suite("cluster")
@pytest.mark.parametrize("mode", list(MODES))
def test_a_phone_goes_to_another_node(mode):
    """A refresh may come to any node: it owns the subscription from then on."""
    with Cluster(2, mode) as (a, b):
        alice, bob = Client(a, "alice"), Client(a, "bob")
        watch = bob.subscribe(alice.uri, event="dialog")
        watch.wait(1)
        wait_for(lambda: count(b) == 1, 5)
        at(bob, b)
        watch.target = None
        assert watch.refresh().code == 200
        assert str(b.port) in watch.reply.get("Contact")
        watch.wait(2)
        time.sleep(0.5)
        alice.publish(body=dialog_info("confirmed"), **DIALOG)
        assert "confirmed" in watch.wait(3)[-1].text
        bob.quiet(0.7)
        assert len(rising(watch)) == 3
        assert str(b.port) in watch.notifies[-1].get("Contact")
        if mode == "write-through":
            assert [r["local_cseq"] for r in b.rows("active_watchers")] == [watch.notifies[-1].cseq - 1]
        watch.unsubscribe()
        wait_for(lambda: [count(n) for n in (a, b)] == [0, 0], 5)
        alice.close(), bob.close()


@pytest.mark.suite("cluster")
@pytest.mark.parametrize("mode", list(MODES))
def test_the_others_go_on_when_a_node_dies(mode):
    cluster = Cluster(3, mode)
    with cluster as (a, b, c):
        alice, bob = Client(c, "alice"), Client(b, "bob")
        reply = alice.publish(body=dialog_info("early"), **DIALOG)
        time.sleep(0.5)
        lamps = [bob.subscribe(alice.uri, event="dialog") for _ in range(12)]
        for lamp in lamps:
            lamp.wait(1)
        wait_for(lambda: count(a) == 12 and count(c) == 12, 5)
        b.stop(9)
        reply = alice.publish(body=dialog_info("confirmed"), etag=reply.get("SIP-ETag"), **DIALOG)
        for lamp in lamps:
            assert "confirmed" in lamp.wait(2, 30)[-1].text
        wait_for(lambda: taken(a) + taken(c) == 12, 5)
        assert taken(a) > 0 and taken(c) > 0
        for lamp in lamps:
            assert 1000 < rising(lamp)[-1] < 2000
        alice.publish(body=dialog_info("terminated"), etag=reply.get("SIP-ETag"), **DIALOG)
        for lamp in lamps:
            assert "terminated" in lamp.wait(3)[-1].text
        bob.quiet(0.7)
        assert all(len(lamp.notifies) == 3 for lamp in lamps)
        # The node returns: it holds replicas, and what it has of old it gives up.
        b.start()
        cluster.joined()
        wait_for(lambda: count(b) == 12, 15)
        time.sleep(6)
        before = [len(lamp.notifies) for lamp in lamps]
        alice.publish(body=dialog_info("trying", dialog_id="d2"), **DIALOG)
        for lamp, seen in zip(lamps, before):
            assert "trying" in lamp.wait(seen + 1)[-1].text
            rising(lamp)
        bob.quiet(1)
        assert [len(lamp.notifies) for lamp in lamps] == [seen + 1 for seen in before]
        at(bob, b)
        for lamp in lamps:
            lamp.target = None
            assert lamp.refresh().code == 200
        alice.close(), bob.close()


@pytest.mark.suite("cluster")
def test_a_node_that_restarts_at_once_is_given_its_subscriptions_back():
    cluster = Cluster(2)
    with cluster as (a, b):
        alice, bob = Client(a, "alice"), Client(b, "bob")
        alice.publish(body=pidf())
        time.sleep(0.5)
        watch = bob.subscribe(alice.uri)
        watch.wait(1)
        wait_for(lambda: count(a) == 1, 5)
        b.stop(9)
        b.start()
        wait_for(lambda: count(b) == 1, 15)
        watch.wait(2, 10)
        alice.publish(to=alice.uri, body=pidf(basic="closed", tuple_id="t2"))
        assert "closed" in watch.wait(3, 20)[-1].text
        bob.quiet(1)
        assert len(rising(watch)) == 3
        alice.close(), bob.close()


@pytest.mark.suite("cluster")
def test_messages_that_are_none():
    """Whatever a stranger says on the nodes' channel is refused, or changes nothing."""
    with Cluster(1) as (a,):
        bob, peer = Client(a, "bob"), Client(a, "peer")
        watch = bob.subscribe("sip:alice@example.org")
        watch.wait(1)
        whole = dict(action="subscription", node="x:1", owner="x:1", term=0, event="presence", status=1, expires=60,
                     local_cseq=1,
                     remote_cseq=1, version=1, flags=0, age=0, pres_uri="sip:alice@example.org", to_user="alice",
                     to_domain="example.org", from_user="eve", from_domain="e", watcher_user="eve", watcher_domain="e",
                     event_id="", to_tag="t", from_tag="f", callid="c", socket="udp:1.2.3.4:5",
                     contact="sip:eve@127.0.0.1",
                     local_contact="sip:x", record_route="", reason="", user_agent="")

        def say(body):
            text = body if isinstance(body, str) else json.dumps(body)
            request = peer.request("KDMQ", "sip:presence.nodes@127.0.0.1:%d" % a.port,
                                   ["Content-Type: application/json"], text)
            return peer.reply_to(request).code

        for bad in ("", "{", "[]", '{"action":"hello"}', {"action": 1, "node": "x:1"},
                    {"action": "hello", "node": "x" * 300},
                    dict(whole, event="nothing"), dict(whole, status=9), dict(whole, callid=7), dict(whole, term=-1),
                    dict(whole, contact=""), dict(whole, callid=[256]), dict(whole, local_cseq=4294967295),
                    {"action": "end", "node": "x:1", "callid": "c"}, '{"a":' * 300):
            assert say(bad) == 400, bad
        assert say(dict(whole, stranger=[1])) == 200 and count(a) == 2
        assert say(dict(whole, term=4000000000, local_cseq=1000000000)) == 200
        # What is newer here is answered.
        assert say(dict(whole, owner="127.0.0.1:%d" % a.port, local_cseq=1000000000, remote_cseq=9)) == 202
        assert say({"action": "sync", "node": "x:1"}) == 200 and say({"action": "later", "node": "x:1"}) == 200
        assert say(dict(action="end", node="x:1", callid="c", to_tag="t", from_tag="f", for_good=True)) == 200
        assert count(a) == 1 and a.alive()
        before = len(watch.notifies)
        assert watch.refresh().code == 200
        # A watcher that does not answer would be taken for lost while the node is busy with the others.
        watch.wait(before + 1)
        for number in range(400):
            say({"action": "later", "node": "n:%d" % number})
        assert watch.refresh().code == 200 and a.alive()
        bob.close(), peer.close()


@pytest.mark.suite("cluster")
def test_a_split_heals():
    """Each half serves what it can reach; afterwards every lamp shows what is, and what ended stays ended."""
    cluster = Cluster(3)
    with cluster as (a, b, c):
        one, two, bob, carl = Client(a, "one"), Client(c, "two"), Client(a, "bob"), Client(c, "carl")
        for phone in (one, two):
            phone.tag = phone.publish(body=dialog_info("early", phone.user), **DIALOG).get("SIP-ETag")
        lamps = [w.subscribe(p.uri, event="dialog") for w in (bob, carl) for p in (one, two)]
        for lamp in lamps:
            lamp.wait(1)
        leaving = carl.subscribe(one.uri)
        leaving.wait(1)
        gone = two.publish(body=pidf("two")).get("SIP-ETag")
        wait_for(lambda: all(count(n) == 5 for n in (a, b, c)), 5)
        # c alone, a and b together
        c.rpc("pv.shvSet", "cut", "str", r"127\.0\.0\.[12]")
        a.rpc("pv.shvSet", "cut", "str", r"127\.0\.0\.3")
        b.rpc("pv.shvSet", "cut", "str", r"127\.0\.0\.3")
        one.publish(body=dialog_info("terminated", "one"), etag=one.tag, **DIALOG)
        two.publish(body=dialog_info("terminated", "two"), etag=two.tag, **DIALOG)
        two.publish(etag=gone, expires=0)
        leaving.unsubscribe()
        end = time.monotonic() + 25
        while time.monotonic() < end:
            bob.quiet(0.2), carl.quiet(0.2)
        for node in (a, b, c):
            node.rpc("pv.shvSet", "cut", "str", "none")
        end = time.monotonic() + 20
        while time.monotonic() < end:
            bob.quiet(0.2), carl.quiet(0.2)
        for node in (a, b, c):
            shown = node.rpc("presence.presentity_list", "full")
            assert shown.count("terminated") == 2 and "early" not in shown and "event: presence" not in shown, shown
            assert count(node) == 4
        for lamp in lamps:
            last = max(lamp.notifies, key=lambda n: n.cseq).text
            assert "terminated" in last, lamp.notifies
        before = [len(lamp.notifies) for lamp in lamps]
        one.publish(body=dialog_info("confirmed", "one", dialog_id="d7"), **DIALOG)
        two.publish(body=dialog_info("confirmed", "two", dialog_id="d8"), **DIALOG)
        bob.quiet(1), carl.quiet(1)
        assert [len(lamp.notifies) for lamp in lamps] == [n + 1 for n in before]
        for lamp in lamps:
            newest = max(lamp.notifies, key=lambda n: n.cseq)
            assert newest is lamp.notifies[-1] and "confirmed" in newest.text
        for client in (one, two, bob, carl):
            client.close()
