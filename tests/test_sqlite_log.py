"""SQLite's log is written back by a timer, and a worker does it only where the timer is late."""
import os
import re
import shutil
import signal
import sqlite3
import time

import pytest

from kit.sip import pidf

PAGES = 8_000


def in_the_file_alone(server, tmp_path, name):
    """How many publications are in the file, its log left aside."""
    copy = tmp_path / ("%s.sqlite" % name)
    shutil.copy(server.db_path, copy)
    with sqlite3.connect("file:%s?immutable=1" % copy, uri=True) as connection:
        return connection.execute("select count(*) from presentity").fetchone()[0]


def publish(phone, users):
    for user in users:
        phone.user = "u%d" % user
        assert phone.publish(body=pidf(phone.user)).code == 200


def timer_of(server):
    """The process of the second timer (`secondary_timer`), which writes back."""
    return int(re.search(r"PID: (\d+)[^}]*?DSC: secondary timer", server.rpc("core.psx")).group(1))


@pytest.mark.parametrize("mode", [1, 2, 3])
def test_a_timer_writes_the_log_back(ours, phones, tmp_path, mode):
    """Less than SQLite's own thousand pages, which no worker would have written back."""
    server = ours(presence=dict(subs_db_mode=mode, publ_cache=1 if mode < 3 else 0, notifier_processes=0))
    alice = phones(server, "alice")
    publish(alice, range(100))
    time.sleep(2.5)
    assert in_the_file_alone(server, tmp_path, "few") == 0, "too few to be worth it"
    publish(alice, range(100, 560))
    deadline = time.monotonic() + 10
    while in_the_file_alone(server, tmp_path, "many") < 500:
        assert time.monotonic() < deadline, "the timer has written nothing back"
        time.sleep(0.5)
    assert len(server.rows("presentity")) == 560


def test_the_log_is_bounded_where_the_timer_stands_still(ours, phones, tmp_path):
    server = ours(presence=dict(subs_db_mode=2, publ_cache=1))
    timer, alice = timer_of(server), phones(server, "alice")
    log = server.db_path.with_name(server.db_path.name + "-wal")
    with sqlite3.connect(server.db_path) as connection:
        page = connection.execute("pragma page_size").fetchone()[0]
    connection.close()
    os.kill(timer, signal.SIGSTOP)
    try:
        user = 0
        while in_the_file_alone(server, tmp_path, "stopped") == 0:
            publish(alice, range(user, user + 200))
            user += 200
            assert log.stat().st_size < (PAGES + 1_000) * (page + 24), "the log grows on"
        written = log.stat().st_size // (page + 24)
        assert written > PAGES - 1_000, "workers write back although the timer might have come"
        publish(alice, range(user, user + 200))
        assert log.stat().st_size < (PAGES + 1_000) * (page + 24)
    finally:
        os.kill(timer, signal.SIGCONT)
    assert len(server.rows("presentity")) == user + 200
