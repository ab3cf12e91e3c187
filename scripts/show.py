"""The show behind `make run`: a watcher subscribes, a publisher publishes, and the terminal tells what goes over the wire."""
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import kamailio_host

ROOT = pathlib.Path(__file__).resolve().parents[1]


def fail(text):
    print("error: %s" % text, file=sys.stderr)
    sys.exit(1)


try:
    SERVER = kamailio_host.Server()
    SERVER.modules
except kamailio_host.Missing as missing:
    fail(missing)

from kit import database  # noqa: E402
from kit.sip import Client, pidf  # noqa: E402

STATES = [("open", None), ("open", "busy"), ("closed", None)]


def port():
    text = os.environ.get("PORT", "").strip() or "5060"
    if not text.isdigit() or not 0 < int(text) < 65536:
        fail("PORT=%s is no port: choose a number from 1 to 65535, as in PORT=5080 make run" % text)
    return int(text)


PORT = port()


def check_port():
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", PORT))
            except OSError:
                fail("port %d on 127.0.0.1 is taken: choose another with PORT=5080 make run" % PORT)


class Server:
    def __init__(self, folder):
        self.address, self.port = "127.0.0.1", PORT
        text = (ROOT / "examples" / "single-node-sqlite.cfg").read_text()
        text = re.sub(r"(?m)^mpath=.*$", 'mpath="%s/:%s/"' % (ROOT / "target" / "modules", SERVER.modules), text)
        text = re.sub(r"sqlite:///[^\s\"']+", "sqlite:///%s" % (folder / "presence.sqlite"), text)
        text = text.replace("127.0.0.1:5060", "127.0.0.1:%d" % PORT)
        text = text.replace("/run/kamailio/", str(folder) + "/")
        self.config = folder / "kamailio.cfg"
        self.config.write_text(text)
        database.create_sqlite(folder / "presence.sqlite")
        self.log = open(folder / "kamailio.log", "wb")
        self.process = subprocess.Popen([str(SERVER.binary), "-DD", "-E", "-f", str(self.config), "-Y", str(folder), "-P", str(folder / "pid")],
                                        stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL, start_new_session=True)

    def wait(self):
        probe = Client(self, "probe", "127.0.0.1")
        for _ in range(100):
            if self.process.poll() is not None:
                fail("Kamailio did not start:\n" + (self.config.parent / "kamailio.log").read_text()[-3000:])
            if probe.reply_to(probe.request("OPTIONS", "sip:127.0.0.1"), timeout=0.2, resend=False):
                return
        fail("Kamailio does not answer on port %d" % PORT)


class Show:
    def __init__(self, server):
        self.start = time.monotonic()
        self.watcher = Client(server, "bob", "example.org")
        self.publisher = Client(server, "alice", "example.org")
        self.learned = []

    def line(self, who, arrow, text):
        print("%7.3f s  %-9s %s  %s" % (time.monotonic() - self.start, who, arrow, text), flush=True)

    def knows(self, notify):
        self.line("Kamailio", "->", "%s   (%s)" % (notify.start, notify.get("Subscription-State")))
        self.line("bob", "<-", "SIP/2.0 200 OK")
        basic = re.search(r"<basic>(\w+)</basic>", notify.text)
        note = re.search(r"<note>([^<]*)</note>", notify.text)
        state = (basic.group(1) if basic else None, note.group(1) if note else None)
        words = "nothing published yet" if not basic else (note.group(1) if note else basic.group(1))
        print("%29sbob now knows of alice: %s" % ("", words), flush=True)
        self.learned.append(state)

    def run(self):
        self.line("bob", "->", "SUBSCRIBE sip:alice@example.org SIP/2.0")
        subscription = self.watcher.subscribe("sip:alice@example.org")
        if subscription.reply is None:
            fail("no answer to SUBSCRIBE")
        self.line("Kamailio", "->", subscription.reply.start)
        seen = 0
        for notify in subscription.wait(1):
            self.knows(notify)
            seen += 1
        etag = None
        for basic, note in STATES:
            self.line("alice", "->", "PUBLISH sip:alice@example.org SIP/2.0   (%s)" % (note or basic))
            reply = self.publisher.publish(body=pidf(basic=basic, note=note), etag=etag)
            if reply is None:
                fail("no answer to PUBLISH")
            self.line("Kamailio", "->", reply.start)
            etag = reply.get("SIP-ETag")
            for notify in subscription.wait(seen + 1)[seen:]:
                self.knows(notify)
                seen += 1
        return self.learned[-len(STATES):] == STATES


def main():
    check_port()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="presence-run-"))
    server = Server(folder)
    code = 1
    try:
        server.wait()
        told = Show(server).run()
        print("\nbob learned every state." if told else "\nerror: bob did not learn every state.", flush=True)
        code = 0 if told else 1
        if told and os.environ.get("ONCE") != "1":
            print("\nServing until Ctrl-C. A phone on this machine may use sip:<user>@example.org with outbound proxy 127.0.0.1:%d." % PORT)
            print("The configuration is %s, the log %s/kamailio.log. More:" % (server.config, folder))
            command = "  %s -s unix:%s/ctl " % (SERVER.kamcmd, folder)
            print(command + "presence.explain sip:bob@example.org sip:alice@example.org presence")
            print(command + "presence.subscriptions")
            print("  sqlite3 %s/presence.sqlite 'select * from active_watchers'" % folder, flush=True)
            code = server.process.wait()
    except KeyboardInterrupt:
        code = 0
    finally:
        if server.process.poll() is None:
            server.process.send_signal(signal.SIGTERM)
            try:
                server.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(server.process.pid, signal.SIGKILL)
        if code != 0:
            print("The log is %s/kamailio.log" % folder, file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(code)


main()
