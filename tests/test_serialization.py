"""Serialization failures and deadlocks in PostgreSQL where subscriptions are rows: what collides is tried again, and no
watcher is left with an old state."""
import re
import threading
import time

import pytest

from kit.kamailio import Kamailio
from kit.servers import PostgreSQL
from kit.sip import Client, dialog_info

DIALOG = dict(event="dialog", ctype="application/dialog-info+xml")
LAMPS = 8
# Sessions that are in the way of all the rows nearly all the time: one of them of each statement, the other one of
# transactions that change several rows, in another order.
HOLDS_ALL = ("begin isolation level serializable; update active_watchers set updated_winfo = updated_winfo; "
             "select pg_sleep(0.12); commit;\n")
OTHER_ORDER = ("begin isolation level serializable; "
               "update active_watchers set flags = flags where id = (select max(id) from active_watchers); "
               "select pg_sleep(0.05); "
               "update active_watchers set flags = flags where id = (select min(id) from active_watchers); commit;\n")
# Most changes of a row fail as a collision does, for a while.
MOST_FAIL = """
create or replace function collide() returns trigger language plpgsql as $$ begin
    if random() < 0.85 then raise exception 'provoked' using errcode = 'serialization_failure'; end if;
    return new;
end $$;
create trigger collide before update on active_watchers for each row execute function collide();
select pg_sleep(3.5);
drop trigger collide on active_watchers;
"""


@pytest.fixture(scope="module")
def database():
    server = PostgreSQL()
    server.sql("alter role kamailio set default_transaction_isolation = 'serializable'; "
               "alter role kamailio set deadlock_timeout = '20ms';")
    yield server
    server.stop()


def errors(server):
    return int(re.search(r"presence:db_errors = (\d+)", server.rpc("stats.get_statistics", "presence:")).group(1))


@pytest.mark.suite("databases")
@pytest.mark.parametrize("obstacle, processes", [
    (HOLDS_ALL, 0), (HOLDS_ALL, 2),
    # Transactions of several rows are those that mark them for the notifier processes.
    (OTHER_ORDER, 2),
    (MOST_FAIL, 0), (MOST_FAIL, 2),
], ids=["serialization-alone", "serialization-notifiers", "deadlock-notifiers", "most-alone", "most-notifiers"])
def test_no_watcher_is_left_with_an_old_state(database, obstacle, processes):
    database.sql("delete from active_watchers; delete from presentity;")
    presence = dict(subs_db_mode=3, publ_cache=0, notifier_processes=processes, waitn_time=1, notifier_poll_rate=10)
    modules = ("presence_xml", "presence_dialoginfo")
    with Kamailio("ours", db=database.url, presence=presence, modules=modules) as server:
        alice, bob = Client(server, "alice"), Client(server, "bob")
        tag = alice.publish(body=dialog_info("trying"), **DIALOG).get("SIP-ETag")
        watches = [bob.subscribe(alice.uri, event="dialog") for _ in range(LAMPS)]
        for watch in watches:
            watch.wait(1)
        before = errors(server)
        texts = [obstacle] if obstacle == MOST_FAIL else [obstacle * 25] * 2
        others = [threading.Thread(target=database.sql, args=(text,)) for text in texts]
        for other in others:
            other.start()
        for state in ("early", "confirmed", "early", "confirmed", "terminated"):
            reply = alice.publish(body=dialog_info(state), etag=tag, **DIALOG)
            assert reply.code == 200
            tag = reply.get("SIP-ETag")
            end = time.monotonic() + 0.4
            while time.monotonic() < end:
                bob.receive(0.05)
        for other in others:
            other.join()
        end = time.monotonic() + 12
        while time.monotonic() < end and not all("terminated" in watch.notifies[-1].text for watch in watches):
            bob.receive(0.1)
        assert [("terminated" in watch.notifies[-1].text) for watch in watches] == [True] * LAMPS
        for watch in watches:
            numbers = [notify.cseq for notify in watch.notifies]
            assert len(set(numbers)) == len(numbers), "a CSeq was used twice"
        assert errors(server) > before, "nothing was in the way"
        alice.close(), bob.close()
