"""Commands for operators: what they show is what is, what they end has ended."""
import re
import time
import zlib

import pytest

from conftest import MODES
from kit.kamailio import ROOT, Kamailio
from kit.responder import Responder
from kit.sip import dialog_info, pidf
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
        assert ("error" in server.rpc("presence.subscriptions", bad)
                and "allowed" in server.rpc("presence.subscriptions", bad) + "allowed")


@pytest.mark.parametrize("mode", EVERY)
def test_why_somebody_sees_nothing(ours, phones, mode):
    server = ours(**MODES[mode])
    alice, bob, deaf = phones(server, "alice"), phones(server, "bob"), phones(server, "deaf", answer=486)

    def why(watcher, event="presence", wanted=""):
        """The answer, once it holds what is wanted: a NOTIFY's answer takes its time to be noted."""
        for _ in range(30):
            answer = server.rpc("presence.explain", watcher, alice.uri, event)
            if wanted in answer:
                break
            time.sleep(0.1)
        return answer

    assert "no subscription" in why("sip:nobody@example.org")
    assert "event: ." in server.rpc("presence.explain", "nobody", "alice")
    watch = bob.subscribe(alice.uri)
    watch.wait(1)
    assert "no publication" in why(bob.uri, wanted="no publication")
    alice.publish(body=pidf())
    watch.wait(2)
    reason = "active: the watcher has the newest state (1 publications)"
    assert reason in why(bob.uri, wanted=reason) and watch.call_id in why(bob.uri)
    # What is to be done next can be typed as it is.
    command = why(bob.uri).split("next: look at the documents: ")[1].split("\n")[0]
    assert server.rpc(*command.split()).count("etag: a.") == 1
    if mode != "database-only":
        deaf.subscribe(alice.uri).wait(1)
        assert "answered 486" in why(deaf.uri, wanted="answered 486") and "last_failure: 486" in why(deaf.uri)
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
def test_ending_all_of_a_watcher(ours, phones, mode):
    server = ours(**MODES[mode])
    alice, bob, carol = (phones(server, user) for user in ("alice", "bob", "carol"))
    mine = [bob.subscribe(alice.uri), bob.subscribe(alice.uri, event="dialog"), bob.subscribe(carol.uri)]
    other = carol.subscribe(alice.uri)
    for watch in mine + [other]:
        watch.wait(1)
    assert "ended: 1" in server.rpc("presence.subscription_end", bob.uri, ".", "dialog", "giveup", 120)
    assert mine[1].wait(2)[-1].get("Subscription-State") == "terminated;reason=giveup;retry-after=120"
    assert "ended: 2" in server.rpc("presence.subscription_end", bob.uri, ".", ".", "probation", 30)
    for watch in (mine[0], mine[2]):
        assert watch.wait(2)[-1].get("Subscription-State") == "terminated;reason=probation;retry-after=30"
    assert "presence.drain" in server.rpc("presence.subscription_end", ".", ".", "presence")
    assert "not with rejected" in server.rpc("presence.subscription_end", ".", alice.uri, ".", "rejected", 5)
    assert "number of seconds" in server.rpc("presence.subscription_end", ".", alice.uri, ".", "giveup", "soon")
    assert "no event package nothing" in server.rpc("presence.subscription_end", ".", alice.uri, "nothing")
    assert server.rpc("presence.subscriptions").count("callid") == 1
    assert "ended: 1" in server.rpc("presence.subscription_end", ".", alice.uri, ".")
    assert other.wait(2)[-1].get("Subscription-State") == "terminated;reason=deactivated"


@pytest.mark.parametrize("mode", EVERY)
def test_removing_a_publication(ours, phones, mode):
    server = ours(**MODES[mode])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    etag = alice.publish(body=dialog_info("confirmed"), event="dialog",
                         ctype="application/dialog-info+xml").get("SIP-ETag")
    lamp = bob.subscribe(alice.uri, event="dialog")
    assert "confirmed" in lamp.wait(1)[0].text
    assert "No publication" in server.rpc("presence.publication_expire", alice.uri, "dialog", "x.y.z")
    assert "error" not in server.rpc("presence.publication_expire", alice.uri, "dialog", etag)
    assert len(lamp.wait(2)) == 2
    assert alice.publish(event="dialog", etag=etag).code == 412


@pytest.mark.parametrize("mode", EVERY)
def test_the_last_notify(ours, phones, mode):
    """explain shows what became of it: when, how it was answered, and which body, as `crc32` would name it."""
    server = ours(**MODES[mode])
    alice, bob, deaf = phones(server, "alice"), phones(server, "bob"), phones(server, "deaf", answer=486)
    alice.publish(body=pidf())
    watch = bob.subscribe(alice.uri)
    watch.wait(1)
    before = int(time.time())
    # What a NOTIFY carried is noted once the whole batch has gone out.
    time.sleep(0.3)
    shown = server.rpc("presence.explain", bob.uri, alice.uri, "presence")
    if mode == "database-only":
        # The table has no place for it; the history has, while it remembers.
        assert (re.search(r"last_answer: (200 after|awaited for) \d+ ms", shown)
                and "watcher" not in server.rpc("presence.failing"))
        return
    assert "body_crc32: %08x" % zlib.crc32(watch.notifies[-1].body) in shown
    assert (re.search(r"last_answer: (200 after|awaited for) \d+ ms", shown)
            and "cseq: %d" % watch.notifies[-1].cseq in shown)
    assert abs(int(re.search(r"last_notify: (\d+)", shown).group(1)) - before) <= 2
    deaf.subscribe(alice.uri).wait(1)
    time.sleep(0.3)
    assert "last_answer: 486" in server.rpc("presence.explain", deaf.uri, alice.uri, "presence")
    failing = server.rpc("presence.failing")
    assert failing.count("watcher") == 1 and deaf.uri in failing and "answer: 486" in failing
    # What has gone well since is no failure any more.
    deaf.answer = 200
    alice.publish(body=pidf(basic="closed"))
    bob.quiet(0.3), deaf.quiet(0.3)
    assert "watcher" not in server.rpc("presence.failing")
    assert "last_answer: 200 after" in server.rpc("presence.explain", deaf.uri, alice.uri, "presence")


@pytest.mark.parametrize("mode", EVERY)
def test_the_busiest(ours, phones, mode):
    server = ours(**MODES[mode])
    alice, bob, carol = (phones(server, user) for user in ("alice", "bob", "carol"))
    for watcher, presentity in ((bob, alice), (carol, alice), (alice, bob)):
        watcher.subscribe(presentity.uri).wait(1)
    busiest = server.rpc("presence.busiest")
    assert re.findall(r"presentity: (\S+)", busiest) == [alice.uri, bob.uri]
    assert re.findall(r"watchers: (\d+)", busiest) == ["2", "1"]
    assert server.rpc("presence.busiest", 1).count("presentity") == 1
    assert "allowed is 1 to 1000" in server.rpc("presence.busiest", 0)


def test_by_age(ours, phones):
    server = ours(**MODES["memory"])
    bob = phones(server, "bob")
    old = bob.subscribe("sip:a@example.org")
    time.sleep(2.2)
    new = bob.subscribe("sip:b@example.org")
    assert (server.rpc("presence.subscriptions", "older=2").count("callid") == 1
            and old.call_id in server.rpc("presence.subscriptions", "older=2"))
    assert (server.rpc("presence.subscriptions", "younger=1").count("callid") == 1
            and new.call_id in server.rpc("presence.subscriptions", "younger=1"))
    assert "allowed is a number of seconds" in server.rpc("presence.subscriptions", "older=x")


def test_the_settings_in_force(ours):
    """What was corrected shows as what it became; every parameter is there, and those without effect are
    marked."""
    server = ours(presence=dict(subs_db_mode=1, max_expires=-5, notifier_processes=4, retrieve_order=1,
                                server_address="sip:a@b:1"),
                  modules=("presence_xml", "pua"), extra_params=parameters(default_expires=20))
    shown = dict(re.findall(r"(\w+): ?(.*)", server.rpc("presence.config")))
    assert [shown[name].strip()
            for name in ("subs_db_mode", "max_expires", "notifier_processes", "publ_cache", "server_address")] \
        == ["1", "3600", "0", "0", "sip:a@b:1"]
    documented = set(re.findall(r"^### `(\w+)`$", (ROOT / "docs" / "presence.md").read_text().split("## Functions")[0],
                                re.M))
    # Of a database it is shown only whether there is one.
    assert documented - set(shown) == {"db_url"}
    assert shown["startup_mode"] == "1 (without effect)" and "(without effect)" in shown["to_tag_pref"]
    assert "default_expires: 3600" in server.rpc("pua.config")


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
        with Kamailio("ours", presence=dict(), http=True, modules=("pua", "pua_rpc"),
                      extra_params=parameters(db_mode=mode)) as server:
            server.json_rpc("pua.publish", ALICE, "600", "presence", "application/pidf+xml", "one", ".", made.uri, ".",
                            pidf())
            server.rpc("pua.subscribe", "sip:bob@127.0.0.1:%d" % made.port, ALICE, "presence", "600")
            time.sleep(0.3)
            listed = server.rpc("pua.list")
            assert listed.count("kind") == 2 and "kind: publication" in listed and "kind: subscription" in listed
            assert server.rpc("pua.list", ALICE).count("kind") == 1
            assert [server.rpc("pua.list", ".", n, 1).count("kind") for n in (0, 1, 2)] == [1, 1, 0]
            assert server.rpc("pua.list", ".", 0, 1) != server.rpc("pua.list", ".", 1, 1)
            assert ("allowed is 1 to 1000" in server.rpc("pua.list", ".", 0, 0)
                    and "offset x" in server.rpc("pua.list", ".", "x"))
    made.close()


@pytest.mark.parametrize("mode", MODES)
def test_publications_are_listed_in_every_mode(ours, phones, mode):
    """With the entity tag that removes them, by presentity and event, page by page."""
    server = ours(**MODES[mode])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    document = dialog_info("confirmed")
    tags = {alice.publish(body=pidf()).get("SIP-ETag"), bob.publish(body=pidf("bob")).get("SIP-ETag")}
    lamp = alice.publish(body=document, event="dialog", ctype="application/dialog-info+xml").get("SIP-ETag")
    bob.subscribe("sip:nobody@example.org").wait(1)

    def listed(*words):
        return re.findall(r"etag: (\S+)", server.rpc("presence.publications", *words))

    assert set(listed()) == tags | {lamp} and len(listed()) == 3
    assert listed("presentity=alice", "event=dialog") == [lamp] and len(listed("presentity=sip:alice@example.org")) == 2
    pages = [listed("limit=1", "offset=%d" % n) for n in range(4)]
    assert [len(page) for page in pages] == [1, 1, 1, 0] and sum(pages, []) == listed()
    shown = server.rpc("presence.publications", "event=dialog")
    assert "body_crc32: %08x" % zlib.crc32(document.encode()) in shown and "bytes: %d" % len(document) in shown
    assert "error" not in server.rpc("presence.publication_expire", alice.uri, "dialog", lamp)
    assert set(listed()) == tags
    for bad in ("nonsense", "limit=0", "offset=x", "event=nothing", "colour=red"):
        assert "error" in server.rpc("presence.publications", bad)
