"""Notifier processes (`subs_db_mode` 3): a change on their own server wakes them, others they find in the table."""
import sqlite3
import time

import pytest

from kit.sip import pidf

TABLE = dict(subs_db_mode=3, publ_cache=0)


@pytest.mark.parametrize("processes", [1, 3])
def test_a_change_on_this_server_is_sent_at_once(ours, phones, processes):
    """COMPAT, "database-only with notifier processes"."""
    server = ours(presence=dict(TABLE, notifier_processes=processes, waitn_time=60))
    watchers, took = [], []
    for index in range(8):
        alice, bob = phones(server, "alice%d" % index), phones(server, "bob%d" % index)
        etag = alice.publish(body=pidf(alice.user)).get("SIP-ETag")
        watch = bob.subscribe(alice.uri)
        watch.wait(1)
        watchers.append((alice, watch, etag))
    for alice, watch, etag in watchers:
        seen, began = len(watch.notifies), time.monotonic()
        assert alice.publish(body=pidf(alice.user, basic="closed"), etag=etag).code == 200
        watch.wait(seen + 1, timeout=30)
        took.append(time.monotonic() - began)
        assert "closed" in watch.notifies[-1].text
    # The turns of a minute would be spread over it.
    assert max(took) < 5, took


def test_a_change_of_another_server_is_found(ours, phones):
    server = ours(presence=dict(TABLE, notifier_processes=1, waitn_time=1))
    bob = phones(server, "bob")
    watch = bob.subscribe("sip:alice@example.org")
    watch.wait(1)
    for turn in (0, 9):
        seen = len(watch.notifies)
        with sqlite3.connect(str(server.db_path), timeout=10) as table:
            table.execute("update active_watchers set updated=%d" % turn)
        assert len(watch.wait(seen + 1, timeout=10)) == seen + 1
