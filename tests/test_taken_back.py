"""A change whose row the database refuses is answered 500 and has not happened (RFC 3903 4: a failed PUBLISH changes no
state): memory takes back what it had carried out, on the real store of each driver."""
import re
import sqlite3

import pytest

from conftest import MODES
from kit.kamailio import Kamailio
from kit.sip import Client, dialog_info, pidf

DIALOG = dict(event="dialog", ctype="application/dialog-info+xml")
# SQLite past its driver, and through it, which has no functions for transactions.
DRIVERS = ["sqlite", "db_sqlite", "mysql", "postgres"]


class Refusing:
    """A database that refuses statements of one kind for a while."""

    def __init__(self, name, server):
        self.name, self.server, self.kamailio = name, server, None

    @property
    def url(self):
        return self.server.url if self.server else "sqlite"

    def sql(self, text):
        if self.server:
            return self.server.sql(text)
        connection = sqlite3.connect(str(self.kamailio.db_path), timeout=10)
        connection.executescript(text)
        return connection.close()

    def refuse(self, verb, table):
        begin = "create trigger refuse before %s on %s for each row " % (verb, table)
        if self.name == "mysql":
            return self.sql(begin + "signal sqlstate '45000';")
        if self.name == "postgres":
            self.sql("create or replace function refuse() returns trigger as 'begin raise exception ''no''; end' "
                     "language plpgsql;")
            return self.sql(begin + "execute function refuse();")
        return self.sql(begin + "begin select raise(abort, 'no'); end;")

    def allow(self, table):
        self.sql("drop trigger if exists refuse%s;" % (" on " + table if self.name == "postgres" else ""))


@pytest.fixture(params=DRIVERS)
def database(request, database_server):
    name = request.param
    if "sqlite" in name:
        yield Refusing(name, None)
        return
    made = Refusing(name, database_server(name))
    made.sql("delete from presentity; delete from active_watchers;")
    yield made
    for table in ("presentity", "active_watchers"):
        made.allow(table)


def start(database, **settings):
    if database.name == "db_sqlite":
        settings["sqlite_direct"] = 0
    kamailio = Kamailio("ours", db=database.url, presence=settings, workers=1)
    kamailio.make_database()
    database.kamailio = kamailio
    return kamailio


def shown(server, uri, event):
    """The dialogs or notes that a new watcher is shown."""
    client = Client(server, "fetcher")
    text = client.subscribe(uri, event=event, expires=0).wait(1)[0].text
    client.close()
    return sorted(re.findall(r'<dialog id="(\w+)"', text) or re.findall("<note>(.*?)</note>", text))


@pytest.mark.parametrize("cache", [0, 1])
def test_a_refused_publish_changes_nothing(database, cache):
    with start(database, subs_db_mode=0, publ_cache=cache, db_table_lock_type=0) as server:
        alice, bob = Client(server, "alice"), Client(server, "bob")
        tag = alice.publish(body=pidf(note="first")).get("SIP-ETag")
        watch = bob.subscribe(alice.uri)
        watch.wait(1)
        for verb, change in [("insert", dict(body=pidf(note="new", tuple_id="t2"), etag=None)),
                             ("update", dict(body=pidf(note="changed"))), ("update", dict()),
                             ("delete", dict(expires=0))]:
            change.setdefault("etag", tag)
            bob.quiet(0.4)
            count = len(watch.notifies)
            database.refuse(verb, "presentity")
            assert alice.publish(**change).code == 500, (verb, change)
            assert shown(server, alice.uri, "presence") == ["first"], (verb, change)
            database.allow("presentity")
            assert shown(server, alice.uri, "presence") == ["first"], (verb, change)
            bob.quiet(0.4)
            assert len(watch.notifies) == count, ("nobody is notified of what has not happened", verb, change)
            reply = alice.publish(etag=tag)
            assert reply.code == 200, "the entity tag is still good"
            tag = reply.get("SIP-ETag") or tag
        server.restart()
        assert shown(server, alice.uri, "presence") == ["first"]
        for client in (alice, bob):
            client.close()


@pytest.mark.parametrize("cache", [0, 1])
@pytest.mark.parametrize("verb", ["insert", "update"])
def test_of_several_rows_none_has_changed(database, cache, verb):
    """A PUBLISH takes a dialog out of the document that another one has published: two rows, or none."""
    with start(database, subs_db_mode=0, publ_cache=cache, db_table_lock_type=0) as server:
        alice = Client(server, "alice")
        two = dialog_info("early", alice.user, dialog_id="a")
        dialog = re.search("<dialog id.*</dialog>", two, re.S).group()
        two = two.replace("</dialog-info>", dialog.replace('"a"', '"b"') + "</dialog-info>")
        tag = alice.publish(body=two, **DIALOG).get("SIP-ETag")
        other = alice.publish(body=dialog_info("early", alice.user, dialog_id="c"), **DIALOG).get("SIP-ETag")
        for _ in range(2):
            database.refuse(verb, "presentity")
            assert alice.publish(body=dialog_info("confirmed", alice.user, dialog_id="a"), **DIALOG).code == 500
            assert shown(server, alice.uri, "dialog") == ["a", "b", "c"]
            database.allow("presentity")
        assert [alice.publish(etag=one, event="dialog").code for one in (tag, other)] == [200, 200]
        assert alice.publish(body=dialog_info("confirmed", alice.user, dialog_id="a"), **DIALOG).code == 200
        assert shown(server, alice.uri, "dialog") == ["a", "b", "c"]
        alice.close()


@pytest.mark.parametrize("mode", ["write-through", "database-only"])
def test_a_refused_subscribe_leaves_no_subscription(database, mode):
    settings = dict(MODES[mode]["presence"], db_table_lock_type=0)
    with start(database, **settings) as server:
        alice, bob = Client(server, "alice"), Client(server, "bob")
        request = bob.request("SUBSCRIBE", alice.uri, ["Event: presence", "Expires: 600"])
        database.refuse("insert", "active_watchers")
        assert bob.reply_to(request).code == 500
        assert "callid" not in server.rpc("presence.subscriptions")
        bob.quiet(0.5)
        assert bob.notifies == [], "there is nothing to notify of"
        database.allow("active_watchers")
        # The same dialog may be tried again: nothing has claimed it.
        again = request.replace(b"z9hG4bK", b"z9hG4bKagain", 1).replace(b"CSeq: 1 ", b"CSeq: 2 ", 1)
        assert bob.reply_to(again).code == 200
        bob.wait_notifies(1)
        assert server.rpc("presence.subscriptions").count("callid") == 1
        assert alice.publish(body=pidf(note="seen")).code == 200
        bob.wait_notifies(2)
        assert "seen" in bob.notifies[-1].text
        for client in (alice, bob):
            client.close()
