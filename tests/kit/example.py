"""An example, started by its documented command: scripts/example.sh NAME."""
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

from .digest import Account
from .sip import Client
from .kamailio import KAMCMD, OURS, ROOT, STOCK, Kamailio, free_port

COMMAND = ROOT / "scripts" / "example.sh"
FOLDER = ROOT / "examples"


def names():
    return (sorted(path.stem for path in FOLDER.glob("*.cfg"))
            + sorted(path.parent.name for path in FOLDER.glob("*/kamailio.cfg")))


def text(name):
    path = FOLDER / ("%s.cfg" % name)
    return (path if path.exists() else FOLDER / name / "kamailio.cfg").read_text()


class Example:
    """Use it as a context manager."""

    # Where those are who speak to it.
    near = "127.0.0.1"

    def __init__(self, name, folder=None, address="127.0.0.1", port=None, **environment):
        self.name, self.address = name, address
        self.port, self.http_port, self.internal_port = port or free_port(), free_port(), free_port()
        self.own_folder = folder is None
        self.folder = pathlib.Path(folder or tempfile.mkdtemp(prefix="presence-test-"))
        self.environment = dict(ADDRESS=address, PORT=str(self.port), HTTP_PORT=str(self.http_port),
                                INTERNAL_PORT=str(self.internal_port),
                                STATE=str(self.folder), PRESENCE_MODULES=str(OURS), STOCK_MODULES=STOCK, MEMORY="64",
                                **environment)
        self.tls_port = free_port()
        self.environment["TLS_PORT"] = str(self.tls_port)
        self.log_path = self.folder / "log"
        self.process = None

    def start(self, timeout=15):
        inherited = {name: value for name, value in os.environ.items() if name not in ("DB_URL", "DOMAIN", "TRUSTED")}
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([str(COMMAND), self.name], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                            start_new_session=True, env=dict(inherited, **self.environment))
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and self.process.poll() is None:
            if Kamailio.answers(self):
                return self
        raise RuntimeError("%s did not start:\n%s" % (self.name, self.log()[-3000:]))

    def log(self):
        return self.log_path.read_text(errors="replace")

    def rpc(self, *words):
        done = subprocess.run([KAMCMD, "-s", "unix:%s" % (self.folder / "ctl")] + [str(word) for word in words],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30)
        return done.stdout.decode("utf-8", "replace")

    def accounts(self):
        """Users and their passwords."""
        path = self.folder / "accounts"
        return dict(line.split() for line in path.read_text().splitlines()) if path.exists() else {}

    def phone(self, user):
        accounts = self.accounts()
        return Account(self, user, accounts[user]) if accounts else Client(self, user)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(5)
        self.process = None

    def __enter__(self):
        try:
            return self.start()
        except Exception:
            self.__exit__()
            raise

    def __exit__(self, *_):
        self.stop()
        if self.own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)
