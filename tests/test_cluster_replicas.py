"""Nodes that hold part of everything each (cluster_replicas): requests find the node that serves their presentity, a
node that is lost takes nothing with it, and one that joins gets its share."""
import os
import re
import signal
import socket
import time

import pytest

from kit.sip import Client, dialog_info
from test_api import module  # noqa: F401, a fixture
from test_bad_parameters import fails
from test_cluster import DIALOG, Cluster, StrictAnswers, at, count, rising, wait_for

# So many that no node is left without one by chance, and none has nothing but what it is the primary of.
LAMPS = 16
# So long after nodes have come or gone, at most, is a record on as many nodes as it should be and no more, in seconds:
# while they do not all see the same nodes each of them learns of everything, and they look for what is too much once a
# minute.
IN_PLACE = 150


def stat(node, name):
    return int(re.search(r"%s = (\d+)" % name, node.rpc("stats.get_statistics", "presence:")).group(1))


def documents(node):
    return node.rpc("presence.publications").count("etag:")


def held(nodes):
    """How many copies of subscriptions and publications the nodes hold together."""
    return sum(count(n) for n in nodes), sum(documents(n) for n in nodes)


class Lamp:
    """A phone that publishes, and a phone that watches it."""

    def __init__(self, number, publishes_at, watches_at):
        self.phone, self.watcher = Client(publishes_at, "p%d" % number), Client(watches_at, "w%d" % number)
        self.state, self.etag, self.watch = None, None, None
        self.watcher.answer = StrictAnswers()

    def publish(self, node, state):
        reply = at(self.phone, node).publish(
            body=dialog_info(state, user=self.phone.user), etag=self.etag, **DIALOG)
        assert reply.code == 200, reply
        self.state, self.etag = state, reply.get("SIP-ETag")

    def subscribe(self, node):
        self.watch = at(self.watcher, node).subscribe(self.phone.uri, event="dialog")
        assert self.watch.reply.code == 200, self.watch.reply

    def refresh(self, node):
        at(self.watcher, node)
        self.watch.target = None
        assert self.watch.refresh().code == 200, self.watch.reply

    def shows(self):
        self.watcher.receive(0.05)
        return self.watcher.answer.shows == [self.state]

    def wait_for(self, what, seconds):
        """Waits until something has happened; the watcher answers meanwhile."""
        def happened():
            self.watcher.receive(0.1)
            return what()

        wait_for(happened, seconds)

    def answer_for(self, seconds):
        end = time.monotonic() + seconds
        self.wait_for(lambda: time.monotonic() > end, seconds + 5)

    def close(self):
        self.phone.close(), self.watcher.close()


class Lit:
    """Nodes in a cluster with one copy of each record, and as many lamps."""

    def __init__(self, count_of_nodes, mode="memory", lamps=LAMPS, modules=(), script="", silent=9, **presence):
        self.cluster = Cluster(count_of_nodes, mode, modules=modules, cluster_replicas="1", **presence)
        self.nodes, self.count, self.lamps = self.cluster.nodes, lamps, []
        for node in self.nodes:
            node.route = node.route.replace("    if (!t_newtran()) exit;\n", script + "    if (!t_newtran()) exit;\n")
            # Watchers answer when the scenario lets them; and a silent node is found out later than it is asked.
            node.extra_params += 'modparam("tm", "fr_timer", %d)\n' % (silent * 1000)

    def __enter__(self):
        self.cluster.__enter__()
        wait_for(lambda: all("has its share" in n.log() for n in self.nodes), 60)
        many = len(self.nodes)
        self.lamps += [Lamp(n, self.nodes[n % many], self.nodes[(n + 1) % many]) for n in range(self.count)]
        for n, lamp in enumerate(self.lamps):
            lamp.publish(self.nodes[n % many], "early")
            lamp.subscribe(self.nodes[(n + 1) % many])
        wait_for(self.shows, 40)
        return self

    def __exit__(self, *_):
        for lamp in self.lamps:
            lamp.close()
        self.cluster.__exit__()

    def shows(self):
        # Each watcher answers what it has been sent.
        return all([lamp.shows() for lamp in self.lamps])

    def hold(self, copies, seconds=IN_PLACE):
        """Waits until the nodes hold this many copies of each record together; watchers answer meanwhile."""
        deadline = time.monotonic() + seconds
        while held(self.nodes) != (copies * self.count, copies * self.count):
            for lamp in self.lamps:
                lamp.watcher.receive(0.02)
            assert time.monotonic() < deadline, self.where()

    def where(self):
        """On which nodes each lamp's subscription and publication are."""
        places = []
        for lamp in self.lamps:
            user = lamp.phone.user + "@"
            texts = [(n.rpc("presence.subscriptions"), n.rpc("presence.publications")) for n in self.nodes]
            places.append((user, [at for at, text in enumerate(texts) if user in text[0]],
                           [at for at, text in enumerate(texts) if user in text[1]]))
        return held(self.nodes), places


def primary_of(nodes, uri, **more):
    """The node that answers requests about a presentity itself."""
    phone = Client(nodes[0], "asks")
    try:
        for node in nodes:
            before = stat(node, "requests_relayed")
            assert at(phone, node).publish(to=uri, etag="a.1.1.1.0", **more).code == 412
            if stat(node, "requests_relayed") == before:
                return node
    finally:
        phone.close()
    raise AssertionError("each node sends the request on")


@pytest.mark.suite("cluster")
@pytest.mark.parametrize("mode,more", [("memory", {}), ("write-through", {"cluster_secret": "s3cret-s3cret-s3cret"})])
def test_a_request_finds_the_node_that_serves_it(mode, more):
    """Phones speak to any node, each time to another one; each record is on two nodes and no more."""
    with Lit(4, mode, **more) as lit:
        nodes, lamps = lit.nodes, lit.lamps
        lit.hold(2)
        assert all(0 < count(n) < LAMPS for n in nodes), [count(n) for n in nodes]
        assert sum(stat(n, "requests_relayed") for n in nodes) >= LAMPS // 2
        for turn, state in enumerate(["confirmed", "trying"]):
            for n, lamp in enumerate(lamps):
                lamp.refresh(nodes[(n + turn + 2) % 4])
                lamp.publish(nodes[(n + turn + 3) % 4], state)
            wait_for(lit.shows, 40)
        for n, lamp in enumerate(lamps):
            # A phone that has an old entity tag starts anew, wherever it asks.
            assert at(lamp.phone, nodes[n % 4]).publish(etag="a.1.1.1.0", **DIALOG).code == 412
            rising(lamp.watch)
        lit.hold(2)
        for n, lamp in enumerate(lamps):
            at(lamp.watcher, nodes[(n + 2) % 4])
            lamp.watch.target = None
            lamp.watch.unsubscribe()
            assert at(lamp.phone, nodes[n % 4]).publish(etag=lamp.etag, expires=0, event="dialog").code == 200
        lit.hold(0)


@pytest.mark.suite("cluster")
def test_a_node_that_is_lost_takes_nothing_with_it():
    """What it held is held by others, and what it served is served by them; when it is back it has its share again."""
    with Lit(4) as lit:
        nodes, lamps = lit.nodes, lit.lamps
        lost, left = nodes[1], [nodes[0], nodes[2], nodes[3]]
        lost.stop(9)
        for n, lamp in enumerate(lamps):
            # Nobody knows yet that it is lost.
            lamp.publish(left[n % 3], "confirmed")
            # A watcher that does not answer meanwhile would lose its subscription (408).
            lit.shows()
        wait_for(lit.shows, 40)
        lost.start()
        wait_for(lambda: lit.shows() and 0 < count(lost) < LAMPS, IN_PLACE)
        lit.hold(2)
        for n, lamp in enumerate(lamps):
            lamp.refresh(nodes[n % 4])
            lamp.publish(nodes[(n + 1) % 4], "trying")
        wait_for(lit.shows, 40)
        for lamp in lamps:
            # No number is used twice, whichever node goes on.
            rising(lamp.watch)


@pytest.mark.suite("cluster")
def test_a_request_goes_to_the_next_node_when_its_primary_is_silent(module):
    """The next node answers it after two seconds; when none does the phone is asked to come back. What other modules
    publish, and what an operator asks for, reaches the nodes that hold the presentity wherever it happens."""
    with Lit(3, lamps=1, modules=("dmq", "presence", str(module)[:-3])) as lit:
        nodes, (lamp,) = lit.nodes, lit.lamps
        lit.hold(2)
        other = next(n for n in nodes if count(n) == 0)
        lamp.watcher.receive(0.1)
        before = len(lamp.watch.notifies)
        other.rpc("presence.refreshWatchers", lamp.phone.uri, "dialog", 1)
        lamp.watch.wait(before + 1)
        watch = at(lamp.watcher, other).subscribe("sip:alice@example.org", event="apitest")
        assert watch.reply.code == 200
        lamp.wait_for(lambda: sum(count(n) for n in nodes) == 4, IN_PLACE)
        outside = next(n for n in nodes if count(n) == (n is not other))
        outside.rpc("apitest.run")
        lamp.wait_for(lambda: any(b in n.text for n in watch.notifies for b in ("from-api", "changed")), 20)

        primary = primary_of(nodes, lamp.phone.uri, event="dialog")
        nearby = next(n for n in nodes if n not in (primary, other))
        pause(primary)
        try:
            begun = time.monotonic()
            lamp.publish(other, "confirmed")
            assert time.monotonic() - begun < 5
            pause(nearby)
            body = dialog_info("trying", user=lamp.phone.user)
            reply = at(lamp.phone, other).publish(body=body, etag=lamp.etag, **DIALOG)
            assert reply.code == 503 and int(reply.get("Retry-After")) > 0
        finally:
            pause(primary, signal.SIGCONT), pause(nearby, signal.SIGCONT)
        # What was answered 503 may have reached a silent node, which carries it out when it goes on.
        wait_for(lambda: lamp.shows() or "trying" in lamp.watch.notifies[-1].text, 40)


def sees(node, other):
    """Whether dmq finds another node there."""
    nodes = node.rpc("dmq.list_nodes").split("host:")
    return any("%s\n" % other.address in part and "status: active" in part for part in nodes)


@pytest.mark.suite("cluster")
def test_what_a_removed_publication_had_replaced_does_not_come_back():
    """A node that stands in for another one, on one side of a cut, replaces a publication by another one and removes
    that; the other side holds the first one still. After the cut the node holds nothing of it any more: it says which
    publications are gone, and they go."""
    with Lit(3, silent=5) as lit:
        nodes = lit.nodes
        lit.hold(2)
        placed = [(lamp, [n for n in nodes if lamp.phone.user + "@" in n.rpc("presence.publications")])
                  for lamp in lit.lamps]
        # The one that comes back finds the others by the first node.
        lamp, holders = next((lamp, held) for lamp, held in placed
                             if nodes[0] in held and primary_of(nodes, lamp.phone.uri, event="dialog") is not nodes[0])
        stays, back = nodes[0], next(n for n in holders if n is not nodes[0])
        stand_in = next(n for n in nodes if n not in holders)

        def holds(node):
            return lamp.phone.user + "@" in node.rpc("presence.publications")

        back.stop(signal.SIGKILL)
        lamp.wait_for(lambda: holds(stand_in) and not sees(stand_in, back), 60)
        stays.rpc("pv.shvSet", "cut", "str", "^%s$" % stand_in.address)
        stand_in.rpc("pv.shvSet", "cut", "str", "^(%s|%s)$" % (stays.address, back.address))
        lamp.wait_for(lambda: not sees(stand_in, stays) and not sees(stays, stand_in), 60)
        lamp.answer_for(4)
        relayed = stat(stand_in, "requests_relayed")
        lamp.etag = None
        lamp.publish(stand_in, "confirmed")
        assert at(lamp.phone, stand_in).publish(etag=lamp.etag, expires=0, event="dialog").code == 200
        assert stat(stand_in, "requests_relayed") == relayed and not holds(stand_in) and holds(stays)

        back.extra_params = back.extra_params.replace("cut=s:none", "cut=s:^%s$" % stand_in.address)
        back.start()
        lamp.wait_for(lambda: "has its share" in back.log() and holds(back), 60)
        # From then on the stand-in is none of those that the other two compare with.
        lamp.answer_for(33)
        assert holds(stays) and holds(back)
        for node in nodes:
            node.rpc("pv.shvSet", "cut", "str", "none")
        lamp.wait_for(lambda: sees(stand_in, stays) and sees(stand_in, back), 60)
        lamp.wait_for(lambda: not any(holds(n) for n in nodes), IN_PLACE)
        late = at(Client(nodes[0], "late"), nodes[0])
        watch = late.subscribe(lamp.phone.uri, event="dialog")
        assert not any(state in watch.wait(1)[-1].text for state in ("early", "confirmed")), watch.notifies[-1].text
        late.close()


def sent_on(lit, mark):
    """A PUBLISH with the header of a request that a node has sent on, as a stranger sends it to each node."""
    codes = []
    for node in lit.nodes:
        stranger = Client(node, "stranger")
        codes.append(stranger.publish(to=lit.lamps[0].phone.uri, body=dialog_info("trying"),
                                      extra=["P-Presence-Node: " + mark], **DIALOG).code)
        stranger.close()
    return codes


@pytest.mark.suite("cluster")
@pytest.mark.parametrize("more,why", [
    ({"cluster_secret": "s3cret-s3cret-s3cret"}, "it is not authenticated"),
    ({"cluster_peers": "127.0.0.2,127.0.0.3,127.0.0.4"}, "its address is not in cluster_peers"),
    ({}, "no node that dmq knows has its address"),
], ids=["secret", "peers", "open"])
def test_who_is_no_node_cannot_say_that_he_has_sent_a_request_on(more, why):
    """A stranger is answered 403 by the module, whatever the script lets pass; what nodes send on is served."""
    # 127.0.0.1 is that of the phones, and of the stranger.
    with Lit(3, lamps=2, begins=2, **more) as lit:
        # From here on all nodes have the same home for each lamp.
        lit.hold(2)
        # Before, each node may have served what it was asked for; one of three serves a lamp now.
        for lamp in lit.lamps:
            for node in lit.nodes:
                lamp.refresh(node)
        wait_for(lit.shows, 40)
        assert sum(stat(n, "requests_relayed") for n in lit.nodes) > 0
        before = [documents(n) for n in lit.nodes]
        rejected = [stat(n, "dmq_rejected") for n in lit.nodes]
        name = "%s:%d" % (lit.nodes[0].address, lit.nodes[0].port)
        assert sent_on(lit, name) == [403] * 3
        assert sent_on(lit, name + ";key=0;at=BjHZsqAAAAA;seal=" + "0" * 64) == [403] * 3
        assert [documents(n) for n in lit.nodes] == before
        assert [stat(n, "dmq_rejected") - r for n, r in zip(lit.nodes, rejected)] == [2] * 3
        for node in lit.nodes:
            lines = [line for line in node.log().split("\n") if "says it was sent on by a node is refused" in line]
            assert len(lines) == 1 and "127.0.0.1:" in lines[0] and why in lines[0], lines
        for lamp in lit.lamps:
            for node in lit.nodes:
                lamp.refresh(node)
                lamp.publish(node, "confirmed")
        wait_for(lit.shows, 40)


@pytest.mark.suite("cluster")
def test_a_node_that_has_restarted_leaves_requests_to_those_that_have_what_they_are_about():
    """The others have not noticed yet that it was away and send it what its presentities get, and it holds nothing.
    No phone is answered that its subscription or publication is not known."""
    with Lit(3) as lit:
        nodes, lamps = lit.nodes, lit.lamps
        lit.hold(2)
        home = nodes[1]
        served = [lamp for lamp in lamps if primary_of(nodes, lamp.phone.uri, event="dialog") is home]
        assert served
        starts = home.log().count("has its share")
        home.stop(signal.SIGKILL)
        home.start()
        early = 0
        for turn in range(4):
            for lamp in served:
                # Both must be answered 200.
                lamp.publish(nodes[0], "trying" if turn % 2 else "confirmed")
                lamp.refresh(nodes[2])
                early += home.log().count("has its share") == starts
                lit.shows()
        assert early > 0, "each request came when the node was ready"
        wait_for(lambda: home.log().count("has its share") > starts, 40)
        wait_for(lit.shows, 40)
        lit.hold(2)
        for lamp in lamps:
            strict = lamp.watcher.answer
            # One NOTIFY of the node before may be on its way when the next one begins (docs/clustering.md).
            assert strict.refused <= 1 and strict.shows == [lamp.state], (strict.shows, lamp.state)


# Each request that another node has sent on, as it came.
KEEP = """
    if (is_present_hf("P-Presence-Node")) { xlog("L_NOTICE", "sent on <<<$mb>>>\n"); }
"""


def repeat(node, text):
    """Sends a request once more, with a Via of one's own; returns the code of the answer."""
    head, body = text.replace("\r\n", "\n").split("\n\n", 1)
    lines = head.split("\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.settimeout(3)
        at = next(n for n, line in enumerate(lines) if line.lower().startswith("via:"))
        lines[at] = "Via: SIP/2.0/UDP 127.0.0.1:%d;branch=z9hG4bKagain%d" % (
            stranger.getsockname()[1], time.monotonic_ns())
        stranger.sendto(("\r\n".join(lines) + "\r\n\r\n" + body).encode(), (node.address, node.port))
        while True:
            code = int(stranger.recv(65536).split()[1])
            if code >= 200:
                return code


@pytest.mark.suite("cluster")
def test_what_a_node_has_sent_on_is_carried_out_once():
    """Who reads what nodes send each other cannot say the same again: a request that was sent on is taken again while
    its transaction sends it, and not later."""
    secret = dict(cluster_secret="s3cret-s3cret-s3cret")
    # 127.0.0.1 is that of the phones, and of who repeats it.
    with Lit(3, lamps=1, modules=("textops", "xlog"), script=KEEP, begins=2, **secret) as lit:
        nodes, (lamp,) = lit.nodes, lit.lamps
        lit.hold(2)
        home = primary_of(nodes, lamp.phone.uri, event="dialog")
        other = next(n for n in nodes if n is not home)
        lamp.publish(other, "confirmed")
        text = re.findall(r"sent on <<<(.*?)>>>", home.log(), re.S)[-1]
        assert text.startswith("PUBLISH ") and "confirmed" in text
        # Its entity tag is that of before.
        assert repeat(home, text) == 412
        rejected = stat(home, "dmq_rejected")
        lamp.answer_for(4.5)
        assert repeat(home, text) == 403
        assert stat(home, "dmq_rejected") == rejected + 1
        assert "it was received before" in home.log()
        lamp.publish(other, "trying")
        wait_for(lit.shows, 40)


# What scripts do to requests, and is not applied to them: local requests are served as they were received.
CHANGES = """
    if (is_method("SUBSCRIBE|PUBLISH")) {
        append_hf("X-Seen: yes\\r\\n");
        remove_hf("Contact");
        append_hf("Contact: <sip:elsewhere@192.0.2.1>\\r\\n");
        remove_hf("Expires");
        if (is_method("PUBLISH")) set_body("nothing", "text/plain");
    }
"""


@pytest.mark.suite("cluster")
@pytest.mark.parametrize("more", [{"cluster_secret": "s3cret-s3cret-s3cret"}, {}], ids=["secret", "open"])
def test_a_request_is_sent_on_as_it_was_received(more):
    """What a script has changed and not applied decides nothing, at the primary as at any other node; nor do bytes
    behind the body that Content-Length says."""
    with Lit(3, lamps=3, modules=("textops",), script=CHANGES, **more) as lit:
        lit.hold(2)
        for state in ("confirmed", "trying"):
            for n, lamp in enumerate(lit.lamps):
                for node in lit.nodes:
                    lamp.refresh(node)
                    body = dialog_info(state, user=lamp.phone.user)
                    reply = at(lamp.phone, node).publish(body=body + "\r\n\r\n", content_length=len(body),
                                                         etag=lamp.etag, **DIALOG)
                    assert reply.code == 200 and int(reply.get("Expires")) > 3000, reply
                    lamp.state, lamp.etag = state, reply.get("SIP-ETag")
            wait_for(lit.shows, 40)
        assert sum(stat(n, "requests_relayed") for n in lit.nodes) > 0
        assert sum(stat(n, "dmq_rejected") for n in lit.nodes) == 0


def pause(node, how=signal.SIGSTOP):
    for pid in node.pids():
        os.kill(pid, how)


@pytest.mark.parametrize("value,more,allowed", [
    ("0", {}, "all, or 1 to 16"),
    ("17", {}, "all, or 1 to 16"),
    ("18446744073709551617", {}, "all, or 1 to 16"),
    ("-1", {}, "all, or 1 to 16"),
    ("some", {}, "all, or 1 to 16"),
    ("1", {"enable_subs_dmq": 0}, "all unless enable_dmq and enable_subs_dmq are 1"),
    ("1", {"enable_dmq": 0}, "all unless enable_dmq and enable_subs_dmq are 1"),
    ("1", {"enable_pres_sync_dmq": 0}, "all unless enable_pres_dmq, enable_pres_sync_dmq and enable_subs_sync_dmq are"),
    ("1", {"subs_db_mode": 3}, "all with subs_db_mode 3"),
    ("1", {"publ_cache": 0, "subs_db_mode": 1}, "all with publ_cache 0"),
    ("1", {"cluster_arbiter": "database"}, "all with cluster_arbiter database"),
])
def test_where_it_cannot_be_the_server_does_not_start(value, more, allowed):
    presence = dict(enable_dmq=1, enable_subs_dmq=1, cluster_replicas=value)
    presence.update(more)
    line = fails(presence)
    assert "ERROR: presence: cannot start: parameter cluster_replicas is %s: allowed is %s" % (value, allowed) in line
