"""Two processes that write one row at the same time (`subs_db_mode` 1): in whatever order their statements reach the
database, the CSeq of the row never goes back and nothing that was answered is missing from it."""
import threading
import time

import pytest

from kit.kamailio import Kamailio
from kit.servers import PostgreSQL
from kit.sip import Client, pidf

# A statement that moves the Contact comes late, without holding any row meanwhile; every change of a row is recorded.
LATE = """
create table written (at serial, before_cseq int, after_cseq int);
grant all on written to public; grant all on sequence written_at_seq to public;
create or replace function late() returns trigger language plpgsql as $$ begin
    if current_query() ilike '%set%local_contact%where%' then perform pg_sleep(1.2); end if;
    return null;
end $$;
create or replace function record() returns trigger language plpgsql as $$ begin
    insert into written (before_cseq, after_cseq) values (old.local_cseq, new.local_cseq);
    return new;
end $$;
create trigger late before update on active_watchers for each statement execute function late();
create trigger record before update on active_watchers for each row execute function record();
"""


@pytest.fixture(scope="module")
def database():
    server = PostgreSQL()
    server.sql(LATE)
    yield server
    server.stop()


@pytest.mark.suite("crash")
def test_a_late_statement_takes_nothing_back(database):
    presence = dict(subs_db_mode=1, publ_cache=1)
    with Kamailio("ours", db=database.url, presence=presence, workers=4) as server:
        alice, bob = Client(server, "alice"), Client(server, "bob")
        watch = bob.subscribe(alice.uri)
        watch.wait(1)
        tag = alice.publish(body=pidf("alice", note="0.")).get("SIP-ETag")
        watch.wait(2)
        moved = "<sip:moved@127.0.0.1:%d>" % bob.port
        replies = []
        refresh = threading.Thread(target=lambda: replies.append(watch.refresh(contact=moved)))
        refresh.start()
        time.sleep(0.5)
        # The row of the refresh was read before these are counted, and is written after them.
        for number in range(1, 4):
            tag = alice.publish(body=pidf("alice", note="%d." % number), etag=tag).get("SIP-ETag")
            assert tag
        refresh.join()
        assert replies[0].code == 200
        seen = [notify.cseq for notify in watch.wait(6)]
        rows = database.sql("select contact, local_cseq from active_watchers").split("|")
        changes = [line.split("|") for line in
                   database.sql("select before_cseq, after_cseq from written order by at").splitlines()]
        server.stop()
        alice.close(), bob.close()
    assert changes and all(int(before) <= int(after) for before, after in changes), changes
    assert rows[0].strip() == moved.strip("<>"), "the Contact that was answered is not in the row: %s" % rows
    # NOTIFYs count from one above the row.
    assert int(rows[1]) >= max(seen) - 1 and len(seen) == len(set(seen)), (rows, seen)
