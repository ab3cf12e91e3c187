"""Several servers under load: how far behind a node is, and stock exchanged for ours and back without losing a
subscription."""
import collections
import random
import re
import signal
import threading
import time

import pytest

from conftest import SOAK
from kit.kamailio import Kamailio, free_port
from kit.responder import Responder
from kit.servers import MariaDB, PostgreSQL
from kit.sip import Client, dialog_info, pidf
from test_cluster import Cluster
from test_pua import ALICE, publish
from test_pua import server as pua_server


@pytest.mark.suite("cluster")
def test_how_far_behind_a_node_is(figure):
    """500 PUBLISHes a second at one node, their watchers at the other: every one of them is notified, once, of the last
    state."""
    users, rate, seconds = 100, 500, 60 if SOAK else 6
    with Cluster(2) as (one, two):
        publisher, watcher = Client(one, "p"), Client(two, "w")
        watches = [watcher.subscribe("sip:u%d@example.org" % n) for n in range(users)]
        watcher.quiet(0.5)
        sent, seen, stop = {}, collections.defaultdict(list), threading.Event()

        def listen():
            while not stop.is_set():
                message = watcher.receive(0.05)
                if message is not None and message.is_request:
                    note = re.search(r"<note>(\d+)\.(\d+)</note>", message.text)
                    if note:
                        seen[(int(note.group(1)), int(note.group(2)))].append(time.monotonic())

        listener = threading.Thread(target=listen)
        listener.start()
        etags, refused, began = {}, [], time.monotonic()
        for number in range(rate * seconds):
            user, turn = number % users, number // users
            wait = began + number / rate - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            sent[(user, turn)] = time.monotonic()
            reply = publisher.publish("sip:u%d@example.org" % user,
                                      body=pidf("u%d" % user, note="%d.%d" % (user, turn)), etag=etags.get(user))
            if reply is None or reply.code != 200:
                refused.append((user, turn, reply))
                break
            etags[user] = reply.get("SIP-ETag")
        took = time.monotonic() - began
        stop.wait(2.0)
        stop.set()
        listener.join()
        assert not refused, refused
        turns = rate * seconds // users
        lost = [user for user in range(users) if (user, turns - 1) not in seen]
        assert not lost, "the last state did not reach the watchers of %s" % lost[:5]
        twice = [key for key, times in seen.items() if len(times) > 1]
        assert not twice, "notified twice: %s" % twice[:5]
        for watch in watches:
            numbers = [n.cseq for n in watch.notifies]
            assert sorted(numbers) == list(range(numbers[0],
                                                 numbers[0] + len(numbers))), "a NOTIFY is missing or was sent twice"
        lags = sorted(times[0] - sent[key] for key, times in seen.items())
        figure("2 nodes, %.0f PUBLISH/s: behind by p50 %.1f ms, p99 %.1f ms, at most %.1f ms; %d of %d changes "
               "notified one by one, the rest with the next; lost 0, doubled 0"
               % (rate * seconds / took, lags[len(lags) // 2] * 1000, lags[len(lags) * 99 // 100] * 1000,
                                                    lags[-1] * 1000, len(seen), rate * seconds))
        publisher.close(), watcher.close()


class Phone:
    """A watcher and a publisher behind a proxy with two servers: who gets no answer asks the other."""

    def __init__(self, servers, number):
        self.servers, self.number = servers, number
        self.alice, self.bob = Client(servers[0], "alice%d" % number), Client(servers[0], "bob%d" % number)
        self.etag, self.watch, self.count, self.lost, self.body = None, None, 0, [], None

    def ask(self, client, work):
        for turn in range(40):
            client.server = self.servers[(self.number + turn) % 2]
            client.reply_to = lambda request: Client.reply_to(client, request, timeout=1.0)
            reply = work()
            if reply is not None and reply.code not in (500, 503):
                return reply
            time.sleep(0.1)
        return None

    def publish(self):
        self.count += 1
        body = pidf(self.alice.user, note="n%d." % self.count)
        reply = self.ask(self.alice, lambda: self.alice.publish(body=body, etag=self.etag))
        if reply is not None and reply.code == 412:
            # The answer to the one before was lost with its server: what a phone does then.
            self.etag = None
            reply = self.ask(self.alice, lambda: self.alice.publish(body=body))
        if reply is None or reply.code != 200:
            self.lost.append(("PUBLISH", reply))
        else:
            self.etag, self.body = reply.get("SIP-ETag"), "n%d." % self.count

    def refresh(self):
        reply = self.ask(self.bob, lambda: self.watch.refresh(ruri=self.alice.uri))
        if reply is not None and reply.code == 400:
            # The server before has taken this number and could not answer any more: the dialog lives, the next number
            # is good.
            reply = self.ask(self.bob, lambda: self.watch.refresh(ruri=self.alice.uri))
        if reply is None or reply.code != 200:
            self.lost.append(("SUBSCRIBE", reply))


@pytest.mark.suite("cluster")
@pytest.mark.parametrize("kind", [PostgreSQL, MariaDB])
def test_exchange_one_by_one(kind, figure):
    """stock, stock -> ours, stock -> ours, ours -> stock, ours -> stock, stock on one database under load: no
    subscription is lost, every phone is notified of the last state."""
    database = kind()
    ports = [free_port(), free_port()]

    def server(which, place):
        made = Kamailio(which, db=database.url, workers=4, modules=("presence_xml",), presence=dict(
            subs_db_mode=3, publ_cache=0, notifier_processes=0, server_address="sip:127.0.0.1:%d" % ports[place]))
        made.port, made.listen = ports[place], ["udp:127.0.0.1:%d" % ports[place]]
        return made.start()

    servers = [server("stock", 0), server("stock", 1)]
    phones, stop = [], threading.Event()
    try:
        phones = [Phone(servers, n) for n in range(8)]
        for phone in phones:
            phone.watch = phone.bob.subscribe(phone.alice.uri)
            assert phone.watch.reply.code == 200
            phone.publish()

        def run(phone):
            chance = random.Random(phone.number)
            while not stop.is_set():
                phone.publish() if chance.random() < 0.4 else phone.refresh()
                phone.bob.quiet(0.05)

        threads = [threading.Thread(target=run, args=(phone,)) for phone in phones]
        [thread.start() for thread in threads]
        for which in ("ours", "stock") if not SOAK else ("ours", "stock") * 5:
            for place in (0, 1):
                stop.wait(0.8)
                servers[place].remove()
                servers[place] = server(which, place)
        stop.wait(0.8)
        stop.set()
        [thread.join() for thread in threads]
        assert not [phone.lost for phone in phones if phone.lost], [phone.lost for phone in phones if phone.lost][:3]
        for phone in phones:
            notified = len(phone.watch.notifies)
            phone.refresh()
            phone.bob.quiet(0.5)
            assert not phone.lost and len(phone.watch.notifies) > notified, "the subscription was lost"
            last = max(phone.watch.notifies, key=lambda n: n.cseq)
            assert phone.body in last.text, "the last state is %s, notified was %s" % (phone.body, last.text)
        figure("%s: %d changes and refreshes while each server was exchanged twice, no subscription lost" % (
            kind.__name__, sum(phone.count for phone in phones) + sum(phone.watch.cseq for phone in phones)))
    finally:
        stop.set()
        for each in servers:
            each.remove()
        for phone in phones:
            phone.alice.close(), phone.bob.close()
        database.stop()


SWAPS = {"write-through": dict(subs_db_mode=1, publ_cache=1), "defaults": dict(),
         "table": dict(subs_db_mode=1, publ_cache=0),
         "database-only": dict(subs_db_mode=3, publ_cache=0, notifier_processes=0)}


@pytest.mark.parametrize("mode", SWAPS)
@pytest.mark.parametrize("event", ["presence", "dialog", "message-summary"])
@pytest.mark.parametrize("first,second", [("stock", "ours"), ("ours", "stock")])
def test_swap(first, second, mode, event):
    """What one has stored the other goes on with: refreshes, entity tags, sequence numbers, rows."""
    bodies = {"presence": (pidf(note="before"), pidf(note="after"), "application/pidf+xml"),
              "dialog": (dialog_info("early"), dialog_info("confirmed"), "application/dialog-info+xml"),
              "message-summary": ("Messages-Waiting: no\r\n", "Messages-Waiting: yes\r\n",
                                  "application/simple-message-summary")}
    before, after, ctype = bodies[event]
    options = dict(presence=dict(SWAPS[mode]), modules=("presence_xml", "presence_dialoginfo", "presence_mwi"),
                   workers=1)
    with Kamailio(first, **options) as server:
        alice, bob = Client(server, "alice"), Client(server, "bob")
        tag = alice.publish(body=before, event=event, ctype=ctype).get("SIP-ETag")
        watch = bob.subscribe(alice.uri, event=event)
        watch.wait(1)
        tag = alice.publish(body=before, event=event, ctype=ctype, etag=tag).get("SIP-ETag")
        watch.wait(2)
        notified, highest = len(watch.notifies), watch.notifies[-1].cseq
        bob.quiet(0.5)
        server.stop()
        other = Kamailio(second, folder=server.folder, **options)
        other.port, other.listen = server.port, server.listen
        with other:
            reply = alice.publish(body=after, event=event, ctype=ctype, etag=tag)
            assert reply.code == 200, "the entity tag of %s: %s" % (first, reply)
            seen = watch.wait(notified + 1, timeout=5)
            assert len(seen) > notified and seen[-1].cseq > highest, "the change is not notified"
            word = {"presence": "after", "dialog": "confirmed", "message-summary": "yes"}[event]
            assert word in seen[-1].text
            assert watch.refresh().code == 200, "the subscription of %s" % first
            notified = len(watch.notifies)
            watch.wait(notified)
            assert word in watch.notifies[-1].text
            tag = reply.get("SIP-ETag")
            assert alice.publish(event=event, etag=tag).code == 200
            fresh = alice.publish(event=event, etag=alice.replies[-1].get("SIP-ETag") or tag, expires=0)
            assert fresh.code == 200
            assert watch.unsubscribe().code == 200
            bob.quiet(0.5)
            if mode != "defaults":
                assert other.rows("presentity") == [] and other.rows("active_watchers") == []
        alice.close(), bob.close()


@pytest.mark.parametrize("seen", [1, 3, 20])
def test_stock_that_is_killed_between_two_lives_leaves_no_trace(seen):
    """Write-back (`subs_db_mode` 2): stock notifies and is killed before it has written. Nothing in the table says that
    it was there, so that a start after an orderly stop, too, has to go on beyond what may have been sent since."""
    options = dict(modules=("presence_xml",), workers=1)

    def rows(server):
        return sorted(tuple(sorted(row.items())) for row in server.rows("active_watchers"))

    with Kamailio("ours", **options) as server:
        bob = Client(server, "bob")
        watch = bob.subscribe("sip:alice@example.org")
        watch.wait(1)
        bob.quiet(0.5)
        server.stop()
        left = rows(server)
        assert len(left) == 1
        for which, rounds, end in (("stock", seen, signal.SIGKILL), ("ours", 1, signal.SIGKILL),
                                   ("ours", 1, signal.SIGTERM), ("ours", 1, signal.SIGTERM)):
            highest = max(notify.cseq for notify in watch.notifies)
            notified = len(watch.notifies)
            other = Kamailio(which, folder=server.folder, **options)
            other.port, other.listen = server.port, server.listen
            with other:
                for _ in range(rounds):
                    assert watch.refresh().code == 200
                numbers = [notify.cseq for notify in watch.wait(notified + rounds)[notified:]]
                assert len(numbers) == rounds and min(numbers) > highest, (which, numbers, highest)
                other.stop(end)
            if which == "stock":
                assert rows(server) == left, "stock has written: look for another way to show that it may not have"
        bob.close()


@pytest.mark.parametrize("mode", [0, 2])
@pytest.mark.parametrize("first,second", [("stock", "ours"), ("ours", "stock")])
def test_swap_of_the_user_agent(first, second, mode):
    """Records that one has written the other goes on with: the entity tag, the dialog of a subscription."""
    responder = Responder()
    options = dict(params=dict(db_mode=mode), workers=1)
    kamailio = pua_server(first, **options)
    with kamailio:
        publish(kamailio, responder, body=pidf(note="before"), ident="one")
        # Stock cannot write a subscription to SQLite (NULL in pres_id), nor what comes after it.
        subscribes = first == "ours"
        if subscribes:
            kamailio.rpc("pua.subscribe", "sip:bob@127.0.0.1:%d" % responder.port, ALICE, "presence", "600")
        # Stock writes by its timer (update_period), not when it ends.
        time.sleep(7 if (first, mode) == ("stock", 0) else 0.5)
        assert responder.requests[0].method == "PUBLISH"
        kamailio.stop()
        kept = [row["etag"] for row in kamailio.rows("pua") if row["etag"]]
        assert len(kept) == 1
        seen = len(responder.requests)
        other = pua_server(second, folder=kamailio.folder, **options)
        other.port, other.listen = kamailio.port, kamailio.listen
        with other:
            publish(other, responder, body=pidf(note="after"), ident="one")
            other.rpc("pua.subscribe", "sip:bob@127.0.0.1:%d" % responder.port, ALICE, "presence", "600")
            time.sleep(0.5)
            after = responder.requests[seen:]
            changes = [r for r in after if r.method == "PUBLISH"]
            assert (changes
                    and changes[0].get("SIP-If-Match") == kept[0]), "the publication of %s is not gone on with" % first
            if subscribes and second == "stock":
                assert [r for r in after if r.method == "SUBSCRIBE"], "the order is not carried out"
    responder.close()
