"""A server with the load generator beside it, and what they cost."""
import json
import os
import pathlib
import re
import subprocess
import time

from kit.kamailio import Kamailio

LOAD = pathlib.Path(__file__).resolve().parent.parent / "target" / "bench" / "release" / "presence-load"
MEMORY = {"subs_db_mode": 0, "publ_cache": 2}
FAST_MEMORY = ("-x", "fm", "-X", "fm")
# Nothing that a timer does falls into a measurement unless it is what is measured.
QUIET = {"clean_period": 3600, "db_update_period": 3600}


class Rig:
    """One side, stock's or ours, with a load generator. Use it as a context manager. `apart`: the server has the first
    of this machine's cores and the load the others, where there are others."""

    def __init__(self, side, presence=(), workers=1, wrap=(), apart=False, **settings):
        self.cores = sorted(os.sched_getaffinity(0)) if apart else []
        if len(self.cores) > 1:
            wrap = ("taskset", "-c", str(self.cores[0]), *wrap)
        settings.setdefault("modules", ("presence_xml", "presence_dialoginfo"))
        settings.setdefault("debug", 0)
        self.server = Kamailio(side, presence=dict(QUIET, **dict(presence)), workers=workers, wrap=wrap, **settings)
        self.load = None

    def __enter__(self):
        self.server.__enter__()
        self.load = subprocess.Popen([str(LOAD), "127.0.0.1:%d" % self.server.port], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, text=True)
        if len(self.cores) > 1:
            os.sched_setaffinity(self.load.pid, self.cores[1:])
        return self

    def __exit__(self, *_):
        if self.load:
            self.load.stdin.close()
            self.load.wait(10)
        self.server.remove()

    def cpu(self):
        """Seconds that the server's processes have run."""
        return sum(nanoseconds(pid) for pid in self.server.pids()) / 1e9

    def do(self, what, **details):
        """One piece of work; its figures, with the CPU time that the server has spent on it."""
        before = self.cpu()
        self.load.stdin.write(json.dumps(dict(details, do=what)) + "\n")
        self.load.stdin.flush()
        figures = json.loads(self.load.stdout.readline())
        if "error" in figures:
            raise RuntimeError(figures["error"])
        figures["cpu"] = self.cpu() - before
        return figures

    def shared_memory(self):
        """Bytes of shared memory in use."""
        return int(re.search(r"\bused: (\d+)", self.server.rpc("core.shmmem")).group(1))

    def settled_memory(self):
        """The same once tm has freed its transactions, which it does from five seconds after their answers on."""
        time.sleep(7)
        seen = [self.shared_memory()]
        while len(seen) < 60 and seen[-3:] != seen[-1:] * 3:
            time.sleep(1)
            seen.append(self.shared_memory())
        return seen[-1]


def nanoseconds(pid):
    try:
        return int(pathlib.Path("/proc/%d/schedstat" % pid).read_text().split()[0])
    except OSError:
        return 0


class Counted(Rig):
    """The same under callgrind, with one worker, whose instructions are counted."""

    def __init__(self, side, presence=(), **settings):
        wrap = ("valgrind", "-q", "--tool=callgrind", "--trace-children=yes", "--callgrind-out-file=/dev/null")
        settings.setdefault("options", FAST_MEMORY)
        super().__init__(side, presence, wrap=wrap, **settings)

    def __enter__(self):
        super().__enter__()
        found = re.findall(r"(\d+)\s+udp receiver", self.server.rpc("core.ps"))
        self.worker = int(found[0])
        return self

    def instructions(self):
        """What the worker has run since it started or was last set to zero."""
        text = subprocess.run(["callgrind_control", "-e", str(self.worker)], check=True, capture_output=True, text=True,
                              timeout=60).stdout
        return sum(int(number.replace(",", "")) for number in re.findall(r"^\s*Th\s+\d+\s+([\d,]+)", text, re.M))

    def count(self, what, **details):
        """Instructions for each request of a piece of work."""
        before = self.instructions()
        figures = self.do(what, **details)
        if figures["done"] != details["count"]:
            raise RuntimeError("only %s of %s: %s" % (figures["done"], details["count"], figures))
        return (self.instructions() - before) / details["count"]
