"""Who sends: changes for many watchers go to the sender processes, and small ones too while many answers are
missing."""
import os
import signal
import time

import pytest

from conftest import MODES
from kit.sip import dialog_info, pidf
from test_faults import faulty_modules  # noqa: F401  (a fixture)
from test_notify_engine import counts

LARGE = 64


def change_presence(alice, _, turn):
    assert alice.publish(body=pidf(note="state %d" % turn)).code == 200


def change_dialog(alice, _, turn):
    reply = alice.publish(body=dialog_info("early", dialog_id="call-%d" % turn), event="dialog",
                          ctype="application/dialog-info+xml")
    assert reply.code == 200


def change_watchers(alice, bob, _):
    assert bob.subscribe(alice.uri).reply.code == 200


KINDS = {"presence": change_presence, "dialog": change_dialog, "presence.winfo": change_watchers}


def watching(server, phones, event, many):
    """A phone with this many subscriptions to alice, each in a dialog of its own, that has read its NOTIFYs."""
    alice, bob, phone = phones(server, "alice"), phones(server, "bob"), phones(server, "watcher")
    watches = []
    for index in range(many):
        # The list of watchers is for the presentity alone.
        phone.user = "alice" if event.endswith("winfo") else "w%d" % index
        watches.append(phone.subscribe(alice.uri, event=event))
        assert watches[-1].reply.code == 200
    for watch in watches:
        assert len(watch.wait(1, timeout=10)) == 1
    # The first one may refresh.
    phone.user = "alice" if event.endswith("winfo") else "w0"
    return alice, bob, watches


@pytest.mark.parametrize("engine", ["auto", "tm"])
@pytest.mark.parametrize("event", KINDS)
def test_a_change_for_many_watchers_is_handed_over(ours, phones, event, engine):
    for many, handed in ((LARGE, 0), (LARGE + 1, 1)):
        server = ours(workers=1, presence=dict(subs_db_mode=0, publ_cache=2, notify_engine=engine), db=None,
                      modules=("presence_xml", "presence_dialoginfo"))
        alice, bob, watches = watching(server, phones, event, many)
        KINDS[event](alice, bob, 1)
        for watch in watches:
            assert len(watch.wait(2, timeout=10)) == 2
        assert counts(server, "fanouts_handed_over") == (handed,)
        assert all([n.cseq for n in watch.notifies] == sorted({n.cseq for n in watch.notifies}) for watch in watches)


def stopped(server):
    """The processes of a server that are stopped."""
    return [pid for pid in server.pids() if open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()[0] == "T"]


@pytest.mark.parametrize("event", KINDS)
@pytest.mark.parametrize("mode", ["memory", "write-through"])
def test_who_sends_to_one_watcher_hands_over_what_comes_meanwhile(faulty_modules, ours, phones,  # noqa: F811
                                                                  mode, event):
    """The worker stands still while it holds the queue for the NOTIFY of a refresh; the change is another worker's."""
    server = ours(workers=2, **MODES[mode])
    alice, bob, watches = watching(server, phones, event, LARGE + 6)
    assert watches[0].refresh(extra=["X-Fault: stop-at-notify"]).code == 200
    deadline = time.monotonic() + 5
    while not stopped(server) and time.monotonic() < deadline:
        time.sleep(0.05)
    held = stopped(server)
    assert len(held) == 1
    try:
        KINDS[event](alice, bob, 1)
        assert counts(server, "fanouts_handed_over") == (0,)
    finally:
        os.kill(held[0], signal.SIGCONT)
    for index, watch in enumerate(watches):
        expected = 3 if index == 0 else 2
        assert len(watch.wait(expected, timeout=10)) == expected
    assert counts(server, "fanouts_handed_over") == (1,)


@pytest.mark.parametrize("engine", ["auto", "tm"])
def test_small_changes_go_to_a_sender_while_many_answers_are_missing(ours, phones, engine):
    """The answers are read after all changes of a turn were sent: the processes hold back together."""
    server = ours(workers=2, presence=dict(subs_db_mode=0, publ_cache=2, notify_engine=engine, receive_buffer=65536),
                  db=None, before="maxbuffer=65536\n")
    publishers = [phones(server, "alice%d" % n) for n in range(12)]
    phone = phones(server, "watcher")
    watches = [(alice, phone.subscribe(alice.uri)) for alice in publishers for _ in range(30)]
    for _, watch in watches:
        assert len(watch.wait(1, timeout=10)) == 1
    tags, turn = {}, 0
    while counts(server, "fanouts_paced") == (0,) and turn < 40:
        turn += 1
        for alice in publishers:
            headers = ["Event: presence", "Content-Type: application/pidf+xml"]
            headers += ["SIP-If-Match: " + tags[alice.user]] if alice.user in tags else []
            body = pidf(note="turn %d." % turn)
            alice.send_raw(alice.request("PUBLISH", alice.uri, headers, body, contact=None))
        for alice in publishers:
            reply = alice.receive(5)
            assert reply is not None and reply.code == 200
            tags[alice.user] = reply.get("SIP-ETag")
        for _, watch in watches:
            watch.wait(turn + 1, timeout=0.0)
        phone.quiet(0.3)
    assert counts(server, "fanouts_paced")[0] > 0
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and not all("turn %d." % turn in w.notifies[-1].text for _, w in watches):
        phone.quiet(0.1)
    assert all("turn %d." % turn in watch.notifies[-1].text for _, watch in watches)
    for _, watch in watches:
        numbers = [notify.cseq for notify in watch.notifies]
        assert numbers == sorted(set(numbers))
    phone.quiet(1.2)
    assert counts(server, "notify_outstanding", "fanouts_queued") == (0, 0)
