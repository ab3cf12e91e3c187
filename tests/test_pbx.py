"""The telephone system of the examples, with phones that people use: a lamp that lights and goes out."""
import http.client
import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest

from kit.example import FOLDER, Example
from kit.kamailio import ROOT
from kit.sip import Client
from kit.softphones import Baresip, BrowserPhone

BOB, CAROL = "sip:bob@example.org", "sip:carol@example.org"


@pytest.fixture
def pbx():
    with Example("pbx") as server:
        yield server


def add_user(server, user, password):
    subprocess.run([str(ROOT / "scripts" / "database.sh"), "user", str(server.folder / "presence.sqlite"), user],
                   input=password + "\n",
                   text=True, check=True)


def until(condition, timeout=10.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def states(documents):
    """The states of a lamp in order, each once."""
    found = [re.findall(r"<state>(\w+)</state>", document)[-1] for document in documents if "<state>" in document]
    return [state for at, state in enumerate(found) if at == 0 or found[at - 1] != state]


def voicemail(server, *words):
    return subprocess.run([str(FOLDER / "pbx" / "voicemail.sh"), *words], capture_output=True, text=True,
                          env=dict(HTTP_PORT=str(server.http_port), PATH="/usr/bin:/bin"))


def test_a_lamp_lights_and_goes_out(pbx, tmp_path):
    """baresip calls baresip; the browser sees the lamp of the one who is called, baresip sees who is there."""
    passwords = pbx.accounts()
    add_user(pbx, "carol", "carols-own")
    with Baresip(tmp_path / "bob", pbx, "bob", passwords["bob"]), \
            Baresip(tmp_path / "alice", pbx, "alice", passwords["alice"], buddies=["bob"]) as alice, \
            BrowserPhone(tmp_path / "carol", pbx, "carol", "carols-own") as carol:
        assert carol.register() == "Registered"
        until(lambda: pbx.rpc("ul.dump").count("Address:") == 3)
        carol.watch(BOB, "dialog")
        # The lamp of an idle phone gets its document at once.
        carol.wait(BOB, "dialog", "terminated", timeout=3)
        carol.watch(BOB, "presence")
        carol.wait(BOB, "presence", "open")
        until(lambda: "Online" in alice.command("contacts"))
        alice.command("dial", BOB)
        carol.wait(BOB, "dialog", "confirmed")
        assert "watcher: sip:carol@example.org" in pbx.rpc("presence.subscriptions", "event=dialog")
        alice.command("hangup")
        carol.wait(BOB, "dialog", "terminated")
        seen = states(carol.seen(BOB, "dialog"))
        assert ([seen[0], *seen[-2:]] == ["terminated", "confirmed", "terminated"]
                and set(seen[1:-2]) <= {"trying", "early"})


class Terminal:
    """`make phone NAME=...` in a terminal of its own. Use it as a context manager."""

    def __init__(self, server, *words):
        self.seen = b""
        self.words, self.environment = words, dict(os.environ, PORT=str(server.port), STATE=str(server.folder))

    def __enter__(self):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            phone = str(FOLDER / "pbx" / "phone.sh")
            os.execve(phone, [phone, *self.words], self.environment)
        return self

    def __exit__(self, *_):
        self.type("q")
        deadline = time.monotonic() + 5
        while os.waitpid(self.pid, os.WNOHANG) == (0, 0):
            self.read()
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
        os.close(self.terminal)

    def read(self):
        if select.select([self.terminal], [], [], 0.1)[0]:
            try:
                self.seen += os.read(self.terminal, 65536)
            except OSError:
                pass
        return self.seen.decode(errors="replace")

    def type(self, text):
        os.write(self.terminal, text.encode())

    def wait(self, text):
        until(lambda: text in self.read())


def test_two_softphones_in_two_terminals(pbx):
    """What README shows: each sees the other's lamp, a call is answered, and a phone that ends puts its lamp out."""
    with Terminal(pbx, "bob") as bob, Terminal(pbx, "alice") as alice:
        alice.wait("registered successfully")
        bob.wait("registered successfully")
        until(lambda: pbx.rpc("presence.explain", "alice", "bob", "presence").count("the newest state") == 1)
        alice.type("/contacts\n")
        alice.wait("Online")
        alice.type("/dial %s\n" % BOB)
        bob.wait("Incoming call")
        until(lambda: "dialog" in pbx.rpc("presence.publications", "presentity=bob"))
        bob.type("a")
        alice.wait("Call established")
        alice.type("b")
        bob.wait("session closed")
        bob.type("q")
        alice.wait("changed status from")
        assert "Offline" in alice.read().rsplit("changed status from", 1)[1].split("\n")[0]


@pytest.mark.parametrize("words,environment,sentence", [
    (["dave"], {}, "dave has no account in"),
    (["bob;x"], {}, "bob;x is no user name"),
    (["alice"], dict(PORT="abc"), "abc is no port"),
    (["alice"], dict(STATE="/nonexistent"), "start the telephone system first"),
    (["alice"], dict(PATH="/nonexistent"), "apt-get install baresip-core"),
])
def test_a_softphone_that_cannot_start_says_why(tmp_path, words, environment, sentence):
    (tmp_path / "accounts").write_text("alice secret\nbob hidden\n")
    paths = dict(PATH=os.environ["PATH"]) if "PATH" not in environment else {}
    if "PATH" in environment:
        # Everything but baresip.
        environment = dict(PATH=str(tmp_path / "bin"))
        (tmp_path / "bin").mkdir()
        for tool in ("sed", "head", "cut", "paste", "dirname", "readlink", "mktemp"):
            (tmp_path / "bin" / tool).symlink_to("/usr/bin/" + tool)
    done = subprocess.run(["/bin/sh", str(FOLDER / "pbx" / "phone.sh"), *words], capture_output=True, text=True,
                          env=dict(dict(STATE=str(tmp_path), **paths), **environment), timeout=20)
    assert done.returncode == 1 and sentence in done.stderr, done
    assert "secret" not in done.stdout + done.stderr and "hidden" not in done.stdout + done.stderr


def test_a_browser_registers_and_watches_over_tls(tmp_path):
    """WebSocket over TLS, with the certificate that the example makes for itself and keeps."""
    with Example("pbx", TLS="1") as pbx:
        passwords, certificate = pbx.accounts(), (pbx.folder / "tls.pem").read_bytes()
        assert (pbx.folder / "tls.key").stat().st_mode & 0o077 == 0
        with BrowserPhone(tmp_path / "alice", pbx, "alice", passwords["alice"], tls=True) as alice:
            assert alice.register() == "Registered"
            assert "transport=ws" in pbx.rpc("ul.dump")
            alice.watch(BOB, "dialog")
            alice.wait(BOB, "dialog", "terminated", timeout=5)
        shown = subprocess.run(["openssl", "s_client", "-connect", "127.0.0.1:%d" % pbx.tls_port, "-CAfile",
                                str(pbx.folder / "tls.pem"),
                                "-verify_ip", "127.0.0.1", "-verify_return_error"], input="", capture_output=True,
                               text=True, timeout=20)
        assert "Verify return code: 0 (ok)" in shown.stdout, shown.stdout + shown.stderr
    again = Example("pbx", folder=tmp_path / "again", TLS="1")
    again.folder.mkdir()
    (again.folder / "tls.pem").write_bytes(certificate)
    (again.folder / "tls.key").write_bytes(b"")
    with pytest.raises(RuntimeError):
        again.start(timeout=5)
    assert (again.folder / "tls.pem").read_bytes() == certificate


def test_who_watches_is_for_the_watched_alone(pbx):
    bob, alice = pbx.phone("bob"), pbx.phone("alice")
    for event in ("presence.winfo", "presence.WINFO", "presence.winfo;id=1", "dialog.winfo", "presence.winfo\t;id=2",
                  "presence.winfo\r\n ;id=3", "presence.winfo \t ;id=4"):
        reply = bob.subscribe("sip:alice@example.org", event=event).reply
        assert (reply.code in (403, 489)
                and (reply.code == 403 or "WINFO" in event or "dialog" in event)), (event, reply.code)
    assert bob.subscribe("sip:alice@example.org", event="presence").reply.code == 200
    own = alice.subscribe("sip:alice@example.org", event="presence.winfo")
    assert own.reply.code == 200 and "sip:bob@example.org" in own.wait(1)[0].text
    bob.close(), alice.close()


def test_voicemail_lights(pbx, tmp_path):
    """By the command, by PUBLISH of the user, and not by PUBLISH for somebody else."""
    with BrowserPhone(tmp_path / "alice", pbx, "alice", pbx.accounts()["alice"]) as alice:
        assert alice.register() == "Registered"
        own = "sip:alice@example.org"
        alice.watch(own, "message-summary")
        until(lambda: "alice" in pbx.rpc("presence.subscriptions", "event=message-summary"))
        assert voicemail(pbx, "alice", "2", "1").returncode == 0
        alice.wait(own, "message-summary", "Voice-Message: 2/1")
        assert voicemail(pbx, "alice", "0").returncode == 0
        alice.wait(own, "message-summary", "Messages-Waiting: no")
        desk, bob = pbx.phone("alice"), pbx.phone("bob")
        document = dict(event="message-summary", ctype="application/simple-message-summary",
                        body="Messages-Waiting: yes\r\nVoice-Message: 7/0\r\n")
        assert bob.publish(to=own, **document).code == 403
        assert desk.publish(**document).code == 200
        alice.wait(own, "message-summary", "Voice-Message: 7/0")
        for wrong in (["alice"], ["alice", "x"], ['a"b', "1"]):
            assert voicemail(pbx, *wrong).returncode == 2
        desk.close(), bob.close()


def test_strangers_do_not_register_or_call(pbx, tmp_path):
    with BrowserPhone(tmp_path / "eve", pbx, "alice", "wrong") as eve:
        assert eve.register() == "refused 401"
    nobody = Client(pbx, "alice")
    assert nobody.reply_to(nobody.request("REGISTER", "sip:alice@example.org")).code == 401
    assert nobody.reply_to(nobody.request("INVITE", BOB)).code == 407
    bob = pbx.phone("bob")
    assert bob.reply_to(bob.request("REGISTER", "sip:alice@example.org", ruri="sip:example.org")).code == 403
    assert bob.reply_to(bob.request("MESSAGE", "sip:someone@elsewhere.example.com")).code == 403
    assert bob.reply_to(bob.request("REGISTER", "sip:bob@example.org", ["Expires: 60"],
                                    ruri="sip:example.org")).code == 200
    nobody.close(), bob.close()


def test_a_page_of_another_site_opens_no_websocket(pbx):
    for path, origin, wanted in (("/", "http://evil.example.com", 403), ("/RPC", "http://127.0.0.1", 404),
                                 ("/other", None, 404)):
        connection = http.client.HTTPConnection("127.0.0.1", pbx.http_port, timeout=5)
        headers = {"Origin": origin} if origin else {}
        if path == "/":
            headers.update(Upgrade="websocket", Connection="Upgrade")
        connection.request("GET", path, headers=headers)
        assert connection.getresponse().status == wanted
        connection.close()


def test_commands_come_over_loopback_wherever_phones_reach_it():
    """ADDRESS is for phones; voicemail.sh on the machine itself works all the same. ORIGINS names the pages."""
    page = "https://pbx.example.org"
    with Example("pbx", address="127.0.0.7", ORIGINS="^%s$" % page.replace(".", r"\.")) as pbx:
        assert voicemail(pbx, "alice", "1").returncode == 0
        for origin, wanted in ((page, 101), ("https://elsewhere.example.org", 403), ("http://127.0.0.1", 403)):
            connection = http.client.HTTPConnection("127.0.0.7", pbx.http_port, timeout=5)
            connection.request("GET", "/", headers={
                "Origin": origin, "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "sip"})
            assert connection.getresponse().status == wanted, origin
            connection.close()


@pytest.mark.parametrize("method", ["NOTIFY", "INVITE", "MESSAGE", "REFER", "BYE", "INFO", "OPTIONS"])
def test_what_belongs_to_no_call_goes_nowhere(pbx, method):
    """A To tag and a Route make no dialog: nobody was asked for a password, and nothing reaches the address named."""
    stranger, victim = Client(pbx, "bob", "example.org"), Client(pbx, "victim", "example.org")
    reply = stranger.reply_to(stranger.request(
        method, BOB, ["Route: <sip:127.0.0.1:%d;lr>" % pbx.port], ruri="sip:victim@127.0.0.1:%d" % victim.port,
        to_tag="made-up"))
    assert reply.code == 481
    assert victim.receive(0.3) is None
    stranger.close(), victim.close()
