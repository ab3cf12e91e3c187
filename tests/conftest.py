"""Fixtures: servers that several scenarios share, and scenarios that run on stock and on ours."""
import itertools

import pytest

from kit.compare import Trace, same
from kit.kamailio import Kamailio
from kit.sip import Client

_names = itertools.count()

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
