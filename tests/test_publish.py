"""PUBLISH (RFC 3903): initial, refresh, modify, remove, and what is refused; on stock and on ours."""
import zlib

import pytest

from conftest import MODES
from kit.sip import dialog_info, pidf

MWI = dict(event="message-summary", ctype="application/simple-message-summary")
DIALOG = dict(event="dialog", ctype="application/dialog-info+xml")


@pytest.mark.parametrize("mode", ["memory", "write-through", "defaults", "table", "database-only"])
def test_life_of_a_publication(both, mode):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        watch = bob.subscribe(alice.uri)
        trace.message("subscribe", watch.reply)
        watch.wait(1)
        reply = alice.publish(body=pidf(alice.user))
        trace.message("initial", reply)
        watch.wait(2)
        if mode != "memory":
            trace.rows("after initial", server, "presentity")
            reply = alice.publish(etag=reply.get("SIP-ETag"), expires=100)
            trace.message("refresh", reply)
            watch.wait(3)
        reply = alice.publish(etag=reply.get("SIP-ETag"), body=pidf(alice.user, basic="closed"))
        trace.message("modify", reply)
        watch.wait(3 if mode == "memory" else 4)
        reply = alice.publish(etag=reply.get("SIP-ETag"), expires=0)
        trace.message("remove", reply)
        watch.wait(4 if mode == "memory" else 5)
        bob.quiet(0.3)  # stock removes the row after the NOTIFYs
        if mode != "memory":
            trace.rows("after removal", server, "presentity")
        trace.messages("NOTIFY", watch.notifies)

    both(scenario, workers=1, **MODES[mode])


def test_two_documents_are_put_together(both):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        first = alice.publish(body=pidf(alice.user, tuple_id="one"))
        alice.quiet(1.1)
        alice.publish(body=pidf(alice.user, tuple_id="two", basic="closed"))
        watch = bob.subscribe(alice.uri)
        watch.wait(1)
        alice.publish(etag=first.get("SIP-ETag"), expires=0)
        watch.wait(2)
        watch.refresh()
        watch.wait(3)
        trace.messages("NOTIFY", watch.notifies)

    both(scenario, workers=1, **MODES["write-through"])


@pytest.mark.parametrize("mode", ["memory", "write-through", "table", "database-only"])
@pytest.mark.parametrize("event,ctype,body", [
    ("message-summary", "application/simple-message-summary", "Messages-Waiting: %s\r\n"),
    ("presence", "application/pidf+xml", None)])
def test_a_removal_with_a_body(both, mode, event, ctype, body):
    """Where the package shows one document, watchers see the one that comes with its end, once."""
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        first, last = [body % word if body else pidf(note=word) for word in ("yes", "no")]
        etag = alice.publish(body=first, event=event, ctype=ctype).get("SIP-ETag")
        watch = bob.subscribe(alice.uri, event=event)
        watch.wait(1)
        trace.message("removal", alice.publish(body=last, event=event, ctype=ctype, etag=etag, expires=0))
        watch.wait(2)
        watch.refresh()
        watch.wait(3)
        trace.messages("watch", watch.notifies)

    both(scenario, workers=1, modules=("presence_xml", "presence_mwi"), **MODES[mode])


def test_refused_requests(both):
    def scenario(server, phone, trace):
        alice = phone("alice")
        trace.message("unknown package", alice.publish(body=pidf(), event="foo"))
        trace.message("no event", alice.publish(body=pidf(), event=None))
        trace.message("neither body nor tag", alice.publish())
        trace.message("unknown tag", alice.publish(etag="a.1.2.3.4", body=pidf()))
        trace.message("tag of nobody", alice.publish(etag="bogus", expires=0))
        trace.message("text/plain", alice.publish(body=pidf(), ctype="text/plain"))
        trace.message("broken XML", alice.publish(body="<presence"))
        trace.message("no content type", alice.publish(body=pidf(), ctype=None))
        trace.message("Expires is no number", alice.publish(body=pidf(), expires="abc"))
        trace.message("Content-Length lies", alice.publish(body=pidf(), content_length=9000))
        trace.message("Expires beyond 2^32", alice.publish(body=pidf(), expires="4294967296"))

    both(scenario, workers=1, **MODES["memory"], different={
        "text/plain": ("RFC 3903 6 step 4", lambda t: t.startswith("SIP/2.0 415")
                       and "Accept: application/pidf+xml" in t),
        "broken XML": ("415 names what is accepted", lambda t: "Accept: application/pidf+xml" in t),
        "no content type": ("RFC 3261 7.4.1", lambda t: t.startswith("SIP/2.0 400")),
        "Expires is no number": ("RFC 3261 20.19", lambda t: t.startswith("SIP/2.0 400")),
        "Content-Length lies": ("RFC 3261 18.3", lambda t: t.startswith("SIP/2.0 400")),
        "Expires beyond 2^32": ("as long as allowed", lambda t: "Expires: 3600" in t),
    })


MAIL, NEWS = "Messages-Waiting: yes\r\n", "Messages-Waiting: no\r\n"
ENCODED = [["Content-Encoding: gzip"], ["e: gzip"], ["Content-Encoding: identity, deflate"],
           ["Content-Encoding: identity", "Content-Encoding: x-own"]]
PLAIN = [["Content-Encoding: identity"], ["content-encoding: IDENTITY"], ["Content-Encoding:"]]


@pytest.mark.parametrize("step", ["initial", "modify"])
def test_encoded_bodies(both, step):
    """RFC 3261 8.2.3: what is not decoded is answered 415 with Accept-Encoding, and watchers see nothing of it; stock
    does not look at the header. A PUBLISH without a body has nothing to decode, and a body that is its text all the
    same is taken: the host decodes bodies and leaves the header."""
    def scenario(server, phone, trace):
        for headers in ENCODED + PLAIN:
            for is_encoded in (False, True)[:2 if headers in ENCODED else 1]:
                alice, bob = phone("alice"), phone("bob")
                tag = alice.publish(body=MAIL, **MWI).get("SIP-ETag") if step == "modify" else None
                body = zlib.compress(NEWS.encode()) if is_encoded else NEWS
                reply = alice.publish(body=body, etag=tag, extra=headers, **MWI)
                case = "%s, %s" % (headers, is_encoded)
                trace.note("answer to %s" % case, "%d %s" % (reply.code, reply.get("Accept-Encoding")))
                carol = phone("carol")
                known = carol.publish(body=MAIL, **MWI).get("SIP-ETag")
                again = carol.publish(etag=known, extra=headers, **MWI)
                trace.note("refresh with %s" % case, again.code)
                shown = bob.subscribe(alice.uri, event=MWI["event"]).wait(1)[0].text
                trace.note("shown of %s" % case, (MAIL in shown, NEWS in shown))

    refused = ["%s, True" % headers for headers in ENCODED]
    ours = {"answer to " + case: ("RFC 3261 8.2.3", lambda text: text == "415 identity") for case in refused}
    both(scenario, workers=1, **MODES["write-through"], different=ours)


@pytest.mark.parametrize("encoding", ["deflate", "own"])
def test_bodies_that_the_host_decodes(both, encoding):
    """gzcompress decodes a body where it is received: the PUBLISH has the text, and the header that named its encoding
    still."""
    header = {"deflate": "Content-Encoding: deflate", "own": "e: squeezed"}[encoding]
    own = 'modparam("gzcompress", "header_name", "e")\nmodparam("gzcompress", "header_value", "squeezed")\n'
    documents = {"presence": pidf("alice", note="decoded"), "dialog": dialog_info("confirmed"),
                 "message-summary": MAIL}

    def scenario(server, phone, trace):
        for event, document in documents.items():
            kind = dict(MWI if event == "message-summary" else DIALOG if event == "dialog" else {}, event=event)
            alice, bob = phone("alice"), phone("bob")
            reply = alice.publish(body=zlib.compress(document.encode()), extra=[header], **kind)
            assert reply.code == 200, (server.which, event)
            trace.message("answer for " + event, reply)
            trace.message("NOTIFY of " + event, bob.subscribe(alice.uri, event=event).wait(1)[0])

    both(scenario, workers=1, **MODES["memory"], modules=("presence_xml", "presence_mwi", "presence_dialoginfo",
                                                         "gzcompress"), extra_params=own if encoding == "own" else "")


def test_message_summary_shows_the_last_document(both):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        watch = bob.subscribe(alice.uri, event="message-summary")
        watch.wait(1)
        reply = alice.publish(body="Messages-Waiting: yes\r\n", **MWI)
        trace.message("publish", reply)
        watch.wait(2)
        trace.message("removed", alice.publish(etag=reply.get("SIP-ETag"), expires=0, event="message-summary"))
        watch.wait(3)
        trace.messages("NOTIFY", watch.notifies)

    both(scenario, workers=1, **MODES["write-through"])


def test_refresh_without_body_keeps_the_document_in_memory(ours, phones):
    """Stock loses the document here (memory, refresh without body) and sends empty NOTIFYs."""
    server = ours(**MODES["memory"])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    watch = bob.subscribe(alice.uri)
    etag = alice.publish(body=pidf()).get("SIP-ETag")
    alice.publish(etag=etag, expires=100)
    watch.wait(3)
    assert "<basic>open</basic>" in watch.notifies[-1].text
    watch.refresh()
    watch.wait(4)
    assert "<basic>open</basic>" in watch.notifies[-1].text


@pytest.mark.parametrize("mode", ["memory", "write-through", "table"])
def test_one_document_for_each_dialog(ours, phones, mode):
    server = ours(**MODES[mode])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    watch = bob.subscribe(alice.uri, event="dialog")
    alice.publish(body=dialog_info("early", dialog_id="x"), **DIALOG)
    alice.publish(body=dialog_info("confirmed", dialog_id="x"), **DIALOG)
    watch.wait(3)
    assert watch.notifies[-1].text.count("<dialog ") == 1 and "confirmed" in watch.notifies[-1].text


@pytest.mark.parametrize("mode", ["memory", "write-through", "table"])
def test_an_ended_dialog_stays_ended(ours, phones, mode):
    server = ours(**MODES[mode])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    watch = bob.subscribe(alice.uri, event="dialog")
    etag = alice.publish(body=dialog_info("terminated"), **DIALOG).get("SIP-ETag")
    late = alice.publish(body=dialog_info("early"), etag=etag, **DIALOG)
    assert late.code == 200
    watch.refresh()
    watch.wait(3)
    assert "terminated" in watch.notifies[-1].text and "early" not in watch.notifies[-1].text
    assert alice.publish(etag=late.get("SIP-ETag"), expires=0, **DIALOG).code == 200


def test_initial_publish_with_expires_0_stores_nothing(ours, phones):
    server = ours(**MODES["write-through"])
    alice = phones(server, "alice")
    assert alice.publish(body=pidf(), expires=0).code == 200
    assert server.rows("presentity") == []


def test_intervals_below_the_minimum(ours, phones):
    strict = ours(presence=dict(subs_db_mode=0, publ_cache=2, min_expires=60))
    alice = phones(strict, "alice")
    reply = alice.publish(body=pidf(), expires=10)
    assert reply.code == 423 and reply.get("Min-Expires") == "60"
    watch = alice.subscribe(alice.uri, expires=10)
    assert watch.reply.code == 423 and watch.reply.get("Min-Expires") == "60"
    lenient = ours(presence=dict(subs_db_mode=0, publ_cache=2, min_expires=60, min_expires_action=2))
    alice = phones(lenient, "alice")
    assert alice.publish(body=pidf(), expires=10).get("Expires") == "60"
    assert alice.subscribe(alice.uri, expires=10).reply.get("Expires") == "60"


def test_no_interval_where_the_packages_is_below_the_minimum(both):
    def scenario(server, phone, trace):
        trace.message("PUBLISH", phone("alice").publish(body=pidf(), expires=None))

    both(scenario, workers=1, presence=dict(subs_db_mode=0, publ_cache=2, min_expires=7000, max_expires=9000))


def test_an_expired_publication_is_notified_once(ours, phones):
    server = ours(presence=dict(subs_db_mode=0, publ_cache=2, clean_period=1))
    alice, bob = phones(server, "alice"), phones(server, "bob")
    watch = bob.subscribe(alice.uri)
    watch.wait(1)
    alice.publish(body=pidf(), expires=1)
    watch.wait(2)
    watch.wait(3, timeout=15)
    bob.quiet(1.5)
    assert len(watch.notifies) == 3 and watch.notifies[-1].body == b""


def test_bodies_stay_what_the_package_makes_of_them(both):
    """A single document is not parsed again once the package was seen to add nothing: the bytes are the same as
    stock's."""
    declared = '<?xml version="1.0" encoding="UTF-8"?>'
    documents = [
        declared + '\r\n<presence xmlns="urn:ietf:params:xml:ns:pidf" '
                   'xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model" entity="sip:a@b">'
        '<tuple id="t"><status><basic>open</basic></status><contact '
        'priority="0.8">sip:a@b</contact><note>%d</note></tuple>'
        '<dm:person id="p"><dm:x/></dm:person></presence>',
        declared + '\n<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:a@b">\n <tuple '
                   'id="t"><status><basic>closed</basic>'
        '</status><note>%d &amp; more</note></tuple>\n</presence>',
        declared + '<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:a@b"><tuple '
                   'id="t"><status/><note>%d</note>\n</tuple></presence>\n\n',
        '<?xml version="1.0"?><presence xmlns="urn:ietf:params:xml:ns:pidf" entity=\'sip:a@b\'><tuple '
        'id="t"><note>%d</note></tuple></presence>',
        declared + '<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:a@b"><tuple id="t"><note>\u00e4 '
                   '%d</note><a></a></tuple></presence>',
        declared + '<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:a@b"><!-- c --><tuple '
                   'id="t"><note>%d</note></tuple></presence>',
        declared + '\n<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:a@b"> <tuple '
                   'id="t"><status><basic>open</basic></status>'
        '<note>%d</note></tuple></presence>',
    ]

    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        watch, etag, count = bob.subscribe(alice.uri), None, 1
        watch.wait(1)
        for index in range(42):
            reply = alice.publish(body=documents[index % len(documents) if index > 12 else 0] % index, etag=etag)
            assert reply.code == 200
            etag, count = reply.get("SIP-ETag"), count + 1
            watch.wait(count)
        trace.messages("NOTIFY", watch.notifies)

    both(scenario, workers=1, **MODES["write-through"])
