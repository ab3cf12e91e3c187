"""Two nodes that exchange publications over Kamailio's dmq: stock and ours in every combination."""
import itertools
import json
import time

import pytest

from kit.kamailio import HERE, Kamailio
from kit.sip import Client, dialog_info, pidf

ROUTE = """
request_route {
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    if (is_method("KDMQ")) { dmq_handle_message(); exit; }
    if (!t_newtran()) exit;
    if (is_method("PUBLISH")) { handle_publish(); } else { handle_subscribe(); }
    t_release();
}
"""
MODES = {"memory": dict(subs_db_mode=0, publ_cache=2), "defaults": dict(),
         "database-only": dict(subs_db_mode=3, publ_cache=0, notifier_processes=0)}
PAIRS = list(itertools.product(("stock", "ours"), repeat=2))


def node(which, seed=None, modules=("dmq", "presence", "presence_xml", "presence_dialoginfo"), host=HERE, number=None,
         **presence):
    # Newer hosts tell nodes apart by address alone.
    address = "127.0.0.%d" % (number or (2 if seed else 1))
    made = Kamailio(which, modules=modules, route=ROUTE, presence=dict(enable_dmq=1, **presence), debug=2,
                    address=address, host=host)
    made.extra_params = 'modparam("dmq", "server_address", "sip:%s:@PORT@")\n' % address
    made.extra_params += 'modparam("dmq", "server_socket", "udp:%s:@PORT@")\n' % address
    made.extra_params += 'modparam("dmq", "ping_interval", 5)\n'
    if seed:
        made.extra_params += 'modparam("dmq", "notification_address", "sip:%s:%d")\n' % (seed.address, seed.port)
    return made


def joined(*nodes):
    """Waits until every node knows the others."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if all(n.rpc("dmq.list_nodes").count("host:") >= len(nodes) for n in nodes):
            time.sleep(0.3)
            return
        time.sleep(0.2)
    raise AssertionError("the nodes do not find each other:\n" + nodes[0].rpc("dmq.list_nodes"))


def errors(*nodes):
    return [line for n in nodes for line in n.log().split("\n") if "ERROR" in line or "CRITICAL" in line]


def life(here, there):
    """A publication's life on one node, as a watcher on the other sees it, and what the other stores."""
    alice, bob = Client(here, "alice%d" % here.port), Client(there, "bob")
    watch = bob.subscribe(alice.uri)
    watch.wait(1)
    reply = alice.publish(body=pidf(alice.user))
    seen = [watch.wait(2)[-1].text]
    reply = alice.publish(body=pidf(alice.user, basic="closed"), etag=reply.get("SIP-ETag"))
    seen.append(watch.wait(3)[-1].text)
    reply = alice.publish(etag=reply.get("SIP-ETag"), expires=600)
    bob.quiet(0.5)
    stored = [(row["etag"] == reply.get("SIP-ETag"), 500 < row["expires"] - time.time() < 700,
               "closed" in str(row["body"]))
              for row in there.rows("presentity")]
    alice.publish(etag=reply.get("SIP-ETag"), expires=0)
    bob.quiet(0.5)
    last = watch.notifies[-1].cseq, len(there.rows("presentity"))
    numbers = [n.cseq for n in watch.notifies]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    alice.close(), bob.close()
    return ["open" in seen[0], "closed" in seen[1], stored, last]


@pytest.mark.suite("cluster")
@pytest.mark.parametrize("mode", list(MODES))
def test_a_publication_is_seen_on_the_other_node(mode):
    results = {}
    for one, two in PAIRS:
        first = node(one, **MODES[mode])
        second = node(two, first, **MODES[mode])
        with first, second:
            joined(first, second)
            results[one, two] = [life(first, second), life(second, first)]
            if (one, two) == ("ours", "ours"):
                assert not errors(first, second)
    for pair in PAIRS[1:]:
        assert results[pair] == results["stock", "stock"], pair


@pytest.mark.suite("cluster")
@pytest.mark.parametrize("one,two", PAIRS)
def test_the_priority_of_what_another_node_has_taken(one, two):
    """Seconds since 2015 where the script may give priorities: newer documents come after older ones at each node."""
    priorities = dict(xavp_cfg="pcfg", publ_cache=0, subs_db_mode=1)
    first = node(one, **priorities)
    second = node(two, first, **priorities)
    with first, second:
        joined(first, second)
        alice, found = Client(first, "alice"), []
        for change in (dict(body=pidf()), dict(body=pidf(basic="closed")), dict(body=None)):
            etag = alice.publish(etag=found[-1][0] if found else None, **change).get("SIP-ETag")
            time.sleep(1.2)
            rows = second.rows("presentity")
            assert [row["etag"] for row in rows] == [etag]
            found.append((etag, rows[0]["priority"]))
        alice.close()
    now = time.time() - 1_420_070_400
    numbers = [priority for _, priority in found]
    assert numbers == sorted(set(numbers)) and now - 20 < numbers[0] <= now, numbers


@pytest.mark.suite("cluster")
@pytest.mark.parametrize("mode", list(MODES))
def test_a_node_that_joins_is_sent_what_there_is(mode):
    first = node("ours", **MODES[mode])
    with first:
        alice = Client(first, "alice")
        for n in range(30):
            assert alice.publish(to="sip:u%d@example.org" % n, body=pidf("u%d" % n), expires=60).code == 200
        time.sleep(3)
        second = node("ours", first, **MODES[mode])
        with second:
            joined(first, second)
            time.sleep(1)
            bob = Client(second, "bob")
            for n in range(30):
                watch = bob.subscribe("sip:u%d@example.org" % n)
                assert "u%d@example.org" % n in watch.wait(1)[0].text
            if mode != "memory":
                left = [row["expires"] - time.time() for row in second.rows("presentity")]
                assert len(left) == 30 and max(left) < 58, "the whole lifetime begins again"
            bob.close()
        alice.close()


@pytest.mark.suite("cluster")
def test_a_node_that_dies_and_returns_is_sent_it_again():
    first = node("ours", **MODES["memory"])
    with first:
        second = node("ours", first, **MODES["memory"])
        with second:
            joined(first, second)
            alice = Client(first, "alice")
            reply = alice.publish(body=pidf())
            second.stop(9)
            reply = alice.publish(body=pidf(basic="closed"), etag=reply.get("SIP-ETag"))
            assert reply.code == 200
            time.sleep(6)
            second.start()
            joined(first, second)
            time.sleep(1)
            bob = Client(second, "bob")
            assert "closed" in bob.subscribe(alice.uri).wait(1)[0].text
            alice.close(), bob.close()


def message(client, body, ctype="application/json", **more):
    text = body if isinstance(body, str) else json.dumps(body)
    return client.reply_to(client.request("KDMQ", "sip:presence@127.0.0.1:%d" % client.server.port,
                                          ["Content-Type: " + ctype], text, **more))


def update(etag, new_etag="", is_new=1, body=None, expires=600, ruid="pres-1-2-3", user="alice", event="presence",
           **more):
    presentity = dict(domain="example.org", user=user, etag=etag, expires=expires, recv=int(time.time()), event=event)
    presentity.update(more)
    return dict(action=1, presentity=presentity, t_new=is_new, cur_etag=new_etag, ruid=ruid,
                body=pidf() if body is None else body)


@pytest.mark.suite("cluster")
def test_messages_that_are_none():
    with node("ours", **MODES["memory"]) as server:
        peer = Client(server, "peer")
        for bad in ["", "{", "[1]", "null", '{"action":1}', '{"action":"x"}', {"action": 1, "presentity": 7},
                    dict(update("a.1.1.1.0"), body=7), update("a.1.1.1.0", user=7),
                    update("a.1.1.1.0", event="nothing"),
                    '{"action":1,"presentity":{' * 200]:
            reply = message(peer, bad)
            assert reply is not None and reply.code in (400, 500), bad
        assert message(peer, {"action": 9}).code == 200
        assert message(peer, dict(update("a.1.1.1.0"), stranger={"x": [1]})).code == 200
        assert server.rpc("presence.presentity_list").count("etag") == 1
        assert server.alive()
        peer.close()


@pytest.mark.suite("cluster")
def test_messages_twice_late_and_after_a_gap():
    with node("ours", **MODES["memory"]) as server:
        peer, bob = Client(server, "peer"), Client(server, "bob")
        watch = bob.subscribe("sip:alice@example.org")
        watch.wait(1)

        def notified(expected, *given, **more):
            assert message(peer, update(*given, **more)).code == 200
            bob.quiet(0.2)
            assert len(watch.notifies) == expected
            return watch.notifies[-1].text

        assert "open" in notified(2, "a.1.1.1.0")
        notified(2, "a.1.1.1.0")
        assert "closed" in notified(3, "a.1.1.1.0", "a.1.1.2.1", 0, pidf(basic="closed"))
        notified(3, "a.1.1.1.0", "a.1.1.2.1", 0, pidf(basic="closed"))
        assert "later" in notified(4, "a.1.1.4.3", "a.1.1.5.4", 0, pidf(note="later"))
        notified(4, "a.1.1.3.2", "a.1.1.4.3", 0, pidf(note="late"))
        assert server.rpc("presence.presentity_list").count("etag") == 1
        notified(5, "a.1.1.5.4", "", 0, "", expires=0)
        notified(5, "a.1.1.5.4", "", 0, "", expires=0)
        assert server.rpc("presence.presentity_list").count("etag") == 0
        peer.close(), bob.close()


def test_a_call_that_ends_by_a_new_publication():
    """An initial PUBLISH with Expires 0 ends the documents of its dialogs on every node."""
    first = node("ours", **MODES["memory"])
    second = node("ours", first, **MODES["memory"])
    with first, second:
        joined(first, second)
        alice, bob = Client(first, "alice"), Client(second, "bob")
        lamp = bob.subscribe(alice.uri, event="dialog")
        lamp.wait(1)
        alice.publish(body=dialog_info("confirmed"), event="dialog", ctype="application/dialog-info+xml")
        assert "confirmed" in lamp.wait(2)[-1].text
        alice.publish(body=dialog_info("terminated"), event="dialog", ctype="application/dialog-info+xml", expires=0)
        assert "terminated" in lamp.wait(3)[-1].text
        assert second.rpc("presence.presentity_list").count("etag") == 0
        alice.close(), bob.close()


def test_silent_replicas_and_another_name():
    first = node("ours", **dict(MODES["memory"], dmq_peer_id="lamps"))
    second = node("ours", first, **dict(MODES["memory"], dmq_peer_id="lamps", skip_notify_dmq=1))
    with first, second:
        joined(first, second)
        alice, bob = Client(first, "alice"), Client(second, "bob")
        watch = bob.subscribe(alice.uri)
        watch.wait(1)
        alice.publish(body=pidf())
        bob.quiet(0.5)
        assert len(watch.notifies) == 1 and second.rpc("presence.presentity_list").count("etag") == 1
        watch.refresh()
        assert "open" in watch.wait(2)[1].text
        alice.close(), bob.close()


def test_without_the_dmq_module():
    server = node("ours", modules=("presence", "presence_xml"), **MODES["memory"])
    server.extra_params, server.route = "", ROUTE.replace("dmq_handle_message(); ", "")
    try:
        server.start(expect_failure=True)
        assert not server.alive() and "dmq module must be loaded before presence" in server.log()
    finally:
        server.remove()


def test_without_a_database():
    first = node("ours", **MODES["memory"])
    second = node("ours", first, **MODES["memory"])
    for one in (first, second):
        one.db, one.modules = None, ["dmq", "presence", "presence_dialoginfo"]
    with first, second:
        joined(first, second)
        alice, bob = Client(first, "alice"), Client(second, "bob")
        lamp = bob.subscribe(alice.uri, event="dialog")
        alice.publish(body=dialog_info("early"), event="dialog", ctype="application/dialog-info+xml")
        assert "early" in lamp.wait(2)[-1].text
        alice.close(), bob.close()


@pytest.mark.suite("cluster")
@pytest.mark.parametrize("mode", list(MODES))
def test_changes_that_follow_fast_are_all_carried_out(mode):
    """Several processes carry out what a node announces: a change may be carried out beside the one before it."""
    first = node("ours", **MODES[mode])
    second = node("ours", first, **MODES[mode])
    phones = 12 if mode == "database-only" else 40
    with first, second:
        joined(first, second)
        for n in range(phones):
            phone = Client(first, "u%d" % n)
            tag, codes = None, []
            for change in range(8):
                reply = phone.publish(body=dialog_info("confirmed" if change % 2 else "early", phone.user), etag=tag,
                                      event="dialog", ctype="application/dialog-info+xml")
                codes.append(reply.code)
                tag = reply.get("SIP-ETag")
            assert codes == [200] * 8, "the other node has taken the publication away"
            phone.close()
        # In memory what is compared would come right by itself, later than this.
        shown = ""
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline and shown.count("confirmed") < phones:
            time.sleep(0.1)
            shown = (second.rpc("presence.presentity_list", "full") if mode == "memory"
                     else str(second.rows("presentity")))
        assert shown.count("confirmed") == phones and "early" not in shown
