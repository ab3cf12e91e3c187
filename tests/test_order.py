"""The order of NOTIFYs: CSeq and version rise by one, a newer state never has a lower number."""
import random
import re
import threading

import pytest

from conftest import MODES
from kit.sip import Client, dialog_info


@pytest.mark.suite("T1")
@pytest.mark.parametrize("mode", ["memory", "write-through"])
def test_lamps_are_never_stuck(ours, mode):
    """Calls live and end over four workers, with right, stale and missing entity tags."""
    server = ours(workers=4, **MODES[mode])
    watcher = Client(server, "lamp")
    watch = watcher.subscribe("sip:alice@example.org", event="dialog")
    watch.wait(1)
    stop = threading.Event()

    def listen():
        while not stop.is_set():
            watcher.receive(0.05)

    listener = threading.Thread(target=listen)
    listener.start()
    random.seed(4)
    options = dict(event="dialog", ctype="application/dialog-info+xml")

    def calls(part):
        phone, generator = Client(server, "alice"), random.Random(part)
        for call in range(25):
            identity, etag = "%d-%d" % (part, call), None
            for state in ("trying", "early", "confirmed", "terminated"):
                tag = {0: None, 1: "a.1.2.3.4"}.get(generator.randrange(6), etag)
                reply = phone.publish("sip:alice@example.org", body=dialog_info(state, dialog_id=identity), etag=tag, **options)
                if reply is not None and reply.code == 412:
                    reply = phone.publish("sip:alice@example.org", body=dialog_info(state, dialog_id=identity), **options)
                assert reply is not None and reply.code == 200, reply
                etag = reply.get("SIP-ETag")
            assert phone.publish("sip:alice@example.org", etag=etag, expires=0, **options).code == 200
        phone.close()

    workers = [threading.Thread(target=calls, args=(part,)) for part in range(4)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    stop.wait(1.0)
    stop.set()
    listener.join()
    watch.refresh()
    watcher.quiet(0.5)
    numbers = [n.cseq for n in watch.notifies]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "CSeq does not rise by one"
    versions = [int(v.group(1)) for v in (re.search(r'version="(\d+)"', n.text) for n in watch.notifies) if v]
    assert versions == sorted(set(versions)), "a version was repeated or went back"
    assert watch.notifies[-1].body == b"", "a lamp is stuck: " + watch.notifies[-1].text
    watcher.close()


@pytest.mark.suite("T3")
def test_publish_and_refresh_at_the_same_moment(ours):
    server = ours(workers=4, **MODES["memory"])
    watcher, publisher = Client(server, "bob"), Client(server, "alice")
    watch = watcher.subscribe("sip:alice@example.org")
    from kit.sip import pidf
    etag = publisher.publish(body=pidf()).get("SIP-ETag")
    done = threading.Event()

    def publish():
        tag = etag
        for _ in range(150):
            tag = publisher.publish(body=pidf(), etag=tag).get("SIP-ETag")
        done.set()

    thread = threading.Thread(target=publish)
    thread.start()
    while not done.is_set():
        watch.refresh()
    thread.join()
    watcher.quiet(0.5)
    numbers = [n.cseq for n in watch.notifies]
    assert numbers == sorted(numbers) and len(set(numbers)) == len(numbers), "NOTIFYs out of order"
    watcher.close(), publisher.close()
