"""A panic and an exhausted shared memory inside a handler: 500, a log line, a server that goes on and has lost nothing."""
import os
import pathlib
import subprocess

import pytest

from conftest import MODES
from kit import kamailio
from kit.sip import pidf


@pytest.fixture(scope="module")
def faulty_modules():
    """Our modules built with the entries that fail on purpose."""
    folder = kamailio.ROOT / "target" / "modules-fault"
    done = subprocess.run(["sh", str(kamailio.ROOT / "scripts" / "build.sh")], capture_output=True, text=True,
                          env=dict(os.environ, FEATURES="fault-injection", MODULES_OUT=str(folder)))
    assert done.returncode == 0, done.stderr
    before, kamailio.OURS = kamailio.OURS, pathlib.Path(folder)
    yield
    kamailio.OURS = before
    subprocess.run(["sh", str(kamailio.ROOT / "scripts" / "build.sh")], check=True, capture_output=True)


@pytest.mark.suite("T13")
@pytest.mark.parametrize("fault,words", [("panic", "panic in kr_presence_handle"), ("memory", "no more shared memory")])
@pytest.mark.parametrize("mode", ["memory", "write-through"])
def test_faults(faulty_modules, ours, phones, fault, words, mode):
    server = ours(workers=1, **MODES[mode])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    etag = alice.publish(body=pidf()).get("SIP-ETag")
    watch = bob.subscribe(alice.uri)
    watch.wait(1)
    header = ["X-Fault: " + fault]
    for _ in range(3):
        assert alice.publish(body=pidf(basic="closed"), etag=etag, extra=header).code == 500
        assert bob.subscribe("sip:other@example.org", extra=header).reply.code == 500
        assert alice.publish("sip:new@example.org", body=pidf(), extra=header).code == 500
    assert words in server.log()
    assert server.alive()
    watch.refresh()
    assert "open" in watch.wait(2)[-1].text, "the refused change must not be seen"
    assert alice.publish(body=pidf(basic="closed"), etag=etag).code == 200, "the entity tag must still be good"
    assert "closed" in watch.wait(3)[-1].text
    if mode == "write-through":
        assert len(server.rows("presentity")) == 1 and len(server.rows("active_watchers")) == 1
