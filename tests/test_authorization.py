"""Rules documents of presence_xml decide who sees what."""
import re
import sqlite3
import threading
import time

import pytest

from conftest import MODES, SOAK
from kit.sip import Client, pidf

XML = dict(force_active=False, modules=("presence_xml",),
           extra_params='modparam("presence_xml", "integrated_xcap_server", 1)\n')


def rules(**watchers):
    text = ('<?xml version="1.0" encoding="UTF-8"?>\n<cr:ruleset xmlns="urn:ietf:params:xml:ns:pres-rules" '
            'xmlns:pr="urn:ietf:params:xml:ns:pres-rules" xmlns:cr="urn:ietf:params:xml:ns:common-policy">\n')
    for user, action in watchers.items():
        text += ('<cr:rule id="%s"><cr:conditions><cr:identity><cr:one '
                 'id="sip:%s@example.org"/></cr:identity></cr:conditions>'
                 '<cr:actions><pr:sub-handling>%s</pr:sub-handling></cr:actions><cr:transformations>'
                 '<pr:provide-services>'
                 '<pr:all-services/></pr:provide-services><pr:provide-persons><pr:all-persons/></pr:provide-persons>'
                 '<pr:provide-all-attributes/></cr:transformations></cr:rule>\n' % (user, user, action))
    return text + "</cr:ruleset>\n"


def forget(server, user):
    """The rules of a user are gone."""
    connection = sqlite3.connect(str(server.db_path), timeout=10)
    connection.execute("delete from xcap where username=?", (user,))
    connection.commit()
    connection.close()


def put(server, user, document):
    forget(server, user)
    connection = sqlite3.connect(str(server.db_path), timeout=10)
    connection.execute("insert into xcap (username, domain, doc, doc_type, etag, source, doc_uri, port) "
                       "values (?, 'example.org', ?, 2, 'e', 0, ?, 0)",
                       (user, document.encode(), "/pres-rules/users/%s/index" % user))
    connection.commit()
    connection.close()


def test_each_rule(both):
    def scenario(server, phone, trace):
        alice = phone("alice")
        names = ["ann", "bob", "pol", "con", "zed"]
        watchers = {name: phone(name) for name in names}
        put(server, alice.user, rules(**{
            watchers["ann"].user: "allow", watchers["bob"].user: "block",
            watchers["pol"].user: "polite-block", watchers["con"].user: "confirm"}))
        alice.publish(body=pidf(alice.user, note="secret"))
        for name in names:
            watch = watchers[name].subscribe(alice.uri)
            trace.message(name, watch.reply)
            watch.wait(1)
            trace.messages(name + " NOTIFY", watch.notifies)
        trace.rows("decided", server, "watchers")

    both(scenario, workers=1, presence=dict(subs_db_mode=1), **XML)


ACTIONS = ("allow", "block", "polite-block", "confirm")


@pytest.mark.parametrize("mode", ["write-through", "defaults", "database-only"])
@pytest.mark.parametrize("first", ACTIONS)
def test_every_change_of_mind(both, first, mode):
    """From each rule to each other one: what subscribers are sent, what is remembered of those that have left, and what
    they are sent when they come back."""

    def scenario(server, phone, trace):
        for second in ACTIONS:
            alice, ann, bob = phone("alice-" + second), phone("ann"), phone("bob")
            put(server, alice.user, rules(**{ann.user: first, bob.user: first}))
            alice.publish(body=pidf(alice.user, note="secret"))
            live, gone = ann.subscribe(alice.uri), bob.subscribe(alice.uri)
            live.wait(1), gone.wait(1)
            if gone.reply.code == 200:
                gone.unsubscribe()
                bob.quiet(0.2)
            put(server, alice.user, rules(**{ann.user: second, bob.user: second}))
            server.rpc("presence.updateWatchers", alice.uri, "presence")
            ann.quiet(0.4)
            label = "%s to %s, " % (first, second)
            trace.messages(label + "subscriber", live.notifies[1:])
            trace.note(label + "watchers", sorted((row["watcher_username"], row["status"], row["reason"] or "")
                                                  for row in server.rows("watchers")
                                                  if alice.user in row["presentity_uri"]))
            again = bob.subscribe(alice.uri)
            again.wait(1)
            trace.message(label + "back", again.reply)
            trace.messages(label + "notified", again.notifies)

    both(scenario, workers=1, presence=dict(MODES[mode]["presence"], publ_cache=0), **XML)


def test_a_change_of_mind_reaches_everybody(ours, phones):
    server = ours(presence=dict(subs_db_mode=1), **XML)
    alice, ann, con = phones(server, "alice"), phones(server, "ann"), phones(server, "con")
    put(server, "alice", rules(ann="allow", con="confirm"))
    alice.publish(body=pidf(note="secret"))
    winfo = alice.subscribe(alice.uri, event="presence.winfo")
    first, second = ann.subscribe(alice.uri), con.subscribe(alice.uri)
    first.wait(1), second.wait(1)
    assert b"secret" in first.notifies[0].body and second.notifies[0].body == b""
    put(server, "alice", rules(ann="block", con="allow"))
    server.rpc("presence.updateWatchers", alice.uri, "presence")
    assert first.wait(2)[1].get("Subscription-State") == "terminated;reason=rejected" and first.notifies[1].body == b""
    assert second.wait(2)[1].get("Subscription-State").startswith("active") and b"secret" in second.notifies[1].body
    winfo.wait(5)
    assert 'status="terminated">sip:ann' in "".join(n.text for n in winfo.notifies)
    assert first.refresh().code == 481


def test_nothing_leaks_to_blocked_watchers(ours, phones):
    server = ours(presence=dict(subs_db_mode=0, publ_cache=1), **XML)
    alice, bob, pol = phones(server, "alice"), phones(server, "bob"), phones(server, "pol")
    put(server, "alice", rules(bob="block", pol="polite-block"))
    watches = [bob.subscribe(alice.uri), pol.subscribe(alice.uri)]
    etag = None
    for index in range(20):
        etag = alice.publish(body=pidf(note="secret %d" % index), etag=etag).get("SIP-ETag")
    bob.quiet(0.5), pol.quiet(0.5)
    assert all(n.body == b"" for watch in watches for n in watch.notifies)
    assert len(watches[0].notifies) == 1


@pytest.mark.parametrize("mode", ["memory", "write-through", "defaults", "database-only"])
def test_nothing_leaks_while_the_rules_change(ours, mode, figure):
    """Rules turn from allow to block and politely block while documents change: a document that was accepted after the
    new rules were in force is never seen by a watcher that they shut out."""
    presence = dict(MODES[mode]["presence"], publ_cache=MODES[mode]["presence"].get("publ_cache", 1))
    server = ours(workers=4, shm=256, presence=presence, **XML)
    alice, publisher = Client(server, "alice"), Client(server, "alice")
    watchers = {name: Client(server, name) for name in ("ann", "bob", "pol")}
    stop, number, seen, turns = threading.Event(), [0], [], 12 if SOAK else 4

    def publish():
        etag = None
        while not stop.is_set():
            number[0] += 1
            etag = publisher.publish(body=pidf(note="n%d." % number[0]), etag=etag).get("SIP-ETag")
            time.sleep(0.004)

    def numbers(client, since):
        return [int(n) for notify in client.notifies[since:] for n in re.findall(r"<note>n(\d+)\.</note>", notify.text)]

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        for turn in range(turns):
            put(server, "alice", rules(ann="allow", bob="allow", pol="allow"))
            server.rpc("presence.updateWatchers", alice.uri, "presence")
            for client in watchers.values():
                client.subscribe(alice.uri).wait(1)
                client.quiet(0.2)
                assert numbers(client, 0), "an allowed watcher sees documents"
            put(server, "alice", rules(ann="allow", bob="block", pol="polite-block"))
            server.rpc("presence.updateWatchers", alice.uri, "presence")
            shut = number[0]
            before = {name: len(client.notifies) for name, client in watchers.items()}
            for client in watchers.values():
                client.quiet(0.4)
            for name in ("bob", "pol"):
                late = [n for n in numbers(watchers[name], before[name]) if n > shut + 1]
                assert not late, "%s was notified of document %s; the rules shut it out at %d" % (name, late, shut)
            assert max(numbers(watchers["ann"], before["ann"]), default=0) > shut, "the others go on"
            seen.append(number[0])
            for client in watchers.values():
                client.notifies.clear()
            # Each turn has watchers of its own: blocked ones are gone.
            watchers = {name: Client(server, name) for name in watchers}
    finally:
        stop.set()
        thread.join()
    figure("%s: %d changes of the rules while %d documents changed, nothing was seen by whom they shut out"
           % (mode, turns, seen[-1]))


def test_status_function(both):
    route = """
request_route {
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    if (is_method("MESSAGE")) {
        pres_auth_status("$fu", "$ru");
        $var(answer) = $retcode;
        sl_send_reply("299", "status $var(answer)");
        exit;
    }
}
"""

    def scenario(server, phone, trace):
        alice, ann, bob, con, zed = [phone(name) for name in ("alice", "ann", "bob", "con", "zed")]
        trace.note("no document", ann.reply_to(ann.request("MESSAGE", alice.uri)).reason)
        put(server, alice.user, rules(**{ann.user: "allow", bob.user: "block", con.user: "confirm"}))
        for label, watcher in (("allow", ann), ("block", bob), ("confirm", con)):
            trace.note(label, watcher.reply_to(watcher.request("MESSAGE", alice.uri)).reason)
        if trace.which == "ours":  # stock answers 2 or 3 by chance
            assert zed.reply_to(zed.request("MESSAGE", alice.uri)).reason == "status 2"

    both(scenario, workers=1, route=route, **XML)


def test_hard_state(ours, phones):
    """A manipulation document is stored, shown beside the published ones, and goes when its file goes (stock fails on
    SQLite)."""
    server = ours(presence=dict(subs_db_mode=1), modules=("presence_xml",), force_active=False,
                  extra_params='modparam("presence_xml", "integrated_xcap_server", 1)\n')
    alice, bob = phones(server, "alice"), phones(server, "bob")
    put(server, "alice", rules(bob="allow"))
    watch = bob.subscribe(alice.uri)
    watch.wait(1)
    words = ["presence.refreshWatchers", alice.uri, "presence", 2, "/pidf/alice/index", "index"]

    def write(document):
        connection = sqlite3.connect(str(server.db_path), timeout=10)
        connection.execute("delete from xcap where doc_type = 16")
        if document:
            connection.execute("insert into xcap (username, domain, doc, doc_type, etag, source, doc_uri, port) values "
                               "('alice', 'example.org', ?, 16, 'e', 0, '/pidf/alice/index', 0)", (document.encode(),))
        connection.commit()
        connection.close()

    write(pidf(note="on holiday", tuple_id="hard"))
    assert server.rpc(*words).strip() == ""
    assert "on holiday" in watch.wait(2)[-1].text
    row = server.rows("presentity")[0]
    assert row["expires"] == -1 and row["etag"] == "index"
    alice.publish(body=pidf(tuple_id="soft"))
    text = watch.wait(3)[-1].text
    assert 'id="hard"' in text and 'id="soft"' in text
    write(pidf(note="back", tuple_id="hard"))
    server.rpc(*words)
    assert "back" in watch.wait(4)[-1].text and "on holiday" not in watch.notifies[-1].text
    write(None)
    server.rpc(*words)
    assert 'id="hard"' not in watch.wait(5)[-1].text and len(server.rows("presentity")) == 1
    assert "Not enough parameters" in server.rpc(*words[:4])


def test_sphere_counts_from_the_first_publish(ours, phones):
    server = ours(presence=dict(subs_db_mode=1, enable_sphere_check=1), **XML)
    alice, bob = phones(server, "alice"), phones(server, "bob")
    document = rules(bob="allow").replace("</cr:identity>", '</cr:identity><cr:sphere>work</cr:sphere>')
    put(server, "alice", document)

    def at(sphere):
        extra = ('<dm:person xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model" '
                 'xmlns:r="urn:ietf:params:xml:ns:pidf:rpid" id="p1">'
                 '<r:sphere>%s</r:sphere></dm:person>' % sphere)
        return pidf(note="secret", extra=extra)

    etag = alice.publish(body=at("home")).get("SIP-ETag")
    watch = bob.subscribe(alice.uri)
    assert watch.wait(1)[0].body == b"", "at home nobody is notified"
    reply = alice.publish(body=at("work"), etag=etag)
    assert reply.code == 200
    watch.wait(2)
    bob.quiet(0.3)
    assert b"secret" in watch.notifies[-1].body, "at work they are"
    reply = alice.publish(body=at("home"), etag=reply.get("SIP-ETag"))
    assert reply.code == 200
    bob.quiet(0.5)
    assert b"secret" not in watch.notifies[-1].body


@pytest.mark.parametrize("mode", ["write-through", "defaults", "database-only"])
def test_a_refresh_keeps_its_authorization(both, mode):
    """What the watchers table says counts for new subscriptions; a refresh goes on as it was, after a restart, too."""
    def scenario(server, phone, trace):
        alice, bob, carol = phone("alice"), phone("bob"), phone("carol")
        watch = bob.subscribe(alice.uri)
        watch.wait(1)
        server.restart()
        for status in (2, 3):
            connection = sqlite3.connect(str(server.db_path), timeout=10)
            connection.execute("update watchers set status = %d, reason = 'rejected'" % status)
            connection.commit()
            connection.close()
            watch.refresh()
            watch.wait(status)
            trace.message("row %d" % status, watch.reply)
            trace.note("NOTIFY after row %d" % status, watch.notifies[-1].get("Subscription-State"))
        again = bob.subscribe(alice.uri)
        again.wait(1)
        trace.note("new", again.notifies[-1].get("Subscription-State"))
        other = carol.subscribe(alice.uri)
        other.wait(1)
        trace.note("somebody else", other.notifies[-1].get("Subscription-State"))

    both(scenario, workers=1, **MODES[mode])
