"""Watchers that are gone: NOTIFYs that nobody answers do not hold up those to the living."""
import socket
import threading
import time

import pytest

from kit.sip import Client, pidf
from test_notify_engine import counts

SMALL, PRESENTITIES, LARGE = 60, 8, 300
# The smallest receive buffer, and so the smallest window of NOTIFYs without an answer: 96.
NARROW = dict(before="maxbuffer=65536\n", db=None, workers=2)
PROMPT = 1.0


@pytest.fixture
def black_hole():
    """The Contact of phones that read nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hole:
        hole.bind(("127.0.0.1", 0))
        yield "<sip:gone@127.0.0.1:%d>" % hole.getsockname()[1]


class Trickle:
    """A phone that refreshes all the time: its answers come in while others stay silent."""

    def __init__(self, server):
        self.client, self.ends = Client(server, "trickle"), threading.Event()
        self.count = 0
        self.thread = threading.Thread(target=self.run)

    def run(self):
        watch = self.client.subscribe("sip:trickle@example.org")
        while not self.ends.is_set():
            watch.refresh()
            self.client.quiet(0.01)
            self.count += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ends.set()
        self.thread.join()
        self.client.close()


def publish_at_once(presentities, tags, note):
    for presentity in presentities:
        headers = ["Event: presence", "Content-Type: application/pidf+xml"]
        headers += ["SIP-If-Match: " + tags[presentity.user]] if presentity.user in tags else []
        body = pidf(note=note)
        presentity.send_raw(presentity.request("PUBLISH", presentity.uri, headers, body, contact=None))


def take_tags(presentities, tags):
    for presentity in presentities:
        reply = presentity.receive(5)
        assert reply is not None and reply.code == 200
        tags[presentity.user] = reply.get("SIP-ETag")


def seconds_until(watch, expected):
    began = time.monotonic()
    deadline = began + 20
    while len(watch.notifies) < expected and time.monotonic() < deadline:
        watch.client.receive(max(0.0, deadline - time.monotonic()))
    assert len(watch.notifies) >= expected
    return time.monotonic() - began


@pytest.mark.parametrize("engine", ["auto", "tm"])
def test_living_watchers_are_notified_while_a_site_is_dead(ours, phones, black_hole, engine, figure):
    server = ours(presence=dict(subs_db_mode=0, publ_cache=2, notify_engine=engine, receive_buffer=65536), **NARROW)
    small = [phones(server, "small%d" % n) for n in range(PRESENTITIES)]
    large, carol = phones(server, "large"), phones(server, "carol")
    dead, bob = phones(server, "dead"), phones(server, "bob")
    for presentity, many in [(alice, SMALL) for alice in small] + [(large, LARGE)]:
        for _ in range(many):
            assert dead.subscribe(presentity.uri, contact=black_hole).reply.code == 200
    # One of the living watches a presentity that the dead watch too, one watches another.
    watches = [(carol, bob.subscribe(carol.uri)), (small[0], bob.subscribe(small[0].uri))]
    for _, watch in watches:
        assert seconds_until(watch, 1) < PROMPT
    tags, waited = {}, []
    with Trickle(server) as trickle:
        while trickle.count < 3:
            time.sleep(0.01)
        for turn in range(2, 5):
            publish_at_once([large] + small + [carol], tags, "turn %d" % turn)
            for _, watch in watches:
                waited.append(seconds_until(watch, turn))
            take_tags([large] + small + [carol], tags)
            asked = [bob.subscribe(presentity.uri) for presentity in (carol, small[1])]
            for watch in asked:
                assert watch.reply.code == 200
                waited.append(seconds_until(watch, 1))
            waited += [seconds_until(watch, turn) for _, watch in watches]
    figure("longest wait of a living watcher beside %d dead ones, %s: %.2f s"
           % (SMALL * PRESENTITIES + LARGE, engine, max(waited)))
    assert max(waited) < PROMPT
    assert counts(server, "notify_2xx")[0] > 0 and counts(server, "fanouts_queued") == (0,)
    time.sleep(0.2)
    assert counts(server, "notify_outstanding") == (0,)
