"""A database that goes away and comes back: what is written when it is back is what was sent."""
import time

import pytest

from kit.kamailio import Kamailio
from kit.servers import PostgreSQL
from kit.sip import Client, pidf


@pytest.fixture(scope="module")
def postgres():
    server = PostgreSQL()
    yield server
    server.stop()


def go_away(postgres):
    """Closes all connections and takes no new ones."""
    postgres.sql("alter database kamailio allow_connections false; select pg_terminate_backend(pid) "
                 "from pg_stat_activity where datname = 'kamailio';", "postgres")


def come_back(postgres):
    postgres.sql("alter database kamailio allow_connections true;", "postgres")


def stored(postgres):
    return [bytes.fromhex(line) for line in postgres.sql("select encode(body, 'hex') from presentity;").split()]


CACHED, TABLE = dict(subs_db_mode=2, publ_cache=1), dict(subs_db_mode=3, publ_cache=0, notifier_processes=0)
CASES = [("stock", CACHED), ("stock", TABLE), ("ours", CACHED), ("ours", TABLE),
         ("ours", dict(CACHED, print_statements=0)), ("ours", dict(TABLE, print_statements=0)),
         ("ours", dict(CACHED, publ_update_period=1)),
         ("ours", dict(CACHED, publ_update_period=1, print_statements=0))]


@pytest.mark.parametrize("user", ["alice", "zo\u00e9"])
@pytest.mark.parametrize("which,presence", CASES)
def test_a_document_is_stored_as_it_is(postgres, which, presence, user):
    """The library of PostgreSQL escapes in another way while it has no connection; stock reads a row first, and so
    connects again before it writes."""
    postgres.sql("delete from presentity;")
    with Kamailio(which, db=postgres.url, presence=presence, modules=("presence_xml",), workers=1) as server:
        alice = Client(server, user)
        alice.publish("sip:first@example.org", body=pidf("first"))
        go_away(postgres)
        try:
            for _ in range(2):
                alice.publish("sip:away@example.org", body=pidf("away"))
            time.sleep(1.5)
        finally:
            come_back(postgres)
        document = pidf(user, note="line one\nline \\two")
        assert alice.publish(body=document).code == 200
        deadline = time.monotonic() + 15
        while document.encode() not in stored(postgres) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert document.encode() in stored(postgres), stored(postgres)
        alice.close()
