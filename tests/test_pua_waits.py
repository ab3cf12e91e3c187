"""What the user agent keeps, answers and tries again while its server is busy, hostile or elsewhere, on the real
server."""
import hashlib
import json
import signal
import socket
import subprocess
import time

import pytest

from kit.digest import parameters
from kit.kamailio import ROOT
from kit.responder import Responder
from kit.sip import pidf
from test_pua import ALICE, publish, responder, server  # noqa: F401
from test_pua_heals import Phone, etag, registrar, subscribe


class Caller:
    """Callers of pua.publish who wait for their answers, each on a connection of its own."""

    def __init__(self, kamailio, responder, pause=0.05):
        self.kamailio, self.responder, self.sockets, self.pause = kamailio, responder, [], pause

    def ask(self, body=None, expires=600, ident="i", etag=".", ctype="application/pidf+xml"):
        params = [ALICE, str(expires), "presence", ctype if body else ".", ident, etag, self.responder.uri, "."]
        text = json.dumps({"jsonrpc": "2.0", "id": len(self.sockets), "method": "pua.publish",
                           "params": params + ([body] if body else [])}).encode()
        sock = socket.create_connection(("127.0.0.1", self.kamailio.port))
        sock.sendall(b"POST /RPC HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                     % len(text) + text)
        self.sockets.append(sock)
        # Another worker takes the next question: it is not to be faster than this one.
        time.sleep(self.pause)

    def answers(self, timeout=8):
        """The result or the error of each, in the order of the questions; None for one without an answer."""
        found = []
        for sock in self.sockets:
            sock.settimeout(timeout)
            try:
                text = sock.recv(65536).decode()
                reply = json.loads(text[text.index("\r\n\r\n"):] or "{}")
                found.append(reply.get("error", {}).get("message") or reply.get("result", ""))
            except socket.timeout:
                found.append(None)
            sock.close()
        return found


def test_a_registration_while_the_first_publish_waits(responder):
    answers = iter([(503, ["Retry-After: 2"])])
    responder.script = lambda message: next(answers, 200)
    with registrar(responder) as kamailio:
        phone = Phone(kamailio, "alice")
        phone.register(), responder.wait(1)
        phone.register()
        seen = responder.wait(2, timeout=6)
        assert len(seen) == 2 and "open" in seen[1].text and etag(seen[1]) is None
        assert seen[1].at - seen[0].at >= 1.9
        phone.close()


def test_every_caller_that_waits_is_answered(responder):
    """Documents, a refresh, broken XML, a tag that changes meanwhile and two ends behind a slow first PUBLISH."""
    responder.delay = 1.6
    with server("ours", workers=4) as kamailio:
        callers = Caller(kamailio, responder, pause=0.3)
        callers.ask(pidf(note="ONE"))
        callers.ask(pidf(note="TWO"))
        callers.ask()
        callers.ask("<broken")
        assert [type(answer) for answer in callers.answers()] == [dict, dict, dict, str]
        assert ["TWO" in m.text for m in responder.requests] == [False, True]
        named = Caller(kamailio, responder, pause=0.3)
        named.ask(pidf(note="THREE"), etag="tag-2")
        named.ask(pidf(note="FOUR"), etag="tag-2")
        named.ask(pidf(note="FIVE"), etag="nobody's")
        assert [type(answer) for answer in named.answers()] == [dict, dict, str]
        assert etag(responder.requests[-1]) == "tag-3" and "FOUR" in responder.requests[-1].text
        ends = Caller(kamailio, responder, pause=0.3)
        ends.ask(expires=0)
        ends.ask(expires=0)
        assert None not in ends.answers()
        assert kamailio.alive()


def test_the_end_of_nothing_is_answered(responder):
    with server("ours") as kamailio:
        callers = Caller(kamailio, responder)
        callers.ask(expires=0)
        assert callers.answers(2) != [None] and responder.requests == []


@pytest.mark.parametrize("state", ["terminated", "terminated;reason=deactivated"])
def test_terminated_in_answer_to_each_subscribe(responder, state):
    with server("ours") as kamailio:
        subscribe(kamailio, responder)
        deadline, notified = time.monotonic() + 4, 0
        while time.monotonic() < deadline:
            if len(responder.requests) > notified:
                time.sleep(0.05)
                notified = len(responder.requests)
                responder.notify(kamailio, responder.requests[-1], state=state)
            time.sleep(0.02)
        assert 2 <= len(responder.requests) <= 4


@pytest.mark.parametrize("state,comes_back", [
    ("terminated;retry-after=60", None), ("terminated; Reason = rejected", None),
    ("terminated ; reason = GiveUp ; Retry-After = 2", 2), ("terminated;reason=deactivated", 0)])
@pytest.mark.parametrize("early", [False, True])
def test_terminated_says_when_to_come_back(responder, state, comes_back, early):
    responder.delay = 0.5
    with server("ours") as kamailio:
        subscribe(kamailio, responder)
        first = responder.wait(1)[0]
        if not early:
            time.sleep(0.7)
        assert responder.notify(kamailio, first, state=state).code == 200
        time.sleep(0.6)
        assert len(responder.requests) == (2 if comes_back == 0 else 1)
        if comes_back:
            seen = responder.wait(2, timeout=4)
            assert len(seen) == 2 and 1 <= seen[1].at - first.at <= 4
            assert seen[1].get("Call-ID") != first.get("Call-ID")


def test_a_retry_follows_the_dialog_to_its_new_target(responder):
    responder.expires = 8
    answers = iter([200, (503, ["Retry-After: 2"])])
    responder.script = lambda message: next(answers, 200)
    with server("ours") as kamailio:
        subscribe(kamailio, responder)
        first = responder.wait(2, timeout=9)[0]
        responder.notify(kamailio, first, state="active;expires=60", contact="sip:moved@127.0.0.1:%d" % responder.port)
        seen = responder.wait(3, timeout=5)
        assert seen[2].start.startswith("SUBSCRIBE sip:moved@")
        assert [m.get("Call-ID") for m in seen[:3]] == [first.get("Call-ID")] * 3
        assert [m.cseq for m in seen[:3]] == [10, 11, 12]


def test_a_longer_subscription_while_the_first_is_under_way(responder):
    responder.delay = 0.4
    with server("ours") as kamailio:
        subscribe(kamailio, responder, 600)
        subscribe(kamailio, responder, 3600)
        seen = responder.wait(2)
        assert [m.get("Expires") for m in seen] == ["610", "3610"] and seen[0].get("Call-ID") == seen[1].get("Call-ID")


def test_a_shorter_life_in_a_notify_is_heeded(responder):
    with server("ours") as kamailio:
        subscribe(kamailio, responder)
        first = responder.wait(1)[0]
        time.sleep(0.2)
        assert responder.notify(kamailio, first, state="active;Expires = 7").code == 200
        assert len(responder.wait(2, timeout=9)) == 2


def test_sequence_numbers_after_a_crash(responder):
    """More SUBSCRIBEs than the row knows of are sent before the server is killed."""
    with server("ours", params=dict(update_period=6)) as kamailio:
        subscribe(kamailio, responder, 600)
        responder.wait(1), time.sleep(7)
        for expires in (700, 800, 900):
            subscribe(kamailio, responder, expires)
            time.sleep(0.2)
        used = [m.cseq for m in responder.requests]
        responder.expires = 5
        kamailio.stop(signal.SIGKILL)
        row = kamailio.rows("pua")[0]["cseq"]
        kamailio.start()
        subscribe(kamailio, responder, 1000)
        last = responder.wait(len(used) + 1)[-1]
        assert last.get("Call-ID") == responder.requests[0].get("Call-ID") and last.cseq > max(used)
        assert (row, last.cseq) == (used[0], used[0] + 1_000 + 1)


def test_a_publication_outlives_the_grant_of_a_busy_server(responder):
    """The server answers 503 for longer than it granted, then 200: the row is there, and a restart goes on with it."""
    responder.expires = 8
    answers = iter([200] + [(503, ["Retry-After: 3"])] * 4)
    responder.script = lambda message: next(answers, 200)
    with server("ours", params=dict(outbound_proxy=responder.uri)) as kamailio:
        assert "result" in publish(kamailio, responder, body=pidf(), ident="one")
        responder.wait(6, timeout=40)
        time.sleep(7)
        assert len(kamailio.rows("pua")) == 1
        count = len(responder.requests)
        kamailio.restart()
        seen = responder.wait(count + 1, timeout=12)
        assert len(seen) > count and etag(seen[count])


def test_an_end_asks_for_no_interval(responder):
    with server("ours", params=dict(min_expires=60)) as kamailio:
        publish(kamailio, responder, body=pidf(), ident="i")
        publish(kamailio, responder, ident="i", expires=0)
        subscribe(kamailio, responder, 600)
        time.sleep(0.2)
        subscribe(kamailio, responder, 0)
        assert [m.get("Expires") for m in responder.wait(4)] == ["3601", "0", "610", "0"]


def test_a_refused_change_keeps_the_document_there_is(responder):
    answers = iter([200, 403])
    responder.script = lambda message: next(answers, 200)
    with server("ours") as kamailio:
        for note in ("one", "two", "three"):
            publish(kamailio, responder, body=pidf(note=note), ident="i")
        assert [etag(m) for m in responder.requests] == [None, "tag-1", "tag-1"]


@pytest.mark.parametrize("options",
                         [dict(ctype="text/plain\r\nX-Bad: 1"), dict(headers="X-A: 1\r\n\r\nbody"),
                          dict(etag="a\r\nX-Bad: 1"),
                                     dict(headers="no header line")])
def test_no_text_becomes_a_header(responder, options):
    with server("ours") as kamailio:
        assert "error" in publish(kamailio, responder, body=pidf(), **options)
        assert responder.requests == [] and kamailio.alive()


@pytest.mark.parametrize("minimum", [1 << 62, (1 << 63) - 1, 1 << 70])
def test_a_minimum_beyond_all_bounds_is_a_refusal(responder, minimum):
    responder.script = lambda message: (423, ["Min-Expires: %d" % minimum])
    with server("ours") as kamailio:
        publish(kamailio, responder, body=pidf(), ident="i")
        time.sleep(0.5)
        assert len(responder.requests) == 1


@pytest.mark.parametrize("method", ["PUBLISH", "SUBSCRIBE"])
def test_the_first_request_is_sent_elsewhere(responder, method):
    other = Responder()
    responder.script = lambda message: (302, ["Contact: <sip:there@127.0.0.1:%d>" % other.port])
    try:
        with server("ours") as kamailio:
            if method == "PUBLISH":
                assert "SIP-ETag" in str(publish(kamailio, responder, body=pidf(), ident="i"))
            else:
                subscribe(kamailio, responder)
            assert other.wait(1)[0].start.startswith(method + " sip:there@") and len(responder.requests) == 1
    finally:
        other.close()


def test_the_first_subscribe_is_tried_again(responder):
    answers = iter([(503, ["Retry-After: 1"])])
    responder.script = lambda message: next(answers, 200)
    with server("ours") as kamailio:
        subscribe(kamailio, responder)
        seen = responder.wait(2, timeout=5)
        assert len(seen) == 2 and seen[1].at - seen[0].at >= 0.9


def test_a_target_that_cannot_be_reached_is_no_storm(responder):
    """After a restart nobody knows where the caller sent it; what cannot be sent is tried again ever more slowly."""
    responder.expires = 7
    with server("ours") as kamailio:
        assert "result" in publish(kamailio, responder, body=pidf(), ident="i")
        time.sleep(7)
        kamailio.restart()
        time.sleep(8)
        lines = [line for line in kamailio.log().split("\n") if "cannot be sent" in line or "could not be sent" in line]
        assert len(lines) <= 5, lines


def test_long_lists_fit_their_transport(responder):
    with server("ours") as kamailio:
        for n in range(300):
            kamailio.rpc("pua.subscribe", "sip:%s%d@127.0.0.1:%d" % ("u" * 60, n, responder.port), ALICE, "presence",
                         600)
        responder.wait(300, timeout=20)
        time.sleep(0.5)
        seen, offset = set(), 0
        while True:
            text = kamailio.rpc("pua.list", ".", str(offset), "1000")
            page = [line.split("presentity:")[1].strip() for line in text.split("\n") if "presentity:" in line]
            assert "event: presence" in text or not page
            if not page:
                break
            seen.update(page)
            offset += len(page)
        assert len(seen) == 300


def test_a_forked_subscribe_has_one_branch(responder):
    """The NOTIFY of one branch comes first, the answer is another's."""
    responder.delay, responder.expires = 0.5, 8
    with server("ours") as kamailio:
        subscribe(kamailio, responder)
        first = responder.wait(1)[0]
        contact = "sip:branch-a@127.0.0.1:%d" % responder.port
        assert responder.notify(kamailio, first, tag="branch-a", contact=contact, state="active;expires=60").code == 200
        assert responder.notify(kamailio, first, tag="branch-b", cseq=2).code == 481
        refresh = responder.wait(2, timeout=10)[1]
        assert refresh.start.startswith("SUBSCRIBE sip:branch-a@") and "tag=branch-a" in refresh.get("To")


def test_a_lamp_from_the_shell(responder):
    """The command in docs/pua.md."""
    command = (ROOT / "docs" / "pua.md").read_text().split("```\ncurl")[1].split("```")[0]
    with server("ours", params=dict(outbound_proxy=responder.uri)) as kamailio:
        done = subprocess.run(["sh", "-c", "curl" + command.replace("127.0.0.1:8080", "127.0.0.1:%d" % kamailio.port)],
                              capture_output=True, text=True, timeout=20)
        assert "SIP-ETag" in done.stdout, done
        lamp = responder.requests[0]
        assert lamp.get("Event") == "message-summary" and lamp.text == "Messages-Waiting: yes\r\n"


@pytest.mark.parametrize("code, algorithm", [(401, "MD5"), (407, "MD5"), (401, "SHA-256"), (401, "")])
def test_a_server_that_asks_who_we_are(responder, code, algorithm):
    """RFC 3261 22, RFC 7616: a request is sent again with credentials, and the next one goes with those that the server
    took; a wrong password is refused once."""
    header, field = {401: ("WWW-Authenticate", "Authorization"),
                     407: ("Proxy-Authenticate", "Proxy-Authorization")}[code]
    digest = hashlib.sha256 if algorithm == "SHA-256" else hashlib.md5

    def answers(message):
        given = message.get(field)
        if not given:
            nonce = "nonce-%d" % len(responder.requests)
            return code, ['%s: Digest realm="else", nonce="x", algorithm=token' % header,
                          '%s: Digest realm="example.org", nonce="%s", opaque="o", qop="auth"%s' % (
                              header, nonce, ", algorithm=" + algorithm if algorithm else "")]
        said = parameters(given)
        method, uri = message.start.split()[:2]
        hexed = lambda *parts: digest(":".join(parts).encode()).hexdigest()
        wanted = hexed(hexed("us", "example.org", "pass:word"), said["nonce"], said["nc"], said["cnonce"], "auth",
                       hexed(method, uri))
        assert said["uri"] == uri and said["opaque"] == "o"
        counts.append(int(said["nc"], 16))
        return 200 if said["response"] == wanted else 403

    counts = []
    responder.script = answers
    with server("ours", params=dict(credential="x:elsewhere:y, us:example.org:pass:word")) as kamailio:
        assert publish(kamailio, responder, body=pidf(), ident="i")["result"]["SIP-ETag"]
        subscribe(kamailio, responder, 600)
        seen = responder.wait(3)
        assert ([bool(m.get(field)) for m in seen], counts) == ([False, True, True], [1, 2])
        assert "pass:word" not in kamailio.log() and "pass:word" not in kamailio.rpc("pua.config")
    with server("ours", params=dict(credential="us:example.org:wrong")) as kamailio:
        count = len(responder.requests)
        for _ in range(2):
            assert "SIP-ETag" not in publish(kamailio, responder, body=pidf(), ident="i")["result"]
        # What was refused is not sent unasked.
        assert [bool(m.get(field)) for m in responder.requests[count:]] == [False, True, False, True]
    with server("ours") as kamailio:
        count = len(responder.requests)
        assert "SIP-ETag" not in publish(kamailio, responder, body=pidf(), ident="i")["result"]
        assert len(responder.requests) == count + 1


@pytest.mark.parametrize("transport_workers", [1, 4])
def test_a_server_is_asked_once_and_the_nonce_is_counted_over_all_processes(responder, transport_workers):
    """RFC 7616 3.4: the count of a nonce rises with each use, so that the server knows a copy; stale=true means that
    the same credentials are taken with the new nonce."""
    state = {"nonce": "n1", "counts": [], "asked": 0}

    def answers(message):
        given = message.get("Authorization")
        said = parameters(given) if given else {}
        if said.get("nonce") != state["nonce"]:
            state["asked"] += 1
            stale = ", stale=true" if given else ""
            return 401, ['WWW-Authenticate: Digest realm="example.org", nonce="%s", qop="auth"%s'
                         % (state["nonce"], stale)]
        count = int(said["nc"], 16)
        if count in state["counts"]:
            return 403
        state["counts"].append(count)
        return 200

    responder.script = answers
    with server("ours", params=dict(credential="us:example.org:pass"), workers=transport_workers) as kamailio:
        for nonce, idents in (("n1", range(12)), ("n2", range(12, 20))):
            state.update(nonce=nonce, counts=[], asked=0)
            for ident in idents:
                answer = publish(kamailio, responder, body=pidf(), ident="i%d" % ident)
                assert answer["result"]["SIP-ETag"]
            assert (state["asked"], sorted(state["counts"])) == (1, list(range(1, len(idents) + 1)))
