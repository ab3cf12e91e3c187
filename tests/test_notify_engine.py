"""NOTIFYs without tm (`notify_engine`): the same bytes, timers, outcomes and routes as with tm, and what is foreign
stays outside."""
import os
import re
import signal
import socket
import time

import pytest

from conftest import MODES
from kit.kamailio import ROUTE, Kamailio
from kit.sip import Client, pidf
from test_statistics import statistics

MEMORY = dict(subs_db_mode=0, publ_cache=2)
SERVE = ROUTE % dict(publish="handle_publish()", subscribe="handle_subscribe()")
QUICK = 'modparam("tm", "fr_timer", 2000)\nmodparam("tm", "retr_timer1", 250)\nmodparam("tm", "retr_timer2", 500)\n'


def counts(server, *names, wanted=None, seconds=5):
    """These statistics of the server. What is sent is counted afterwards: what is wanted is waited for, and where
    nothing is, until they stand still."""
    deadline = time.monotonic() + seconds
    before = None
    while True:
        now = statistics(server, "presence")
        seen = tuple(now[name] for name in names)
        if seen == (before if wanted is None else wanted) or time.monotonic() > deadline:
            return seen
        before = seen
        time.sleep(0.05)


def under_way_ends(server, seconds=5):
    """Whether no NOTIFY is under way before that time is over."""
    deadline = time.monotonic() + seconds
    while counts(server, "notify_under_way") != (0,):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def engine_lines(server):
    return [line.split("presence", 1)[-1] for line in server.log().split("\n") if "NOTIFYs go out" in line
            or "NOTIFYs to addresses" in line]


# -- the same as tm's
# ------------------------------------------------------------------------------------------------------------

def masked(raw, client, server):
    """A NOTIFY without what differs from server to server: branch, tags, ports, ids."""
    text = raw.decode()
    text = re.sub(r"branch=[^;\r\n]+", "branch=BRANCH", text)
    text = re.sub(r"tag=[^;\r\n>]+", "tag=TAG", text)
    text = re.sub(r"Call-ID: [^\r\n]+", "Call-ID: ID", text)
    text = re.sub(r"expires=\d+", "expires=N", text)
    return text.replace(":%d" % client.port, ":WATCHER").replace(":%d" % server.port, ":SERVER")


@pytest.mark.parametrize("before, listen", [
    ("", None),
    ("server_signature=no\n", None),
    ('user_agent_header="User-Agent: The Server"\n', None),
    ("local_rport=yes\n", None),
    ("", "udp:127.0.0.1:%d advertise 192.0.2.7:5062"),
    ("phone2tel=1\nmhomed=1\n", None),
], ids=["defaults", "no signature", "a signature", "local_rport", "advertised", "mhomed"])
def test_the_bytes_are_those_of_stock(before, listen):
    seen = {}
    for which, presence in (("stock", MEMORY), ("ours", dict(MEMORY, notify_engine="direct"))):
        server = Kamailio(which, workers=1, presence=presence, db=None, before=before)
        if listen:
            server.listen = [listen % server.port]
        with server:
            alice, bob = Client(server, "alice"), Client(server, "bob")
            reply = alice.publish(body=pidf())
            watch = bob.subscribe(alice.uri)
            watch.wait(1)
            empty = bob.subscribe("sip:nobody@example.org", extra=["User-Agent: phone"], )
            empty.wait(1)
            alice.publish(body=pidf(basic="closed"), etag=reply.get("SIP-ETag"))
            watch.wait(2)
            watch.unsubscribe()
            watch.wait(3)
            seen[which] = [masked(message.raw, bob, server) for message in bob.notifies]
            if which == "ours":
                assert counts(server, "notify_direct", "notify_by_tm", wanted=(4, 0)) == (4, 0)
            alice.close(), bob.close()
    assert len(seen["stock"]) == 4
    assert seen["ours"] == seen["stock"]


OUTCOMES = [200, 202, 302, 404, 408, 481, 486, 489, 503, 603, None, "480 for a while"]


@pytest.mark.parametrize("mode", ["memory", "database-only"])
def test_outcomes_are_those_of_tm(mode):
    seen = {}
    options = dict(MODES[mode])
    presence = options.pop("presence", {})
    for engine in ("tm", "direct"):
        with Kamailio("ours", workers=1, presence=dict(presence, notify_engine=engine), extra_params=QUICK,
                      **options) as server:
            watchers = []
            for index, outcome in enumerate(OUTCOMES):
                bob = Client(server, "bob%d" % index)
                if outcome == "480 for a while":
                    bob.answer, bob.answer_headers = 480, "Retry-After: 30"
                else:
                    bob.answer = outcome
                bob.subscribe("sip:alice@example.org").wait(1)
                watchers.append(bob)
            time.sleep(3.5)
            listed = server.rpc("presence.subscriptions")
            names = "notify_sent notify_2xx notify_3xx notify_4xx notify_5xx notify_6xx notify_timeout".split()
            ends = re.findall(r"watcher: (\S+)|reason: (.*)", server.rpc("presence.history"))
            seen[engine] = (re.findall(r"sip:bob\d+@", listed), ends, counts(server, *names),
                            re.findall(r"sip:bob\d+@|\b\d{3}\b", server.rpc("presence.failing")))
            engines = counts(server, "notify_direct", "notify_by_tm")
            assert engines == ((len(OUTCOMES), 0) if engine == "direct" else (0, len(OUTCOMES)))
            assert under_way_ends(server)
            for bob in watchers:
                bob.close()
    assert seen["direct"] == seen["tm"]
    assert seen["tm"][2] == (len(OUTCOMES), 2, 1, 6, 1, 1, 1)


@pytest.mark.parametrize("provisional", [False, True])
def test_the_pauses_are_those_of_tm(provisional):
    seen = {}
    for engine in ("tm", "direct"):
        with Kamailio("ours", workers=1, presence=dict(MEMORY, notify_engine=engine), db=None,
                      extra_params=QUICK) as server:
            bob = Client(server, "bob")
            answered = []

            def answer(message):
                answered.append(time.monotonic())
                return 100 if provisional and len(answered) == 1 else None
            bob.answer = answer
            bob.subscribe("sip:alice@example.org")
            bob.quiet(3)
            seen[engine] = len(answered)
            assert len({message.get("Via") for message in bob.trace if message.is_request}) == 1
            assert len({message.raw for message in bob.trace if message.is_request}) == 1
            assert counts(server, "notify_timeout", "subscriptions", "notify_under_way", wanted=(1, 0, 0)) == (1, 0, 0)
            if engine == "direct":
                assert counts(server, "notify_retransmissions") == (len(answered) - 1,)
            bob.close()
    assert abs(seen["direct"] - seen["tm"]) <= 1 and seen["tm"] >= 4, seen


def test_timers_that_are_changed_while_it_runs_are_used(ours, phones):
    server = ours(presence=dict(MEMORY, notify_engine="direct"), db=None, workers=1,
                  modules=("presence_xml", "cfg_rpc"))
    for name, value in (("fr_timer", 1000), ("retr_timer1", 200)):
        server.rpc("cfg.set_now_int", "tm", name, value)
    bob = phones(server, "bob")
    bob.answer = None
    bob.subscribe("sip:alice@example.org")
    bob.quiet(2)
    assert counts(server, "notify_timeout", "subscriptions", wanted=(1, 0)) == (1, 0)
    assert len([message for message in bob.trace if message.is_request]) >= 3


# -- answers
# ---------------------------------------------------------------------------------------------------------------------

def answer_to(notify, code=200, via=None):
    lines = ["SIP/2.0 %d Answer" % code, "Via: " + (via or notify.get("Via"))]
    lines += ["%s: %s" % (name, notify.get(name)) for name in ("From", "To", "Call-ID", "CSeq")]
    return ("\r\n".join(lines) + "\r\nContent-Length: 0\r\n\r\n").encode()


@pytest.fixture
def direct(ours):
    return ours(presence=dict(MEMORY, notify_engine="direct"), db=None, workers=2)


def unanswered(server, phones, user="bob"):
    """A watcher that has not answered its NOTIFY, and the NOTIFY."""
    bob = phones(server, user)
    bob.answer = None
    watch = bob.subscribe("sip:alice@example.org")
    return bob, watch.wait(1)[0]


def test_answers_that_come_again_count_once(direct, phones):
    bob, notify = unanswered(direct, phones)
    for code in (200, 200, 481, 100):
        bob.send_raw(answer_to(notify, code))
        time.sleep(0.1)
    assert counts(direct, "notify_2xx", "notify_4xx", "notify_answers_late", "subscriptions") == (1, 0, 3, 1)
    assert under_way_ends(direct)
    assert "ERROR" not in direct.log()


def test_an_answer_from_another_address_is_counted_and_taken(direct, phones):
    """RFC 3261 17.1.3 asks for the branch and the method, not for the address: a phone may answer from another port."""
    bob, notify = unanswered(direct, phones)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.sendto(answer_to(notify), (direct.address, direct.port))
    time.sleep(0.2)
    assert counts(direct, "notify_2xx", "notify_answers_elsewhere", "notify_under_way") == (1, 1, 0)


def test_forged_answers_end_nothing(direct, phones):
    bob, notify = unanswered(direct, phones)
    via = notify.get("Via")
    branch = re.search(r"branch=([^;]+)", via).group(1)
    head, seal = branch.rsplit(".", 1)
    forged = [head, head + ".", head + "." + "0" * 16, head + "." + seal[:-1], branch + "0", branch + ".1", seal,
              "z9hG4bKn",
              head.replace("n", "n1", 1) + "." + seal, "z9hG4bKn" + "f" * 60]
    before = counts(direct, "notify_answers_foreign")[0]
    for wrong in forged + ["z9hG4bK77ef.4c1b.0", "z9hG4bK", "x"]:
        for code in (100, 200, 481):
            bob.send_raw(answer_to(notify, code, via.replace(branch, wrong)))
    # The branch of this NOTIFY, but another method.
    bob.send_raw(answer_to(notify, 481).replace(b" NOTIFY", b" SUBSCRIBE"))
    time.sleep(0.3)
    foreign = [wrong for wrong in forged if wrong.startswith("z9hG4bKn")]
    assert counts(direct, "notify_answers_foreign")[0] - before == 3 * len(foreign) + 1
    assert counts(direct, "notify_under_way", "subscriptions", "notify_2xx", "notify_4xx") == (1, 1, 0, 0)
    bob.send_raw(answer_to(notify))
    time.sleep(0.2)
    assert counts(direct, "notify_under_way", "notify_2xx") == (0, 1)


def test_a_flood_of_forged_answers_loses_no_slot(direct, phones, figure):
    bob, notify = unanswered(direct, phones)
    via = notify.get("Via")
    branch = re.search(r"branch=([^;]+)", via).group(1)
    head, seal = branch.rsplit(".", 1)
    plain = answer_to(notify, 481, via.replace(branch, "BRANCH"))
    many, burst = 100_000, 100
    before = counts(direct, "notify_answers_foreign")[0]
    began = time.monotonic()
    for number in range(many):
        bob.send_raw(plain.replace(b"BRANCH", ("%s.%016x" % (head, int(seal, 16) ^ (number + 1))).encode()))
        if number % burst == burst - 1:
            # Both workers have read what was sent before.
            assert direct.answers()
    time.sleep(0.2)
    taken = time.monotonic() - began
    seen = counts(direct, "notify_answers_foreign")[0] - before
    figure("%d forged answers in %.1f s: %d counted, the others dropped by the network" % (many, taken, seen))
    assert many * 0.95 <= seen <= many
    bob.send_raw(answer_to(notify))
    time.sleep(0.2)
    assert counts(direct, "notify_2xx", "notify_4xx", "subscriptions", "notify_under_way") == (1, 0, 1, 0)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_answers_to_the_server_before_a_restart_are_foreign(ours, phones, how):
    server = ours(presence=dict(subs_db_mode=1, notify_engine="direct"), workers=1)
    bob, notify = unanswered(server, phones)
    assert counts(server, "notify_under_way", wanted=(1,)) == (1,)
    server.restart(how)
    bob.send_raw(answer_to(notify, 481))
    time.sleep(0.2)
    assert counts(server, "notify_answers_foreign", "notify_under_way", "subscriptions", wanted=(1, 0, 1)) == (1, 0, 1)


# -- bounds
# ----------------------------------------------------------------------------------------------------------------------

def test_tm_serves_what_finds_no_slot(ours, phones):
    server = ours(presence=dict(MEMORY, notify_engine="direct", notify_slots=1), db=None, workers=1, extra_params=QUICK)
    bob = phones(server, "bob")
    bob.answer = None
    for index in range(300):
        bob.subscribe("sip:alice%d@example.org" % index)
    bob.quiet(3)
    direct, by_tm, full, timeouts, subscriptions = counts(
        server, "notify_direct", "notify_by_tm", "notify_slots_full", "notify_timeout", "subscriptions")
    assert direct + by_tm == 300 and by_tm == full and direct >= 256
    assert (timeouts, subscriptions) == (300, 0)
    assert under_way_ends(server)


def test_a_stopped_worker_keeps_no_slot(ours, phones):
    server = ours(presence=dict(MEMORY, notify_engine="direct"), db=None, workers=3)
    alice, watchers = phones(server, "alice"), [phones(server, "bob%d" % index) for index in range(20)]
    watches = [bob.subscribe(alice.uri) for bob in watchers]
    for watch in watches:
        watch.wait(1)
    workers = [int(pid) for pid in re.findall(r"PID: (\d+)[^}]*?udp receiver", server.rpc("core.psx"))]
    workers = workers or [pid for pid in server.pids()[1:] if "udp" in open("/proc/%d/cmdline" % pid).read()]
    victim = workers[0] if workers else sorted(server.pids())[1]
    etag = alice.publish(body=pidf()).get("SIP-ETag")
    os.kill(victim, signal.SIGSTOP)
    try:
        for turn in range(20):
            reply = alice.publish(body=pidf(note=str(turn)), etag=etag)
            etag = reply.get("SIP-ETag") if reply is not None else etag
            for bob in watchers:
                bob.quiet(0.01)
    finally:
        os.kill(victim, signal.SIGCONT)
    deadline = time.monotonic() + 5
    while counts(server, "notify_under_way") != (0,) and time.monotonic() < deadline:
        for bob in watchers:
            bob.quiet(0.01)
    assert under_way_ends(server)
    assert counts(server, "subscriptions", wanted=(20,)) == (20,)


# -- what leaves NOTIFYs to tm
# ---------------------------------------------------------------------------------------------------

GATES = {
    "event_route[tm:local-request]": 'event_route[tm:local-request] { xlog("L_NOTICE", "SEEN $rm $subs(pres_uri)\\n"); '
                                     'append_hf("X-Seen: yes\\r\\n"); }\n',
    "onsend_route": 'onsend_route { if ($rm == "NOTIFY" || is_method("NOTIFY")) xlog("L_NOTICE", "SEEN NOTIFY\\n"); '
                    '}\n',
    "event_route[presence:notify-reply]": 'event_route[presence:notify-reply] { xlog("L_NOTICE", "SEEN $rm '
                                          '$notify_reply($rs)\\n"); }\n',
}


def served(server, phones, **subscribe):
    """How often the log says SEEN, what the watcher has seen, and which engines have served."""
    alice, bob = phones(server, "alice"), phones(server, "bob")
    alice.publish(body=pidf())
    watch = bob.subscribe(alice.uri, **subscribe)
    watch.wait(1)
    alice.publish(body=pidf(basic="closed"))
    watch.wait(2)
    bob.quiet(0.3)
    return (server.log().count("SEEN"), [message.get("X-Seen") for message in bob.notifies],
            counts(server, "notify_direct", "notify_by_tm"))


@pytest.mark.parametrize("gate", GATES)
def test_what_sees_tms_requests_sees_them_with_auto(ours, phones, gate):
    seen = {}
    for engine in ("tm", "auto"):
        server = ours(presence=dict(MEMORY, notify_engine=engine), db=None, workers=1, route=SERVE + GATES[gate])
        seen[engine] = served(server, phones)
        if engine == "auto":
            assert (len(engine_lines(server)) == 1 and "through tm: " in engine_lines(server)[0]
                    and gate in engine_lines(server)[0])
    assert seen["auto"] == seen["tm"] and seen["auto"][2] == (0, 2)
    assert gate == "onsend_route" or seen["auto"][0] == 2


def test_reply_route_and_statistics_see_the_answers(ours, phones):
    seen = {}
    route = SERVE + 'reply_route { xlog("L_NOTICE", "SEEN $rs $rm from $si\\n"); }\n'
    for engine in ("tm", "auto"):
        server = ours(presence=dict(MEMORY, notify_engine=engine), db=None, workers=1, route=route)
        counted = served(server, phones)
        replies = statistics(server, "core")
        seen[engine] = (counted[:2], {name: replies[name] for name in replies if "replies" in name})
        assert counted[2] == ((2, 0) if engine == "auto" else (0, 2))
    assert seen["auto"] == seen["tm"] and seen["tm"][0][0] == 2


def test_direct_goes_past_what_would_object_and_says_so(ours, phones):
    gate = "event_route[tm:local-request]"
    server = ours(presence=dict(MEMORY, notify_engine="direct"), db=None, workers=1, route=SERVE + GATES[gate])
    assert served(server, phones)[2] == (2, 0)
    assert len(engine_lines(server)) == 1 and gate + " does not see them" in engine_lines(server)[0]


@pytest.mark.parametrize("engine", ["auto", "direct"])
@pytest.mark.parametrize("options", [
    dict(contact="<sip:bob@localhost:%d>"),
    dict(contact="<sip:bob@127.0.0.1:%d;maddr=127.0.0.1>"),
    dict(extra=["Record-Route: <sip:127.0.0.1:%d;lr>"]),
], ids=["a name", "maddr", "a route"])
def test_targets_that_need_more_are_left_to_tm(ours, phones, engine, options):
    server = ours(presence=dict(MEMORY, notify_engine=engine), db=None, workers=1, before="dns=yes\nuse_dns_cache=no\n")
    alice, bob = phones(server, "alice"), phones(server, "bob")
    filled = {name: value % bob.port if isinstance(value, str) else [one % bob.port for one in value]
              for name, value in options.items()}
    watch = bob.subscribe(alice.uri, **filled)
    assert len(watch.wait(1)) == 1
    assert counts(server, "notify_direct", "notify_by_tm", wanted=(0, 1)) == (0, 1)


def test_who_serves_is_said_once(ours):
    for engine, line in (("auto", "without tm (notify_engine auto)"), ("direct", "without tm (notify_engine direct)"),
                         ("tm", None)):
        server = ours(presence=dict(MEMORY, notify_engine=engine), db=None, workers=4, debug=2)
        lines = engine_lines(server)
        assert (len(lines) == 1 and line in lines[0]) if line else not lines, lines
    server = ours(presence=dict(MEMORY, notify_engine="auto", notify_slots=0), db=None)
    assert "notify_slots is 0" in engine_lines(server)[0]


@pytest.mark.parametrize("settings, named", [
    (dict(notify_engine="Direct"), "notify_engine"),
    (dict(notify_engine=""), "notify_engine"),
    (dict(notify_slots=-1), "notify_slots"),
    (dict(notify_slots=1_000_001), "notify_slots"),
])
def test_values_that_do_not_exist_stop_the_start(settings, named):
    server = Kamailio("ours", presence=dict(MEMORY, **settings), db=None)
    try:
        server.start(expect_failure=True)
        assert not server.alive() and named in server.log()
    finally:
        server.remove()
