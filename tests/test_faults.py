"""A panic and an exhausted shared memory inside a handler: 500, a log line, a server that goes on and has lost
nothing."""
import os
import re
import subprocess
import time

import pytest

from conftest import MODES
from kit import kamailio
from kit.sip import pidf


@pytest.fixture(scope="module")
def faulty_modules():
    """Our modules built with the entries that fail on purpose."""
    folder = kamailio.ROOT / "target" / "fault"
    done = subprocess.run(["sh", str(kamailio.ROOT / "scripts" / "build.sh")], capture_output=True, text=True,
                          env=dict(os.environ, FEATURES="fault-injection", MODULES_OUT=str(folder / "modules"),
                                   CARGO_TARGET_DIR=str(folder), CARGO_PROFILE_RELEASE_LTO="off",
                                   CARGO_PROFILE_RELEASE_OPT_LEVEL="1"))
    assert done.returncode == 0, done.stderr
    # Scenarios that no fault reaches would pass.
    assert b"asked for by X-Fault" in (folder / "modules" / "libkamailio_presence.so").read_bytes()
    before, kamailio.HERE.ours = kamailio.HERE.ours, folder / "modules"
    yield
    kamailio.HERE.ours = before


@pytest.mark.suite("memory")
@pytest.mark.parametrize("fault,words", [("panic", "panic in kr_presence_handle"), ("memory", "no more shared memory")])
@pytest.mark.parametrize("mode", ["memory", "write-through"])
def test_faults(faulty_modules, ours, phones, fault, words, mode):
    server = ours(workers=1, **MODES[mode])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    etag = alice.publish(body=pidf()).get("SIP-ETag")
    watch = bob.subscribe(alice.uri)
    watch.wait(1)
    header = ["X-Fault: " + fault]
    for _ in range(3):
        assert alice.publish(body=pidf(basic="closed"), etag=etag, extra=header).code == 500
        assert bob.subscribe("sip:other@example.org", extra=header).reply.code == 500
        assert alice.publish("sip:new@example.org", body=pidf(), extra=header).code == 500
    assert words in server.log()
    assert server.alive()
    watch.refresh()
    assert "open" in watch.wait(2)[-1].text, "the refused change must not be seen"
    assert alice.publish(body=pidf(basic="closed"), etag=etag).code == 200, "the entity tag must still be good"
    assert "closed" in watch.wait(3)[-1].text
    if mode == "write-through":
        assert len(server.rows("presentity")) == 1 and len(server.rows("active_watchers")) == 1


@pytest.mark.suite("memory")
def test_a_panic_inside_a_transaction(faulty_modules, ours, phones):
    """It is undone: this process and the others write on at once."""
    server = ours(workers=2, presence=dict(subs_db_mode=3, publ_cache=1, notifier_processes=1, waitn_time=1))
    alice, bob = phones(server, "alice"), phones(server, "bob")
    watch = bob.subscribe(alice.uri)
    etag = alice.publish(body=pidf(), extra=["X-Fault: panic-at-transaction"]).get("SIP-ETag")
    # The rows are marked after the answer.
    for _ in range(30):
        if "asked for at transaction" in server.log():
            break
        bob.quiet(0.1)
    assert "asked for at transaction" in server.log()
    began = time.monotonic()
    for turn in range(6):
        reply = alice.publish(body=pidf(note="n%d." % turn), etag=etag)
        assert reply.code == 200
        etag = reply.get("SIP-ETag")
        assert watch.refresh().code == 200
    assert time.monotonic() - began < 5, "somebody waited for a lock"
    notified = len(watch.notifies)
    assert "n5." in watch.wait(notified + 1, timeout=4)[-1].text


def used(server):
    """Bytes of shared memory in use, without what the allocator adds to each block."""
    return int(re.search(r"\bused: (\d+)", server.rpc("core.shmmem")).group(1))


@pytest.mark.suite("memory")
def test_every_allocation_fails_once(faulty_modules, ours, phones, figure):
    """The n-th allocation of a request fails, and all after it: an answer, no lock held, no half-made state, nothing
    leaked."""
    server = ours(workers=1, shm=256, **MODES["memory"])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    # Tables that grow once and stay are filled once.
    for n in range(1200):
        user = "sip:u%d@example.org" % (n % 40)
        watch, reply = bob.subscribe(user), alice.publish(user, body=pidf())
        alice.publish(user, etag=reply.get("SIP-ETag"), expires=0), watch.unsubscribe()
    refused = {"SUBSCRIBE": 0, "refresh": 0, "PUBLISH": 0, "change": 0}
    before = None
    for turn in range(2):
        for n in range(40):
            fault = ["X-Fault: memory-%d" % n]
            user = "u%d" % n
            watch = bob.subscribe("sip:%s@example.org" % user, extra=fault)
            refused["SUBSCRIBE"] += watch.reply.code == 500
            if watch.reply.code != 200:
                assert watch.reply.code == 500
                watch = bob.subscribe("sip:%s@example.org" % user)
            assert watch.reply.code == 200
            reply = watch.refresh(extra=fault, contact="<sip:moved@127.0.0.1:%d>" % bob.port)
            assert reply.code in (200, 500)
            refused["refresh"] += reply.code == 500
            reply = alice.publish("sip:%s@example.org" % user, body=pidf(user), extra=fault)
            refused["PUBLISH"] += reply.code == 500
            if reply.code != 200:
                assert reply.code == 500
                reply = alice.publish("sip:%s@example.org" % user, body=pidf(user))
            etag = reply.get("SIP-ETag")
            reply = alice.publish("sip:%s@example.org" % user, body=pidf(user, basic="closed"), etag=etag, extra=fault)
            refused["change"] += reply.code == 500
            if reply.code != 200:
                assert reply.code == 500
                reply = alice.publish("sip:%s@example.org" % user, body=pidf(user, basic="closed"), etag=etag)
                assert reply.code == 200, "a change that was refused has spoilt the entity tag"
            bob.quiet(0.01)
            # A fault may strike the NOTIFY: a refresh shows the state.
            watch.refresh()
            notified = len(watch.notifies)
            assert "closed" in watch.wait(notified + 1, timeout=0.3)[-1].text
            assert alice.publish("sip:%s@example.org" % user, etag=reply.get("SIP-ETag"), expires=0).code == 200
            assert watch.unsubscribe().code == 200
        bob.quiet(6.0)
        assert server.rpc("presence.subscriptions").count("callid") == 0
        if turn == 0:
            before = used(server)
    assert all(count > 0 for count in refused.values()), refused
    assert used(server) <= before + 2000, "%d bytes more after every turn" % (used(server) - before)
    figure("40 places of failure: %s refused with 500, memory the same after each turn (%+d bytes)" % (
        ", ".join("%d %s" % (count // 2, what) for what, count in refused.items()), used(server) - before))
