"""Each example starts by its documented command, with this product's modules, and serves; strangers are refused."""
import http.client
import os
import re
import sqlite3
import subprocess

import pytest

from kit import example
from kit.digest import credentials
from kit.example import Example
from kit.kamailio import KAMAILIO, OURS, ROOT, STOCK, Kamailio, free_port
from kit.sip import Client, pidf

SERVERS = [name for name in example.names() if name != "edge-by-presentity"]
WITH_ACCOUNTS = [name for name in SERVERS if "auth_db" in example.text(name)]
DATABASE = ROOT / "scripts" / "database.sh"


def postgres():
    from kit.servers import PostgreSQL
    return PostgreSQL()


def is_ours(server):
    """Only our module knows the command, and says what it is."""
    shown = dict(re.findall(r"(\w+): (\S+)", server.rpc("presence.version")))
    assert shown["name"] == "kamailio-presence" and re.fullmatch(r"[0-9a-f]{7,}(-dirty)?|unknown", shown["commit"])
    host = subprocess.run([KAMAILIO, "-v"], capture_output=True, text=True).stdout
    assert "kamailio %s " % shown["kamailio"] in host
    notice = [line for line in server.log().split("\n") if "NOTICE: presence: kamailio-presence %s "
              % shown["version"] in line]
    assert (len(notice) == 1 and shown["commit"] in notice[0]
            and "subscriptions %s" % shown["subscriptions"] in notice[0])


@pytest.mark.parametrize("name", SERVERS)
def test_it_starts_by_one_command_and_serves(name):
    database = postgres() if "postgres" in name else None
    made = Example(name, **(dict(DB_URL=database.url) if database else {}))
    try:
        with made:
            is_ours(made)
            alice, bob = made.phone("alice"), made.phone("bob")
            watch = bob.subscribe(alice.uri)
            assert watch.reply.code == 200
            assert alice.publish(body=pidf()).code == 200
            decides = "rules" in name
            watch.wait(1 if decides else 2, timeout=8)
            assert decides or any("open" in notify.text for notify in watch.notifies)
            assert not [line for line in made.log().split("\n") if "CRITICAL" in line or " ERROR: " in line]
            alice.close(), bob.close()
    finally:
        if database:
            database.stop()


@pytest.mark.parametrize("name", SERVERS)
def test_the_stock_module_is_noticed(name, tmp_path):
    """Started without the command, and with the stock module first: Kamailio stops at the first line that only ours
    knows."""
    done = subprocess.run([KAMAILIO, "-c", "-E", "-f", str(example.FOLDER / ("%s.cfg" % name)) if name != "pbx" else
                           str(example.FOLDER / "pbx" / "kamailio.cfg"), "-A", 'MODULES="%s/:%s/"' % (STOCK, OURS)],
                          capture_output=True, text=True, env={k: v for k, v in os.environ.items() if k != "DB_URL"})
    assert done.returncode != 0 and "parameter <sender_processes>" in done.stdout + done.stderr


@pytest.mark.parametrize("name", example.names())
def test_it_listens_on_loopback_alone(name):
    words = dict(re.findall(r"^#!trydef (\w+) (.*)$", example.text(name), re.M))
    assert words["ADDRESS"] == "127.0.0.1"
    for address in re.findall(r"^listen=\w+:(\S+):\w+$", example.text(name), re.M):
        assert address in ("ADDRESS", "127.0.0.1")
    assert ("make example NAME=%s;" % name in example.text(name)
            and "kamailio-presence-example %s" % name in example.text(name))


@pytest.mark.parametrize("name", sorted(set(SERVERS) - set(WITH_ACCOUNTS) - {"shared-postgresql"}))
def test_strangers_are_refused_where_there_are_no_accounts(name):
    with Example(name, TRUSTED="192.0.2.0/24") as made:
        bob = Client(made, "bob")
        assert bob.subscribe("sip:alice@example.org").reply.code == 403 and bob.publish(body=pidf()).code == 403
        bob.close()


@pytest.mark.parametrize("name", sorted(set(SERVERS) - {"shared-postgresql"}))
def test_who_watches_is_for_the_watched_alone(name):
    with Example(name) as made:
        alice, bob = made.phone("alice"), made.phone("bob")
        for event in ("presence.winfo", "presence.winfo;id=1", "presence.WINFO", " presence.winfo"):
            assert bob.subscribe(alice.uri, event=event).reply.code == 403, event
        assert (bob.subscribe(alice.uri).reply.code == 200
                and alice.subscribe(alice.uri, event="presence.winfo").reply.code == 200)
        alice.close(), bob.close()


@pytest.mark.parametrize("name", WITH_ACCOUNTS)
def test_strangers_are_refused_where_there_are_accounts(name):
    """No password, a wrong password, an identity that nobody proved, another user's presence."""
    with Example(name) as made:
        nobody, alice, bob = Client(made, "alice"), made.phone("alice"), made.phone("bob")
        asserted = ["P-Asserted-Identity: \"Bob\" <sip:bob@example.org>"]
        for code in (nobody.subscribe(bob.uri).reply.code, nobody.publish(body=pidf()).code,
                     nobody.subscribe(bob.uri, extra=asserted).reply.code):
            assert code in (401, 407)
        wrong = made.phone("alice")
        wrong.password += "x"
        assert wrong.publish(body=pidf()).code in (401, 407)
        assert alice.publish(to=bob.uri, body=pidf("bob")).code == 403
        assert alice.publish(body=pidf(), from_uri=bob.uri).code == 403
        assert alice.subscribe(bob.uri, from_uri=bob.uri).reply.code == 403
        assert "callid" not in made.rpc("presence.subscriptions")
        for phone in (nobody, alice, bob, wrong):
            phone.close()


@pytest.mark.parametrize("identity",
                         ["<sip:carol@example.org>", '"Carol" <sip:carol@example.org>', "sip:carol@example.org"])
@pytest.mark.parametrize("name", [name for name in WITH_ACCOUNTS if "TRUSTED_LIST" in example.text(name)])
def test_a_trusted_server_vouches_for_its_users(name, identity, tmp_path):
    """P-Asserted-Identity as it is on the wire, from an address in the list."""
    trusted = tmp_path / "trusted.list"
    trusted.write_text("1 127.0.0.1 32\n")
    with Example(name, TRUSTED_LIST=str(trusted)) as made:
        proxy = Client(made, "anonymous")
        watch = proxy.subscribe("sip:alice@example.org", extra=["P-Asserted-Identity: " + identity])
        assert watch.reply.code == 200 and watch.wait(1)
        assert "watcher: sip:carol@example.org" in made.rpc("presence.subscriptions")
        for nonsense in ("nonsense", "", "<>", "tel:+4930123", "<sip:>"):
            answer = proxy.subscribe("sip:alice@example.org", extra=["P-Asserted-Identity: " + nonsense]).reply
            assert answer is not None, nonsense
        assert proxy.publish(to="sip:alice@example.org", body=pidf()).code == 200
        proxy.close()


@pytest.mark.parametrize("name", [name for name in SERVERS if name.startswith("kemi")])
def test_a_message_refreshes_nothing_unless_its_sender_is_known(name):
    with Example(name) as made:
        alice, bob, stranger = made.phone("alice"), made.phone("bob"), Client(made, "alice")
        watch = bob.subscribe(alice.uri)
        watch.wait(1)
        bob.quiet(0.3)
        before = len(watch.notifies)
        assert stranger.reply_to(stranger.request("MESSAGE", alice.uri)).code in (401, 407)
        assert bob.reply_to(bob.request("MESSAGE", alice.uri)).code == 403
        bob.quiet(0.5)
        assert len(watch.notifies) == before
        assert alice.reply_to(alice.request("MESSAGE", alice.uri)).code == 299
        bob.quiet(0.5)
        assert len(watch.notifies) > before
        for phone in (alice, bob, stranger):
            phone.close()


RULES = """<?xml version="1.0"?>
<ruleset xmlns="urn:ietf:params:xml:ns:common-policy" xmlns:pr="urn:ietf:params:xml:ns:pres-rules">
<rule id="friends"><conditions>
<identity><one id="sip:bob@example.org"/></identity></conditions>
<actions><pr:sub-handling>allow</pr:sub-handling></actions>
<transformations/></rule></ruleset>"""


class Xcap:
    """One user's XCAP client."""

    def __init__(self, server, user, password):
        self.server, self.user, self.password = server, user, password

    def once(self, method, path, body=None, headers=()):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.http_port, timeout=5)
        connection.request(method, path, body, dict(headers))
        reply = connection.getresponse()
        answer = reply.status, reply.headers, reply.read().decode()
        connection.close()
        return answer

    def ask(self, method, owner, body=None):
        path = "/xcap-root/pres-rules/users/sip:%s@example.org/index" % owner
        headers = {"Content-Type": "application/auth-policy+xml"} if body else {}
        code, answered, text = self.once(method, path, body, headers)
        if code != 401 or self.password is None:
            return code, text
        proof = credentials(answered["WWW-Authenticate"], method, path, self.user, self.password)
        code, _, text = self.once(method, path, body, dict(headers, Authorization=proof))
        return code, text


def test_rules_are_written_read_and_removed_by_their_owner_alone():
    with Example("rules-through-xcap") as made:
        alice, bob = made.phone("alice"), made.phone("bob")
        passwords = made.accounts()
        mine, his, nobody = (Xcap(made, user, password) for user, password in (
            ("alice", passwords["alice"]), ("bob", passwords["bob"]), ("alice", None)))
        alice.publish(body=pidf())
        watch = bob.subscribe(alice.uri)
        assert watch.wait(1)[0].get("Subscription-State").startswith("pending")
        for stranger, refused in ((nobody, 401), (his, 403), (Xcap(made, "alice", "wrong"), 401)):
            for method in ("PUT", "GET", "DELETE"):
                assert stranger.ask(method, "alice", RULES if method == "PUT" else None)[0] == refused, method
        assert mine.ask("GET", "alice")[0] == 404
        assert mine.ask("PUT", "alice", RULES)[0] in (200, 201)
        seen = watch.wait(2)[-1]
        assert seen.get("Subscription-State").startswith("active") and "open" in seen.text
        code, text = mine.ask("GET", "alice")
        assert code == 200 and "friends" in text
        assert mine.ask("DELETE", "alice")[0] == 200
        assert mine.ask("GET", "alice")[0] == 404
        assert mine.ask("POST", "alice", "x")[0] == 405
        alice.close(), bob.close()


def test_two_nodes_show_each_other_what_is_published():
    port = free_port()
    one = Example("two-nodes-dmq", address="127.0.0.1", port=port, PEER="127.0.0.2")
    two = Example("two-nodes-dmq", address="127.0.0.2", port=port, PEER="127.0.0.1")
    with one, two:
        is_ours(two)
        bob, alice = Client(one, "bob"), Client(two, "alice")
        for _ in range(40):
            if one.rpc("dmq.list_nodes").count("active") + two.rpc("dmq.list_nodes").count("active") >= 4:
                break
            bob.quiet(0.25)
        watch = bob.subscribe(alice.uri)
        watch.wait(1)
        assert alice.publish(body=pidf()).code == 200
        assert "open" in watch.wait(2, timeout=8)[-1].text
        stranger = Client(one, "eve")
        assert stranger.reply_to(stranger.request("KDMQ", "sip:presence@127.0.0.1")).code == 403
        for phone in (alice, bob, stranger):
            phone.close()


def test_the_edge_sends_each_presentity_to_one_node():
    with Kamailio("ours", presence=dict(subs_db_mode=1)) as one, Kamailio("ours", presence=dict(subs_db_mode=1)) as two:
        with Example("edge-by-presentity",
                     NODES=" ".join("sip:127.0.0.1:%d" % node.port for node in (one, two))) as edge:
            alice, bob = Client(edge, "alice"), Client(edge, "bob")
            watches = []
            for n in range(12):
                uri = "sip:user%d@example.org" % n
                assert alice.publish(uri, body=pidf("user%d" % n)).code == 200
                watches.append(bob.subscribe(uri))
                assert watches[-1].reply.code == 200 and "open" in watches[-1].wait(1)[0].text
            shares = [{row["presentity_uri"] for row in node.rows("active_watchers")} for node in (one, two)]
            published = [{"sip:%s@example.org" % row["username"] for row in node.rows("presentity")}
                         for node in (one, two)]
            assert all(shares) and not shares[0] & shares[1] and shares == published
            route = [r.strip() for r in watches[0].reply.all("Record-Route")]
            assert watches[0].refresh(extra=["Route: " + ", ".join(reversed(route))]).code == 200
            # A node is lost: its presentities go on at the other.
            lost = next(n for n in range(12) if "sip:user%d@example.org" % n in shares[0])
            one.stop(9)
            uri = "sip:user%d@example.org" % lost
            again = alice.reply_to(alice.request("PUBLISH", uri,
                                                 ["Event: presence", "Expires: 600",
                                                  "Content-Type: application/pidf+xml"],
                                                 pidf("user%d" % lost)), timeout=12)
            assert again.code == 200
            assert "open" in bob.subscribe(uri).wait(1, timeout=12)[0].text
            alice.close(), bob.close()
            one.start()


def test_the_edge_lets_strangers_through_in_no_way():
    """Neither a first request, nor one that says it belongs to a dialog, with a route through the edge."""
    with Kamailio("ours", presence=dict(subs_db_mode=1)) as node:
        with Example("edge-by-presentity", TRUSTED="192.0.2.0/24", NODES="sip:127.0.0.9:5060") as edge:
            stranger = Client(edge, "stranger")
            to_node = dict(ruri="sip:alice@127.0.0.1:%d" % node.port)
            headers = ["Event: presence", "Expires: 600", "Content-Type: application/pidf+xml",
                       "Route: <sip:127.0.0.1:%d;lr>" % edge.port]
            for tag in (None, "made-up"):
                request = stranger.request("PUBLISH", "sip:alice@example.org", headers, pidf("alice"), to_tag=tag,
                                           **to_node)
                assert stranger.reply_to(request).code == 403
            assert node.rows("presentity") == []
            stranger.close()


def run(*words, given="", **environment):
    return subprocess.run([str(word) for word in words], input=given, capture_output=True, text=True,
                          env=dict(os.environ, **environment))


def test_a_database_is_created_once(tmp_path):
    path = tmp_path / "new.sqlite"
    assert run(DATABASE, "create", path).returncode == 0
    content = path.read_bytes()
    again = run(DATABASE, "create", path)
    assert again.returncode == 1 and "exists already" in again.stderr and path.read_bytes() == content
    assert run(DATABASE, "user", path, "carol", "pbx.example.org", given="secret\n").returncode == 0
    assert b"secret" not in path.read_bytes()
    for wrong in (["user", path, "x'; drop table version; --"], ["user", path, "carol"],
                  ["user", tmp_path / "none", "carol"], ["nothing", path]):
        assert run(DATABASE, *wrong).returncode != 0
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_table_names_the_command(tmp_path):
    (tmp_path / "presence.sqlite").write_bytes(b"")
    made = Example("single-node-sqlite", folder=tmp_path)
    with pytest.raises(RuntimeError, match="scripts/database.sh create FILE"):
        made.start()
    made.stop()
    tables = sqlite3.connect(tmp_path / "presence.sqlite").execute("select count(*) from sqlite_master").fetchone()
    assert tables == (0,)


@pytest.mark.parametrize("environment,words", [
    (dict(PORT="abc"), "a port is a number"), (dict(HTTP_PORT="70000"), "a port is a number"),
    (dict(ADDRESS="a b"), "ADDRESS=a b"),
    (dict(DOMAIN='x"y'), "DOMAIN="), (dict(PRESENCE_MODULES=STOCK), "modules are not in")])
def test_a_wrong_word_is_answered_with_a_sentence(environment, words, tmp_path):
    done = run(example.COMMAND, "pbx", **dict(dict(STATE=str(tmp_path), PRESENCE_MODULES=str(OURS)), **environment))
    assert done.returncode == 1 and words in done.stderr and done.stderr.count("\n") == 1


def test_examples_are_listed():
    assert run(example.COMMAND).stdout.split()[1:] == sorted(example.names(),
                                                             key=run(example.COMMAND).stdout.split().index)
    unknown = run(example.COMMAND, "nothing")
    assert unknown.returncode == 1 and "pbx" in unknown.stderr
