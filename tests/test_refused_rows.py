"""A row that the database refuses, for whatever reason, keeps no other row from being written."""
import re
import signal
import sqlite3
import time

import pytest

from kit.kamailio import Kamailio
from kit.responder import Responder
from kit.sip import Client, pidf

# SQLite past its driver, and through it, which has no functions for transactions.
DATABASES = ["sqlite", "db_sqlite", "postgres", "mysql"]
TABLES = ("presentity", "active_watchers", "watchers", "pua")


class Database:
    """One database in which a table can be made to refuse rows."""

    def __init__(self, name, server=None):
        self.name, self.server, self.is_direct = name.replace("db_", ""), server, name != "db_sqlite"
        self.url = server.url if server else "sqlite"
        self.kamailio = None

    def sql(self, text):
        if self.server:
            return self.server.sql(text)
        connection = sqlite3.connect(str(self.kamailio.db_path), timeout=10)
        connection.executescript(text)
        connection.close()

    def refuse(self, table, column, value):
        if self.name == "sqlite":
            for event in ("insert", "update"):
                self.sql("create trigger refuse_%s before %s on %s when new.%s = '%s' begin select raise(abort, 'no'); "
                         "end;" % (
                    event, event, table, column, value))
        else:
            self.sql("alter table %s add constraint refuse check (%s <> '%s');" % (table, column, value))

    def allow(self, table):
        if self.name == "sqlite":
            self.sql("drop trigger refuse_insert; drop trigger refuse_update;")
        else:
            self.sql("alter table %s drop constraint refuse;" % table)

    def column(self, table, column):
        if self.name == "sqlite":
            return sorted(str(row[column]) for row in self.kamailio.rows(table))
        return sorted(self.sql("select %s from %s;" % (column, table)).split("\n"))[1:]


@pytest.fixture(params=DATABASES)
def database(request, database_server):
    name = request.param
    if "sqlite" in name:
        yield Database(name)
        return
    database = Database(name, database_server(name))
    database.sql("".join("delete from %s;" % table for table in TABLES))
    yield database
    for table in TABLES:
        try:
            database.allow(table)
        except AssertionError:
            pass


def start(database, **options):
    if not database.is_direct:
        options["presence"] = dict(options["presence"], sqlite_direct=0)
        if "pua" in options["modules"]:
            options["extra_params"] += 'modparam("pua", "sqlite_direct", 0)\n'
    server = Kamailio("ours", db=database.url, **options)
    server.make_database()
    database.kamailio = server
    return server


def until(condition, seconds=8.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert condition()


def statistic(server, name):
    return int(re.search(r"%s = (\d+)" % name, server.rpc("stats.get_statistics", name)).group(1))


def complaints(server):
    return [line for line in server.log().split("\n") if "refuses the row" in line]


GOOD = ["w%d" % n for n in range(8)]


def subscribe_all(server, names, alice="sip:alice@example.org"):
    watches = {}
    for name in names:
        watches[name] = Client(server, name).subscribe(alice)
        assert watches[name].reply.code == 200
    return watches


def test_subscriptions_in_write_back(database):
    with start(database, presence=dict(db_update_period=1), modules=("presence_xml",)) as server:
        database.refuse("active_watchers", "from_user", "bad")
        watches = subscribe_all(server, GOOD[:4] + ["bad"] + GOOD[4:])
        until(lambda: database.column("active_watchers", "from_user") == GOOD)
        time.sleep(2.5)
        assert len(complaints(server)) == 1 and "sip:bad@example.org" in complaints(server)[0], complaints(server)
        assert statistic(server, "db_rows_refused") == 1, "a refused row is left alone"
        failing = server.rpc("presence.failing")
        assert "sip:bad@example.org" in failing and "refused_row: active_watchers" in failing
        assert watches["bad"].refresh().code == 200, "the subscription itself lives on"
        until(lambda: statistic(server, "db_rows_refused") >= 2)
        server.restart(signal.SIGKILL)
        for name in GOOD:
            assert watches[name].refresh().code == 200, name
        assert watches["bad"].refresh().code == 481


@pytest.mark.parametrize("name", ["stock", "sqlite", "db_sqlite"])
def test_each_other_row_is_written_once(name):
    """Stock writes each row by itself; a group of ours is undone, and its rows are written one by one."""
    settings = dict(subs_db_mode=2, db_update_period=1, **(dict(sqlite_direct=0) if name == "db_sqlite" else {}))
    with Kamailio("stock" if name == "stock" else "ours", presence=settings, modules=("presence_xml",)) as server:
        database = Database("sqlite")
        database.kamailio = server
        database.sql("create table written (id integer primary key, name text);"
                     "create trigger note after insert on active_watchers begin "
                     "insert into written (name) values (new.from_user); end;")
        database.refuse("active_watchers", "from_user", "bad")
        subscribe_all(server, GOOD[:4] + ["bad"] + GOOD[4:])
        until(lambda: database.column("active_watchers", "from_user") == GOOD)
        time.sleep(2.2)
        assert database.column("written", "name") == GOOD


def test_what_was_refused_is_tried_again_at_the_end(database):
    with start(database, presence=dict(db_update_period=1), modules=("presence_xml",)) as server:
        database.refuse("active_watchers", "from_user", "bad")
        watches = subscribe_all(server, ["bad", "good"])
        until(lambda: len(complaints(server)) == 1)
        time.sleep(1.1)
        database.allow("active_watchers")
        server.restart()
        assert [watch.refresh().code for watch in watches.values()] == [200, 200]


ODD = [
    (["User-Agent: " + "u" * 300], True, None), (["User-Agent: " + "u" * 255], True, None),
    (["User-Agent: Ph\xf6ne"], True, None),
    ([], "<sip:odd@127.0.0.1:9;pn-prid=%s>" % ("t" * 400), None), ([], "<sip:odd@127.0.0.1:9;x=\xe9>", None),
    ([], True, "sip:odd\xe9@example.org"),
]


def test_odd_values_of_one_phone(database):
    """What no column takes, in subscriptions that may be answered 200 or be refused: the others have their rows."""
    with start(database, presence=dict(db_update_period=1), modules=("presence_xml",)) as server:
        subscribe_all(server, GOOD[:3])
        shown = []
        for number, (headers, contact, from_uri) in enumerate(ODD):
            odd = Client(server, "odd%d" % number)
            raw = odd.request("SUBSCRIBE", "sip:alice@example.org", headers + ["Event: presence", "Expires: 600"],
                              contact=contact,
                              from_uri=from_uri)
            odd.send_raw(raw.decode("utf-8").encode("latin-1"))
            odd.quiet(0.3)
            assert odd.replies and 200 <= odd.replies[0].code < 500
            if headers:
                shown.append(odd.user)
        subscribe_all(server, GOOD[3:])
        # A User-Agent is only for show.
        until(lambda: set(GOOD + shown) <= set(database.column("active_watchers", "from_user")))
        assert all(len(agent) < 255 for agent in database.column("active_watchers", "user_agent"))


@pytest.mark.parametrize("mode", [1, 3])
def test_user_agents_where_each_subscribe_is_written(database, mode):
    with start(database, presence=dict(subs_db_mode=mode), modules=("presence_xml",)) as server:
        for number, agent in enumerate([b"u" * 300, b"Ph\xf6ne"]):
            odd = Client(server, "odd%d" % number)
            raw = odd.request("SUBSCRIBE", "sip:alice@example.org",
                              ["User-Agent: @@", "Event: presence", "Expires: 600"])
            odd.send_raw(raw.replace(b"@@", agent))
            odd.wait_notifies(1)
            assert odd.replies[0].code == 200
        assert database.column("active_watchers", "from_user") == ["odd0", "odd1"]


def test_publications_written_later(database):
    users = ["p%d" % n for n in range(8)]
    with start(database, presence=dict(publ_cache=1, publ_update_period=1), modules=("presence_xml",)) as server:
        database.refuse("presentity", "username", "bad")
        phone, tags = Client(server, "phone"), {}
        for user in users[:3] + ["bad"] + users[3:]:
            tags[user] = phone.publish("sip:%s@example.org" % user, body=pidf(user)).get("SIP-ETag")
        until(lambda: database.column("presentity", "username") == users)
        time.sleep(2.2)
        assert len(complaints(server)) == 1 and "sip:bad@example.org" in complaints(server)[0]
        assert "refused_row: presentity" in server.rpc("presence.failing")
        # The refused document stays published, its change is tried once more; deletes go on.
        assert phone.publish("sip:bad@example.org", body=pidf(note="x"), etag=tags["bad"]).code == 200
        assert phone.publish("sip:p0@example.org", etag=tags["p0"], expires=0).code == 200
        until(lambda: database.column("presentity", "username") == users[1:])
        server.restart()
        for user in users[1:]:
            assert phone.publish("sip:%s@example.org" % user, etag=tags[user]).code == 200


def test_a_refused_change_leaves_the_other_publications_as_they_are(ours, phones):
    """Those that wait to be written are known to memory alone (publ_cache 1 with publ_update_period)."""
    server = ours(presence=dict(subs_db_mode=0, publ_cache=1, publ_update_period=60))
    # A row that another server has written, without the id of its record: it is changed at once.
    with sqlite3.connect(str(server.db_path), timeout=10) as table:
        table.execute("insert into presentity (username, domain, event, etag, expires, received_time, body, sender, "
                      "priority) values ('alice', 'example.org', 'presence', 'old1', ?, ?, ?, '', 0)",
                      (int(time.time()) + 3600, int(time.time()), pidf(note="written").encode()))
    server.rpc("presence.refreshWatchers", "sip:alice@example.org", "presence", "1")
    alice, bob = phones(server, "alice"), phones(server, "bob")
    waiting = pidf(note="waiting").replace('id="t1"', 'id="t2"')
    assert alice.publish(body=waiting).code == 200
    with sqlite3.connect(str(server.db_path), timeout=10) as table:
        table.execute("create trigger refuse before update on presentity when old.etag = 'old1' begin "
                      "select raise(abort, 'no'); end")
    assert alice.publish(body=pidf(note="refused"), etag="old1").code == 500
    assert [row["etag"] for row in server.rows("presentity")] == ["old1"]
    shown = bob.subscribe(alice.uri).wait(1)[0].text
    assert [note in shown for note in ("written", "waiting", "refused")] == [True, True, False]


def test_watchers(database):
    """What was decided about a watcher is remembered, or written later, whatever becomes of another one."""
    with start(database, presence=dict(db_update_period=1), modules=("presence_xml",), force_active=False,
               extra_params='modparam("presence_xml", "integrated_xcap_server", 1)\n') as server:
        database.refuse("watchers", "watcher_username", "bad")
        watches = subscribe_all(server, ["bad"] + GOOD)
        until(lambda: database.column("watchers", "watcher_username") == GOOD)
        time.sleep(2.2)
        assert len([line for line in complaints(server) if "the watcher sip:bad@example.org" in line]) == 1
        assert "refused_row: watchers" in server.rpc("presence.failing")
        until(lambda: len(database.column("active_watchers", "from_user")) == len(watches))


def test_publications_of_the_user_agent_with_one_entity_tag(database):
    """A presence server may give the same tag to two publications: the table takes one of them, and all others."""
    def tag(message):
        number = re.search(r"u(\d)@", message.start).group(1)
        return 200, ["SIP-ETag: " + ("1" if number in "35" else "t" + number)]

    responder = Responder(tag)
    try:
        extra = 'modparam("pua", "db_url", "@DB@")\nmodparam("pua", "update_period", 6)\n'
        server = start(database, presence=dict(), modules=("pua", "pua_rpc"), extra_params=extra, http=True)
        with server:
            for number in range(10):
                server.json_rpc("pua.publish", "sip:u%d@example.org" % number, "3600", "presence",
                                "application/pidf+xml", ".", ".",
                                responder.uri, ".", pidf())
            until(lambda: len(database.column("pua", "pres_uri")) == 9, 30)
            until(lambda: [line for line in complaints(server) if "a publication of sip:u" in line])
    finally:
        responder.close()


def test_a_lost_database_keeps_everything(database_server):
    """The connection is lost: that is nobody's row, and all are written when the database is back."""
    database = Database("postgres", database_server("postgres"))
    database.sql("delete from active_watchers;")
    with start(database, presence=dict(db_update_period=1), modules=("presence_xml",)) as server:
        database.sql("alter table active_watchers rename to elsewhere;")
        subscribe_all(server, GOOD)
        time.sleep(2.5)
        assert statistic(server, "db_rows_refused") == 0 and not complaints(server)
        database.sql("alter table elsewhere rename to active_watchers;")
        until(lambda: database.column("active_watchers", "from_user") == GOOD)
