"""Subscriptions in the database only: several processes and servers read, refresh, change and end one row at once. What
a NOTIFY says and the number it has are written together, and nobody undoes what another one has written."""
import contextlib
import re
import sqlite3
import threading
import time

import pytest

from kit.kamailio import Kamailio
from kit.sip import Client, dialog_info

SERVERS = ["sqlite", "postgres", "mysql"]
# How long another session keeps what it has written to itself, in seconds.
HELD = 0.6


class Table:
    """The rows of one database, seen from outside of the servers that share it."""

    def __init__(self, name, server=None):
        self.name, self.server = name, server
        self.path = None

    def start(self, stack, count=1, workers=4, modules=("presence_dialoginfo",), **presence):
        """Servers on the one table."""
        presence = dict(subs_db_mode=3, publ_cache=0, db_update_period=1, clean_period=1, **presence)
        nodes = []
        for _ in range(count):
            url = self.server.url if self.server else "sqlite:///%s" % self.path if self.path else self.name
            node = stack.enter_context(Kamailio("ours", db=url, presence=presence, modules=modules, workers=workers))
            self.path = self.path or node.db_path
            nodes.append(node)
        return nodes

    def sql(self, text):
        if self.server:
            return self.server.sql(text)
        connection = sqlite3.connect(str(self.path), timeout=10)
        try:
            cursor = connection.execute(text)
            return "\n".join("|".join(map(str, row)) for row in cursor.fetchall())
        finally:
            connection.commit()
            connection.close()

    def row(self, *columns):
        """These columns of the one row, as numbers; None without a row."""
        found = self.sql("select %s from active_watchers;" % ", ".join(columns)).strip()
        return [int(word) for word in re.split(r"[|\t]", found)] if found else None

    @contextlib.contextmanager
    def held(self, text, seconds=HELD):
        """Another session has carried this out, and does not commit before these seconds are over."""
        if not self.server:
            connection = sqlite3.connect(str(self.path), timeout=10, isolation_level=None, check_same_thread=False)
            connection.execute("begin immediate")
            connection.execute(text)
            other = threading.Timer(seconds, connection.execute, ("commit",))
            other.start()
            yield
            other.join()
            connection.close()
            return
        sleep = "pg_sleep" if self.name == "postgres" else "sleep"
        whole = "begin; %s; select %s(%s); commit;" % (text, sleep, seconds)
        other = threading.Thread(target=self.server.sql, args=(whole,))
        other.start()
        holds = {"postgres": "select count(*) from pg_stat_activity where query like '%sleep(%' and state = 'active' "
                             "and pid <> pg_backend_pid() and wait_event = 'PgSleep';",
                 "mysql": "select count(*) from information_schema.processlist where state = 'User sleep';"}[self.name]
        deadline = time.monotonic() + 8
        while self.sql(holds).strip() == "0" and time.monotonic() < deadline:
            time.sleep(0.02)
        yield
        other.join()

    def fail(self, verb, times=None):
        """Statements of this kind fail, without end or the first few times of every second try."""
        self.allow()
        if self.name == "sqlite":
            self.sql("create trigger fails before %s on active_watchers begin select raise(abort, 'no'); end;" % verb)
        elif self.name == "postgres":
            state = "P0001" if times is None else "40001"
            wrong = "true" if times is None else "nextval('tries') %% %d <> 0" % (times + 1)
            self.sql("create sequence tries; create function fails() returns trigger as $$ begin if %s then raise "
                     "exception 'no' using errcode = '%s'; end if; return coalesce(new, old); end $$ "
                     "language plpgsql; create trigger fails before %s on active_watchers for each row "
                     "execute function fails();" % (wrong, state, verb))
        else:
            signal = "signal sqlstate '45000';" if times is None else (
                "begin set @tries = coalesce(@tries, 0) + 1; if mod(@tries, %d) <> 0 then "
                "signal sqlstate '40001' set mysql_errno = 1213; end if; end" % (times + 1))
            self.sql("delimiter //\ncreate trigger fails before %s on active_watchers for each row %s//\ndelimiter ;\n"
                     % (verb, signal))

    def allow(self):
        if self.name == "postgres":
            self.sql("drop trigger if exists fails on active_watchers; drop function if exists fails; "
                     "drop sequence if exists tries;")
        else:
            self.sql("drop trigger if exists fails;")


@pytest.fixture
def table(request, database_server):
    name = request.param
    if name in ("sqlite", "text"):
        yield Table(name)
        return
    table = Table(name, database_server(name))
    table.allow()
    table.sql("delete from active_watchers; delete from presentity; delete from watchers;")
    yield table
    table.allow()


def each(names):
    return pytest.mark.parametrize("table", names, indirect=True)


def shown_version(notify):
    return int(re.search(r'<dialog-info[^>]* version="(\d+)"', notify.text).group(1))


def rises_by_one(numbers):
    numbers = sorted(numbers)
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))


class Lamp:
    """A phone that watches alice's calls, and sends SUBSCRIBEs to any node without waiting for answers."""

    def __init__(self, node):
        self.phone = Client(node, "lamp")
        self.publish(Client(node, "alice"), "trying")
        self.watch = self.phone.subscribe("sip:alice@example.org", event="dialog")
        assert self.watch.reply.code == 200
        assert len(self.watch.wait(1, timeout=8)) == 1

    @staticmethod
    def publish(phone, state, etag=None, identity="d1"):
        reply = phone.publish("sip:alice@example.org", body=dialog_info(state, dialog_id=identity), etag=etag,
                              event="dialog", ctype="application/dialog-info+xml")
        assert reply.code == 200
        return reply.get("SIP-ETag")

    def send(self, node, cseq, expires):
        watch = self.watch
        request = self.phone.request("SUBSCRIBE", watch.to, ["Event: dialog", "Expires: %d" % expires],
                                     call_id=watch.call_id, from_tag=watch.from_tag, to_tag=watch.to_tag, cseq=cseq)
        self.phone.socket.sendto(request, (node.address, node.port))

    def codes(self):
        """The final answers by CSeq; the first SUBSCRIBE is left out."""
        answers = {}
        for reply in self.phone.replies:
            if reply.method == "SUBSCRIBE" and reply.cseq > 1 and reply.code >= 200:
                answers[reply.cseq] = reply.code
        return answers


@pytest.mark.parametrize("table,notifiers",
                         [("sqlite", 0), ("text", 0), ("postgres", 0), ("mysql", 0), ("postgres", 1)],
                         indirect=["table"])
def test_refreshes_changes_and_the_end_at_once(table, notifiers):
    """Each number once and none left out, whichever process sends; the end is the last, and comes once."""
    with contextlib.ExitStack() as stack:
        # db_text has its tables in each process.
        count = 1 if table.name == "text" else 2
        nodes = table.start(stack, count, notifier_processes=notifiers, waitn_time=1, notifier_poll_rate=10)
        lamp = Lamp(nodes[0])
        changes, failed = 12, []

        def calls(number):
            try:
                phone, etag = Client(nodes[number % count], "p%d" % number), None
                for turn in range(changes):
                    state = "confirmed" if turn % 2 else "early"
                    etag = lamp.publish(phone, state, etag, identity="d-%d" % number)
                phone.close()
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=calls, args=(number,)) for number in range(2)]
        [thread.start() for thread in threads]
        cseq = 1
        while any(thread.is_alive() for thread in threads):
            for node in nodes * 2:
                cseq += 1
                lamp.send(node, cseq, 600)
            lamp.phone.quiet(0.05)
        [thread.join() for thread in threads]
        assert not failed, failed[:2]
        lamp.phone.quiet(2.5 if notifiers else 1.0)
        codes, notified = lamp.codes(), lamp.watch.notifies
        assert set(codes.values()) <= {200, 400} and sorted(codes) == list(range(2, cseq + 1))
        assert rises_by_one([notify.cseq for notify in notified]) and rises_by_one(map(shown_version, notified))
        answered = list(codes.values()).count(200)
        if not notifiers:
            assert len(notified) == 1 + answered + 2 * changes
        last = max(notified, key=lambda notify: notify.cseq).text
        assert last.count("<state>confirmed</state>") == 2, last
        if table.name != "text":
            assert table.row("remote_cseq")[0] == max(number for number, code in codes.items() if code == 200)
        # The end beside refreshes and a change.
        before = len(notified)
        closing = threading.Thread(target=calls, args=(0,))
        closing.start()
        for number, expires in enumerate((600, 600, 0, 600, 600)):
            lamp.send(nodes[number % count], cseq + 1 + number, expires)
        closing.join()
        lamp.phone.quiet(1.0)
        codes, notified = lamp.codes(), lamp.watch.notifies
        assert set(codes.values()) <= {200, 400, 481} and sorted(codes) == list(range(2, cseq + 6))
        assert rises_by_one([notify.cseq for notify in notified])
        over = [notify for notify in notified[before:] if notify.get("Subscription-State").startswith("terminated")]
        if codes[cseq + 3] == 200:
            assert over == [max(notified, key=lambda notify: notify.cseq)]
            lamp.send(nodes[0], cseq + 6, 600)
            lamp.phone.quiet(0.5)
            assert lamp.codes()[cseq + 6] == 481
        else:
            assert not over and codes[cseq + 3] == 400


# What another server has done between our reading and our writing, and what comes of a refresh and of the end.
COUNTED = "local_cseq = local_cseq + 1, version = version + 1"
MEANWHILE = {
    "a NOTIFY": ("update active_watchers set " + COUNTED, 200),
    "another authorization": ("update active_watchers set status = 2, " + COUNTED, 200),
    "a later SUBSCRIBE": ("update active_watchers set remote_cseq = 99, expires = expires + 99, " + COUNTED, 400),
    "a SUBSCRIBE to a stock node": ("update active_watchers set remote_cseq = 99, expires = expires + 99", 400),
    "a copy of it": ("update active_watchers set remote_cseq = 2, " + COUNTED, 200),
    "the end": ("delete from active_watchers", 481),
}


@each(SERVERS)
@pytest.mark.parametrize("expires", [600, 0])
def test_a_row_that_changes_between_reading_and_writing(table, expires):
    with contextlib.ExitStack() as stack:
        [node] = table.start(stack)
        for what in MEANWHILE:
            table.sql("delete from active_watchers;")
            changes_in_between(table, node, what, expires)


def changes_in_between(table, node, what, expires):
    text, wanted = MEANWHILE[what]
    # An end whose row is gone is an end all the same, as with stock: its driver may have carried it out twice.
    is_ended_twice = what == "the end" and expires == 0
    lamp = Lamp(node)
    before = table.row("local_cseq", "version", "expires")
    with table.held(text):
        reply = lamp.watch.send(expires)
    assert reply.code == (200 if is_ended_twice else wanted), what
    lamp.phone.quiet(0.2)
    notified = lamp.watch.notifies
    after = table.row("local_cseq", "version", "remote_cseq", "expires", "status")
    if is_ended_twice:
        assert after is None and [notify.cseq for notify in notified[1:]] == [notified[0].cseq + 1], what
        assert notified[1].get("Subscription-State").startswith("terminated"), what
    elif wanted == 481:
        assert after is None and len(notified) == 1, what
    elif wanted == 400:
        counted = int(COUNTED in text)
        assert after == [before[0] + counted, before[1] + counted, 99, before[2] + 99, 1] and len(notified) == 1, what
    else:
        # One number is the other server's.
        assert len(notified) == 2 and notified[1].cseq == notified[0].cseq + 2, what
        state = "terminated" if expires == 0 else "pending" if what == "another authorization" else "active"
        assert notified[1].get("Subscription-State").startswith(state), what
        assert bool(notified[1].body) == (what != "another authorization"), what
        if expires == 0:
            assert after is None, what
        else:
            status = 2 if what == "another authorization" else 1
            assert after[:3] == [before[0] + 2, before[1] + 2, 2] and after[4] == status, what
    if after is not None:
        lamp.watch.cseq = 99
        assert lamp.watch.refresh().code == 200, what
    lamp.phone.close()


@pytest.mark.parametrize("counted", ["", ", " + COUNTED], ids=["stock", "ours"])
@each(SERVERS)
def test_what_is_renewed_while_it_runs_out(table, counted):
    """The timer has seen that it is over; another server renews it before the timer ends it. Stock's leaves the count
    of NOTIFYs to its notifiers."""
    with contextlib.ExitStack() as stack:
        [node] = table.start(stack)
        lamp = Lamp(node)
        assert lamp.watch.send(2).code == 200
        began = time.monotonic()
        renewed = int(time.time()) + 600
        # It is over two seconds after the SUBSCRIBE; the timer comes each second.
        lamp.phone.quiet(max(0.0, began + 1.8 - time.monotonic()))
        with table.held("update active_watchers set expires = %d%s" % (renewed, counted), seconds=2.0):
            lamp.phone.quiet(2.0)
        lamp.phone.quiet(0.5)
        notified = [notify.get("Subscription-State") for notify in lamp.watch.notifies]
        assert len(notified) == 2 and all(state.startswith("active") for state in notified)
        assert table.row("expires") == [renewed] and lamp.watch.refresh().code == 200


@each(SERVERS)
@pytest.mark.parametrize("verb,expires", [("update", 600), ("delete", 0)])
def test_a_refused_statement(table, verb, expires):
    """It is answered 500 and has not happened: no NOTIFY, no number used up."""
    with contextlib.ExitStack() as stack:
        [node] = table.start(stack)
        lamp = Lamp(node)
        before = table.row("local_cseq", "version", "expires", "remote_cseq")
        table.fail(verb)
        assert lamp.watch.send(expires).code == 500
        lamp.phone.quiet(0.3)
        assert table.row("local_cseq", "version", "expires", "remote_cseq") == before
        assert len(lamp.watch.notifies) == 1
        table.allow()
        lamp.watch.cseq -= 1
        assert lamp.watch.send(expires).code == 200
        notified = lamp.watch.wait(2)
        assert [notify.cseq for notify in notified] == [notified[0].cseq, notified[0].cseq + 1]
        assert (table.row("expires") is None) == (expires == 0)


@each(["postgres", "mysql"])
@pytest.mark.parametrize("verb,expires", [("update", 600), ("delete", 0)])
def test_a_statement_that_collides(table, verb, expires):
    """A serialization failure or a deadlock is tried again: the watcher sees one answer and one NOTIFY."""
    with contextlib.ExitStack() as stack:
        [node] = table.start(stack, workers=1)
        lamp = Lamp(node)
        table.fail(verb, times=2)
        assert lamp.watch.send(expires).code == 200
        lamp.phone.quiet(0.3)
        notified = lamp.watch.notifies
        assert [notify.cseq for notify in notified] == [notified[0].cseq, notified[0].cseq + 1]


@each(["postgres"])
def test_how_many_statements_a_subscribe_takes(table):
    """The row is read once and written once; the NOTIFY costs nothing more."""
    with contextlib.ExitStack() as stack:
        [node] = table.start(stack, modules=("presence_mwi",))
        phone = Client(node, "bob")
        log = table.server.folder.parent / (table.server.folder.name + ".log")
        table.sql("alter role kamailio set log_statement = 'all';")
        try:
            node.restart()
            watch = phone.subscribe("sip:alice@example.org", event="message-summary")
            watch.wait(1)

            def statements(send):
                before, notified = log.stat().st_size, len(phone.notifies)
                assert send().code == 200
                assert len(phone.wait_notifies(notified + 1)) == notified + 1
                said = log.read_text(errors="replace")[before:]
                found = re.findall(r"statement: +(\w+) ([^\n]*active_watchers[^\n]*)", said)
                return [verb.lower() for verb, rest in found if watch.call_id in rest]

            assert statements(lambda: watch.send(600)) == ["select", "update"]
            assert statements(lambda: watch.send(0)) == ["select", "delete"]
        finally:
            table.sql("alter role kamailio reset log_statement;")
