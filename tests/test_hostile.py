"""Bad input: a defined answer, one log line, a server that serves as before."""
import random

import pytest

from conftest import MODES
from kit.sip import pidf


@pytest.mark.suite("T14")
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
    assert bob.subscribe("sip:%s@example.org" % ("a" * 2000)).reply.code in (200, 400, 500)
    for header in ("Expires: -1", "Expires: 1e9", "Event: presence;;;=", "Event: <x>", "Event:"):
        name = header.split(":")[0].lower()
        request = bob.request("SUBSCRIBE", alice.uri, [header] + (["Event: presence"] if name != "event" else []))
        assert bob.reply_to(request).code in (200, 400, 489)
    assert alice.publish(body=pidf()).code == 200 and server.alive()


@pytest.mark.suite("T14")
def test_mutated_requests(ours, phones):
    server = ours(workers=2, **MODES["memory"])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    generator = random.Random(11)
    templates = [
        bob.request("SUBSCRIBE", alice.uri, ["Event: presence;id=1", "Expires: 10", "Record-Route: <sip:127.0.0.1:9;lr>"]),
        alice.request("PUBLISH", alice.uri, ["Event: presence", "Expires: 10", "Content-Type: application/pidf+xml"], pidf()),
        alice.request("PUBLISH", alice.uri, ["Event: dialog", "SIP-If-Match: a.1.2.3", "Expires: 0"]),
    ]
    for _ in range(3000):
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
