"""What survives a restart, and what several workers do to an embedded database at once."""
import signal
import threading

import pytest

from conftest import MODES
from kit.sip import Client, pidf


@pytest.mark.suite("crash")
@pytest.mark.parametrize("mode,sig",
                         [("defaults", signal.SIGTERM), ("write-through", signal.SIGKILL),
                          ("database-only", signal.SIGKILL)])
def test_restart_keeps_everything(ours, phones, mode, sig):
    server = ours(**MODES[mode])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    etag = alice.publish(body=pidf()).get("SIP-ETag")
    watch = bob.subscribe(alice.uri)
    watch.wait(1)
    etag = alice.publish(body=pidf(basic="closed"), etag=etag).get("SIP-ETag")
    watch.wait(2)
    server.restart(sig)
    before = watch.notifies[-1].cseq
    assert alice.publish(body=pidf(note="after"), etag=etag).code == 200
    watch.wait(3)
    assert "after" in watch.notifies[-1].text and watch.notifies[-1].cseq > before
    assert watch.refresh().code == 200
    watch.wait(4)
    assert watch.notifies[-1].cseq > watch.notifies[-2].cseq


@pytest.mark.suite("crash")
def test_write_back_survives_kill_after_the_period(ours, phones):
    server = ours(presence=dict(db_update_period=1))
    bob = phones(server, "bob")
    watch = bob.subscribe("sip:alice@example.org")
    watch.wait(1)
    bob.quiet(2.5)
    for _ in range(5):
        assert watch.refresh().code == 200
    watch.wait(6)
    highest = max(n.cseq for n in watch.notifies)
    server.restart(signal.SIGKILL)
    assert watch.refresh().code == 200, "a stored subscription must be known after a crash"
    watch.wait(7)
    assert watch.notifies[-1].cseq > highest, "a sequence number was used again"


def test_thousands_of_rows_at_start(ours, phones):
    """Stock cannot start again with 4,000 rows and 8 MB of private memory."""
    server = ours(presence=dict(db_update_period=1), workers=2)
    bob = phones(server, "bob")
    import sqlite3
    watch = bob.subscribe("sip:alice@example.org")
    bob.quiet(2.5)
    row = server.rows("active_watchers")[0]
    server.stop()
    connection = sqlite3.connect(str(server.db_path))
    columns = [name for name in row if name != "id"]
    for index in range(6000):
        values = dict(row, presentity_uri="sip:u%d@example.org" % index, callid="call-%d" % index)
        connection.execute("insert into active_watchers (%s) values (%s)" % (
            ", ".join(columns), ", ".join("?" * len(columns))), [values[name] for name in columns])
    connection.commit()
    connection.close()
    server.start()
    assert watch.refresh().code == 200


@pytest.mark.parametrize("mode", ["defaults", "write-through"])
def test_everybody_at_once_on_sqlite(ours, mode):
    """1,000 PUBLISH and 1,000 SUBSCRIBE over 8 workers: everything is answered 2xx, every row is there, everybody is
    notified."""
    server = ours(workers=8, **MODES[mode])
    total, threads, failures = 1000, 20, []

    def run(part):
        publisher, watcher = Client(server, "p"), Client(server, "w")
        for index in range(part, total, threads):
            uri = "sip:user%d@example.org" % index
            watch = watcher.subscribe(uri)
            reply = publisher.publish(uri, body=pidf("user%d" % index))
            if watch.reply is None or watch.reply.code != 200:
                failures.append(("SUBSCRIBE", index, watch.reply))
            if reply is None or reply.code != 200:
                failures.append(("PUBLISH", index, reply))
            if not any(b"open" in n.body for n in watch.wait(2, timeout=10)):
                failures.append(("NOTIFY", index, watch.notifies))
        publisher.close(), watcher.close()

    workers = [threading.Thread(target=run, args=(part,)) for part in range(threads)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    assert not failures, failures[:5]
    assert len(server.rows("presentity")) == total
    assert "locked" not in server.log()
    server.stop()
    assert len(server.rows("active_watchers")) == total


def test_db_text_is_read_again(ours, phones):
    """Texts without characters, which db_text cannot write, do not keep the server from starting again."""
    server = ours(db="text", presence=dict(subs_db_mode=1, publ_cache=1))
    alice, bob = phones(server, "alice"), phones(server, "bob")
    etag = alice.publish(body=pidf()).get("SIP-ETag")
    watch = bob.subscribe(alice.uri)
    watch.wait(1)
    server.restart()
    assert alice.publish(body=pidf(basic="closed"), etag=etag).code == 200
    assert "closed" in watch.wait(2)[-1].text
    assert watch.refresh().code == 200
