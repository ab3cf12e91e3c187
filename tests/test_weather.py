"""The example of docs/developers.md, an event package in one C file: built as the document says, and run on both."""
import shutil
import subprocess

import pytest

from kit.kamailio import ROOT, Kamailio, kamailio_host
from kit.sip import Client

SOURCE = ROOT / "examples" / "weather" / "weather_mod.c"


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    host, out = kamailio_host.Host(), tmp_path_factory.mktemp("weather") / "weather.so"
    flags = subprocess.run(["pkg-config", "--cflags", "libxml-2.0"], capture_output=True, text=True).stdout.split()
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-Wno-unused-function",
                    '-DMOD_NAME="weather"', "-DMOD_NAMEID=weather", *host.flags, *flags,
                    "-isystem", str(host.headers.folder), str(SOURCE), "-o", str(out)], check=True)
    return out


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.parametrize("which", ["stock", "ours"])
def test_documents_of_the_package_reach_its_watchers(which, module):
    server = Kamailio(which, presence=dict(subs_db_mode=1, publ_cache=1), modules=(str(module)[:-3],), workers=1)
    with server:
        alice, bob = Client(server, "alice"), Client(server, "bob")
        watch = bob.subscribe(alice.uri, event="weather")
        assert watch.reply.code == 200
        published = dict(event="weather", ctype="text/plain")
        first = alice.publish(body="rain", **published)
        assert first.code == 200 and watch.wait(2)[-1].text == "rain\n"
        assert alice.publish(body="snow", **published).code == 200
        assert sorted(watch.wait(3)[-1].text.split()) == ["rain", "snow"]
        assert alice.publish(expires=0, etag=first.get("SIP-ETag"), **published).code == 200
        bob.quiet(0.2)
        if which == "ours":
            # Stock's watchers are not notified of a document that was removed beside another one.
            assert watch.notifies[-1].text.split() == ["snow"]
        assert server.alive()
        alice.close()
        bob.close()
