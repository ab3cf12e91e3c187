"""What one user may ask of the server: off by default, a clean 4xx and one log line where a limit is set."""
import pytest

from conftest import MODES
from kit.kamailio import Kamailio
from kit.sip import dialog_info, pidf

EVERY_STORE = ["memory", "write-through", "defaults", "database-only"]


def limited(mode, **limits):
    return dict(presence=dict(MODES[mode]["presence"], **limits))


def refusal_says(server, word):
    lines = [line for line in server.log().split("\n") if word in line and "answered" in line]
    assert len(lines) == 1, server.log()[-2000:]
    return lines[0]


@pytest.mark.parametrize("mode", EVERY_STORE)
def test_body_size(ours, phones, mode):
    server = ours(**limited(mode, max_body_size=1000))
    alice = phones(server, "alice")
    etag = alice.publish(body=pidf()).get("SIP-ETag")
    large = pidf(extra="<note>%s</note>" % ("x" * 1000))
    reply = alice.publish(body=large, etag=etag)
    assert (reply.code, reply.reason) == (413, "Request Entity Too Large")
    assert "1000 bytes" in refusal_says(server, "413")
    assert alice.publish(body=pidf(), etag=etag).code == 200, "the refused document changed nothing"


@pytest.mark.parametrize("mode", EVERY_STORE)
def test_publications(ours, phones, mode):
    server = ours(**limited(mode, max_publications=2))
    alice = phones(server, "alice")
    first = alice.publish(body=pidf(tuple_id="a"))
    assert alice.publish(body=pidf(tuple_id="b")).code == 200
    assert alice.publish(body=pidf(tuple_id="c")).code == 403
    assert "max_publications" in refusal_says(server, "403")
    etag = alice.publish(body=pidf(tuple_id="a"), etag=first.get("SIP-ETag")).get("SIP-ETag")
    assert alice.publish(etag=etag, expires=0).code == 200
    assert alice.publish(body=pidf(tuple_id="c")).code == 200, "there is room again"
    dialog = dict(event="dialog", ctype="application/dialog-info+xml")
    for identity in ("d1", "d2", "d1", "d2"):
        reply = alice.publish(body=dialog_info("early", dialog_id=identity), **dialog)
        assert reply.code == 200, "a document that replaces another one is not one more"


@pytest.mark.parametrize("mode", EVERY_STORE)
def test_watchers_and_subscriptions(ours, phones, mode):
    server = ours(**limited(mode, max_watchers=2, max_subscriptions=3))
    bob, carol, dave = (phones(server, name) for name in ("bob", "carol", "dave"))
    first = bob.subscribe("sip:a@example.org")
    assert [phone.subscribe("sip:a@example.org").reply.code for phone in (carol, dave)] == [200, 403]
    assert "max_watchers" in refusal_says(server, "403")
    assert first.refresh().code == 200, "a subscription that exists stays"
    assert first.unsubscribe().code == 200
    assert dave.subscribe("sip:a@example.org").reply.code == 200, "there is room again"
    assert [carol.subscribe("sip:%s@example.org" % name).reply.code for name in "bcd"] == [200, 200, 403]
    assert "max_subscriptions" in server.log()
    assert carol.subscribe("sip:d@example.org", expires=0).reply.code == 200, "a look that keeps nothing is free"


def test_limits_after_a_restart(ours, phones):
    server = ours(**limited("write-through", max_subscriptions=2))
    bob = phones(server, "bob")
    watches = [bob.subscribe("sip:%s@example.org" % name) for name in "ab"]
    server.restart()
    assert bob.subscribe("sip:c@example.org").reply.code == 403
    assert watches[0].unsubscribe().code == 200
    assert bob.subscribe("sip:c@example.org").reply.code == 200


@pytest.mark.parametrize("mode", ["memory", "write-through", "defaults"])
def test_refresh_interval(ours, phones, mode):
    server = ours(**limited(mode, min_refresh_interval=2))
    bob = phones(server, "bob")
    watch = bob.subscribe("sip:alice@example.org")
    watch.wait(1)
    assert watch.refresh().code == 403
    assert "min_refresh_interval" in refusal_says(server, "403")
    bob.quiet(2.2)
    assert watch.refresh().code == 200
    assert watch.unsubscribe().code == 200, "an end is never refused"


def until_allowed(phone):
    """Transactions keep their memory for some seconds."""
    for _ in range(15):
        if phone.subscribe("sip:other@example.org").reply.code == 200:
            return
        phone.quiet(1)
    raise AssertionError("new subscriptions are still refused")


def test_overload(ours, phones):
    """New subscriptions are refused while the memory is nearly full; those that are served go on."""
    server = ours(shm=16, **limited("memory", overload_memory=60))
    alice, bob = phones(server, "alice"), phones(server, "bob")
    watch = bob.subscribe(alice.uri)
    etags = []
    for index in range(400):
        body = pidf(extra="<note>%s</note>" % ("x" * 30000))
        reply = alice.publish("sip:p%d@example.org" % index, body=body)
        etags.append(reply.get("SIP-ETag"))
        refused = bob.subscribe("sip:other@example.org", expires=60).reply if index % 20 == 0 else None
        if refused is not None and refused.code != 200:
            break
    assert refused.code == 503 and 10 <= int(refused.get("Retry-After")) <= 20
    assert "% of the shared memory are in use" in refusal_says(server, "503")
    assert watch.refresh().code == 200
    assert alice.publish(body=pidf(alice.user)).code == 200
    for index, etag in enumerate(etags):
        assert alice.publish("sip:p%d@example.org" % index, etag=etag, expires=0).code == 200
    until_allowed(bob)


@pytest.mark.parametrize("name,value,words", [
    ("max_watchers", -1, "0 (no limit)"),
    ("overload_memory", 100, "0 (off) to 99 percent"),
    ("min_refresh_interval", 5, "subs_db_mode 3"),
])
def test_bad_limits(name, value, words):
    server = Kamailio("ours", presence={"subs_db_mode": 3, name: value})
    try:
        server.start(expect_failure=True)
        assert server.process.poll() not in (None, 0)
        assert name in server.log() and words in server.log()
    finally:
        server.remove()
