"""What collides with another transaction - a deadlock, a lock that is not free in time - is tried again, a few
times."""
import threading
import time

import pytest

from kit.kamailio import Kamailio
from kit.servers import MariaDB, PostgreSQL
from kit.sip import Client

# How long a statement waits for a lock, and a session that holds all rows for longer.
SERVERS = {
    "mysql": (MariaDB, "set global innodb_lock_wait_timeout = 1;",
              "begin; select id from active_watchers for update; select sleep(1.6); commit;"),
    "postgres": (PostgreSQL, "alter role kamailio set lock_timeout = '20ms';",
                 "set lock_timeout = 0; begin; select id from active_watchers for update; select pg_sleep(0.04); "
                 "commit;"),
}


@pytest.mark.parametrize("name", list(SERVERS))
def test_a_lock_that_is_not_free_in_time(name):
    start, prepare, hold = SERVERS[name]
    database = start()
    try:
        database.sql(prepare)
        for mode in (1, 3):
            with Kamailio("ours", db=database.url, presence=dict(subs_db_mode=mode), modules=("presence_xml",),
                          workers=2) as server:
                watch = Client(server, "bob").subscribe("sip:alice@example.org")
                assert watch.reply.code == 200
                for _ in range(2):
                    other = threading.Thread(target=database.sql, args=(hold,))
                    other.start()
                    time.sleep(0.03 if name == "postgres" else 0.3)
                    assert watch.refresh().code == 200
                    other.join()
    finally:
        database.stop()
