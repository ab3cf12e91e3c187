"""A fault inside each guard costs its own request and nothing else: a panic, a failed allocation, a refused statement
while the server goes on, and a process that is killed, ends or stands still there before the server ends."""
import re
import signal
import time

import pytest

from kit.kamailio import ROOT
from kit.responder import Responder
from kit.sip import pidf
from test_broken_off import notified
from test_faults import faulty_modules  # noqa: F401  (a fixture)
from test_last_stop import rows

BYSTANDERS = 12
IN_MEMORY = dict(subs_db_mode=2, publ_cache=1, publ_update_period=1, db_update_period=1, clean_period=1)
THROUGH = dict(subs_db_mode=1, publ_cache=1)
IN_TABLE = dict(subs_db_mode=3, publ_cache=0, notifier_processes=0)
BY_TM = dict(IN_MEMORY, notify_engine="tm")
BY_DRIVER = dict(THROUGH, sqlite_direct=0)
ROUTE = ("event_route[presence:notify-reply] { xlog(\"L_INFO\", \"answer $notify_reply($rs)\\n\"); }\n"
         "event_route[tm:local-request] { if (is_method(\"NOTIFY\")) xlog(\"L_INFO\", \"to $subs(uri)\\n\"); }\n")

# Where each point is come by: the settings of the server, and what else it needs.
POINTS = {
    "round": dict(presence=IN_MEMORY), "portion": dict(presence=IN_MEMORY), "compose": dict(presence=IN_MEMORY),
    "notify": dict(presence=IN_MEMORY), "slot": dict(presence=IN_MEMORY), "body": dict(presence=IN_MEMORY),
    "claim": dict(presence=IN_MEMORY, subscribes=True), "lock-Shard": dict(presence=IN_MEMORY),
    "lock-sleep": dict(presence=THROUGH), "transaction": dict(presence=IN_MEMORY, later=True),
    "taken": dict(presence=IN_MEMORY, later=True), "row-group": dict(presence=IN_MEMORY, later=True),
    "run": dict(presence=THROUGH), "rows": dict(presence=IN_TABLE),
    "scoped": dict(presence=BY_TM, more=ROUTE), "carried": dict(presence=BY_TM),
    "response": dict(presence=BY_TM, more=ROUTE, answer=408),
    "turn": dict(presence=dict(IN_MEMORY, sender_processes=1), many=True),
    "in-hand": dict(presence=IN_MEMORY, pua=True), "document": dict(presence=IN_MEMORY, pua=True),
}
# Points in a statement.
STATEMENTS = ["transaction", "row-group", "run", "rows"]


def test_each_point_is_driven():
    """The table of CONTRIBUTING.md names the points that are driven here."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = [row for row in text[text.index("## Fault points"):].splitlines() if "test_fault_points.py" in row]
    named = {point for row in rows for point in re.findall(r"`([a-z][\w-]*)`", row.split("|")[3])}
    assert named == set(POINTS), named ^ set(POINTS)


class Life:
    """A server with bystanders, who have nothing to do with the fault, and one whom it strikes."""

    def __init__(self, ours, phones, presence, subscribes=False, later=False, more="", many=False, pua=False,
                 answer=200):
        self.responder = Responder() if pua else None
        extra, modules = more, ["presence_xml"]
        if pua:
            modules += ["pua", "pua_rpc"]
            extra += ('modparam("pua", "db_url", "@DB@")\nmodparam("pua", "update_period", 6)\n'
                      'modparam("pua", "dlginfo_increase_version", 1)\nmodparam("pua", "outbound_proxy", "%s")\n'
                      % self.responder.uri)
        self.server = ours(workers=2, presence=presence, modules=tuple(modules), extra_params=extra, http=pua,
                           before="exit_timeout=2\n")
        self.subscribes, self.later, self.answer = subscribes, later, answer
        self.alice, self.bob, self.crowd = (phones(self.server, name) for name in ("alice", "bob", "crowd"))
        self.watches = [self.crowd.subscribe("sip:u%d@example.org" % n) for n in range(BYSTANDERS)]
        self.tags = [self.alice.publish("sip:u%d@example.org" % n, body=pidf(note="n%d." % n)).get("SIP-ETag")
                     for n in range(BYSTANDERS)]
        assert all(notified([watch], "n%d." % n) == [True] for n, watch in enumerate(self.watches))
        self.struck = [self.bob.subscribe(self.alice.uri) for _ in range(70 if many else 1)]
        self.struck_tag = self.alice.publish(body=pidf(note="first.")).get("SIP-ETag")
        assert notified(self.struck[:1], "first.") == [True]
        self.turn = 0

    def strike(self, fault):
        """A request that asks for a fault, and what comes by its point."""
        self.turn += 1
        self.bob.answer = self.answer
        header = ["X-Fault: " + fault]
        body = pidf(note="struck %d." % self.turn)
        self.alice.send_raw(self.alice.request(
            "PUBLISH", self.alice.uri, ["Event: presence", "Content-Type: application/pidf+xml",
                                        "SIP-If-Match: " + self.struck_tag] + header, body=body))
        self.alice.quiet(0.3)
        if self.subscribes:
            self.bob.send_raw(self.bob.request("SUBSCRIBE", "sip:new%d@example.org" % self.turn, ["Event: presence"]))
        if self.responder:
            self.publish("struck", "struck %d." % self.turn)
        self.bob.quiet(2.5 if self.later else 0.7)
        self.bob.answer = 200
        codes = [reply.code for reply in self.alice.replies if "PUBLISH" in reply.get("CSeq")]
        if codes and codes[-1] == 200:
            self.struck_tag = self.alice.replies[-1].get("SIP-ETag") or self.struck_tag
        if fault.startswith("memory"):
            # A process that came by without needing memory has its failure yet to come.
            for n in range(12):
                self.alice.publish("sip:spare%d@example.org" % n, body=pidf())

    def publish(self, ident, note):
        body = ('<dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="0" state="full" '
                'entity="sip:a@example.org"><dialog id="%s"><state>confirmed</state></dialog></dialog-info>' % note)
        try:
            self.server.json_rpc("pua.publish", "sip:a@example.org", "600", "dialog", "application/dialog-info+xml",
                                 ident, ".", ".", ".", body, timeout=2)
        except (OSError, TimeoutError):
            pass

    def goes_on(self):
        """Bystanders are served as before, and so is the one whom the fault has struck."""
        assert self.server.alive()
        for n, watch in enumerate(self.watches):
            note = "later %d %d." % (self.turn, n)
            reply = self.alice.publish("sip:u%d@example.org" % n, body=pidf(note=note), etag=self.tags[n])
            assert reply.code == 200
            self.tags[n] = reply.get("SIP-ETag")
            assert notified([watch], note) == [True], (n, self.server.log()[-1500:])
            assert watch.refresh().code == 200
        watch, reply = self.bob.subscribe(self.alice.uri), None
        for etag in (self.struck_tag, None):
            if reply is None or reply.code == 412:
                reply = self.alice.publish(body=pidf(note="again %d." % self.turn), etag=etag)
        assert reply.code == 200, reply.code
        self.struck_tag = reply.get("SIP-ETag")
        for _ in range(50):
            if watch.notifies and "again %d." % self.turn in watch.notifies[-1].text:
                break
            self.bob.quiet(0.1)
        assert "again %d." % self.turn in watch.notifies[-1].text, self.server.log()[-1500:]
        if self.responder:
            count = len(self.responder.requests)
            self.publish("bystander", "later %d." % self.turn)
            self.publish("struck", "again %d." % self.turn)
            self.responder.wait(count + 2, timeout=6)

    def close(self):
        if self.responder:
            self.responder.close()


@pytest.mark.suite("memory")
@pytest.mark.parametrize("point", sorted(POINTS))
def test_a_fault_costs_its_own_request(faulty_modules, ours, phones, point):  # noqa: F811
    life = Life(ours, phones, **POINTS[point])
    try:
        for kind in ["panic", "memory"] + ["refuse"] * (point in STATEMENTS):
            life.strike("%s-at-%s" % (kind, point))
            # One that is left would strike in the next step.
            assert life.server.log().count("fault: %s-at-%s" % (kind, point)) == 1
            life.goes_on()
    finally:
        life.close()


@pytest.mark.suite("crash")
@pytest.mark.parametrize("how", ["kill", "exit", "stop"])
@pytest.mark.parametrize("point", sorted(POINTS))
def test_a_process_that_ends_there_takes_nothing_along(faulty_modules, ours, phones, point, how):  # noqa: F811
    """The server ends in time, and what it had answered is in the tables."""
    life = Life(ours, phones, **POINTS[point])
    server = life.server
    try:
        life.strike("%s-at-%s" % (how, point))
        assert "fault: %s-at-%s" % (how, point) in server.log()
        began = time.monotonic()
        if server.alive():
            server.process.send_signal(signal.SIGTERM)
        server.process.wait(20)
        assert time.monotonic() - began < 14
        server.process = None
        assert rows(server, "active_watchers") >= BYSTANDERS, server.log()[-1500:]
        assert rows(server, "presentity") >= BYSTANDERS, server.log()[-1500:]
    finally:
        life.close()
