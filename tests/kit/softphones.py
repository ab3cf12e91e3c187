"""Phones that people use: baresip, and a browser with sip.js over WebSocket."""
import http.server
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import threading
import time

from .browser import Browser
from .kamailio import ROOT, free_port

BARESIP = shutil.which("baresip")
SIPJS = ROOT / "target" / "tools" / "npm" / "node_modules" / "sip.js"
HERE = pathlib.Path(__file__).resolve().parent

# mwi.so of baresip 1.0.0 subscribes again without end when a NOTIFY comes late: it is not loaded.
CONFIG = """poll_method epoll
sip_listen 127.0.0.1:%(sip)d
net_interface 127.0.0.1
call_local_timeout 120
audio_player aubridge,one
audio_source aubridge,one
audio_alert aubridge,two
rtp_ports %(rtp)d-%(rtp_end)d
module_path /usr/lib/baresip/modules
module g711.so
module aubridge.so
module_tmp account.so
module_app contact.so
module_app presence.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:%(control)d
"""


class Baresip:
    """One baresip with one account, driven through its control socket. Use it as a context manager."""

    def __init__(self, folder, server, user, password, buddies=()):
        assert BARESIP, "no baresip: make setup-tests"
        self.folder = pathlib.Path(folder)
        self.folder.mkdir()
        # TLS takes the port after the one for SIP, RTP the even ones from its own.
        self.sip = free_port()
        self.control = free_port(after=self.sip + 10)
        rtp = free_port(after=self.control + 10) & ~1
        (self.folder / "config").write_text(CONFIG
                                            % dict(sip=self.sip, control=self.control, rtp=rtp, rtp_end=rtp + 20))
        (self.folder / "accounts").write_text(
            '<sip:%s@example.org;transport=udp>;auth_pass=%s;outbound="sip:127.0.0.1:%d";regint=600;answermode=auto\n'
            % (user, password, server.port))
        (self.folder / "contacts").write_text(
            "".join('"%s" <sip:%s@example.org>;presence=p2p\n' % (buddy, buddy) for buddy in buddies))
        self.log_path = self.folder / "log"

    def __enter__(self):
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([BARESIP, "-f", str(self.folder)], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log,
                                            start_new_session=True, env=dict(os.environ, HOME=str(self.folder)))
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(5)

    def log(self):
        return self.log_path.read_text(errors="replace")

    def command(self, command, params="", timeout=5.0):
        """The answer of a command."""
        text = json.dumps(dict(command=command, params=params, token="t"))
        deadline = time.monotonic() + timeout
        while True:
            try:
                connection = socket.create_connection(("127.0.0.1", self.control), timeout=timeout)
                break
            except OSError:
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.1)
        with connection:
            connection.sendall(("%d:%s," % (len(text), text)).encode())
            data = b""
            while time.monotonic() < deadline:
                data += connection.recv(65536)
                while b":" in data:
                    length, rest = data.split(b":", 1)
                    if len(rest) <= int(length):
                        break
                    message, data = json.loads(rest[:int(length)]), rest[int(length) + 1:]
                    if message.get("response"):
                        return message.get("data", "")
        raise TimeoutError(command)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def translate_path(self, path):
        return str(SIPJS.parent / path.lstrip("/")) if path.startswith("/sip.js/") else str(HERE / "phone.html")

    def log_message(self, *_):
        pass


class BrowserPhone:
    """A page with sip.js in Chromium. Use it as a context manager."""

    def __init__(self, folder, server, user, password, tls=False):
        assert (SIPJS / "package.json").exists(), "no sip.js: make setup-tests"
        self.folder, self.server, self.user, self.password, self.tls = folder, server, user, password, tls

    def __enter__(self):
        self.web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
        threading.Thread(target=self.web.serve_forever, daemon=True).start()
        # The certificate of the example is its own: a person would accept it in the browser.
        self.page = Browser(self.folder, "http://127.0.0.1:%d/" % self.web.server_address[1],
                            options=["--ignore-certificate-errors"] if self.tls else [])
        self.page.wait("window.ready")
        return self

    def __exit__(self, *_):
        self.page.__exit__()
        self.web.shutdown()

    def address(self):
        return "wss://127.0.0.1:%d" % self.server.tls_port if self.tls else "ws://127.0.0.1:%d" % self.server.http_port

    def register(self):
        self.page.evaluate("register(%s).then(() => true)" % ", ".join(json.dumps(word) for word in (
            self.user, self.password, "example.org", self.address())))
        return self.page.wait("window.state")

    def watch(self, uri, event):
        self.page.evaluate("watch(%s, %s).then(() => true)" % (json.dumps(uri), json.dumps(event)))

    def seen(self, uri, event):
        """The documents of a lamp so far."""
        return self.page.evaluate("window.seen[%s]" % json.dumps("%s %s" % (event, uri)))

    def wait(self, uri, event, text, timeout=10):
        """Waits until the newest document holds a text, or one of several."""
        texts = [text] if isinstance(text, str) else list(text)
        name = json.dumps("%s %s" % (event, uri))
        try:
            self.page.wait("(window.seen[%s] || []).length && %s.some(t => (window.seen[%s].at(-1) || '').includes(t))"
                           % (name, json.dumps(texts), name), timeout)
        except AssertionError:
            raise AssertionError("no %s in %s" % (texts, self.seen(uri, event)))

