"""Starts the real Kamailio on loopback with stock or our modules, in a temporary folder, and stops it by its process
id."""
import contextlib
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
OURS = pathlib.Path(os.environ.get("PRESENCE_MODULES", ROOT / "target" / "modules"))


sys.path.insert(0, str(ROOT / "scripts"))
import kamailio_host  # noqa: E402

# The server that the modules were built for: KAMAILIO_BIN, else the one in PATH. KAMAILIO is what is started in its
# place (a wrapper).
SERVER = kamailio_host.Server()
STOCK = str(SERVER.modules)
KAMAILIO = os.environ.get("KAMAILIO", str(SERVER.binary))
KAMCMD = os.environ.get("KAMCMD", str(SERVER.kamcmd))


class Host:
    """A server that can be started, with the modules of ours that were built for it."""

    def __init__(self, server, ours, program=None, kamcmd=None):
        self.server, self.ours = server, pathlib.Path(ours)
        self.stock = str(server.modules)
        self.program, self.kamcmd = program or str(server.binary), kamcmd or str(server.kamcmd)

    @property
    def mpath(self):
        return {"stock": "%s/" % self.stock, "ours": "%s/:%s/" % (self.ours, self.stock)}


HERE = Host(SERVER, OURS, KAMAILIO, KAMCMD)

# Who looks after NOTIFYs under way where a scenario does not say it: what the modules choose, or auto, tm, direct.
NOTIFY_ENGINE = os.environ.get("NOTIFY_ENGINE", "")

# How much slower than usual the server is: under valgrind.
SLOW = int(os.environ.get("SLOW", "1"))

ROUTE = """
request_route {
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    if (!is_method("PUBLISH|SUBSCRIBE")) { sl_send_reply("404", "Not here"); exit; }
    if (!t_newtran()) { sl_reply_error(); exit; }
    if (is_method("PUBLISH")) { %(publish)s; } else { %(subscribe)s; }
    t_release();
    exit;
}
"""


# Below the ports that the system hands out by itself; each process that runs tests has its own.
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 4
_ports = itertools.cycle(range(12_000 + _worker * 5_000, 17_000 + _worker * 5_000))
for _ in range(random.randrange(5_000)):
    next(_ports)


def free_port(after=0):
    """A port nobody uses, for UDP and TCP; the first one above `after` where that is given and the range goes on."""
    for port in _ports:
        if 0 < after - port < 100:
            continue
        try:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                with socket.socket(socket.AF_INET, kind) as probe:
                    probe.bind(("127.0.0.1", port))
            return port
        except OSError:
            pass


def parameter(module, name, value):
    text = '"%s"' % value if isinstance(value, str) else str(value)
    return 'modparam("%s", "%s", %s)\n' % (module, name, text)


class Kamailio:
    """One running server. Use it as a context manager."""

    def __init__(self, which="ours", presence=(), modules=("presence_xml", "presence_mwi", "presence_dialoginfo"),
                 extra_params="", workers=2, db="sqlite", route=None, publish="handle_publish()",
                 subscribe="handle_subscribe()", more_route="", shm=64, pkg=8, debug=2, folder=None, force_active=True,
                 before="", listen=None, options=(), http=False, tcp=False, environment=None,
                 address="127.0.0.1", wrap=(), host=HERE):
        self.which, self.host = which, host
        self.presence = dict(presence)
        self.modules = list(modules)
        self.extra_params = extra_params
        self.workers = workers
        self.db = db
        self.route = route or ROUTE % dict(publish=publish, subscribe=subscribe)
        self.more_route = more_route
        self.shm, self.pkg, self.debug = shm, pkg, debug
        self.force_active = force_active
        self.before = before
        self.options = list(options)
        self.address, self.port = address, free_port()
        # Where those are who speak to it.
        self.near = "127.0.0.1"
        self.listen = list(listen or ["udp:%s:%d" % (address, self.port)])
        self.http = http
        if http or tcp:
            self.listen.append("tcp:127.0.0.1:%d" % self.port)
        self.environment = environment
        self.wrap = list(wrap)
        self.own_folder = folder is None
        self.folder = pathlib.Path(folder or tempfile.mkdtemp(prefix="presence-test-"))
        self.process = None
        self.log_path = self.folder / "kamailio.log"

    # -- set-up --------------------------------------------------------------------------------------------------

    @property
    def db_path(self):
        return self.folder / "kamailio.db"

    @property
    def db_url(self):
        if self.db == "sqlite":
            return "sqlite:///%s" % self.db_path
        if self.db == "text":
            return "text://%s" % (self.folder / "dbtext")
        return self.db

    def make_database(self):
        from . import database
        if self.db == "sqlite" and not self.db_path.exists():
            database.create_sqlite(self.db_path, share=self.host.server.share)
        if self.db == "text" and not (self.folder / "dbtext").exists():
            database.create_text(self.folder / "dbtext")

    def config(self):
        mpath = self.host.mpath["stock" if self.which == "stock" else "ours"]
        lines = ["#!KAMAILIO", "debug=%d" % self.debug, "log_stderror=yes", "fork=yes", "children=%d" % self.workers,
                 "auto_aliases=no", "dns=no", "rev_dns=no", 'mpath="%s"' % mpath]
        lines += ["listen=%s" % address for address in self.listen]
        if self.listen and not any(a.startswith("tcp") for a in self.listen):
            lines.append("disable_tcp=yes")
        base = ["tm", "sl", "rr", "pv", "maxfwd", "textops", "siputils", "xlog", "kex", "ctl", "corex", "sanity"]
        if self.db == "text":
            base.insert(0, "db_text")
        elif self.db:
            base.insert(0, {"sqlite": "db_sqlite", "mysql": "db_mysql",
                            "postgres": "db_postgres", "redis": "db_redis"}[self.db.split(":")[0]])
        loaded = list(base)
        if self.http:
            loaded += ["xhttp", "jsonrpcs"]
        for module in ([] if "presence" in self.modules else ["presence"]) + self.modules:
            if module not in loaded:
                loaded.append(module)
        body = ['loadmodule "%s.so"' % module for module in loaded]
        text = "\n".join(lines + body) + "\n"
        text += 'modparam("ctl", "binrpc", "unix:%s")\n' % (self.folder / "ctl")
        settings = dict(self.presence)
        if self.db and "db_url" not in settings:
            settings["db_url"] = self.db_url
        if self.which == "ours" and NOTIFY_ENGINE:
            settings.setdefault("notify_engine", NOTIFY_ENGINE)
        if settings.get("db_url") == "":
            del settings["db_url"]
        for name, value in settings.items():
            values = value if isinstance(value, list) else [value]
            for one in values:
                text += parameter("presence", name, one)
        if "presence_xml" in self.modules:
            if self.db:
                text += parameter("presence_xml", "db_url", self.db_url)
            if self.force_active:
                text += parameter("presence_xml", "force_active", 1)
        text += (self.extra_params.replace("@DB@", self.db_url if self.db else "").replace("@PORT@", str(self.port))
                 + "\n")
        if self.http:
            text += 'modparam("jsonrpcs", "transport", 1)\nevent_route[xhttp:request] { jsonrpc_dispatch(); }\n'
        return text + self.before + self.route + self.more_route

    def start(self, timeout=15.0 * SLOW, expect_failure=False):
        if self.which != "stock" and not (self.host.ours / "presence.so").exists():
            raise RuntimeError("there is no presence.so in %s, and Kamailio would load stock's: run make build"
                               % self.host.ours)
        self.make_database()
        path = self.folder / "kamailio.cfg"
        path.write_text(self.config())
        log = open(self.log_path, "ab")
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(
            self.wrap + [self.host.program, "-DD", "-E", "-f", str(path), "-m", str(self.shm), "-M", str(self.pkg),
                         "-Y", str(self.folder),
             "-P", str(self.folder / "pid")] + self.options,
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            env=dict(os.environ, **(self.environment or {})))
        log.close()
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                if expect_failure:
                    return self
                raise RuntimeError("kamailio (%s) ended with %s:\n%s"
                                   % (self.which, self.process.returncode, self.log()[-4000:]))
            if self.answers():
                return self
        self.stop()
        raise RuntimeError("kamailio (%s) does not answer:\n%s" % (self.which, self.log()[-4000:]))

    def answers(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((self.near, 0))
            port = probe.getsockname()[1]
            probe.settimeout(0.1)
            probe.sendto(("OPTIONS sip:probe@%s SIP/2.0\r\nVia: SIP/2.0/UDP %s:%d;branch=z9hG4bKp%d\r\n"
                          "From: <sip:p@p>;tag=1\r\nTo: <sip:p@p>\r\nCall-ID: probe%d\r\nCSeq: 1 OPTIONS\r\n"
                          "Max-Forwards: 9\r\nContent-Length: 0\r\n\r\n"
                          % (self.near, self.near, port, port, port)).encode(), (self.address, self.port))
            try:
                probe.recv(4096)
                return True
            except OSError:
                return False

    # -- while it runs -------------------------------------------------------------------------------------------

    def rpc(self, *words):
        """Runs kamcmd and returns its text."""
        done = subprocess.run([self.host.kamcmd, "-s", "unix:%s" % (self.folder / "ctl")] + [str(w) for w in words],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30)
        return done.stdout.decode("utf-8", "replace")

    def json_rpc(self, method, *params, timeout=10.0):
        """One call by HTTP: the only transport with delayed answers. Needs `http=True`."""
        body = json.dumps({"jsonrpc": "2.0", "method": method, "params": list(params), "id": 1}).encode()
        request = urllib.request.Request("http://127.0.0.1:%d/RPC" % self.port, body,
                                         {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=timeout) as reply:
                return json.loads(reply.read().decode())
        except urllib.error.HTTPError as error:
            return json.loads(error.read().decode() or "{}")

    def rows(self, table, order=None):
        from . import database
        return database.rows(self, table, order)

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def pids(self):
        """The main process and its children."""
        parents = {}
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                    parents[int(entry.name)] = int(fields[1])
                except OSError:
                    pass
        return [self.process.pid] + [pid for pid, parent in parents.items() if parent == self.process.pid]

    # -- the end -------------------------------------------------------------------------------------------------

    def stop(self, sig=signal.SIGTERM, timeout=15.0):
        if self.process is None:
            return
        if self.process.poll() is None:
            if sig == signal.SIGKILL:
                for pid in self.pids():
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
            else:
                self.process.send_signal(sig)
            try:
                self.wait_for_the_end(sig, timeout)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(5)
        code = self.process.returncode
        self.process = None
        return code

    def wait_for_the_end(self, sig, timeout):
        """The host loses a signal that reaches one of its processes before that has run for the first time, and waits
        for it (stock alone does the same): right after a start on a busy machine it is sent once more."""
        if sig != signal.SIGKILL and time.monotonic() - self.started_at < 5:
            try:
                return self.process.wait(1.5)
            except subprocess.TimeoutExpired:
                for pid in self.pids():
                    if pid != self.process.pid:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, sig)
        return self.process.wait(timeout)

    def restart(self, sig=signal.SIGTERM, **changes):
        self.stop(sig)
        for name, value in changes.items():
            setattr(self, name, value)
        return self.start()

    def remove(self):
        self.stop()
        if self.own_folder and not os.environ.get("KEEP_TEST_FOLDERS"):
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        try:
            return self.start()
        except Exception:
            self.remove()
            raise

    def __exit__(self, *_):
        self.remove()
