"""Fixtures: servers that several scenarios share, and scenarios that run on stock and on ours."""
import itertools
import os
import sys
from pathlib import Path

import pytest

from kit.compare import Trace, same
from kit.kamailio import ROOT, Kamailio
from kit.servers import MariaDB, PostgreSQL
from kit.sip import Client

# The benchmark's load generator serves scenarios, too.
sys.path.insert(0, str(ROOT / "benches"))

_names = itertools.count()

# What each of the suites promises: `pytest --suite crash` runs one.
SUITES = {
    "stuck-lamp": "a lamp is never stuck", "one-request": "one request at a time for each publication",
    "order": "CSeq and version rise by one",
    "crash": "nothing is lost in a crash", "refresh": "a refresh counts at once",
    "one-end": "the end is announced once",
    "mass-expiry": "thousands end in one second", "dead-watchers": "dead watchers do not stop the others",
    "notify-answers": "answers to NOTIFY",
    "databases": "the same in every database and mode", "notifiers": "no NOTIFY lost or doubled by notifiers",
    "commands": "commands under load", "memory": "memory comes back", "hostile-input": "hostile input",
    "cluster": "a cluster",
}
# Slow runs at full size: `make soak`.
SOAK = bool(os.environ.get("SOAK"))
_figures = []
_failed = set()


def pytest_addoption(parser):
    parser.addoption("--suite", action="append", default=[],
                     help="run only these suites (stuck-lamp, crash, cluster ...)")
    parser.addoption("--failures", help="a file for the names of the tests that fail, a line each")
    parser.addoption("--again", help="a file with names of tests, a line each: run only these")


def pytest_configure(config):
    config.addinivalue_line("markers", "suite(name): part of one of the suites")


def pytest_collection_modifyitems(config, items):
    wanted = config.getoption("--suite")
    marked = [mark.args[0] for item in items for mark in item.iter_markers("suite")]
    unknown = [name for name in wanted + marked if name not in SUITES]
    if unknown:
        raise pytest.UsageError("no suite %s: there are %s" % (unknown[0], ", ".join(SUITES)))
    if wanted:
        keep_only(config, items, lambda item: any(mark.args[0] in wanted for mark in item.iter_markers("suite")))
    if config.getoption("--again"):
        names = set(Path(config.getoption("--again")).read_text().splitlines())
        keep_only(config, items, lambda item: item.nodeid in names)


def keep_only(config, items, is_wanted):
    config.hook.pytest_deselected(items=[item for item in items if not is_wanted(item)])
    items[:] = [item for item in items if is_wanted(item)]


def pytest_runtest_logreport(report):
    if report.failed:
        _failed.add(report.nodeid)
    if report.when == "teardown":
        _figures.extend(tuple(value) for name, value in report.user_properties if name == "figure")


def pytest_sessionfinish(session):
    path = session.config.getoption("--failures")
    # A process of xdist has run a part of them only.
    if path and not hasattr(session.config, "workerinput"):
        Path(path).write_text("".join(name + "\n" for name in sorted(_failed)))


def pytest_terminal_summary(terminalreporter):
    if _figures:
        terminalreporter.section("figures")
        for suite, test, text in sorted(_figures, key=lambda figure: (len(figure[0]), figure)):
            terminalreporter.write_line("%-4s %s: %s (%s)" % (suite, SUITES.get(suite, ""), text, test))


@pytest.fixture
def figure(request):
    """Notes what a scenario has measured; printed after all tests."""
    suites = [mark.args[0] for mark in request.node.iter_markers("suite")]

    def note(text):
        request.node.user_properties.append(("figure", (suites[0] if suites else "", request.node.name, text)))

    return note


MODES = {
    "memory": dict(presence=dict(subs_db_mode=0, publ_cache=2)),
    "write-through": dict(presence=dict(subs_db_mode=1, publ_cache=1)),
    "defaults": dict(presence=dict()),
    "table": dict(presence=dict(subs_db_mode=1, publ_cache=0)),
    "database-only": dict(presence=dict(subs_db_mode=3, publ_cache=0, notifier_processes=0)),
}


class Actors:
    """Makes phones for one scenario, with users nobody else uses."""

    def __init__(self, server):
        self.server = server
        self.number = next(_names)
        self.made = []

    def phone(self, user):
        client = Client(self.server, "%s%d" % (user, self.number))
        self.made.append(client)
        return client

    def close(self):
        for client in self.made:
            client.close()


@pytest.fixture(scope="module")
def database_server():
    """A database server by its name, started when a scenario first asks for it."""
    started = {}

    def get(name):
        if name not in started:
            started[name] = {"postgres": PostgreSQL, "mysql": MariaDB}[name]()
        return started[name]

    yield get
    for server in started.values():
        server.stop()


@pytest.fixture
def both():
    """Runs `scenario(server, phones, trace)` on stock and on ours and compares."""

    def run(scenario, different=None, prepare=None, **options):
        traces = []
        for which in ("stock", "ours"):
            global _names
            _names = itertools.count(1)
            server = Kamailio(which, **options)
            if prepare:
                prepare(server)
            with server:
                actors, trace = Actors(server), Trace(which)
                try:
                    scenario(server, actors.phone, trace)
                finally:
                    actors.close()
                assert server.alive() or which == "stock", "the server died:\n" + server.log()[-3000:]
            traces.append(trace)
        same(traces[0], traces[1], different)

    return run


@pytest.fixture
def ours():
    """Starts our modules with the given options; several servers may be started in one test."""
    started = []

    def start(**options):
        server = Kamailio("ours", **options)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        alive, log = server.alive() or server.process is None, server.log()
        server.remove()
        assert alive, "the server died:\n" + log[-3000:]


@pytest.fixture
def phones():
    made = []

    def phone(server, user, **options):
        client = Client(server, user, **options)
        made.append(client)
        return client

    yield phone
    for client in made:
        client.close()
