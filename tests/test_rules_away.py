"""Rules that cannot be read: they decide nothing, nobody is shown what they might hide, and what was missed is made
good when they can be read again."""
import sqlite3
import time

import pytest

from conftest import MODES
from kit.servers import MariaDB, PostgreSQL
from kit.sip import pidf
from test_authorization import XML, put, rules

PLACES = sorted(MODES)


def rename(server, old, new):
    connection = sqlite3.connect(str(server.db_path), timeout=10)
    connection.execute("alter table %s rename to %s" % (old, new))
    connection.commit()
    connection.close()


def seen(watch):
    """State and whether there is a body, for each NOTIFY."""
    return [(n.get("Subscription-State").split(";expires")[0], bool(n.body)) for n in watch.notifies]


def listen(watches, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for watch in watches:
            watch.client.quiet(0.02)


def wait_for(watches, done, seconds=6.0):
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        listen(watches, 0.1)


def start(ours, place):
    return ours(presence=dict(MODES[place]["presence"], db_update_period=1), workers=2, **XML)


@pytest.mark.parametrize("place", PLACES)
def test_an_outage_changes_no_decision(ours, phones, place):
    server = start(ours, place)
    alice = phones(server, "alice")
    kinds = {"wallow": "allow", "wpolite": "polite-block", "wconfirm": "confirm", "wblock": "block"}
    put(server, "alice", rules(**kinds))
    watches = {name: phones(server, name).subscribe(alice.uri) for name in kinds}
    for watch in watches.values():
        watch.wait(1)
    before, rows = {name: seen(watch) for name, watch in watches.items()}, server.rows("watchers")
    assert {name: states[0][0] for name, states in before.items()} == {
        "wallow": "active", "wpolite": "active", "wconfirm": "pending", "wblock": "terminated;reason=rejected"}
    rename(server, "xcap", "away")
    server.rpc("presence.updateWatchers", alice.uri, "presence")
    assert alice.publish(body=pidf(note="SECRET")).code == 200
    listen(watches.values(), 1.5)
    assert {name: seen(watch) for name, watch in watches.items()} == before, "nobody is notified of the outage"
    assert watches["wallow"].refresh().code == 200
    watches["wallow"].wait(2)
    assert seen(watches["wallow"])[1:] == [("active", False)], "a SUBSCRIBE has its NOTIFY, without the state"
    new = phones(server, "new").subscribe(alice.uri)
    assert new.reply.code == 500, "whom nobody can judge comes again"
    assert server.rows("watchers") == rows
    rename(server, "away", "xcap")
    wait_for(watches.values(), lambda: b"SECRET" in watches["wallow"].notifies[-1].body)
    assert b"SECRET" in watches["wallow"].notifies[-1].body, "what was missed is made good"
    listen(watches.values(), 0.5)
    for name in ("wpolite", "wconfirm", "wblock"):
        assert seen(watches[name]) == before[name], name


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("decision", ["block", "polite-block"])
def test_a_decision_during_an_outage_is_carried_out_after_it(ours, phones, place, decision):
    server = start(ours, place)
    alice = phones(server, "alice")
    put(server, "alice", rules(wbob="allow", wfriend="allow"))
    bob, friend = phones(server, "wbob").subscribe(alice.uri), phones(server, "wfriend").subscribe(alice.uri)
    bob.wait(1), friend.wait(1)
    put(server, "alice", rules(wbob=decision, wfriend="allow"))
    rename(server, "xcap", "away")
    server.rpc("presence.updateWatchers", alice.uri, "presence")
    assert alice.publish(body=pidf(note="SECRET")).code == 200
    listen([bob, friend], 0.4)
    rename(server, "away", "xcap")
    wait_for([bob, friend], lambda: len(bob.notifies) > 1 and b"SECRET" in friend.notifies[-1].body)
    assert b"SECRET" in friend.notifies[-1].body, "the others go on"
    expected = ("terminated;reason=rejected", False) if decision == "block" else ("active", False)
    assert seen(bob)[1:] == [expected], seen(bob)
    again = phones(server, "wbob").subscribe(alice.uri)
    again.wait(1)
    assert seen(again) == [expected]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("what", ["a change", "a decision"])
def test_rules_that_stay_away_are_read_less_and_less_often(ours, phones, place, what):
    """Each try costs the database a statement and the log a line of the event package."""
    server = start(ours, place)
    alice = phones(server, "alice")
    put(server, "alice", rules(wbob="allow"))
    bob = phones(server, "wbob").subscribe(alice.uri)
    bob.wait(1)
    rename(server, "xcap", "away")
    if what == "a decision":
        server.rpc("presence.updateWatchers", alice.uri, "presence")
    etag = alice.publish(body=pidf(note="one")).get("SIP-ETag")
    tries = []
    for _ in range(15):
        before = server.log().count("no such table: xcap")
        listen([bob], 1.0)
        tries.append(server.log().count("no such table: xcap") - before)
    assert sum(tries) >= 3 and sum(tries[8:]) <= 2 * max(tries), tries
    assert tries[8:].count(0) >= 5, tries
    rename(server, "away", "xcap")
    # A change is tried at once, however long the one before it waits.
    alice.publish(body=pidf(note="two"), etag=etag)
    wait_for([bob], lambda: b"two" in bob.notifies[-1].body)
    assert b"two" in bob.notifies[-1].body
    assert uses_each_number(bob), "what was not sent has used no number"


def uses_each_number(watch):
    numbers = [notify.cseq for notify in watch.notifies]
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def write(server, database, document):
    """These are alice's rules."""
    if database is None:
        return put(server, "alice", document)
    database.sql("delete from xcap")
    database.sql("insert into xcap (username, domain, doc, doc_type, etag, source, doc_uri, port) values "
                 "('alice', 'example.org', '%s', 2, 'e', 0, '/index', 0)" % document)


def a_row_counts_what_is_sent(ours, phones, notifiers, database=None):
    presence = dict(MODES["database-only"]["presence"], notifier_processes=notifiers)
    server = ours(presence=presence, workers=2, **XML, **({"db": database.url} if database else {}))
    alice = phones(server, "alice")
    write(server, database, rules(wbob="allow", wcon="allow"))
    etag = alice.publish(body=pidf(note="one")).get("SIP-ETag")
    watches = [phones(server, name).subscribe(alice.uri) for name in ("wbob", "wcon")]
    wait_for(watches, lambda: all(watch.notifies and b"one" in watch.notifies[-1].body for watch in watches))
    write(server, database, "<ruleset><rule")
    for note in ("two", "three", "four"):
        etag = alice.publish(body=pidf(note=note), etag=etag).get("SIP-ETag")
        listen(watches, 0.6)
    assert not any(b"two" in notify.body for watch in watches for notify in watch.notifies)
    write(server, database, rules(wbob="allow", wcon="allow"))
    alice.publish(body=pidf(note="five"), etag=etag)
    wait_for(watches, lambda: all(b"five" in watch.notifies[-1].body for watch in watches))
    listen(watches, 1.2)
    if database:
        rows = [line.split("\t" if "\t" in line else "|")
                for line in database.sql("select callid, local_cseq, updated from active_watchers").splitlines()]
    else:
        rows = [(row["callid"], row["local_cseq"], row["updated"]) for row in server.rows("active_watchers")]
    counted = {call_id: (int(cseq) + 1, int(updated)) for call_id, cseq, updated in rows}
    for watch in watches:
        assert b"five" in watch.notifies[-1].body and uses_each_number(watch), [n.cseq for n in watch.notifies]
        # Nobody sends a number again.
        assert counted[watch.call_id] == (watch.notifies[-1].cseq, -1), counted


@pytest.mark.parametrize("notifiers", [0, 1])
def test_a_row_counts_what_is_sent(ours, phones, notifiers):
    """A document of rules that cannot be read is found when the row of a watcher has counted its NOTIFY."""
    a_row_counts_what_is_sent(ours, phones, notifiers)


@pytest.mark.parametrize("driver", [MariaDB, PostgreSQL])
def test_a_row_of_other_drivers_counts_what_is_sent(ours, phones, driver):
    database = driver()
    try:
        a_row_counts_what_is_sent(ours, phones, 0, database)
    finally:
        database.stop()


def test_stock_uses_no_number_for_what_it_does_not_send(both):
    """Rules that cannot be read: the next NOTIFY has the next CSeq, whenever it is sent."""
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        put(server, alice.user, rules(**{bob.user: "allow"}))
        etag = alice.publish(body=pidf(alice.user, note="one")).get("SIP-ETag")
        watch = bob.subscribe(alice.uri)
        watch.wait(1)
        rename(server, "xcap", "away")
        etag = alice.publish(body=pidf(alice.user, note="two"), etag=etag).get("SIP-ETag")
        listen([watch], 0.5)
        rename(server, "away", "xcap")
        alice.publish(body=pidf(alice.user, note="three"), etag=etag)
        wait_for([watch], lambda: b"three" in watch.notifies[-1].body)
        numbers = [notify.cseq - watch.notifies[0].cseq for notify in watch.notifies]
        trace.note("without a gap", numbers == list(range(len(numbers))))

    both(scenario, workers=1, presence=MODES["defaults"]["presence"], **XML)


@pytest.mark.parametrize("place", ["defaults", "write-through"])
def test_nobody_is_shown_what_a_start_could_not_judge(ours, phones, place):
    """The row of a watcher is older than the decision about it, and the rules are away when the server starts."""
    server = start(ours, place)
    alice = phones(server, "alice")
    put(server, "alice", rules(wbob="allow", wfriend="allow"))
    bob, friend = phones(server, "wbob").subscribe(alice.uri), phones(server, "wfriend").subscribe(alice.uri)
    bob.wait(1), friend.wait(1)
    time.sleep(1.5)
    server.stop()
    put(server, "alice", rules(wbob="block", wfriend="allow"))
    rename(server, "xcap", "away")
    server.start()
    assert alice.publish(body=pidf(note="SECRET")).code == 200
    listen([bob, friend], 1.2)
    assert not any(notify.body for notify in bob.notifies + friend.notifies)
    rename(server, "away", "xcap")
    wait_for([bob, friend], lambda: seen(bob)[-1][0].startswith("terminated") and friend.notifies[-1].body)
    assert seen(bob)[-1] == ("terminated;reason=rejected", False), seen(bob)
    assert b"SECRET" in friend.notifies[-1].body, "the others go on"
    assert not any(notify.body for notify in bob.notifies)


@pytest.mark.parametrize("mode", ["write-through", "database-only"])
def test_stock_refuses_whom_it_cannot_judge(both, mode):
    """Both refuse new watchers; ours alone makes good what was missed."""

    def scenario(server, phone, trace):
        alice, bob, carol = phone("alice"), phone("bob"), phone("carol")
        put(server, alice.user, rules(**{bob.user: "allow", carol.user: "allow"}))
        watch = bob.subscribe(alice.uri)
        watch.wait(1)
        rename(server, "xcap", "away")
        new = carol.subscribe(alice.uri)
        trace.note("new watcher", new.reply.code)
        alice.publish(body=pidf(alice.user, note="one"))
        listen([watch], 0.5)
        trace.note("shown meanwhile", any(notify.body for notify in watch.notifies))
        rename(server, "away", "xcap")
        wait_for([watch], lambda: bool(watch.notifies[-1].body), 3.0)
        trace.note("shown in the end", bool(watch.notifies[-1].body))
        again = carol.subscribe(alice.uri)
        again.wait(1)
        trace.note("again", [again.reply.code, [state for state, _ in seen(again)]])

    both(scenario, workers=1, presence=MODES[mode]["presence"], **XML,
         different={"shown in the end": ("the state follows when the rules can be read",
                                         lambda shown: shown == "True")})


def at(user, sphere, note, tuple_id):
    extra = ('<dm:person xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model" '
             'xmlns:r="urn:ietf:params:xml:ns:pidf:rpid" id="p-%s"><r:sphere>%s</r:sphere></dm:person>'
             % (tuple_id, sphere))
    return pidf(user, note=note, tuple_id=tuple_id, extra=extra)


def ends_by_itself(server, phone):
    """Alice is at home; for two seconds another phone of hers says that she is at work, where bob may see her."""
    alice, bob = phone("alice"), phone("bob")
    document = rules(**{bob.user: "allow"})
    put(server, alice.user, document.replace("</cr:identity>", "</cr:identity><cr:sphere>work</cr:sphere>"))
    etag = alice.publish(body=at(alice.user, "home", "quiet", "t1")).get("SIP-ETag")
    time.sleep(1.1)
    alice.publish(body=at(alice.user, "work", "busy", "t2"), expires=2)
    watch = bob.subscribe(alice.uri)
    watch.wait(1)
    first = seen(watch)
    deadline = time.monotonic() + 7
    while len(watch.notifies) < 2 and time.monotonic() < deadline:
        bob.quiet(0.1)
    bob.quiet(0.5)
    notified = len(watch.notifies)
    alice.publish(body=at(alice.user, "home", "SECRET", "t1"), etag=etag)
    bob.quiet(0.6)
    return first, any(b"SECRET" in notify.body for notify in watch.notifies[notified:])


@pytest.mark.parametrize("place", ["memory", "defaults", "database-only"])
def test_a_sphere_that_runs_out_is_judged(ours, phones, place):
    settings = dict(MODES[place]["presence"], enable_sphere_check=1, clean_period=1, db_update_period=1,
                    expires_offset=0)
    server = ours(presence=settings, workers=2, **XML)
    first, shown_later = ends_by_itself(server, lambda user: phones(server, user))
    assert first == [("active", True)], "at work bob may see it"
    assert not shown_later, "and nowhere else"


def test_stock_goes_on_after_the_sphere_has_run_out(both):
    settings = dict(subs_db_mode=1, publ_cache=0, enable_sphere_check=1, clean_period=1, db_update_period=1,
                    expires_offset=0)

    def scenario(server, phone, trace):
        first, shown_later = ends_by_itself(server, phone)
        trace.note("at work", first)
        trace.note("shown later", shown_later)

    both(scenario, workers=1, presence=settings, **XML,
         different={"shown later": ("the sphere is judged when it ends", lambda shown: shown == "False")})
