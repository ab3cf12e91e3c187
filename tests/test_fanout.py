"""Many watchers of one presentity."""
import threading

from conftest import MODES
from kit.sip import Client, dialog_info, pidf


def test_a_thousand_watchers_and_one_worker(ours):
    """Answers are read in between: hardly a NOTIFY is sent twice, no request is lost, the last state reaches
    everybody."""
    server = ours(workers=1, shm=256, **MODES["memory"])
    phone, total = Client(server, "w"), 1000
    for index in range(total):
        phone.user = "w%d" % index
        assert phone.subscribe("sip:alice@example.org").reply.code == 200
    phone.quiet(1.0)
    phone.trace.clear(), phone.notifies.clear()
    publisher, etag, failed = Client(server, "alice"), None, []

    def publish():
        nonlocal etag
        for index in range(20):
            reply = publisher.publish(body=pidf(note="state %d" % index), etag=etag)
            if reply is None or reply.code != 200:
                failed.append(index)
            etag = reply.get("SIP-ETag")

    thread = threading.Thread(target=publish)
    thread.start()
    last = set()
    for _ in range(100000):
        message = phone.receive(5.0)
        if message is None and not thread.is_alive():
            break
        if message is not None and b"state 19" in message.body:
            last.add(message.get("Call-ID"))
            if len(last) == total:
                break
    thread.join()
    assert not failed and len(last) == total
    sent = [m for m in phone.trace if m.is_request]
    again = len(sent) - len({m.get("Via") for m in sent})
    assert again <= len(sent) // 100, "%d of %d NOTIFYs were sent again" % (again, len(sent))
    for call in list(last)[:50]:
        numbers = [m.cseq for m in phone.notifies if m.get("Call-ID") == call]
        assert numbers == sorted(numbers)
    phone.close(), publisher.close()


def test_lamp_versions_over_a_fanout(both):
    """Watchers at different versions: each gets its own, one higher than its last."""

    def scenario(server, phone, trace):
        alice = phone("alice")
        watches = []
        for index in range(5):
            bob = phone("bob")
            watch = bob.subscribe(alice.uri, event="dialog")
            watch.wait(1)
            for _ in range(index % 3):
                watch.refresh()
            watch.wait(1 + index % 3)
            watches.append(watch)
        alice.publish(body=dialog_info("early", user=alice.user), event="dialog", ctype="application/dialog-info+xml")
        for index, watch in enumerate(watches):
            watch.wait(2 + index % 3)
            trace.messages("watcher %d" % index, watch.notifies)

    both(scenario, workers=1, **MODES["memory"])
