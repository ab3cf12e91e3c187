"""A process that ends or stops while it holds one of our locks does not keep the server from ending, nor the rest from
being written."""
import signal
import sqlite3
import time

import pytest

from kit.sip import pidf
from test_faults import faulty_modules  # noqa: F401  (a fixture)

WRITTEN_LATE = dict(subs_db_mode=2, publ_cache=1, publ_update_period=600, db_update_period=600)


def rows(server, table):
    connection = sqlite3.connect(str(server.db_path), timeout=10)
    count = connection.execute("select count(*) from %s" % table).fetchone()[0]
    connection.close()
    return count


@pytest.mark.suite("crash")
@pytest.mark.parametrize("how,lock",
                         [("kill", "Shard"), ("exit", "Shard"), ("stop", "Shard"), ("kill", "sleep"), ("kill", "Class"),
                                      ("kill", "Vec")])
def test_a_lock_that_nobody_opens(faulty_modules, ours, phones, how, lock):  # noqa: F811
    server = ours(workers=2, presence=WRITTEN_LATE, before="exit_timeout=2\n")
    alice, bob = phones(server, "alice"), phones(server, "bob")
    for n in range(40):
        assert bob.subscribe("sip:u%d@example.org" % n).reply.code == 200
        assert alice.publish("sip:u%d@example.org" % n, body=pidf("u%d" % n)).code == 200
    bob.send_raw(bob.request("PUBLISH", "sip:x@example.org", ["Event: presence", "Content-Type: application/pidf+xml",
                                                            "X-Fault: %s-at-lock-%s" % (how, lock)], body=pidf("x")))
    time.sleep(1.0)
    began = time.monotonic()
    if server.alive():
        server.process.send_signal(signal.SIGTERM)
    server.process.wait(20)
    assert time.monotonic() - began < 12
    server.process = None
    assert rows(server, "active_watchers") >= 39, server.log()[-1500:]
    assert rows(server, "presentity") >= 39
