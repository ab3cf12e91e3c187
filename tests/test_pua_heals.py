"""What the user agent does when its server is slow, forgetful, busy or gone. Stock does little of it, so these run on
ours."""
import json
import signal
import socket
import time

import pytest

from kit.responder import Responder
from kit.sip import Client, pidf
from test_pua import ALICE, publish, responder, server  # noqa: F401

REGISTRAR = """
request_route {
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    if (is_method("REGISTER")) { pua_set_publish(); if (!save("location")) sl_reply_error(); exit; }
    if (is_method("NOTIFY")) {
        if (pua_update_contact()) sl_send_reply("200", "OK"); else sl_send_reply("481", "Gone");
        exit;
    }
    sl_send_reply("404", "Not here");
}
"""


def registrar(responder, which="ours", **options):
    more = 'modparam("pua_usrloc", "default_domain", "example.org")\n'
    more += 'modparam("pua", "outbound_proxy", "%s")\nmodparam("tm", "fr_timer", 700)\n' % responder.uri
    return server(which, modules=("usrloc", "registrar", "pua", "pua_rpc", "pua_usrloc"), route=REGISTRAR,
                  more=more + options.pop("more", ""), **options)


class Phone(Client):
    def register(self, expires=600):
        self.cseq = getattr(self, "cseq", 0) + 1
        reply = self.reply_to(self.request("REGISTER", self.uri, ["Expires: %d" % expires], call_id="reg-" + self.user,
                                           ruri="sip:example.org", cseq=self.cseq))
        assert reply is not None and reply.code == 200
        return reply


def etag(message):
    return message.get("SIP-If-Match")


def test_registration_becomes_a_publication(responder):
    """The same on stock: the life of a binding."""
    seen = {}
    for which in ("stock", "ours"):
        made = Responder()
        with registrar(made, which) as kamailio:
            phone = Phone(kamailio, "alice")
            for count, expires in enumerate((600, 600, 0), 1):
                phone.register(expires), made.wait(count)
                # Stock forgets an entity tag whose answer it has not read when the next registration comes.
                time.sleep(0.3)
            seen[which] = [(etag(m), m.get("Expires"), m.get("Event"), "open" in m.text, "closed" in m.text)
                           for m in made.requests]
            phone.close()
        made.close()
    assert seen["ours"] == seen["stock"] and len(seen["ours"]) >= 2, seen


@pytest.mark.suite("one-request")
def test_one_request_at_a_time(responder, figure):
    responder.delay = 0.5
    with server("ours", workers=4) as kamailio:
        sockets = []
        for n in range(10):
            body = json.dumps({"jsonrpc": "2.0", "id": n, "method": "pua.publish", "params": [
                ALICE, "600", "presence", "application/pidf+xml", "i", ".", responder.uri, ".",
                pidf(note="n%d" % n)]}).encode()
            sock = socket.create_connection(("127.0.0.1", kamailio.port))
            sock.sendall(b"POST /RPC HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
                         b"%d\r\n\r\n" % len(body) + body)
            sockets.append(sock)
            # The last one must not overtake others: each is read by a process of its own.
            time.sleep(0.1 if n == 8 else 0.03)
        for sock in sockets:
            sock.settimeout(5)
            assert b"SIP-ETag" in sock.recv(4096)
            sock.close()
        seen = responder.requests
        assert len(seen) == 2 and "n9" in seen[1].text
        assert etag(seen[0]) is None and etag(seen[1]) == "tag-1"
        assert seen[1].at - seen[0].at >= 0.45
        figure("10 changes while a PUBLISH is under way: %d requests, one at a time, the last with the newest document"
               % len(seen))


def test_end_before_the_first_answer(responder):
    """A call that ends while its first PUBLISH is under way leaves no lamp on."""
    responder.delay = 0.5
    with registrar(responder) as kamailio:
        phone = Phone(kamailio, "alice")
        phone.register(), phone.register(0)
        responder.wait(2)
        time.sleep(0.8)
        assert [(etag(m), m.get("Expires")) for m in responder.requests] == [(None, "601"), ("tag-1", "0")]
        phone.close()


@pytest.mark.suite("one-request")
def test_forgotten_publication_is_published_again_once(responder):
    answers = iter([200, 412, 200, 200])
    responder.script = lambda message: next(answers, 200)
    with registrar(responder) as kamailio:
        phone = Phone(kamailio, "alice")
        phone.register(), responder.wait(1)
        phone.register(), responder.wait(3)
        time.sleep(0.5)
        seen = responder.requests
        assert [etag(m) for m in seen] == [None, "tag-1", None] and "open" in seen[2].text
        phone.register(), responder.wait(4)
        assert etag(responder.requests[3]) == "tag-2"
        phone.close()


def test_forgotten_on_refresh_without_a_body(responder):
    """The refresh carries no document; the whole document goes out once more."""
    responder.expires = 8
    answers = iter([200, 412])
    responder.script = lambda message: next(answers, 200)
    with registrar(responder) as kamailio:
        phone = Phone(kamailio, "alice")
        phone.register()
        responder.wait(3, timeout=8)
        seen = responder.requests[:3]
        assert [etag(m) for m in seen] == [None, "tag-1", None]
        assert seen[1].text == "" and "open" in seen[2].text
        phone.close()


@pytest.mark.suite("one-request")
@pytest.mark.parametrize("trouble", [(503, ["Retry-After: 1"]), 500, None])
def test_server_in_trouble(responder, trouble, figure):
    answers = iter([200, trouble])
    responder.script = lambda message: next(answers, 200)
    with registrar(responder) as kamailio:
        phone = Phone(kamailio, "alice")
        phone.register(), responder.wait(1)
        phone.register(), responder.wait(3, timeout=8)
        seen = responder.requests
        assert [etag(m) for m in seen[:3]] == [None, "tag-1", "tag-1"]
        assert 0.9 <= seen[2].at - seen[1].at <= 5
        time.sleep(1)
        assert len(responder.requests) == 3
        figure("answered %s: sent again once, after %.1f s, with the same entity tag"
               % (trouble or "by silence", seen[2].at - seen[1].at))
        phone.close()


@pytest.mark.suite("one-request")
def test_newer_state_replaces_what_waits(responder):
    answers = iter([200, (503, ["Retry-After: 2"])])
    responder.script = lambda message: next(answers, 200)
    with registrar(responder) as kamailio:
        phone = Phone(kamailio, "alice")
        phone.register(), responder.wait(1)
        phone.register(), responder.wait(2)
        phone.register(0)
        responder.wait(3, timeout=8)
        time.sleep(0.5)
        assert [(etag(m), m.get("Expires"))
                for m in responder.requests] == [(None, "601"), ("tag-1", "601"), ("tag-1", "0")]
        phone.close()


def test_interval_too_brief(responder):
    answers = iter([(423, ["Min-Expires: 1800"])])
    responder.script = lambda message: next(answers, 200)
    with registrar(responder) as kamailio:
        phone = Phone(kamailio, "alice")
        phone.register(), responder.wait(2)
        assert [m.get("Expires") for m in responder.requests] == ["601", "1801"]
        phone.close()


def test_refused_is_not_tried_again(responder):
    responder.script = lambda message: 403
    with registrar(responder) as kamailio:
        phone = Phone(kamailio, "alice")
        phone.register(), responder.wait(1)
        time.sleep(3)
        assert len(responder.requests) == 1
        phone.close()


def test_dropped_by_the_script_blocks_nothing(responder):
    route = REGISTRAR + """
event_route[tm:local-request] { if ($shv(drops) != 0) { $shv(drops) = $shv(drops) - 1; drop; } }
"""
    with server("ours", modules=("usrloc", "registrar", "pua", "pua_rpc", "pua_usrloc"), route=route,
                more='modparam("pua_usrloc", "default_domain", "example.org")\nmodparam("pv", "shvset", "drops=i:3")\n'
                     'modparam("pua", "outbound_proxy", "%s")\n' % responder.uri) as kamailio:
        phone = Phone(kamailio, "alice")
        for _ in range(3):
            phone.register()
        assert kamailio.rpc("pua.subscribe", "sip:bob@127.0.0.1:%d" % responder.port, ALICE, "presence",
                            "60").strip() == ""
        time.sleep(0.3)
        assert [m.method for m in responder.requests] == ["SUBSCRIBE"]
        phone.register()
        assert [m.method for m in responder.wait(2)] == ["SUBSCRIBE", "PUBLISH"]
        phone.close()


def subscribe(kamailio, responder, expires=3600):
    assert kamailio.rpc("pua.subscribe", "sip:bob@127.0.0.1:%d" % responder.port, ALICE, "presence",
                        expires).strip() == ""


def test_notify_before_the_answer_and_new_contact(responder):
    responder.expires = 9
    responder.delay = 0.6
    with server("ours") as kamailio:
        subscribe(kamailio, responder)
        first = responder.wait(1)[0]
        reply = responder.notify(kamailio, first, tag="early", contact="sip:early@127.0.0.1:%d" % responder.port)
        assert reply.code == 200
        time.sleep(0.8)
        reply = responder.notify(kamailio, first, cseq=2, tag="early",
                                 contact="sip:moved@127.0.0.1:%d" % responder.port)
        assert reply.code == 200
        refresh = responder.wait(2, timeout=9)[1]
        assert refresh.start.startswith("SUBSCRIBE sip:moved@") and refresh.cseq == first.cseq + 1
        assert refresh.get("Call-ID") == first.get("Call-ID") and "tag=early" in refresh.get("To")
        stranger = responder.notify(kamailio, first, cseq=3, tag="stranger")
        assert stranger.code == 481


def test_a_contact_that_nothing_can_be_sent_to_is_no_target(responder):
    """RFC 3261 12.2.1.1: the remote target is a SIP URI; the one before it stays."""
    with server("ours") as kamailio:
        subscribe(kamailio, responder)
        first = responder.wait(1)[0]
        for cseq, contact in enumerate(("foo", "tel:+1", "sip:a@127.0.0.1:9;x=" + "y" * 20_000), 1):
            assert responder.notify(kamailio, first, cseq=cseq, contact=contact).code == 200
        subscribe(kamailio, responder, 0)
        end = responder.wait(2)[1]
        assert end.start.startswith("SUBSCRIBE sip:server@") and end.get("Expires") == "0"


def dialog_after(which, said):
    """What is sent when the first SUBSCRIBE was answered 200 with this line, and the owner then wants another interval
    and the end: Expires, whether it goes out in a dialog, and in the first one."""
    made = Responder(lambda message: (200, [said]))
    try:
        with server(which, params=dict(check_remote_contact=0)) as kamailio:
            subscribe(kamailio, made, 600)
            made.wait(1), time.sleep(0.3)
            made.script = lambda message: 200
            for count, expires in enumerate((700, 0)):
                subscribe(kamailio, made, expires)
                made.wait(count + 2, timeout=2), time.sleep(0.3)
            return [(m.get("Expires"), bool(m.tag("To")), m.get("Call-ID") == made.requests[0].get("Call-ID"))
                    for m in made.requests]
    finally:
        made.close()


def test_an_answer_that_cannot_be_read_leaves_no_second_dialog():
    """The server has made a dialog: it is gone on with and ended (RFC 6665 4.1.2.2), as stock does with an answer that
    it can read."""
    expected = dialog_after("stock", "Expires: 600")
    assert expected == [("610", False, True), ("710", True, True), ("0", True, True)]
    assert dialog_after("stock", "Expires: abc")[1] == ("710", False, False)
    assert dialog_after("stock", "Contact: foo") == expected[:1]
    for said in ("Expires:", "Expires: abc", "Contact:", "Contact: *", "Contact: foo"):
        assert dialog_after("ours", said) == expected, said


def test_refresh_goes_along_the_route_set(responder):
    responder.expires = 8
    routes = ["Record-Route: <sip:127.0.0.1:%d;lr;n=1>" % responder.port,
              "Record-Route: <sip:127.0.0.1:%d;lr;n=2>" % responder.port]
    responder.script = lambda message: (200, routes)
    with server("ours") as kamailio:
        subscribe(kamailio, responder)
        refresh = responder.wait(2, timeout=9)[1]
        text = " ".join(refresh.all("Route"))
        assert text.index("n=2") < text.index("n=1")


@pytest.mark.parametrize("code", [481, 404, 500, None])
def test_refresh_that_fails(responder, code):
    responder.expires = 8
    answers = iter([200, code])
    responder.script = lambda message: next(answers, 200)
    with server("ours", more='modparam("tm", "fr_timer", 700)\n') as kamailio:
        subscribe(kamailio, responder)
        seen = responder.wait(3, timeout=14)
        assert len(seen) >= 3
        assert seen[1].get("Call-ID") == seen[0].get("Call-ID") and seen[1].cseq == seen[0].cseq + 1
        if code in (481, 404):
            assert seen[2].get("Call-ID") != seen[0].get("Call-ID") and "tag=" not in seen[2].get("To")
        else:
            assert seen[2].get("Call-ID") == seen[0].get("Call-ID")


@pytest.mark.parametrize("reason,again",
                         [("deactivated", True), ("timeout", True), ("rejected", False), ("noresource", False)])
def test_terminated_by_the_server(responder, reason, again):
    with server("ours") as kamailio:
        subscribe(kamailio, responder)
        first = responder.wait(1)[0]
        time.sleep(0.2)
        assert responder.notify(kamailio, first, state="terminated;reason=" + reason).code == 200
        time.sleep(0.5)
        assert len(responder.requests) == (2 if again else 1)
        if again:
            assert responder.requests[1].get("Call-ID") != first.get("Call-ID")


@pytest.mark.parametrize("mode", [0, 2])
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_restart(responder, mode, sig):
    """Publications and subscriptions go on after a restart, where they were."""
    responder.expires = 14
    with server("ours", params=dict(db_mode=mode, outbound_proxy=responder.uri)) as kamailio:
        subscribe(kamailio, responder)
        answer = publish(kamailio, responder, body=pidf(), ident="one")
        assert "result" in answer, answer
        time.sleep(7)
        assert len(kamailio.rows("pua")) == 2
        count = len(responder.requests)
        first = responder.requests[0]
        kamailio.stop(sig)
        time.sleep(0.3)
        kamailio.start()
        seen = responder.wait(count + 2, timeout=10)[count:]
        by_method = {m.method: m for m in seen}
        assert set(by_method) == {"SUBSCRIBE", "PUBLISH"}
        assert (by_method["SUBSCRIBE"].get("Call-ID") == first.get("Call-ID")
                and by_method["SUBSCRIBE"].cseq > first.cseq)
        assert etag(by_method["PUBLISH"])
        assert len(kamailio.rows("pua")) == 2


def test_refreshes_are_spread(responder):
    """A restart with many records does not send all refreshes at once."""
    responder.expires = 40
    with server("ours", params=dict(update_period=15)) as kamailio:
        for n in range(60):
            kamailio.rpc("pua.subscribe", "sip:u%d@127.0.0.1:%d" % (n, responder.port), ALICE, "presence", 3600)
        responder.wait(60)
        time.sleep(17)
        kamailio.restart()
        seen = responder.wait(120, timeout=30)[60:]
        times = sorted(m.at for m in seen)
        assert len(times) == 60
        assert times[-1] - times[0] > 4
        assert max(sum(1 for t in times if start <= t < start + 0.5) for start in times) <= 30


def test_nothing_left_in_memory(responder):
    """Publications that came and went leave shared memory as it was."""
    with registrar(responder) as kamailio:
        phones = [Phone(kamailio, "u%d" % n) for n in range(20)]

        def round_trip():
            for phone in phones:
                phone.register(), phone.register(), phone.register(0)
            time.sleep(0.5)

        def used():
            return int([line for line in kamailio.rpc("core.shmmem").split("\n")
                        if "real_used" in line][0].split(":")[1])

        round_trip()
        time.sleep(8)
        before = used()
        for _ in range(5):
            round_trip()
        time.sleep(8)
        assert used() - before < 20000
        for phone in phones:
            phone.close()
