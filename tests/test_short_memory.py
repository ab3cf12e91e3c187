"""Large fan-outs do not crawl where shared memory is small, and those of watchers' watchers leave the worker."""
import re
import time

import pytest

from conftest import MODES
from kit.sip import pidf


def crowd(phones, server, uri, count, **options):
    clients = [phones(server, "w%d" % n) for n in range(4)]
    watches = [clients[n % 4].subscribe(uri, **options) for n in range(count)]
    assert all(watch.reply.code == 200 for watch in watches)
    return clients, watches


def notified(clients, watches, note, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for client in clients:
            client.quiet(0.02)
        if all(watch.notifies and note in watch.notifies[-1].text for watch in watches):
            return True
    return False


@pytest.mark.parametrize("shm", [16, 32])
def test_a_small_memory_serves_a_fan_out_at_once(ours, phones, shm):
    server = ours(workers=2, shm=shm, **MODES["memory"])
    alice = phones(server, "alice")
    clients, watches = crowd(phones, server, alice.uri, 90)
    alice.publish(body=pidf(note="first"))
    assert notified(clients, watches, "first", 4.0)


def test_changes_of_watchers_leave_the_worker(ours, phones):
    server = ours(workers=1, **MODES["memory"])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    clients, watches = crowd(phones, server, alice.uri, 80, event="presence.winfo")
    bob.subscribe(alice.uri)
    assert notified(clients, watches, bob.uri, 4.0)
    assert int(re.search(r"fanouts_handed_over = (\d+)", server.rpc("stats.get_statistics", "presence:")).group(1)) >= 1
