"""The show behind `make run`: a watcher subscribes, a publisher publishes, and the terminal shows what goes over the
wire. `show.py PORT` shows the same on a server that is running on loopback already."""
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import kamailio_host
from kit.sip import Client, pidf

ROOT = pathlib.Path(__file__).resolve().parents[1]


def fail(text):
    print("error: %s" % text, file=sys.stderr)
    sys.exit(1)


PORT = 0
FOLDER = ROOT / "target" / "run"
EXAMPLE = "single-node-sqlite"
STATES = [("open", None), ("open", "busy"), ("closed", None)]


def port_number(given):
    """A port as the user gives it."""
    if not given.isdecimal() or not 0 < int(given) < 65536:
        fail("PORT=%s is no port: choose a number from 1 to 65535, as in PORT=5080 make run" % given)
    return int(given)


def read_port():
    """The port, and the folder that goes with it."""
    global PORT, FOLDER
    PORT = port_number(os.environ.get("PORT", "").strip() or "5060")
    if PORT != 5060:
        FOLDER = FOLDER.with_name("run-%d" % PORT)


def check_port():
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", PORT))
            except OSError:
                fail("port %d on 127.0.0.1 is taken: choose another with PORT=5080 make run" % PORT)


class Running:
    """A server on loopback that somebody else has started."""
    address = "127.0.0.1"

    def __init__(self, port):
        self.port = port

    def ended(self):
        """Why there will be no answer, if that is certain."""

    def wait(self):
        probe = Client(self, "probe", "127.0.0.1")
        for _ in range(100):
            reason = self.ended()
            if reason:
                fail(reason)
            if probe.reply_to(probe.request("OPTIONS", "sip:127.0.0.1"), timeout=0.2, resend=False):
                return
        fail("Kamailio does not answer on port %d" % self.port)


class Server(Running):
    """A server of its own, with the example configuration."""

    def __init__(self, folder):
        super().__init__(PORT)
        self.log_path = folder / "kamailio.log"
        surroundings = {name: value for name, value in os.environ.items()
                        if name not in ("ADDRESS", "DB_URL", "DOMAIN", "TRUSTED")}
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([str(ROOT / "scripts" / "example.sh"), EXAMPLE], stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, start_new_session=True,
                                            env=dict(surroundings, PORT=str(PORT), STATE=str(folder)))

    def ended(self):
        if self.process.poll() is not None:
            return "Kamailio did not start:\n" + self.log_path.read_text()[-3000:]
        return None


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


def more(folder, kamcmd):
    """What README's "Five minutes" shows, too."""
    ask = "%s -s unix:%s/ctl " % ("kamcmd" if shutil.which("kamcmd") else kamcmd, folder)
    pair = "sip:bob@example.org sip:alice@example.org presence"
    return [ask + "presence.version", ask + "presence.subscriptions", ask + "presence.explain " + pair,
            ask + "presence.subscription_end " + pair, ask + "presence.explain " + pair,
            ask + "stats.get_statistics presence:",
            "sqlite3 %s/presence.sqlite 'select * from presentity'" % folder]


def stop(*_):
    raise KeyboardInterrupt


def installed():
    """The server of this machine, whose modules are there."""
    try:
        found = kamailio_host.Server()
        return found.modules and found
    except kamailio_host.Missing as missing:
        fail(missing)


def conclude(has_all):
    print("\nbob learned every state." if has_all else "\nerror: bob did not learn every state.", flush=True)
    return 0 if has_all else 1


def main():
    if len(sys.argv) > 1:
        running = Running(port_number(sys.argv[1]))
        running.wait()
        sys.exit(conclude(Show(running).run()))
    # Whichever way it is ended, also where a shell has started it with Ctrl-C ignored, its server ends with it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    kamailio = installed()
    read_port()
    check_port()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    folder = FOLDER.relative_to(ROOT)
    server = Server(FOLDER)
    code = 1
    try:
        server.wait()
        code = conclude(Show(server).run())
        if code == 0 and os.environ.get("ONCE") != "1":
            print("\nServing at 127.0.0.1:%d until Ctrl-C. The configuration is examples/%s.cfg, the log "
                  "%s/kamailio.log."
                  "\nIn another terminal, in this folder:" % (PORT, EXAMPLE, folder))
            for command in more(folder, kamailio.kamcmd):
                print("  " + command)
            print("A telephone system with accounts, lamps and voicemail lights: make example NAME=pbx", flush=True)
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
            shutil.rmtree(FOLDER, ignore_errors=True)
    sys.exit(code)


main()
