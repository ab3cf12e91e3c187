"""Commands for operators: what they show is what is, what they end has ended."""
import time

import pytest

from conftest import MODES
from kit.kamailio import Kamailio
from kit.responder import Responder
from kit.sip import Client, dialog_info, pidf
from test_pua import ALICE, parameters

EVERY = [name for name in MODES if name != "table"]


@pytest.mark.parametrize("mode", EVERY)
def test_who_subscribes(ours, phones, mode):
    server = ours(**MODES[mode])
    alice, bob, carol = (phones(server, user) for user in ("alice", "bob", "carol"))
    watch = bob.subscribe(alice.uri)
    lamp = bob.subscribe(alice.uri, event="dialog")
    other = carol.subscribe(bob.uri)
    for one in (watch, lamp, other):
        one.wait(1)
    listed = server.rpc("presence.subscriptions")
    assert listed.count("callid") == 3 and watch.call_id in listed and "status: active" in listed
    assert server.rpc("presence.subscriptions", "watcher=" + bob.uri).count("callid") == 2
    only = server.rpc("presence.subscriptions", "watcher=" + bob.uri, "event=dialog", "presentity=" + alice.uri)
    assert only.count("callid") == 1 and lamp.call_id in only
    assert server.rpc("presence.subscriptions", "status=pending").count("callid") == 0
    pages = [server.rpc("presence.subscriptions", "limit=2", "offset=%d" % n) for n in (0, 2, 4)]
    assert [page.count("callid") for page in pages] == [2, 1, 0]
    for bad in ("nonsense", "status=great", "limit=0", "limit=x", "colour=red"):
        assert "error" in server.rpc("presence.subscriptions", bad) and "allowed" in server.rpc("presence.subscriptions", bad) + "allowed"


@pytest.mark.parametrize("mode", EVERY)
def test_why_somebody_sees_nothing(ours, phones, mode):
    server = ours(**MODES[mode])
    alice, bob, deaf = phones(server, "alice"), phones(server, "bob"), phones(server, "deaf", answer=486)

    def why(watcher, event="presence"):
        return server.rpc("presence.explain", watcher, alice.uri, event)

    assert "no subscription" in why("sip:nobody@example.org")
    watch = bob.subscribe(alice.uri)
    watch.wait(1)
    assert "no publication" in why(bob.uri)
    alice.publish(body=pidf())
    watch.wait(2)
    assert "active: it has been told what there is (1 publications)" in why(bob.uri) and watch.call_id in why(bob.uri)
    if mode != "database-only":
        deaf.subscribe(alice.uri).wait(1)
        time.sleep(0.3)
        assert "answered 486" in why(deaf.uri) and "last_failure: 486" in why(deaf.uri)
    assert "no event package nothing" in why(bob.uri, "nothing")
    assert "give a watcher" in server.rpc("presence.explain", "x")


@pytest.mark.parametrize("mode", EVERY)
def test_ending_a_subscription(ours, phones, mode):
    server = ours(**MODES[mode])
    alice, bob, carol = (phones(server, user) for user in ("alice", "bob", "carol"))
    watch, other = bob.subscribe(alice.uri), carol.subscribe(alice.uri)
    watch.wait(1), other.wait(1)
    assert "ended: 1" in server.rpc("presence.subscription_end", bob.uri, alice.uri, "presence", "noresource")
    last = watch.wait(2)[-1]
    assert last.get("Subscription-State") == "terminated;reason=noresource" and last.cseq == watch.notifies[0].cseq + 1
    assert watch.refresh().code == 481
    assert "No such subscription" in server.rpc("presence.subscription_end", bob.uri, alice.uri, "presence")
    assert "allowed is" in server.rpc("presence.subscription_end", bob.uri, alice.uri, "presence", "boredom")
    assert "ended: 1" in server.rpc("presence.subscription_end", ".", alice.uri, "presence")
    assert other.wait(2)[-1].get("Subscription-State") == "terminated;reason=deactivated"
    assert server.rpc("presence.subscriptions").count("callid") == 0


@pytest.mark.parametrize("mode", EVERY)
def test_removing_a_publication(ours, phones, mode):
    server = ours(**MODES[mode])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    etag = alice.publish(body=dialog_info("confirmed"), event="dialog", ctype="application/dialog-info+xml").get("SIP-ETag")
    lamp = bob.subscribe(alice.uri, event="dialog")
    assert "confirmed" in lamp.wait(1)[0].text
    assert "No publication" in server.rpc("presence.publication_expire", alice.uri, "dialog", "x.y.z")
    assert "error" not in server.rpc("presence.publication_expire", alice.uri, "dialog", etag)
    assert len(lamp.wait(2)) == 2
    assert alice.publish(event="dialog", etag=etag).code == 412


def test_drain(ours, phones):
    server = ours(**MODES["memory"])
    bob = phones(server, "bob")
    watches = [bob.subscribe("sip:u%d@example.org" % n) for n in range(40)]
    bob.quiet(0.5)
    bob.notifies.clear()
    started = time.monotonic()
    assert "subscriptions: 40" in server.rpc("presence.drain", 4)
    bob.wait_notifies(40, timeout=10)
    spread = time.monotonic() - started
    assert len(bob.notifies) == 40 and 2 < spread < 8
    assert {n.get("Subscription-State") for n in bob.notifies} == {"terminated;reason=deactivated"}
    assert all(watch.refresh().code == 481 for watch in watches[:3])
    assert bob.subscribe("sip:new@example.org").reply.code == 200
    bob.quiet(2.5)
    assert server.rpc("presence.subscriptions").count("callid") == 1
    assert "allowed is" in server.rpc("presence.drain", "soon")


def test_records_of_the_user_agent():
    made = Responder()
    for mode in (0, 2):
        with Kamailio("ours", presence=dict(), http=True, modules=("pua", "pua_rpc"), extra_params=parameters(db_mode=mode)) as server:
            server.json_rpc("pua.publish", ALICE, "600", "presence", "application/pidf+xml", "one", ".", made.uri, ".", pidf())
            server.rpc("pua.subscribe", "sip:bob@127.0.0.1:%d" % made.port, ALICE, "presence", "600")
            time.sleep(0.3)
            listed = server.rpc("pua.list")
            assert listed.count("kind") == 2 and "kind: publication" in listed and "kind: subscription" in listed
            assert server.rpc("pua.list", ALICE).count("kind") == 1
    made.close()
