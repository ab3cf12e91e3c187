"""What has ended is remembered: why a lamp is dark although nothing is left of its subscription."""
import re
import time
import zlib

import pytest

from conftest import MODES
from kit.sip import Client, pidf
from test_authorization import XML, put, rules
from test_cluster import Cluster

EVERY = [name for name in MODES if name != "table"]
QUICK = 'modparam("tm", "fr_timer", 1000)\n'


def until(ask, wanted, timeout=8.0):
    """The answer, once it holds what is wanted."""
    deadline = time.monotonic() + timeout
    while wanted not in (answer := ask()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert wanted in answer, answer
    return answer


def unsubscribe(server, watch, watcher):
    watch.unsubscribe()


def operator(server, watch, watcher):
    server.rpc("presence.subscription_end", watcher.uri, watch.to, "presence")


def drain(server, watch, watcher):
    server.rpc("presence.drain", 0)


def answer(code):
    def change(server, watch, watcher):
        watcher.answer = code
        alice = Client(server, "alice")
        alice.publish(body=pidf(basic="closed"))
        watcher.quiet(1)
        alice.close()
    return change


def expire(server, watch, watcher):
    watch.refresh(1)
    watcher.quiet(2.2)
    server.rpc("presence.cleanup")


@pytest.mark.parametrize("mode", EVERY)
@pytest.mark.parametrize("end,because,advice", [
    (unsubscribe, "the watcher ended it (Expires: 0)", "does not want this lamp"),
    (operator, "an operator ended it", "subscribes again"),
    (drain, "an operator ended it", "subscribes again"),
    (answer(481), "its NOTIFY was answered 481", "forgotten the subscription"),
    (answer(404), "its NOTIFY was answered 404", "forgotten the subscription"),
    (answer(None), "its NOTIFY was not answered (408)", "look at NAT"),
    (expire, "it ran out", "stopped refreshing"),
], ids=["unsubscribed", "operator", "drain", "481", "404", "silence", "expired"])
def test_explain_remembers_why_it_ended(ours, phones, mode, end, because, advice):
    server = ours(extra_params=QUICK, **MODES[mode])
    bob, carol = phones(server, "bob"), phones(server, "carol")
    watch = bob.subscribe("sip:alice@example.org")
    watch.wait(1)
    bob.quiet(0.2)
    contact = bob.contact.strip("<>")
    end(server, watch, bob)
    shown = until(lambda: server.rpc("presence.explain", bob.uri, watch.to, "presence"),
                  "no subscription any more: " + because)
    assert advice in shown and "callid: " + watch.call_id in shown and contact in shown
    assert (re.search(r"flow: udp:\S+ to " + re.escape(contact), shown)
            and re.search(r"last_answer: (\d+|awaited|not known)", shown))
    assert re.search(r"ended_time: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} \(\d+ s ago\)", shown)
    listed = server.rpc("presence.history", "watcher=bob")
    assert listed.count("because") == 1 and because in listed and watch.call_id in listed
    failing = server.rpc("presence.failing")
    assert (bob.uri in failing) == ("NOTIFY" in because)
    # A new one is explained by itself, and the end stays in the history.
    bob.answer = 200
    again = bob.subscribe("sip:alice@example.org")
    again.wait(1)
    assert "any more" not in server.rpc("presence.explain", bob.uri, watch.to, "presence")
    assert server.rpc("presence.history", "presentity=alice", "event=presence").count("because") == 1
    assert "because" not in server.rpc("presence.history", "watcher=" + carol.uri)


def test_rules_that_end_it(ours, phones):
    server = ours(presence=dict(subs_db_mode=1), **XML)
    alice, bob = phones(server, "alice"), phones(server, "bob")
    put(server, "alice", rules(bob="allow"))
    watch = bob.subscribe(alice.uri)
    watch.wait(1)
    put(server, "alice", rules(bob="block"))
    server.rpc("presence.refreshWatchers", alice.uri, "presence", 0)
    until(lambda: server.rpc("presence.history", "watcher=bob"), "the presentity's rules refuse the watcher")


def test_a_newer_subscription_of_the_same_call(ours, phones):
    server = ours(presence=dict(delete_same_subs=1))
    bob = phones(server, "bob")
    first = bob.subscribe("sip:alice@example.org")
    first.wait(1)
    assert bob.subscribe("sip:alice@example.org", call_id=first.call_id).reply.code == 200
    assert "a newer subscription of the same call" in server.rpc("presence.history")


def test_the_ring_keeps_the_newest(ours, phones):
    server = ours(presence=dict(subs_db_mode=0, publ_cache=2, history_size=3))
    bob = phones(server, "bob")
    for n in range(5):
        watch = bob.subscribe("sip:user%d@example.org" % n)
        watch.wait(1)
        watch.unsubscribe()
    ends = ("presence.history", "what=ended")
    assert re.findall(r"presentity: sip:user(\d)@", server.rpc(*ends)) == ["2", "3", "4"]
    assert re.findall(r"presentity: sip:user(\d)@", server.rpc(*ends, "limit=1")) == ["4"]
    assert re.findall(r"presentity: sip:user(\d)@", server.rpc(*ends, "limit=1", "offset=2")) == ["2"]
    assert "no subscription: this watcher does not" in server.rpc("presence.explain", "bob", "user0", "presence")
    for bad in ("nonsense", "limit=0", "limit=x", "event=nothing", "colour=red", "what=else", "count=x", "sort=at"):
        assert "error" in server.rpc("presence.history", bad)


def test_nothing_is_remembered_where_it_is_switched_off(ours, phones):
    server = ours(presence=dict(history_size=0))
    bob = phones(server, "bob")
    watch = bob.subscribe("sip:alice@example.org")
    watch.wait(1)
    watch.unsubscribe()
    assert "history_size is 0" in server.rpc("presence.history")
    assert "no subscription: this watcher does not" in server.rpc("presence.explain", bob.uri, watch.to, "presence")


def test_long_names_are_cut_and_harm_nobody(ours, phones):
    server = ours(presence=dict(subs_db_mode=0, publ_cache=2))
    bob = phones(server, "b" * 300)
    watch = bob.subscribe("sip:%s@example.org" % ("a" * 300))
    watch.wait(1)
    watch.unsubscribe()
    assert server.rpc("presence.history").count("because") == 1 and server.alive()


@pytest.mark.parametrize("mode", EVERY)
@pytest.mark.parametrize("watcher,presentity", [
    ("bob", "alice"), ("bob@example.org", "alice@example.org"), ("sip:BOB@Example.Org", "sip:Alice@EXAMPLE.org"),
    ("BOB", "sip:alice@example.org;transport=tcp")])
def test_names_as_people_write_them(ours, phones, mode, watcher, presentity):
    """With and without scheme, host and event; a pair without a subscription says which events there are."""
    server = ours(**MODES[mode])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    for event in ("dialog", "presence"):
        bob.subscribe(alice.uri, event=event).wait(1)
    bob.quiet(0.3)
    shown = server.rpc("presence.explain", watcher, presentity)
    assert (sorted(re.findall(r"event: (\S+)", shown)) == ["dialog", "presence"]
            and shown.count("nothing is published") == 2)
    assert shown.count("watcher: sip:bob@example.org") == 2 and shown.count("presentity: sip:alice@example.org") == 2
    one = server.rpc("presence.explain", watcher, presentity, "dialog")
    assert re.findall(r"event: (\S+)", one) == ["dialog"] and "next: look at the publisher" in one
    other = server.rpc("presence.explain", watcher, presentity, "message-summary")
    assert ("no subscription" in other and "it does subscribe to dialog, presence" in other
            and "event: message-summary" in other)
    assert "no subscription" in server.rpc("presence.explain", "carol", presentity)
    assert "give a watcher" in server.rpc("presence.explain", watcher)


def test_a_copy_names_the_node_that_serves_it():
    with Cluster(2) as (one, two):
        bob = Client(one, "bob")
        watch = bob.subscribe("sip:alice@example.org")
        watch.wait(1)
        until(lambda: two.rpc("presence.subscriptions"), watch.call_id)
        shown = two.rpc("presence.explain", "bob", "alice", "presence")
        assert "node 127.0.0.1:%d serves it" % one.port in shown and "ask there" in shown and "last_answer" not in shown
        assert "serves it" not in one.rpc("presence.explain", "bob", "alice", "presence")
        bob.close()


def steps(server, *words):
    """The steps of a lamp in the order of the answer, each as its fields."""
    blocks = server.rpc("presence.history", *words).split("{")[1:]
    return [dict(re.findall(r"^\s*(\w+): (.*)$", block, re.M)) for block in blocks]


def until_steps(server, count, *words):
    deadline = time.monotonic() + 8
    while len(found := steps(server, *words)) < count and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(found) == count, found
    return found


def digest(body):
    return "%08x" % zlib.crc32(body if isinstance(body, bytes) else body.encode())


@pytest.mark.parametrize("mode", MODES)
def test_a_lamp_tells_its_story(ours, phones, mode):
    server = ours(**MODES[mode])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    watch = bob.subscribe(alice.uri)
    first, document = watch.wait(1)[0], pidf(basic="closed")
    bob.quiet(0.3)
    etag = alice.publish(body=document).get("SIP-ETag")
    changed = watch.wait(2)[1]
    bob.quiet(0.3)
    story = until_steps(server, 6, "presentity=alice")
    assert [step["what"] for step in story] == ["notified", "answered", "published", "composed", "notified", "answered"]
    published, composed, notified, answered = story[-4:]
    assert (published["etag"], published["body_crc32"],
            published["bytes"]) == (etag, digest(document), str(len(document)))
    assert composed["body_crc32"] == notified["body_crc32"] == digest(changed.body)
    assert notified["watcher"] == bob.uri and notified["cseq"] == answered["cseq"] == str(changed.cseq)
    assert answered["answer"] == "200" and re.fullmatch(r"200 after \d+ ms", answered["answer_took"])
    assert story[-6]["how"] == "it answers a SUBSCRIBE" and story[-6]["cseq"] == str(first.cseq)
    for step in story:
        assert step["presentity"] == alice.uri and step["event"] == "presence"
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [+-]\d{4} \(\d+ s ago\)", step["time"])
    assert story == sorted(story, key=lambda step: step["time"])
    shown = server.rpc("presence.explain", "bob", "alice", "presence")
    assert re.search(r"last_answer: 200 after \d+ ms", shown)


def test_each_change_has_its_name(ours, phones):
    server = ours(presence=dict(subs_db_mode=0, publ_cache=2))
    alice = phones(server, "alice")
    etag = alice.publish(body=pidf()).get("SIP-ETag")
    etag = alice.publish(etag=etag).get("SIP-ETag")
    etag = alice.publish(body=pidf(basic="closed"), etag=etag).get("SIP-ETag")
    alice.publish(etag=etag, expires=0)
    assert alice.publish(etag=etag, body=pidf()).code == 412
    alice.publish(body=pidf(), expires=1)
    time.sleep(2.2)
    server.rpc("presence.cleanup")
    assert [step["how"].split(":")[0] for step in until_steps(server, 6, "presentity=alice", "what=published")] == [
        "a new publication", "a refresh without a document", "a new document under an entity tag",
        "a publication was removed (Expires",
        "a new publication", "a publication ran out"]
    assert [step["body_crc32"] for step in steps(server, "what=published")][1] == ""


def test_a_story_is_narrowed_and_counted(ours, phones):
    server = ours(presence=dict(subs_db_mode=0, publ_cache=2))
    alice, bob, carol = (phones(server, name) for name in ("alice", "bob", "carol"))
    bob.subscribe(alice.uri).wait(1), bob.subscribe(alice.uri, event="dialog").wait(1)
    carol.subscribe(bob.uri).wait(1)
    alice.publish(body=pidf()), bob.publish(body=pidf())
    bob.quiet(0.5), carol.quiet(0.5)
    # What bob sees: his NOTIFYs, and the changes of those whom he watches.
    seen = steps(server, "watcher=bob")
    assert ({step["presentity"] for step in seen} == {alice.uri}
            and {"published", "composed", "notified", "answered"} <= {s["what"] for s in seen})
    assert {step.get("watcher", bob.uri) for step in seen} == {bob.uri}
    assert {step["event"] for step in steps(server, "watcher=bob", "event=dialog")} == {"dialog"}
    assert {step["presentity"] for step in steps(server, "presentity=bob")} == {bob.uri}
    everything = steps(server, "limit=1000")
    assert "count: %d" % len(everything) in server.rpc("presence.history", "count=1")
    assert steps(server, "limit=2") == everything[-2:] and steps(server, "limit=2", "offset=1") == everything[-3:-1]


def test_a_busy_lamp_leaves_the_others_their_past(ours, phones):
    server = ours(presence=dict(subs_db_mode=0, publ_cache=2, history_size=256))
    alice, bob = phones(server, "alice"), phones(server, "bob")
    quiet = [phones(server, "quiet%d" % n) for n in range(8)]
    for phone in quiet:
        bob.subscribe(phone.uri).wait(1)
        phone.publish(body=pidf())
    watches = [bob.subscribe(alice.uri) for _ in range(20)]
    etag = None
    for n in range(40):
        etag = alice.publish(body=pidf(basic="open" if n % 2 else "closed"), etag=etag).get("SIP-ETag")
    watches[0].wait(2), bob.quiet(1)
    untouched = [phone for phone in quiet if "published" in server.rpc("presence.history", "presentity=" + phone.uri)]
    # Those that share a part with the busy one may lose theirs.
    assert len(untouched) >= 5
    # Each of the 16 parts holds a sixteenth of the 256 changes, the newest.
    changes = [step for step in steps(server, "presentity=alice", "limit=1000")
               if step["what"] in ("published", "composed")]
    assert len(changes) == 16 and changes[-2]["etag"] == etag


def test_an_answer_that_does_not_come_is_named(ours, phones):
    server = ours(presence=dict(subs_db_mode=0, publ_cache=2, timeout_rm_subs=0),
                  extra_params='modparam("tm", "fr_timer", 4000)\n')
    alice, bob = phones(server, "alice"), phones(server, "bob", answer=None)
    bob.subscribe(alice.uri)
    bob.quiet(2.5)
    shown = server.rpc("presence.explain", "bob", "alice", "presence")
    assert "the answer to the last NOTIFY is awaited for" in shown and "next: look at NAT" in shown
    shown = until(lambda: server.rpc("presence.explain", "bob", "alice", "presence"), "was answered 408")
    assert re.search(r"last_answer: 408 after \d{4} ms \(nobody answered\)", shown)
    assert [step["what"] for step in steps(server, "watcher=bob", "what=answered")] == ["answered"]


def test_what_the_script_drops_is_named(ours, phones):
    server = ours(presence=dict(subs_db_mode=0, publ_cache=2), more_route="event_route[tm:local-request] { drop; }\n")
    alice, bob = phones(server, "alice"), phones(server, "bob")
    bob.subscribe(alice.uri)
    shown = until(lambda: server.rpc("presence.explain", "bob", "alice", "presence"),
                  "the script dropped the last NOTIFY")
    assert "event_route[tm:local-request]" in shown
