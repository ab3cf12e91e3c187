"""Bad input: a defined answer, one log line, a server that serves as before."""
import random

import pytest

from conftest import MODES, SOAK
from kit.sip import pidf


@pytest.mark.suite("hostile-input")
def test_odd_requests(ours, phones):
    server = ours(**MODES["write-through"])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    assert bob.subscribe("sip:example.org").reply.code == 200
    assert alice.publish("sip:example.org", body=pidf()).code == 200
    big = pidf(extra="<note>%s</note>" % ("x" * 60000))
    reply = alice.publish(body=big)
    assert reply is None or reply.code in (200, 413, 400)
    assert alice.publish(body=pidf(), expires=2 ** 31 + 5).get("Expires") == "3600"
    assert alice.publish(body="<!DOCTYPE a [<!ENTITY x 'y'>]><presence>&x;</presence>").code == 415
    assert alice.publish(body="<a>" * 4000 + "</a>" * 4000).code == 415
    assert alice.publish(body=pidf(tuple_id="t" * 5000)).code == 200
    assert bob.subscribe("sip:%s@example.org" % ("a" * 2000)).reply.code == 414
    for header in ("Expires: -1", "Expires: 1e9", "Event: presence;;;=", "Event: <x>", "Event:"):
        name = header.split(":")[0].lower()
        request = bob.request("SUBSCRIBE", alice.uri, [header] + (["Event: presence"] if name != "event" else []))
        assert bob.reply_to(request).code in (200, 400, 489)
    assert alice.publish(body=pidf()).code == 200 and server.alive()


def tortured(method):
    """The messages of RFC 4475 that can be asked of a presence server, turned into `method`: name, changes to a plain
    request."""
    line = method + " %s SIP/2.0"
    return [
        ("3.1.1.1 folded", {"To": "sip:alice@example.org\r\n ;   x = \"y\\\"z\"", "Event": "\r\n   presence\r\n  ",
                            "NewFangledHeader": "newfangled value\r\n continued newfangled value",
                            "UnknownHeaderWithUnusualValue": ";;,,;;,;"}),
        ("3.1.1.2 wide characters",
         {"To": "\"BEL:\\\x07 NUL:\\\x01 DEL:\\\x7f\" "
                "<sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;"
                "*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.org>",
          "extensionHeader-!.%*+_`'~": "\ufeff\u5927\u505c\u96fb"}),
        ("3.1.1.3 escapes in the URI",
         {"line": line % "sip:sips%3Auser%40example.com@example.net", "To": "<sip:%75se%72@example.com>"}),
        ("3.1.1.4 escaped NULs",
         {"line": line % "sip:null-%00-null@example.com", "To": "<sip:null-%00-null@example.com>"}),
        ("3.1.1.5 no escape",
         {"line": line % "sip:re%67ister@example.com", "To": "\"%Z%45\" <sip:resource@example.com>"}),
        ("3.1.1.6 no space before <", {"To": "Bell,Alexander<sip:alice@example.org>"}),
        ("3.1.1.7 long values",
         {"To": "\"%s\" <sip:amazinglylongcallee%s@example.org>"
          % ("I have a user name of extreme proportion " * 4, "n" * 200), "Call-ID": "longreq.one%s"
          % ("really" * 20) + "longcallid", "User-Agent": "a" * 900,
          "Unknown-%s-Name" % ("Long" * 20): "unknown-%s-value" % ("long" * 20)}),
        ("3.1.1.9 semicolons in the user", {"line": line % "sip:user;par=u%40example.net@example.com"}),
        ("3.1.1.10 transports", {"Via": "SIP/2.0/UNKNOWN t4.example.com;branch=z9hG4bKunknown"}),
        ("3.1.1.11 multipart", {"Content-Type": "multipart/mixed;boundary=7a9cbec02ceef655",
                                "body": "--7a9cbec02ceef655\r\nContent-Type: "
                                        "text/plain\r\n\r\nHello\r\n--7a9cbec02ceef655--\r\n"}),
        ("3.1.2.1 separators without values",
         {"Via": "SIP/2.0/UDP 127.0.0.1:@PORT@;branch=z9hG4bK@BRANCH@;;,;,,",
          "Contact": "\"Joe\" <sip:joe@example.org>;;;;"}),
        ("3.1.2.3 negative length", {"Content-Length": "-999"}),
        ("3.1.2.4 scalars too large",
         {"CSeq": "36893488147419103232 %s" % method, "Max-Forwards": "300",
          "Expires": "10000000000000000000000000000000000000000000"}),
        ("3.1.2.6 unterminated quote", {"To": "\"Mr. J. User <sip:alice@example.org>"}),
        ("3.1.2.7 brackets around the URI", {"line": line % "<sip:alice@example.org>"}),
        ("3.1.2.8 space in the URI", {"line": line % "sip:alice@example.org; lr"}),
        ("3.1.2.9 spaces in the first line", {"line": "%s  sip:alice@example.org  SIP/2.0" % method}),
        ("3.1.2.10 spaces behind the first line", {"line": "%s sip:alice@example.org SIP/2.0  " % method}),
        ("3.1.2.11 headers in the URI", {"line": line % "sip:alice@example.org?Route=%3Csip:example.com%3E"}),
        ("3.1.2.12 bad date", {"Date": "Fri, 01 Jan 2010 16:00:00 EST"}),
        ("3.1.2.13 no brackets", {"Contact": "sip:user@127.0.0.1;unknownparam"}),
        ("3.1.2.14 spaces in an address", {"To": "\"Watson, Thomas\" < sip:alice@example.org >"}),
        ("3.1.2.15 a display name of no tokens", {"To": "Bell, Alexander <sip:alice@example.org>"}),
        ("3.1.2.16 another version", {"line": "%s sip:alice@example.org SIP/7.0" % method}),
        ("3.1.2.17 another method in CSeq", {"CSeq": "8 OPTIONS"}),
        ("3.2.1 no branch", {"Via": "SIP/2.0/UDP 127.0.0.1:@PORT@;branch=z9hG4bK"}),
        ("3.3.1 nothing required", {"From": None, "To": None, "Call-ID": None}),
        ("3.3.2 unknown scheme", {"line": line % "nobodyKnowsThisScheme:totallyopaquecontent"}),
        ("3.3.3 unknown atypical scheme", {"line": line % "soap.beep://192.0.2.103:3002"}),
        ("3.3.4 unknown Require", {"Require": "nothingSupportsThis, nothingSupportsThisEither"}),
        ("3.3.5 unknown type", {"Content-Type": "application/unknownformat", "body": "<audio>"}),
        ("3.3.7 headers twice",
         {"Call-ID": "one\r\nCall-ID: two", "CSeq": "5 %s\r\nCSeq: 59 %s" % (method, method),
          "Max-Forwards": "70\r\nMax-Forwards: 5"}),
        ("3.3.8 two Expires", {"Expires": "0\r\nExpires: 3600"}),
        ("3.3.9 two lengths", {"Content-Length": "8\r\nContent-Length: 0"}),
        ("3.3.11 no hops left", {"Max-Forwards": "0"}),
        ("3.3.15 nothing acceptable", {"Accept": "text/nobodyKnowsThis"}),
        ("3.4.1 as of RFC 2543",
         {"Via": "SIP/2.0/UDP 127.0.0.1:@PORT@", "From": "<sip:caller@example.net>", "Max-Forwards": None}),
    ]


def torture(phone, method, changes, number):
    """A plain request of `method` with some of its headers changed; None leaves one out."""
    body = changes.get("body", pidf() if method == "PUBLISH" else "")
    headers = {
        "Via": "SIP/2.0/UDP 127.0.0.1:@PORT@;branch=z9hG4bK@BRANCH@",
        "From": "<sip:%s@example.org>;tag=t%d" % (phone.user, number),
        "To": "<sip:alice@example.org>", "Call-ID": "torture-%s-%d" % (method, number), "CSeq": "1 %s" % method,
        "Max-Forwards": "70",
        "Contact": "<sip:%s@127.0.0.1:%d>" % (phone.user, phone.port), "Event": "presence", "Expires": "600",
    }
    if method == "PUBLISH":
        headers["Content-Type"] = "application/pidf+xml"
    headers["Content-Length"] = str(len(body.encode()))
    first = changes.get("line", "%s sip:alice@example.org SIP/2.0" % method)
    headers.update({name: value for name, value in changes.items() if name not in ("line", "body")})
    text = "\r\n".join([first] + ["%s: %s" % (name, value) for name, value in headers.items() if value is not None])
    text = text.replace("@PORT@", str(phone.port)).replace("@BRANCH@", "torture%s%d" % (method, number))
    return (text + "\r\n\r\n" + body).encode()


@pytest.mark.suite("hostile-input")
@pytest.mark.parametrize("method", ["PUBLISH", "SUBSCRIBE"])
def test_torture(both, method):
    """The messages of RFC 4475: answered as stock answers them, and the server serves as before."""

    def scenario(server, phone, trace):
        for number, (name, changes) in enumerate(tortured(method)):
            asker = phone("t%d" % number)
            asker.send_raw(torture(asker, method, changes, number))
            asker.quiet(0.15)
            codes = [reply.code for reply in asker.replies if reply.code >= 200]
            trace.note(name, " ".join(str(code) for code in sorted(set(codes))))
            states = {n.get("Subscription-State", "").split(";")[0] for n in asker.notifies}
            trace.note(name + ", notified", " ".join(sorted(states)))
        bob = phone("bob")
        watch = bob.subscribe("sip:fresh@example.org")
        assert watch.reply.code == 200 and watch.wait(1)

    is_400 = ("a bad request is no fault of the server", lambda codes: codes == "400")
    both(scenario, workers=1, **MODES["memory"], different={} if method == "PUBLISH" else {
        "3.1.2.4 scalars too large": is_400, "3.4.1 as of RFC 2543": is_400})


@pytest.mark.suite("hostile-input")
def test_mutated_requests(ours, phones, figure):
    server = ours(workers=2, **MODES["memory"])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    generator = random.Random(11)
    templates = [
        bob.request("SUBSCRIBE", alice.uri,
                    ["Event: presence;id=1", "Expires: 10", "Record-Route: <sip:127.0.0.1:9;lr>"]),
        alice.request("PUBLISH", alice.uri, ["Event: presence", "Expires: 10", "Content-Type: application/pidf+xml"],
                      pidf()),
        alice.request("PUBLISH", alice.uri, ["Event: dialog", "SIP-If-Match: a.1.2.3", "Expires: 0"]),
    ]
    total = 100_000 if SOAK else 3000
    for _ in range(total):
        data = bytearray(generator.choice(templates))
        for _ in range(generator.randrange(1, 6)):
            at = generator.randrange(len(data))
            kind = generator.randrange(4)
            if kind == 0:
                data[at] = generator.randrange(256)
            elif kind == 1:
                del data[at:at + generator.randrange(1, 30)]
            elif kind == 2:
                data[at:at] = bytes(generator.randrange(256) for _ in range(generator.randrange(1, 20)))
            else:
                data[at:at] = data[at:at + generator.randrange(1, 60)]
            if len(data) < 20:
                break
        bob.send_raw(bytes(data))
        if generator.randrange(20) == 0:
            bob.quiet(0.005)
    bob.quiet(1.0)
    assert server.alive()
    watch = bob.subscribe("sip:fresh@example.org")
    assert watch.reply.code == 200 and watch.wait(1)
    figure("%d mutated requests, %d of them answered; the server serves as before" % (total, len(bob.replies)))
