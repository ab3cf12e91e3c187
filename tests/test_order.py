"""The order of NOTIFYs: CSeq and version rise by one, a newer state never has a lower number."""
import random
import re
import threading
import time

import pytest

from conftest import MODES, SOAK
from kit.sip import Client, dialog_info


LIVES = 1000 if SOAK else 60


@pytest.mark.suite("stuck-lamp")
@pytest.mark.parametrize("mode", MODES)
def test_lamps_are_never_stuck(ours, mode, figure):
    """Calls live and end over four workers, 0 to 20 ms apart, with right, stale and missing entity tags."""
    server = ours(workers=4, shm=512 if SOAK else 128, **MODES[mode])
    watcher = Client(server, "lamp")
    watch = watcher.subscribe("sip:alice@example.org", event="dialog")
    watch.wait(1)
    stop = threading.Event()

    def listen():
        while not stop.is_set():
            watcher.receive(0.05)

    listener = threading.Thread(target=listen)
    listener.start()
    options = dict(event="dialog", ctype="application/dialog-info+xml")
    wrong, repaired = [], []

    def calls(part):
        phone, generator = Client(server, "alice"), random.Random(part)
        for call in range(LIVES // 4):
            identity, etag = "%d-%d" % (part, call), None
            for state in ("trying", "early", "confirmed", "terminated"):
                time.sleep(generator.random() * 0.02)
                tag = {0: None, 1: "a.1.2.3.4"}.get(generator.randrange(6), etag)
                reply = phone.publish("sip:alice@example.org", body=dialog_info(state, dialog_id=identity), etag=tag,
                                      **options)
                if reply is not None and reply.code == 412:
                    repaired.append(identity)
                    reply = phone.publish("sip:alice@example.org", body=dialog_info(state, dialog_id=identity),
                                          **options)
                if reply is None or reply.code != 200:
                    wrong.append((identity, state, reply))
                    return
                etag = reply.get("SIP-ETag")
            if generator.random() < 0.8:
                time.sleep(generator.random() * 0.02)
                reply = phone.publish("sip:alice@example.org", etag=etag, expires=0, **options)
                if reply is None or reply.code != 200:
                    wrong.append((identity, "removal", reply))
            # Others only say that the call has ended; that has to be enough.
        phone.close()

    workers = [threading.Thread(target=calls, args=(part,)) for part in range(4)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    stop.wait(1.0)
    stop.set()
    listener.join()
    assert not wrong, wrong[:3]
    watch.refresh()
    watcher.quiet(0.5)
    # UDP may hand over in another order than they were sent: the numbers say how they were meant.
    notified = sorted(watch.notifies, key=lambda n: n.cseq)
    numbers = [n.cseq for n in notified]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "CSeq does not rise by one"
    versions = [int(v.group(1)) for v in (re.search(r'<dialog-info[^>]* version="(\d+)"', n.text) for n in notified)
                if v]
    assert versions == sorted(set(versions)), "a version was repeated or went back"
    order = ("trying", "early", "confirmed", "terminated")
    reached = {}
    for notify in notified:
        shown = re.findall(r'<dialog id="([\d-]+)".*?<state>(\w+)</state>', notify.text, re.S)
        names = [name for name, _ in shown]
        assert len(names) == len(set(names)), "two documents for one dialog: %s" % notify.text
        for name, state in shown:
            assert order.index(state) >= reached.get(name, 0), "%s went back to %s under a higher CSeq" % (name, state)
            reached[name] = order.index(state)
    alive = [state for _, state in re.findall(r'<dialog id="([\d-]+)".*?<state>(\w+)</state>', notified[-1].text, re.S)
             if state != "terminated"]
    assert not alive, "a lamp is stuck: " + notified[-1].text
    figure("%s: %d calls, %d NOTIFYs, %d entity tags repaired, no lamp stuck"
           % (mode, LIVES // 4 * 4, len(notified), len(repaired)))
    watcher.close()


@pytest.mark.suite("order")
def test_publish_and_refresh_at_the_same_moment(ours, figure):
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
    figure("150 changes beside refreshes: %d NOTIFYs, each number once and in order" % len(numbers))
    watcher.close(), publisher.close()


@pytest.mark.suite("order")
@pytest.mark.parametrize("mode", ["defaults", "memory"])
def test_a_refresh_and_a_change_at_once_are_each_notified(ours, mode, figure):
    """One NOTIFY with the newest state would do, but who waits for the answer to its SUBSCRIBE counts NOTIFYs, as stock
    sends them."""
    from kit.sip import pidf
    server = ours(workers=4, **MODES[mode])
    watcher, publisher = Client(server, "bob"), Client(server, "alice")
    etag = publisher.publish(body=pidf()).get("SIP-ETag")
    watch = watcher.subscribe("sip:alice@example.org")
    watch.wait(1)
    # The first document may have been notified twice: by the answer to the SUBSCRIBE, and as a change that was still
    # under way.
    watcher.quiet(1.0)
    first = len(watch.notifies)
    for turn in range(60):
        thread = threading.Thread(target=lambda: tags.append(publisher.publish(body=pidf(), etag=etag).get("SIP-ETag")))
        tags = []
        thread.start()
        assert watch.refresh().code == 200
        thread.join()
        etag = tags[0]
        watch.wait(first + 2 + 2 * turn)
    watcher.quiet(0.5)
    numbers = [n.cseq for n in watch.notifies]
    assert first <= 2 and len(numbers) == first + 120 and numbers == sorted(set(numbers))
    figure("%s: 60 refreshes beside 60 changes: %d NOTIFYs and the first" % (mode, len(numbers) - first))
    watcher.close(), publisher.close()


@pytest.mark.suite("order")
@pytest.mark.parametrize("mode", ["defaults", "write-through", "memory", "table"])
def test_documents_that_are_read_again_while_they_change(ours, mode, figure):
    """`refreshWatchers` lets go of what memory knows of the table; a PUBLISH at the same moment is neither refused nor
    forgotten."""
    server = ours(workers=4, http=True, **MODES[mode])
    stop, asked, wrong = threading.Event(), [0], []

    def again():
        while not stop.is_set():
            for n in range(4):
                server.json_rpc("presence.refreshWatchers", "sip:u%d@example.org" % n, "presence", 1)
                asked[0] += 1

    def publish(part):
        phone, watcher = Client(server, "p%d" % part), Client(server, "w%d" % part)
        from kit.sip import pidf
        uri = "sip:u%d@example.org" % part
        for turn in range(60):
            reply = phone.publish(uri, body=pidf(note="a%d." % turn))
            if reply is None or reply.code != 200:
                wrong.append((turn, "first", reply))
                return
            for change in ("b", "c"):
                reply = phone.publish(uri, body=pidf(note="%s%d." % (change, turn)), etag=reply.get("SIP-ETag"))
                if reply is None or reply.code != 200:
                    wrong.append((turn, change, reply))
                    return
            fetch = watcher.subscribe(uri, expires=0)
            shown = fetch.wait(1)
            if not shown or "c%d." % turn not in shown[-1].text:
                wrong.append((turn, "shown", shown and shown[-1].text))
                return
            if phone.publish(uri, etag=reply.get("SIP-ETag"), expires=0).code != 200:
                wrong.append((turn, "removed", reply))
                return
        phone.close(), watcher.close()

    callers = [threading.Thread(target=again) for _ in range(2)]
    publishers = [threading.Thread(target=publish, args=(part,)) for part in range(4)]
    [thread.start() for thread in callers + publishers]
    [thread.join() for thread in publishers]
    stop.set()
    [thread.join() for thread in callers]
    assert not wrong, wrong[:3]
    figure("%s: 960 changes beside %d refreshWatchers, none refused, none forgotten" % (mode, asked[0]))
