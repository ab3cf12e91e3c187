"""What comes in from outside and cannot be stored, sent or shown later is refused where it comes in; others go on."""
import sqlite3
import uuid

import pytest

from conftest import MODES
from kit.kamailio import SERVER
from kit.servers import MariaDB, PostgreSQL
from kit.sip import pidf

WINFO = "presence.winfo"

# Bytes that would end or split a line of a message, a document or a log.
BREAKERS = {"CR": "\r", "NUL": "\0", "fold": "\r\n ", "DEL": "\x7f", "SOH": "\x01"}

PLACES = {
    "event id": ("Event: presence", "Event: presence;id=a%sb"),
    "Call-ID": ("Call-ID: ", "Call-ID: a%sb"),
    "Contact": ("Contact: <sip:", "Contact: <sip:a%sb"),
    "From tag": (";tag=", ";tag=a%sb"),
    "From": ("From: <sip:", "From: <sip:a%sb"),
    "To": ("To: <sip:", "To: <sip:a%sb"),
    "request URI": ("SUBSCRIBE sip:", "SUBSCRIBE sip:a%sb"),
}


@pytest.fixture(params=["memory", "database-only"])
def server(request, ours):
    return ours(workers=2, **MODES[request.param])


def test_bytes_that_break_a_line(server, phones):
    alice, bob = phones(server, "alice"), phones(server, "bob")
    watch = bob.subscribe(alice.uri)
    watch.wait(1)
    for place, (before, after) in PLACES.items():
        for name, breaker in BREAKERS.items():
            request = bob.request("SUBSCRIBE", alice.uri, ["Event: presence", "Expires: 600"]).decode()
            assert before in request
            bob.send_raw(request.replace(before, after % breaker, 1))
            bob.quiet(0.05)
    bob.quiet(0.5)
    # What has made a subscription is what the host itself has read up to the breaker: a shorter tag.
    taken = {reply.tag("From").split("\0")[0] for reply in bob.replies if reply.code < 300}
    assert taken <= {watch.from_tag, "a"}
    alice.publish(body=pidf(alice.user))
    assert len(watch.wait(2)) == 2
    for notify in bob.notifies:
        assert b"\r" not in notify.raw.replace(b"\r\n", b"") and b"\0" not in notify.raw
    assert all(line.isprintable() for line in server.log().split("\n") if " presence: " in line)


@pytest.mark.parametrize("byte", [b"\xe9", "\U0001f600".encode()])
def test_ids_of_a_dialog_are_ascii(server, phones, byte):
    """RFC 3261 25.1: Call-ID and tags. A User-Agent may say what it likes."""
    alice, bob = phones(server, "alice"), phones(server, "bob")
    for before in (b"Call-ID: ", b";tag="):
        request = bob.request("SUBSCRIBE", alice.uri, ["Event: presence", "Expires: 600"])
        assert before in request
        bob.send_raw(request.replace(before, before + byte, 1))
        bob.quiet(0.3)
    assert [reply.code for reply in bob.replies] == [400, 400]
    assert bob.subscribe(alice.uri, extra=["User-Agent: phone \U0001f600"]).reply.code == 200


@pytest.mark.parametrize("mode", [1, 2, 3])
def test_a_user_agent_that_no_character_set_holds(ours, phones, mode):
    """MariaDB with the character set of kamdbctl: the row goes without what is only shown; what it is found by is
    named."""
    database = MariaDB()
    try:
        database.sql("alter table active_watchers convert to character set latin1; "
                     "alter table presentity convert to character set latin1;")
        presence = dict(subs_db_mode=mode, publ_cache=0 if mode == 3 else 1, db_update_period=1)
        server = ours(db=database.url, presence=presence, workers=1)
        alice, bob = phones(server, "alice"), phones(server, "bob")
        watch = bob.subscribe(alice.uri, extra=["User-Agent: phone \U0001f600"])
        assert watch.reply.code == 200
        watch.wait(1)
        if mode != 2:
            assert bob.subscribe(alice.uri, from_uri="sip:\U0001f600@example.org").reply.code == 400
            assert "the character set" in server.log()
        assert alice.publish("sip:\U0001f600@example.org", body=pidf()).code == 400
        server.restart()
        assert watch.refresh().code == 200
        assert alice.publish(body=pidf(note="after")).code == 200
        watch.wait(3)
    finally:
        database.stop()


def test_folds_where_they_are_allowed(server, phones):
    alice, bob = phones(server, "alice"), phones(server, "bob")
    route = "<sip:127.0.0.1:%d;lr>" % bob.port
    watch = bob.subscribe(alice.uri, event="presence\r\n ;\r\n\tid=7", extra=[
        "Record-Route: %s,\r\n %s\r\n ;x=1" % (route, route), "User-Agent: a\r\n phone"])
    assert watch.reply.code == 200
    notify = watch.wait(1)[0]
    assert notify.get("Event") == "presence;id=7"
    assert notify.get("Route").startswith("<sip:127.0.0.1")


@pytest.mark.parametrize("mode", ["memory", "write-through"])
def test_every_winfo_document_can_be_read(ours, phones, mode):
    import xml.dom.minidom
    server = ours(workers=1, **MODES[mode])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    winfo = alice.subscribe(alice.uri, event=WINFO)
    winfo.wait(1)
    for user in ("a\ufffeb", "\uffff", "c\x85d", "caf\udce9", "x&amp;\"'"):
        request = bob.request("SUBSCRIBE", alice.uri, ["Event: presence", "Expires: 600"],
                              from_uri="sip:PLACE@example.org")
        raw = request.replace(b"PLACE", user.encode("utf-8", "surrogateescape"))
        assert bob.reply_to(raw).code in (200, 400)
    assert winfo.refresh().code == 200
    alice.quiet(0.5)
    assert len(winfo.notifies) > 3
    for notify in winfo.notifies:
        xml.dom.minidom.parseString(notify.body)


# As long as a datagram that the host takes: from 6.0 on it drops what is longer than 32 KiB.
LONGEST = 60_000 if SERVER.numbers < (6, 0) else 30_000


def filled(bob, alice, place, size=LONGEST):
    """All in one string, or spread."""
    filler = "x" * size
    headers = ["Event: presence", "Expires: 1"]
    more = dict(call_id=uuid.uuid4().hex, from_tag="f")
    if place == "event id":
        headers[0] += ";id=" + filler
    elif place == "route set":
        headers.append("Record-Route: "
                       + ",".join(["<sip:127.0.0.1:%d;lr;x=%s>" % (bob.port, "x" * 400)] * (size // 440)))
    elif place == "User-Agent":
        headers.append("User-Agent: " + filler)
    elif place == "Contact":
        more["contact"] = "<sip:bob@127.0.0.1:%d;x=%s>" % (bob.port, filler)
    elif place == "user":
        more["ruri"] = "sip:%s@example.org" % filler
    elif place == "From":
        more["from_uri"] = "sip:%s@example.org" % filler
    elif place == "To":
        return bob.request("SUBSCRIBE", "sip:%s@example.org" % filler, headers, ruri=alice.uri, **more)
    elif place == "spread":
        part = "x" * (size // 6)
        more.update(call_id=part + uuid.uuid4().hex, from_tag=part, from_uri="sip:%s@example.org" % part)
        more["contact"] = "<sip:bob@127.0.0.1:%d;x=%s>" % (bob.port, part)
        headers += ["User-Agent: " + part, "Record-Route: <sip:127.0.0.1:%d;lr;x=%s>" % (bob.port, part)]
    else:
        more[place] = filler
    return bob.request("SUBSCRIBE", alice.uri, headers, **more)


@pytest.mark.parametrize("mode", ["memory", "write-through", "database-only"])
def test_the_longest_subscribes_stand_in_nobodys_way(ours, phones, mode):
    server = ours(workers=2, presence=dict(MODES[mode]["presence"], db_update_period=1))
    alice, bob = phones(server, "alice"), phones(server, "bob")
    others = [bob.subscribe(alice.uri, expires=1) for _ in range(10)]
    [watch.wait(1) for watch in others]
    for place in ("event id", "route set", "Contact", "user", "From", "To", "call_id", "from_tag", "spread"):
        reply = bob.reply_to(filled(bob, alice, place), timeout=3, resend=False)
        assert reply is not None and 400 <= reply.code < 500, place
    assert bob.reply_to(filled(bob, alice, "User-Agent"), timeout=3, resend=False).code == 200
    bob.quiet(4)
    for watch in others:
        assert "terminated;reason=timeout" in watch.notifies[-1].get("Subscription-State")
    assert ("error" in server.rpc("presence.watcher_list", alice.uri)
            or not server.rpc("presence.watcher_list", alice.uri).strip())
    assert "no more shared memory" not in server.log()


@pytest.mark.parametrize("mode", ["memory", "defaults"])
def test_the_longest_that_is_taken_can_be_ended_and_judged(ours, phones, mode):
    server = ours(workers=1, **MODES[mode])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    routes = "Record-Route: " + ",".join("<sip:127.0.0.1:%d;lr;x=%s>" % (bob.port, "x" * 900) for _ in range(16))
    watch = bob.subscribe(alice.uri, call_id="c" * 1000, from_tag="f" * 1000,
                          extra=[routes, "User-Agent: " + "u" * 250],
                          contact="<sip:bob@127.0.0.1:%d;x=%s>" % (bob.port, "x" * 4000))
    assert watch.reply.code == 200
    ended = server.rpc("presence.subscription_end", ".", alice.uri, "presence", "probation", "s:4294967295")
    assert "ended: 1" in ended
    bob.wait_notifies(2)
    assert bob.notifies[-1].get("Subscription-State") == "terminated;reason=probation;retry-after=4294967295"


def test_contacts_however_they_are_written(both):
    """Whether a Contact is read by its plain form or by the host's parser, its URI is where NOTIFYs go."""
    forms = ["<sip:{}:{}>", "<sip:{}:{};ob>", "<sip:{}:{};x=>", "<sip:{}:{};x;y=1;;z>", " <sip:{}:{}> ",
             "sip:{}:{}", '"B, \\"<x>\\"" <sip:{}:{}>', "<sip:{}:{}>;expires=60", "<sip:{}:{};user=phone>",
             "<SIP:{}:{}>", "<sip:{}:{}?a=b>"]

    def scenario(server, phone, trace):
        for number, form in enumerate(forms):
            bob = phone("bob%d" % number)
            watch = bob.subscribe("sip:alice%d@example.org" % number,
                                  contact=form.format("b+o_b-.9@127.0.0.1", bob.port))
            trace.note("answer to " + form, watch.reply.code)
            if watch.reply.code == 200:
                trace.note("target of " + form, watch.wait(1)[0].start.replace(str(bob.port), "PORT"))

    both(scenario, workers=1, **MODES["memory"])


def test_a_contact_with_a_push_token(both):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        token = ";pn-provider=fcm;pn-prid=" + "Ab3-_" * 70
        watch = bob.subscribe(alice.uri, contact="<sip:%s@127.0.0.1:%d%s>" % (bob.user, bob.port, token))
        trace.note("answer", watch.reply.code)
        trace.note("target", watch.wait(1)[0].start)
        trace.note("refreshed", watch.refresh(contact="<sip:x@127.0.0.1:%d%s>" % (bob.port, token + "2")).code)
        trace.note("new target", watch.wait(2)[1].start)

    for mode in ("memory", "write-through"):
        both(scenario, workers=1, **MODES[mode])


def longer_than_columns(bob):
    port = bob.port
    return {"Call-ID": dict(call_id="c" * 230 + uuid.uuid4().hex), "From tag": dict(from_tag="t" * 129),
            "From": dict(from_uri="sip:%s@example.org" % ("u" * 65)), "event id": dict(event="presence;id=" + "i" * 65),
            "Contact": dict(contact="<sip:bob@127.0.0.1:%d;x=%s>" % (port, "x" * 255))}


def test_strings_that_no_column_holds(ours, phones):
    """A database that refuses them: the watcher learns why. One that takes them, or none: so do we."""
    database = PostgreSQL()
    try:
        for mode in (1, 3):
            server = ours(db=database.url, presence=dict(subs_db_mode=mode, publ_cache=0), workers=1)
            alice, bob = phones(server, "alice"), phones(server, "bob")
            for what, long in longer_than_columns(bob).items():
                assert bob.subscribe(alice.uri, **long).reply.code == 400, what
                assert "is longer than its database column" in server.log().strip().splitlines()[-1]
            good = bob.subscribe(alice.uri)
            assert good.reply.code == 200
            good.wait(1)
            assert good.refresh(contact=longer_than_columns(bob)["Contact"]["contact"]).code == 400
            assert good.refresh().code == 200
            assert bob.subscribe(alice.uri, extra=["User-Agent: " + "u" * 255]).reply.code == 200
            server.stop()
    finally:
        database.stop()
    for mode in ("memory", "write-through", "database-only"):
        server = ours(workers=1, **MODES[mode])
        alice, bob = phones(server, "alice"), phones(server, "bob")
        for what, long in longer_than_columns(bob).items():
            assert bob.subscribe(alice.uri, **long).reply.code == 200, what
        server.stop()


def unfit_publications(alice):
    large = "x" * 20_000
    return {"the user is longer": (400, dict(to="sip:%s@example.org" % ("u" * 65), body=pidf())),
            "the domain is longer": (400, dict(to="sip:u@%s.org" % ("d" * 62), body=pidf())),
            "raise sql_buffer_size": (413, dict(to=alice.uri, body=pidf(note=large)))}


@pytest.mark.parametrize("server_type", [PostgreSQL, MariaDB])
def test_publications_that_no_row_holds(ours, phones, server_type):
    """The publisher is answered why, whether the row is written at once or after the answer. The driver prints the
    statements: what is printed here for PostgreSQL needs no buffer of its."""
    database = server_type()
    try:
        for settings in (dict(publ_cache=0, subs_db_mode=3), dict(publ_cache=1),
                         dict(publ_cache=1, publ_update_period=1)):
            # A statement of half the usual size: its document fits into a datagram of any host.
            server = ours(db=database.url, presence=dict(settings, print_statements=0), workers=1,
                          before="sql_buffer_size=32768\n")
            alice = phones(server, "alice")
            for why, (code, publication) in unfit_publications(alice).items():
                assert alice.publish(**publication).code == code, (settings, why)
                assert any("answered %d" % code in line and why in line
                           for line in server.log().splitlines()), (settings, why)
            # What fits is taken before and after, up to what a statement holds.
            tag = alice.publish(body=pidf(note="y" * 10_000)).get("SIP-ETag")
            assert alice.publish(etag=tag, body=pidf(note="z" * 20_000)).code == 413
            assert alice.publish(etag=tag, body=pidf(note="z")).code == 200
            server.stop()
    finally:
        database.stop()
    server = ours(workers=1, **MODES["write-through"])
    alice = phones(server, "alice")
    for why, (_, publication) in unfit_publications(alice).items():
        assert alice.publish(**publication).code == 200, why


def test_a_document_that_no_buffer_of_the_driver_holds(ours, phones):
    """Statements that are printed here are not written into it: the whole document is in its row."""
    database = PostgreSQL()
    try:
        server = ours(db=database.url, presence=dict(publ_cache=0, subs_db_mode=3), workers=1,
                      before="sql_buffer_size=32768\n")
        alice, bob = phones(server, "alice"), phones(server, "bob")
        document = pidf(alice.user, note="x" * 20_000)
        assert alice.publish(body=document).code == 200
        watch = bob.subscribe(alice.uri)
        assert watch.reply.code == 200 and watch.wait(1)[-1].body.count(b"x" * 20_000) == 1
        server.stop()
    finally:
        database.stop()


def test_expires_as_it_is_written(both):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        for expires in ("", "60;x=1", "60 ", "60 ;x", "\t61"):
            trace.note("SUBSCRIBE " + expires, bob.subscribe(alice.uri, expires=expires).reply.get("Expires"))
            trace.note("PUBLISH " + expires, alice.publish(body=pidf(alice.user), expires=expires).get("Expires"))

    both(scenario, workers=1, **MODES["memory"])


EVENTS = [
    ("presence", "presence;x=1"), ("presence", "presence;min-rate=1;max-rate=\"2;id=9\""),
    ("presence", "PRESENCE ; ID = 5"),
    ("dialog", 'dialog;call-id="a;b";from-tag=x;to-tag=y;include-session-description'),
    ("dialog", "dialog ;\r\n call-id=x"), ("presence.winfo", "presence.winfo;profile-type=device"),
]


@pytest.mark.parametrize("package, event", EVENTS)
def test_parameters_of_event_refuse_nothing(ours, phones, package, event):
    server = ours(workers=1, **MODES["memory"])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    watch = bob.subscribe(alice.uri, event=event)
    assert watch.reply.code == 200
    assert watch.wait(1)[0].get("Event") == package + (";id=5" if "ID" in event else "")
    assert watch.refresh().code == 200
    # Another parameter does not make another subscription.
    assert watch.refresh(event=event + ";y=2").code == 200


def test_a_refusal_is_one_line(ours, phones):
    server = ours(workers=1, **MODES["memory"])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    before = len(server.log().splitlines())
    watch = bob.subscribe(alice.uri, contact=None)
    assert watch.reply.code == 400
    lines = [line for line in server.log().splitlines()[before:] if "NOTICE" in line]
    assert len(lines) == 1
    for part in ("answered 400", "Contact", "127.0.0.1:%d" % bob.port, alice.uri, watch.call_id, bob.uri):
        assert part in lines[0], part


def test_rows_that_no_subscription_can_have(ours, phones):
    server = ours(workers=1, **MODES["write-through"])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    good = bob.subscribe(alice.uri)
    good.wait(1)
    server.stop()
    db = sqlite3.connect(str(server.db_path))
    db.row_factory = sqlite3.Row
    row = dict(db.execute("select * from active_watchers").fetchone())
    del row["id"]
    for number, bad in enumerate([dict(contact="sip:a b@127.0.0.1"), dict(contact="sip:a\r\nX: y@h"),
                                  dict(event_id="a\rb"),
                                  dict(contact="sip:" + "x" * 70_000), dict(callid="c" * 70_000), dict(from_tag="f\0f"),
                                  dict(user_agent="u" * 70_000), dict(reason="r\r\nX: y")]):
        changed = dict(row, callid="bad-%d" % number)
        changed.update(bad)
        db.execute("insert into active_watchers (%s) values (%s)" % (", ".join(changed), ", ".join("?" * len(changed))),
                   list(changed.values()))
    db.commit()
    db.close()
    server.start()
    # Those that differ in what is only shown are read without it.
    assert server.rpc("presence.watcher_list", alice.uri).count("pres_uri") == 3
    assert server.log().count("is not read") == 6
    alice.publish(body=pidf(alice.user))
    assert len(good.wait(2)) == 2
    assert good.refresh().code == 200
