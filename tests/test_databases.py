"""The same life of a subscription in every cell: database x storage mode x cache x notifiers x fast NOTIFY."""
import collections
import contextlib
import itertools
import re
import threading
import time

import pytest

from kit.kamailio import Kamailio
from kit.servers import PostgreSQL
from kit.sip import Client, pidf

DATABASES = ["sqlite", "text", "postgres", "mysql"]
done = collections.Counter()
CELLS = [(mode, cache, 0, 1) for mode, cache in itertools.product((0, 1, 2), (0, 1))]
CELLS += [(3, cache, notifiers, fast) for cache, notifiers, fast in itertools.product((0, 1), (0, 1, 4), (0, 1))]


@pytest.fixture
def servers(database_server):
    def get(name):
        if name in ("sqlite", "text"):
            return name
        server = database_server(name)
        server.sql("delete from presentity; delete from active_watchers; delete from watchers;")
        return server.url

    return get


def live(url, presence):
    """A publication and two subscriptions live and end; no error is logged."""
    with Kamailio("ours", db=url, presence=presence, modules=("presence_xml", "presence_mwi"), workers=2) as server:
        alice, bob = Client(server, "alice"), Client(server, "bob")
        reply = alice.publish(body=pidf())
        assert reply.code == 200
        watch = bob.subscribe(alice.uri)
        assert watch.reply.code == 200 and "open" in watch.wait(1)[0].text
        assert watch.refresh().code == 200 and len(watch.wait(2)) == 2
        reply = alice.publish(body=pidf(basic="closed"), etag=reply.get("SIP-ETag"))
        assert reply.code == 200 and "closed" in watch.wait(3, timeout=5)[2].text
        assert alice.publish(etag=reply.get("SIP-ETag"), expires=0).code == 200
        assert len(watch.wait(4, timeout=5)) == 4
        assert watch.unsubscribe().code == 200
        assert watch.wait(5)[-1].get("Subscription-State") == "terminated;reason=timeout"
        numbers = [n.cseq for n in watch.notifies]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        short = bob.subscribe(alice.uri, expires=1)
        expected = 2
        assert short.wait(expected, timeout=6)[-1].get("Subscription-State") == "terminated;reason=timeout"
        bob.quiet(0.2)
        assert len(short.notifies) == expected
        wrong = [line for line in server.log().split("\n") if "ERROR" in line or "CRITICAL" in line]
        assert not wrong, "\n".join(wrong[:5])
        alice.close(), bob.close()


@pytest.mark.suite("databases")
@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("mode,cache,notifiers,fast", CELLS)
def test_cell(servers, database, mode, cache, notifiers, fast, figure):
    live(servers(database),
         dict(subs_db_mode=mode, publ_cache=cache, notifier_processes=notifiers, send_fast_notify=fast, waitn_time=1,
                                 db_update_period=1, clean_period=1))
    done[database] += 1
    if done[database] == len(CELLS):
        figure("%s: all %d cells of storage mode, cache, notifiers, fast NOTIFY" % (database, len(CELLS)))


@pytest.mark.suite("databases")
@pytest.mark.parametrize("database", ["postgres", "mysql"])
@pytest.mark.parametrize("lock", [0, 1, 2])
@pytest.mark.parametrize("mode,notifiers", [(1, 0), (3, 1)])
def test_table_locks(servers, database, lock, mode, notifiers):
    live(servers(database),
         dict(subs_db_mode=mode, publ_cache=0, notifier_processes=notifiers, db_table_lock_type=lock, waitn_time=1,
                                 db_update_period=1, clean_period=1))


@pytest.mark.suite("notifiers")
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("notifiers", [0, 1, 4])
@pytest.mark.parametrize("database", ["postgres", "mysql"])
def test_servers_share_a_database(servers, database, notifiers, count, figure):
    """No sequence number twice, none left out, the last state in a NOTIFY, whichever server a change comes in on."""
    presence = dict(subs_db_mode=3, publ_cache=0, notifier_processes=notifiers, waitn_time=1, notifier_poll_rate=10)
    options = dict(db=servers(database), presence=presence, modules=("presence_xml",), workers=2)
    changes, presentity = 25, "sip:alice-%d-%d@example.org" % (notifiers, count)
    with contextlib.ExitStack() as stack:
        all_servers = [stack.enter_context(Kamailio("ours", **options)) for _ in range(count)]
        bob = Client(all_servers[0], "bob")
        watch = bob.subscribe(presentity)
        watch.wait(1, timeout=8)
        stop, refused = threading.Event(), []

        def listen():
            while not stop.is_set():
                bob.receive(0.05)

        def publish(server, user):
            phone, etag = Client(server, user), None
            for index in range(changes):
                reply = phone.publish(presentity, body=pidf(tuple_id=user, note="%s-%d" % (user, index)), etag=etag)
                if reply is None or reply.code != 200:
                    refused.append((user, index, reply))
                    return
                etag = reply.get("SIP-ETag")
            phone.close()

        threads = [threading.Thread(target=listen)]
        threads += [threading.Thread(target=publish, args=(server, "p%d" % n)) for n, server in enumerate(all_servers)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads[1:]]
        stop.wait(4.0 if notifiers else 1.0)
        stop.set()
        threads[0].join()
        assert not refused, refused[:3]
        numbers = sorted(n.cseq for n in watch.notifies)
        assert len(set(numbers)) == len(numbers), "a CSeq was used twice"
        assert numbers == list(range(1, len(numbers) + 1)), "a NOTIFY is missing"
        if not notifiers:
            assert (len(numbers) == 1
                    + changes * count), "a NOTIFY is missing: %d of %d" % (len(numbers), 1 + changes * count)
        last = max(watch.notifies, key=lambda n: n.cseq).text
        missing = [n for n in range(count) if "p%d-%d<" % (n, changes - 1) not in last]
        assert not missing, "the last state was in no NOTIFY: %s" % last
        # A watcher that asks another server than it subscribed at is known there.
        bob.server = all_servers[-1]
        assert watch.refresh().code == 200
        figure("%s, %d servers, %d notifiers: %d changes, %d NOTIFYs, none lost, none twice" % (
            database, count, notifiers, changes * count, len(numbers)))
        bob.close()


@pytest.mark.suite("notifiers")
@pytest.mark.parametrize("waitn,rate,processes", [(1, 10, 1), (3, 10, 1), (2, 4, 2)])
def test_what_notifiers_do_when_nothing_happens(waitn, rate, processes, figure):
    """`notifier_poll_rate` looks a second and process, nothing else: no transaction, no lock, no write. A change is
    notified within `waitn_time`."""
    database = PostgreSQL()
    try:
        database.sql("alter system set log_statement='all'")
        database.sql("select pg_reload_conf()")
        log = database.folder.parent / (database.folder.name + ".log")
        presence = dict(subs_db_mode=3, publ_cache=0, notifier_processes=processes, waitn_time=waitn,
                        notifier_poll_rate=rate)
        with Kamailio("ours", db=database.url, presence=presence, modules=("presence_xml",), workers=1) as server:
            alice, bob = Client(server, "alice"), Client(server, "bob")
            watch = bob.subscribe(alice.uri)
            watch.wait(1, timeout=10)
            waits, etag = [], None
            for turn in range(4):
                notified, began = len(watch.notifies), time.monotonic()
                etag = alice.publish(body=pidf(note="n%d." % turn), etag=etag).get("SIP-ETag")
                last = watch.wait(notified + 1, timeout=waitn + 5)[-1]
                waits.append(time.monotonic() - began)
                assert "n%d." % turn in last.text and len(watch.notifies) == notified + 1
            assert max(waits) <= waitn + 1, "notified after %.1f s" % max(waits)
            bob.quiet(1.0)
            before, began = log.stat().st_size, time.monotonic()
            bob.quiet(4.0)
            took = time.monotonic() - began
            said = log.read_text(errors="replace")[before:]
            statements = collections.Counter(word.upper() for word in re.findall(r"statement: +(\w+)", said))
            assert set(statements) == {"SELECT"}, statements
            looks = statements["SELECT"] / took / processes
            assert rate * 0.5 <= looks <= rate * 1.2, "%.1f looks a second and process instead of %d" % (looks, rate)
            figure("waitn_time %d, notifier_poll_rate %d, %d processes: changes notified after %.1f to %.1f s; idle: "
                   "%.1f SELECTs a second and process, nothing else"
                   % (waitn, rate, processes, min(waits), max(waits), looks))
            alice.close(), bob.close()
    finally:
        database.stop()
