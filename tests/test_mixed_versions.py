"""What stock's newer versions exchange between nodes, publications and subscriptions, and what they understand of
ours."""
import contextlib
import itertools
import re
import time

import pytest

from kit.kamailio import SERVER
from kit.sip import Client, pidf
from test_dmq import errors, joined, message, node, update

AGE = 6
# Before 6.1 a node of stock's sends a node that joins nothing.
PAIRS = ([("ours", "ours"), ("ours", "stock")]
         + ([("stock", "ours"), ("stock", "stock")] if SERVER.numbers >= (6, 1) else []))


def document(server, number):
    """What a new watcher learns of alice."""
    bob = Client(server, "bob%d" % number)
    try:
        notifies = bob.subscribe("sip:alice@example.org").wait(1)
        return "open" in notifies[0].text if notifies else None
    finally:
        bob.close()


@pytest.mark.suite("cluster")
def test_a_publication_lives_as_long_on_a_node_that_joined_later():
    """All pairs at once: the document is there until its owner's answer said, and no longer."""
    # A busy machine may need longer than that life until all nodes have joined.
    seen = next((seen for seen in map(seen_of_a_life, (20, 40, 80)) if seen), None)
    assert seen == [{pair: True for pair in PAIRS}, {pair: False for pair in PAIRS}]


def seen_of_a_life(life):
    """Which second nodes show a document shortly before and after the end of its `life` in seconds; `None` when they
    joined too late for that."""
    with contextlib.ExitStack() as servers:
        firsts = [servers.enter_context(node(one, subs_db_mode=0, publ_cache=2, clean_period=5)) for one, _ in PAIRS]
        for first in firsts:
            alice = Client(first, "alice")
            reply = alice.publish(to="sip:alice@example.org", body=pidf("alice"), expires=life)
            assert reply.code == 200 and reply.get("Expires") == str(life)
            alice.close()
        start = time.monotonic()
        time.sleep(AGE)
        joiners = [servers.enter_context(node(two, first, subs_db_mode=0, publ_cache=2, clean_period=5))
                   for (_, two), first in zip(PAIRS, firsts)]
        for first, second in zip(firsts, joiners):
            joined(first, second)
        seen = []
        for number, moment in ((1, start + life - 4), (2, start + life + 2)):
            if number == 1 and time.monotonic() > moment:
                return None
            time.sleep(max(0.0, moment - time.monotonic()))
            seen.append({pair: document(second, number) for pair, second in zip(PAIRS, joiners)})
            if number == 1 and time.monotonic() > moment + 2:
                return None
        return seen


@pytest.mark.suite("cluster")
def test_expires_counts_from_where_the_hosts_version_counts():
    """A hundred seconds of age: from 6.1 on `expires` counts from `recv`, before from the arrival; a clock that is
    wrong changes nothing."""
    counts_from_receipt = SERVER.numbers >= (6, 1)
    with node("ours") as server:
        sender = Client(server, "peer", "127.0.0.1")
        now = int(time.time())
        for user, received, right in (("late", now - 100, 500 if counts_from_receipt else 600),
                                      ("ahead", now + 3000, 600),
                                      ("behind", now - 3000, 600), ("unknown", 0, 600)):
            text = update("a.1.2.%d.0" % received, expires=600, user=user, ruid="r-" + user, body=pidf(user),
                          recv=received)
            assert message(sender, text).code == 200
            row = next(row for row in server.rows("presentity") if row["username"] == user)
            assert abs(row["expires"] - now - right) <= 3, user
        sender.close()


# -- subscriptions ---------------------------------------------------------------------------------------------------

# Stock shares subscriptions over DMQ from Kamailio 6.1 on.
BOTH = list(itertools.product(("stock", "ours") if SERVER.numbers >= (6, 1) else ("ours",), repeat=2))


def sharing(which, seed=None, skip=1, **more):
    """A node as the README of stock's module sets one up: it notifies all watchers of what is published there."""
    settings = dict(subs_db_mode=0, publ_cache=2, enable_subs_dmq=1, skip_notify_dmq=skip)
    made = node(which, seed, **dict(settings, **more))
    made.extra_params += 'modparam("presence", "default_socket", "udp:%s:@PORT@")\n' % made.address
    return made


@contextlib.contextmanager
def pair(one, two, skip=1, **more):
    with sharing(one, skip=skip, **more) as first, sharing(two, first, skip, **more) as second:
        joined(first, second)
        time.sleep(1.5)
        yield first, second


def at(phone, server):
    phone.server = server
    return phone


def rising(watch):
    numbers = [notify.cseq for notify in watch.notifies]
    return numbers == sorted(set(numbers))


# What `served_by_both` returns where all is well.
SERVED_BY_BOTH = [True, 200, True, True, 200, True, 481, 5, True]


def served_by_both(first, second):
    """One watcher's life: what it asks for at one node and what happens at the other."""
    alice, bob = Client(second, "alice"), Client(first, "bob")
    watch = bob.subscribe(alice.uri)
    watch.wait(1)
    time.sleep(0.5)
    etag = alice.publish(body=pidf()).get("SIP-ETag")
    seen = ["open" in watch.wait(2)[-1].text]
    # The watcher speaks to the other node from now on.
    at(bob, second)
    seen.append(watch.refresh().code)
    seen.append("open" in watch.wait(3)[-1].text)
    time.sleep(0.5)
    at(alice, first).publish(body=pidf(basic="closed"), etag=etag)
    seen.append("closed" in watch.wait(4)[-1].text)
    time.sleep(0.5)
    seen.append(watch.unsubscribe().code)
    seen.append("terminated" in watch.wait(5)[-1].get("Subscription-State"))
    time.sleep(0.5)
    at(bob, first)
    seen.append(watch.refresh().code)
    bob.quiet(0.5)
    seen += [len(watch.notifies), rising(watch)]
    alice.close(), bob.close()
    return seen


def lived(one, two, life, right, **settings):
    """What `life` sees of two nodes. Where one of them is stock's there are three tries: its processes take two
    messages of another node in any order, so that on a busy machine it loses a step now and then. Ours have one."""
    for _ in range(3 if "stock" in (one, two) else 1):
        with pair(one, two, **settings) as (first, second):
            seen = life(first, second)
            assert not [line for line in errors(first, second) if "json" in line]
        if seen == right:
            break
    return seen


@pytest.mark.suite("cluster")
def test_a_watcher_is_served_by_either_node():
    results = {pair: lived(*pair, served_by_both, SERVED_BY_BOTH) for pair in BOTH}
    assert results == {pair: SERVED_BY_BOTH for pair in BOTH}


@pytest.mark.suite("cluster")
def test_watchers_are_notified_of_what_happens_elsewhere():
    """With skip_notify_dmq 0 each node notifies of what others announce: a watcher may learn a state twice, and misses
    none."""
    seen = {}
    for one, two in BOTH:
        with pair(one, two, skip=0) as (first, second):
            phones = [Client(first, "bob"), Client(second, "carol")]
            watches = [phone.subscribe("sip:alice@example.org") for phone in phones]
            alice = Client(first, "alice")
            time.sleep(0.5)
            reply = alice.publish(body=pidf())
            alice.quiet(1)
            at(alice, second).publish(body=pidf(basic="closed"), etag=reply.get("SIP-ETag"))
            for phone in phones:
                phone.quiet(1)
            seen[one, two] = [("open" in watch.notifies[1].text, "closed" in watch.notifies[-1].text)
                              for watch in watches]
            for phone in [alice] + phones:
                phone.close()
    assert seen == {pair: [(True, True)] * 2 for pair in BOTH}


@pytest.mark.suite("cluster")
def test_a_node_that_joins_learns_the_subscriptions_there_are():
    codes = {}
    for one, two in BOTH:
        with sharing(one) as first:
            bob = Client(first, "bob")
            watches = [bob.subscribe("sip:u%d@example.org" % number) for number in range(20)]
            for watch in watches:
                watch.wait(1)
            with sharing(two, first) as second:
                joined(first, second)
                time.sleep(3)
                at(bob, second)
                codes[one, two] = [watch.refresh().code for watch in watches]
            bob.close()
    assert codes == {pair: [200] * 20 for pair in BOTH}


@pytest.mark.suite("cluster")
def test_a_lost_nodes_watchers_are_notified_by_the_other():
    shows = {}
    for one, two in BOTH:
        with pair(one, two) as (first, second):
            bob, alice = Client(first, "bob"), Client(second, "alice")
            watch = bob.subscribe(alice.uri)
            watch.wait(1)
            time.sleep(0.5)
            first.stop(9)
            alice.publish(body=pidf())
            # Between ours another node goes on once dmq has noticed the loss.
            deadline = time.monotonic() + 40
            while "open" not in watch.notifies[-1].text and time.monotonic() < deadline:
                bob.quiet(0.2)
            shows[one, two] = "open" in watch.notifies[-1].text and rising(watch)
            assert at(bob, second) and watch.refresh().code == 200
            alice.close(), bob.close()
    assert shows == {pair: True for pair in BOTH}


def gone(first, second):
    """The watcher answers 481 to a NOTIFY that the other node's publication has brought about."""
    bob, alice = Client(first, "bob"), Client(second, "alice")
    watch = bob.subscribe(alice.uri)
    watch.wait(1)
    time.sleep(0.5)
    # What stock says of the NOTIFY and of its answer may overtake each other when they are sent together.
    bob.answer = lambda message: time.sleep(0.3) or 481
    alice.publish(body=pidf())
    watch.wait(2)
    time.sleep(0.5)
    bob.answer = 200
    bob.quiet(1)
    codes = [at(bob, server) and watch.refresh().code for server in (first, second)]
    alice.close(), bob.close()
    return codes


@pytest.mark.suite("cluster")
def test_a_dialog_that_is_gone_is_gone_on_both_nodes():
    codes = {pair: lived(*pair, gone, [481, 481]) for pair in BOTH}
    assert codes == {pair: [481, 481] for pair in BOTH}


@pytest.mark.suite("cluster")
@pytest.mark.parametrize("mode", [1, 2])
def test_nodes_with_tables_of_their_own_share_subscriptions(mode):
    """Written through, or from time to time: a watcher is served by either node, and a dialog that is gone is gone."""
    right = [SERVED_BY_BOTH, [481, 481]]
    results = {pair: lived(*pair, lambda *nodes: [served_by_both(*nodes), gone(*nodes)], right, subs_db_mode=mode)
               for pair in BOTH}
    assert results == {pair: right for pair in BOTH}


@pytest.mark.suite("cluster")
@pytest.mark.skipif(SERVER.numbers < (6, 1), reason="stock shares subscriptions from Kamailio 6.1 on")
def test_two_of_ours_and_one_of_stocks():
    """Each change is notified once to each watcher, at whatever node it was published; each node serves each."""
    with sharing("ours") as first, sharing("ours", first) as second, sharing("stock", first, number=3) as third:
        nodes = [first, second, third]
        joined(*nodes)
        time.sleep(3)
        phones = [Client(server, "watcher%d" % number) for number, server in enumerate(nodes)]
        watches = [phone.subscribe("sip:alice@example.org") for phone in phones]
        for watch in watches:
            watch.wait(1)
        time.sleep(1)
        alice, etag = Client(first, "alice"), None
        for number, server in enumerate(nodes):
            reply = at(alice, server).publish(body=pidf(note="change %d" % number), etag=etag)
            assert reply.code == 200
            etag = reply.get("SIP-ETag")
            for phone in phones:
                phone.quiet(0.7)
            assert [len(watch.notifies) for watch in watches] == [number + 2] * 3, number
            assert all("change %d" % number in watch.notifies[-1].text and rising(watch) for watch in watches)
        for turn in (1, 2):
            for number, (phone, watch) in enumerate(zip(phones, watches)):
                assert at(phone, nodes[(number + turn) % 3]) and watch.refresh().code == 200, (turn, number)
                time.sleep(0.5)
        assert all(rising(watch) for watch in watches)
        for phone, watch in zip(phones, watches):
            assert watch.unsubscribe().code == 200
        time.sleep(1)
        for server in nodes:
            assert "watcher" not in (server.rpc("presence.subscriptions") if server.which == "ours" else "")
            assert [at(phone, server) and watch.refresh().code for phone, watch in zip(phones, watches)] == [481] * 3
        for client in phones + [alice]:
            client.close()


def announced(watcher, **changes):
    """A subscription as nodes of 6.1 announce it: these members, no others."""
    members = dict(pres_uri="sip:alice@example.org", contact="sip:bob@127.0.0.1:%d" % watcher.port,
                   local_contact="sip:127.0.0.9",
                   watcher_domain="example.org", watcher_user="bob", from_domain="example.org", from_user="bob",
                   to_domain="example.org", to_user="alice", from_tag="there", to_tag="here", user_agent="",
                   callid="call",
                   reason="", socket_info="udp:127.0.0.9:5060", record_route="", event_id="", event="presence",
                   local_cseq=7,
                   remote_cseq=1, expires=int(time.time()) + 600, flags=0, status=1, version=7, updated=-1,
                   updated_winfo=-1)
    return {"action": 3, "subscription": dict(members, **changes)}


@pytest.mark.suite("cluster")
def test_what_stock_says_of_a_subscription_is_taken():
    """Also of a node that dmq does not know, and on every version: a dialog that was announced can be notified,
    refreshed and ended."""
    with sharing("ours") as server:
        peer, bob, alice = Client(server, "peer", "127.0.0.1"), Client(server, "bob"), Client(server, "alice")
        assert message(peer, announced(bob)).code == 200
        assert "call" in server.rpc("presence.subscriptions")
        alice.publish(body=pidf())
        notify = bob.wait_notifies(1)[0]
        assert "open" in notify.text and notify.cseq == 9 and str(server.port) in notify.get("Contact")
        assert notify.get("To").endswith("tag=there") and notify.get("From").endswith("tag=here")
        # Another node has notified the watcher meanwhile.
        assert message(peer, announced(bob, local_cseq=40, version=40)).code == 200
        refresh = bob.reply_to(bob.request("SUBSCRIBE", "sip:alice@example.org", ["Event: presence", "Expires: 60"],
                                           call_id="call",
                                           from_tag="there", to_tag="here", cseq=2))
        assert refresh.code == 200 and bob.wait_notifies(2)[-1].cseq > 41
        # What was announced before is no news; the end is.
        assert message(peer, announced(bob)).code == 200
        assert message(peer, announced(bob, expires=0)).code == 200
        assert "call" not in server.rpc("presence.subscriptions")
        assert message(peer, announced(bob)).code == 200 and "call" not in server.rpc("presence.subscriptions")
        for client in (peer, bob, alice):
            client.close()


@pytest.mark.suite("cluster")
@pytest.mark.parametrize("changes",
                         [dict(event="unknown"), dict(callid=""), dict(contact=""), dict(status=7), dict(expires=-1),
                                     dict(remote_cseq=2 ** 32 - 1), dict(from_tag="a\r\nX: y"), dict(pres_uri=7)],
                         ids=str)
def test_what_no_subscription_can_be_is_refused(changes):
    with sharing("ours") as server:
        peer, bob = Client(server, "peer", "127.0.0.1"), Client(server, "bob")
        assert message(peer, announced(bob, **changes)).code == 400
        assert "callid" not in server.rpc("presence.subscriptions")
        peer.close(), bob.close()


@pytest.mark.suite("cluster")
@pytest.mark.skipif(SERVER.numbers >= (6, 1), reason="from Kamailio 6.1 on stock takes subscriptions")
def test_nodes_that_know_no_subscriptions_are_left_alone():
    with node("stock", subs_db_mode=0, publ_cache=2) as first, sharing("ours", first, skip=0) as second:
        joined(first, second)
        time.sleep(1.5)
        bob = Client(second, "bob")
        for number in range(20):
            assert bob.subscribe("sip:u%d@example.org" % number).reply.code == 200
            bob.quiet(0.05)
        assert 1 <= len(re.findall("unrecognized field", first.log())) <= 6
        alice = Client(first, "alice")
        alice.publish(to="sip:u1@example.org", body=pidf("u1"))
        assert "open" in bob.wait_notifies(21)[-1].text
        alice.close(), bob.close()
