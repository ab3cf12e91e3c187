"""Processes that write to SQLite at the same time share a transaction (`share_commits`), and each fails by itself."""
import signal
import sqlite3
import threading
import time

import pytest

from kit.kamailio import Kamailio
from kit.sip import Client, pidf
from test_faults import faulty_modules  # noqa: F401  (a fixture)
from test_shortcuts import statistics

WORKERS = 8


class Crowd:
    """Phones that send a request each while the file is locked, so that they write at the same time once it is not."""

    def __init__(self, server, names):
        self.server = server
        self.phones = {name: Client(server, name) for name in names}

    def at_once(self, request, change="select 1"):
        """Answers by name; `change` is made from outside meanwhile, in the transaction that holds the others up."""
        holder = sqlite3.connect(str(self.server.db_path), timeout=10, isolation_level=None)
        holder.execute("begin immediate")
        answers = {}
        threads = [threading.Thread(target=lambda n=name, p=phone: answers.update({n: request(p)}))
                   for name, phone in self.phones.items()]
        [thread.start() for thread in threads]
        time.sleep(1)
        for statement in change.split(";"):
            holder.execute(statement)
        holder.execute("commit")
        holder.close()
        [thread.join() for thread in threads]
        return answers

    def close(self):
        [phone.close() for phone in self.phones.values()]


def started(share, **presence):
    return Kamailio("ours", workers=WORKERS, presence=dict(presence, share_commits=share), debug=2)


def connected(server):
    """Every worker has written before: a process that is not connected yet waits for its turn."""
    phone = Client(server, "first")
    for _ in range(40):
        phone.publish(body=pidf("first"))
    phone.close()


def stored(server, column="etag"):
    return {row["username"]: row[column] for row in server.rows("presentity") if row["username"] != "first"}


@pytest.mark.parametrize("share", [1, 0])
def test_requests_at_the_same_time(share):
    with started(share) as server:
        connected(server)
        crowd = Crowd(server, ["u%d" % n for n in range(WORKERS)])
        before = statistics(server)
        first = crowd.at_once(lambda phone: phone.publish(body=pidf(phone.user)))
        assert {answer.code for answer in first.values()} == {200}
        assert stored(server) == {name: answer.get("SIP-ETag") for name, answer in first.items()}
        second = crowd.at_once(lambda phone: phone.publish(body=pidf(phone.user, note="x"),
                                                           etag=first[phone.user].get("SIP-ETag")))
        assert {answer.code for answer in second.values()} == {200}
        assert stored(server) == {name: answer.get("SIP-ETag") for name, answer in second.items()}
        third = crowd.at_once(lambda phone: phone.publish(etag=second[phone.user].get("SIP-ETag"), expires=0))
        assert {answer.code for answer in third.values()} == {200} and stored(server) == {}
        after = statistics(server)
        shared = after["db_shared_commits"] - before["db_shared_commits"]
        # All but who has the turn, and who may come first or last to it.
        assert shared >= WORKERS if share else shared == 0, shared
        assert after["db_writes"] - before["db_writes"] >= 3 * WORKERS
        assert ("share a transaction" in server.log()) == bool(share)
        crowd.close()


@pytest.mark.parametrize("share", [1, 0])
@pytest.mark.parametrize("way", ["abort", "rollback", "fail"])
def test_a_refused_row_fails_alone(share, way):
    with started(share) as server:
        connected(server)
        connection = sqlite3.connect(str(server.db_path), timeout=10)
        connection.executescript("create trigger refuse before insert on presentity when new.username like 'bad%%' "
                                 "begin select raise(%s, 'no'); end;" % way)
        connection.close()
        names = ["bad0", "good0", "bad1", "good1", "good2", "good3"]
        crowd = Crowd(server, names)
        answers = crowd.at_once(lambda phone: phone.publish(body=pidf(phone.user)))
        assert {name: answer.code // 100 for name, answer in answers.items()} \
            == {name: 5 if name.startswith("bad") else 2 for name in names}
        assert stored(server) == {name: answers[name].get("SIP-ETag") for name in names if name.startswith("good")}
        crowd.close()


@pytest.mark.parametrize("share", [1, 0])
def test_a_row_that_was_changed_outside_is_seen_by_its_own_request(share):
    """Another server changes two rows while the requests wait: these two are answered 412, with or without others."""
    with started(share) as server:
        connected(server)
        names = ["u%d" % n for n in range(6)]
        crowd = Crowd(server, names)
        etags = {name: phone.publish(body=pidf(name)).get("SIP-ETag") for name, phone in crowd.phones.items()}
        change = ("update presentity set etag = 'a.1.1.1.1' where username = 'u1';"
                  "delete from presentity where username = 'u4'")
        answers = crowd.at_once(lambda phone: phone.publish(body=pidf(phone.user, note="x"), etag=etags[phone.user]),
                                change)
        assert {name: answer.code for name, answer in answers.items()} \
            == {name: 412 if name in ("u1", "u4") else 200 for name in names}
        assert stored(server) == {**{name: answers[name].get("SIP-ETag") for name in names
                                     if name not in ("u1", "u4")}, "u1": "a.1.1.1.1"}
        crowd.close()


@pytest.mark.parametrize("share", [1, 0])
@pytest.mark.parametrize("mode", [1, 3])
def test_subscriptions_at_the_same_time(share, mode):
    with started(share, subs_db_mode=mode, notifier_processes=0) as server:
        connected(server)
        crowd = Crowd(server, ["u%d" % n for n in range(6)])
        watches = {name: phone.subscribe("sip:first@example.org") for name, phone in crowd.phones.items()}
        answers = crowd.at_once(lambda phone: watches[phone.user].refresh())
        assert {answer.code for answer in answers.values()} == {200}
        [watch.wait(2) for watch in watches.values()]
        rows = {row["watcher_username"]: row["local_cseq"] for row in server.rows("active_watchers")}
        last = {name: int(watch.notifies[-1].get("CSeq").split()[0]) for name, watch in watches.items()}
        # A row has what was sent before the last NOTIFY, as stock's.
        assert {name: cseq + 1 for name, cseq in rows.items()} == last
        crowd.close()


def test_a_process_that_is_killed_takes_nothing_along():
    """What was answered is in the table, whichever process has written it."""
    with started(1) as server:
        connected(server)
        crowd = Crowd(server, ["u%d" % n for n in range(WORKERS)])
        answers = crowd.at_once(lambda phone: phone.publish(body=pidf(phone.user)))
        server.stop(signal.SIGKILL)
        assert stored(server) == {name: answer.get("SIP-ETag") for name, answer in answers.items()}
        crowd.close()


@pytest.mark.suite("memory")
@pytest.mark.parametrize("point", ["left", "together"])
def test_a_panic_on_the_way_costs_its_own_request(faulty_modules, point):  # noqa: F811
    with started(1) as server:
        connected(server)
        names = ["u%d" % n for n in range(6)]
        crowd = Crowd(server, names)
        fault = ["X-Fault: panic-at-" + point]
        answers = crowd.at_once(lambda phone: phone.publish(body=pidf(phone.user), extra=fault * (phone.user == "u3")))
        codes = [answer.code for answer in answers.values()]
        assert "asked for at " + point in server.log() and (codes.count(200), codes.count(500)) == (5, 1), codes
        assert stored(server) == {name: answer.get("SIP-ETag") for name, answer in answers.items()
                                  if answer.code == 200}
        again = crowd.at_once(lambda phone: phone.publish(body=pidf(phone.user, tuple_id="b")))
        assert {answer.code for answer in again.values()} == {200}
        crowd.close()


@pytest.mark.suite("crash")
@pytest.mark.parametrize("point", ["left", "together"])
def test_a_process_that_is_killed_on_the_way(faulty_modules, point):  # noqa: F811
    """The server ends in time, and what it has answered is in the table."""
    with started(1) as server:
        connected(server)
        crowd = Crowd(server, ["u%d" % n for n in range(6)])
        fault = ["X-Fault: kill-at-" + point]
        answers = crowd.at_once(lambda phone: phone.publish(body=pidf(phone.user), extra=fault * (phone.user == "u3")))
        assert "fault: kill-at-" + point in server.log()
        server.process.wait(20)
        server.process = None
        answered = {name: answer.get("SIP-ETag") for name, answer in answers.items()
                    if answer is not None and answer.code == 200}
        assert answered.items() <= stored(server).items()
        crowd.close()
