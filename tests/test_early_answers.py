"""2xx to NOTIFYs without tm that are taken from the datagram (`notify_early_answers`): with the same outcome as those
that are read as messages, and not where something of the configuration would miss the message."""
import re
import time

import pytest

from kit.kamailio import ROUTE, Kamailio
from kit.sip import pidf
from test_notify_engine import answer_to, counts, engine_lines, under_way_ends
from test_statistics import statistics

MEMORY = dict(subs_db_mode=0, publ_cache=2)
SERVE = ROUTE % dict(publish="handle_publish()", subscribe="handle_subscribe()")
TAKEN = "2xx to NOTIFYs without tm are taken"
READ = "answers to NOTIFYs without tm are read as messages"


def answered_by_phones(server, phones, code=200):
    """A watcher is notified of two states; how many of its answers were taken early, and what the module counts."""
    alice, bob = phones(server, "alice"), phones(server, "bob", answer=code)
    alice.publish(body=pidf())
    watch = bob.subscribe(alice.uri)
    watch.wait(1)
    alice.publish(body=pidf(basic="closed"))
    # A watcher that refuses the first one is sent no other.
    expected = 2 if code < 300 else 1
    watch.wait(expected)
    assert under_way_ends(server)
    assert counts(server, "notify_direct", "notify_by_tm") == (expected, 0)
    return counts(server, "notify_answers_early", "notify_2xx", "notify_4xx", "subscriptions")


@pytest.mark.parametrize("code, taken", [(200, 2), (202, 2), (404, 0)])
def test_the_outcome_is_that_of_messages(ours, phones, code, taken):
    seen = {}
    for early in (0, 1):
        server = ours(presence=dict(MEMORY, notify_early_answers=early), db=None, workers=1, debug=2)
        early_count, *rest = answered_by_phones(server, phones, code)
        assert early_count == (taken if early else 0)
        assert (TAKEN in server.log()) == bool(early)
        replies = {name: value for name, value in statistics(server, "core").items() if name.startswith("rcv_replies")}
        asked = re.findall(r"answer(?:ed)?: (\d+)", server.rpc("presence.history"))
        seen[early] = (rest, replies, asked)
    assert seen[1] == seen[0]


GATES = {
    "a reply_route": dict(route=SERVE + 'reply_route { xlog("L_NOTICE", "SEEN $rs\\n"); }\n'),
    "core:pre-routing": dict(route=SERVE + 'event_route[core:pre-routing] { xlog("L_NOTICE", "SEEN $rs\\n"); }\n'),
    "core:msg-received": dict(before="received_route_mode=1\n",
                              route=SERVE + 'event_route[core:msg-received] { xlog("L_NOTICE", "SEEN\\n"); }\n'),
    "check_via": dict(before="check_via=yes\n"),
    "a module that looks at replies": dict(modules=("presence_xml", "pv_headers")),
}


@pytest.mark.parametrize("gate", GATES)
def test_who_would_miss_the_message_gets_it(ours, phones, gate):
    seen = {}
    for early in (0, 1):
        server = ours(presence=dict(MEMORY, notify_early_answers=early), db=None, workers=1, debug=2, **GATES[gate])
        before = server.log().count("SEEN")
        counted = answered_by_phones(server, phones)
        assert counted[0] == 0
        seen[early] = (counted, server.log().count("SEEN") - before)
    assert seen[1] == seen[0]
    assert READ in server.log() and TAKEN not in server.log()


def test_one_module_alone_is_shown_datagrams():
    """sipcapture takes each for one of its own: such a server speaks no SIP over UDP."""
    server = Kamailio("ours", presence=MEMORY, db=None, workers=1, debug=2, modules=("presence_xml", "sipcapture"),
                      extra_params='modparam("sipcapture", "hep_capture_on", 1)\n'
                                   'modparam("sipcapture", "db_url", "text:///tmp")\n')
    try:
        with pytest.raises(RuntimeError):
            server.start(timeout=2)
        assert READ + ": another module is shown datagrams first" in server.log()
    finally:
        server.remove()


def test_a_module_that_sees_packets_sees_these(ours, phones):
    """siptrace asks for incoming packets when it is loaded with a trace mode: that is looked at for each answer."""
    server = ours(presence=MEMORY, db=None, workers=1, debug=2, modules=("presence_xml", "siptrace"),
                  extra_params='modparam("siptrace", "trace_on", 1)\nmodparam("siptrace", "trace_mode", 1)\n'
                               'modparam("siptrace", "duplicate_uri", "sip:127.0.0.1:9")\n'
                               'modparam("siptrace", "trace_to_database", 0)\n')
    assert answered_by_phones(server, phones)[:2] == (0, 2)


def test_settings_that_change_reach_a_worker_that_is_sent_answers_alone(ours, phones):
    """`latency_log` begins to print what the messages cost: from then on they are made."""
    server = ours(presence=MEMORY, db=None, workers=1, debug=2, modules=("presence_xml", "cfg_rpc"))
    bob = phones(server, "bob", answer=None)
    first, second = [bob.subscribe("sip:%s@example.org" % name).wait(1)[0] for name in ("alice", "carol")]
    bob.send_raw(answer_to(first))
    time.sleep(0.3)
    assert counts(server, "notify_answers_early", "notify_2xx") == (1, 1)
    # Settings that are committed together reach a process when it looks for them.
    assert "error" not in server.rpc("cfg.set_delayed_int", "core", "latency_cfg_log", 1)
    assert "error" not in server.rpc("cfg.commit")
    bob.send_raw(answer_to(second))
    time.sleep(0.3)
    assert counts(server, "notify_answers_early", "notify_2xx") == (1, 2)


ODD = {
    "a folded line": lambda text: text.replace(b"Content-Length", b"X-Long: a\r\n b\r\nContent-Length"),
    "a second Via": lambda text: text.replace(b"From:", b"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx\r\nFrom:"),
    "Via in short form": lambda text: text.replace(b"Via:", b"v:"),
    "no end": lambda text: text[:-2],
    "no From": lambda text: re.sub(rb"From:[^\n]*\n", b"", text),
    "another method": lambda text: text.replace(b" NOTIFY", b" OPTIONS"),
    "nothing but a line": lambda text: text.split(b"\r\n")[0] + b"\r\n\r\n",
}


@pytest.mark.parametrize("odd", ODD)
def test_odd_answers_have_the_same_effect(ours, phones, odd):
    """Whatever is not written plainly is read by the host; what the host does not take ends nothing."""
    seen = {}
    for early in (0, 1):
        server = ours(presence=dict(MEMORY, notify_early_answers=early), db=None, workers=1)
        bob = phones(server, "bob", answer=None)
        notify = bob.subscribe("sip:alice@example.org").wait(1)[0]
        bob.send_raw(ODD[odd](answer_to(notify)))
        time.sleep(0.3)
        names = "notify_under_way notify_2xx notify_answers_late notify_answers_foreign subscriptions".split()
        first = counts(server, *names)
        for _ in range(3):
            bob.send_raw(answer_to(notify))
        time.sleep(0.3)
        seen[early] = (first, counts(server, *names))
    assert seen[1] == seen[0] and seen[1][1][:2] == (0, 1)


# What Debian's kamailio.cfg does with answers.
CHECKED = 'reply_route { if(!sanity_check("17604", "6")) { xlog("L_NOTICE", "SEEN $rs\\n"); drop; } return; }\n'
REFUSED = {
    "a body that is longer than it is": lambda text: text.replace(b"Content-Length: 0", b"Content-Length: 9"),
    "no URI in From": lambda text: re.sub(rb"From: <[^>]*>", b"From: <odd>", text),
    "no URI in To": lambda text: re.sub(rb"To: <[^>]*>", b"To: <sip:a@b:x>", text),
    "a CSeq beyond 32 bits": lambda text: re.sub(rb"CSeq: \d+", b"CSeq: 9999999999", text),
    "a line without a name": lambda text: text.replace(b"Content-Length", b"odd\r\nContent-Length"),
}
PASSED = {
    "plain": lambda text: text,
    "no Content-Length": lambda text: text.replace(b"Content-Length: 0\r\n", b""),
    "URIs with parameters": lambda text: re.sub(rb"(From|To): <([^>]*)>", rb"\1: <\2;x=y>", text),
    "tags with parameters behind": lambda text: re.sub(rb"(From: [^\r]*)", rb"\1;x=y", text),
    "names in their short forms": lambda text: text.replace(b"Content-Length:", b"l:").replace(b"Via:", b"v:"),
    "a body": lambda text: text.replace(b"Content-Length: 0\r\n\r\n", b"Content-Length: 4\r\n\r\nbody"),
}


@pytest.mark.parametrize("odd", {**REFUSED, **PASSED, **ODD})
def test_a_route_that_checks_answers_misses_none_that_it_refuses(ours, phones, odd):
    """Early answers or not: the same ones are refused, by the route itself, and the same ones end their NOTIFY."""
    seen, changed = {}, {**REFUSED, **PASSED, **ODD}[odd]
    for early in (0, 1):
        server = ours(presence=dict(MEMORY, notify_early_answers=early), db=None, workers=1, debug=2,
                      modules=("presence_xml", "sanity"), route=SERVE + CHECKED)
        assert (TAKEN in server.log()) == bool(early)
        bob = phones(server, "bob", answer=None)
        notify = bob.subscribe("sip:alice@example.org").wait(1)[0]
        before = server.log().count("SEEN")
        bob.send_raw(changed(answer_to(notify)))
        time.sleep(0.3)
        names = "notify_under_way notify_2xx notify_answers_late notify_answers_foreign subscriptions".split()
        refused = server.log().count("SEEN") - before
        seen[early] = (refused, counts(server, *names))
        taken = counts(server, "notify_answers_early")[0]
        assert not (taken and (odd in REFUSED or not early)), "taken, and the route would have refused it"
        if odd == "plain":
            assert taken == early
    assert seen[1] == seen[0]
    if odd in PASSED:
        assert seen[1][0] == 0 and seen[1][1][:2] == (0, 1)
    if odd in REFUSED:
        assert seen[1][1][:2] == (1, 0)


@pytest.mark.parametrize("end", ["", "return;", "exit;"])
def test_an_answer_that_the_route_leaves_alone_is_taken(ours, phones, end):
    server = ours(presence=MEMORY, db=None, workers=1, debug=2, modules=("presence_xml", "sanity"),
                  route=SERVE + CHECKED.replace("return;", end))
    assert answered_by_phones(server, phones)[:2] == (2, 2)
    assert "where the sanity_check of reply_route passes them" in server.log()


MORE = {
    "other checks": CHECKED.replace("17604", "17860"),
    "other URIs": CHECKED.replace('"6"', '"14"'),
    "the default checks": CHECKED.replace('"17604", "6"', ""),
    "checks that are looked up": CHECKED.replace('"17604"', '"$var(checks)"'),
    "something behind the check": CHECKED.replace("return;", 'xlog("L_NOTICE", "SEEN $rs\n");'),
    "something before it": CHECKED.replace("{ if", '{ xlog("L_NOTICE", "SEEN $rs\n"); if'),
    "something for sane ones": CHECKED.replace("} return", '} else { xlog("L_NOTICE", "SEEN $rs\n"); } return'),
    "the other way round": CHECKED.replace("if(!sanity", "if(sanity"),
    "two conditions": CHECKED.replace('"6"))', '"6") || $rs == 200)'),
    "a route that drops them": CHECKED.replace("return;", "drop;"),
    "a result that is computed": CHECKED.replace("return;", "return(1);"),
    "a route that fails": CHECKED.replace("return;", "return(-1);"),
    "another function": 'reply_route { if(!is_method("NOTIFY")) { drop; } }\n',
}


@pytest.mark.parametrize("more", MORE)
def test_a_route_that_does_more_sees_each_answer(ours, phones, more):
    seen = {}
    for early in (0, 1):
        server = ours(presence=dict(MEMORY, notify_early_answers=early), db=None, workers=1, debug=2,
                      modules=("presence_xml", "sanity"), route=SERVE + MORE[more])
        bob = phones(server, "bob", answer=None)
        notify = bob.subscribe("sip:alice@example.org").wait(1)[0]
        before = server.log().count("SEEN")
        bob.send_raw(answer_to(notify))
        time.sleep(0.3)
        seen[early] = (server.log().count("SEEN") - before, counts(server, "notify_under_way", "notify_2xx"))
        assert counts(server, "notify_answers_early") == (0,)
    assert seen[1] == seen[0]
    assert READ + ": reply_route sees them" in server.log()


def test_forged_and_late_answers_are_counted_and_end_nothing(ours, phones):
    server = ours(presence=MEMORY, db=None, workers=2)
    bob = phones(server, "bob", answer=None)
    notify = bob.subscribe("sip:alice@example.org").wait(1)[0]
    via = notify.get("Via")
    branch = re.search(r"branch=([^;]+)", via).group(1)
    for number in range(1000):
        forged = "%s.%016x" % (branch.rsplit(".", 1)[0], int(branch.rsplit(".", 1)[1], 16) ^ (number + 1))
        bob.send_raw(answer_to(notify, 200, via.replace(branch, forged)))
        if number % 100 == 99:
            assert server.answers()
    assert counts(server, "notify_answers_early", "notify_under_way") == (0, 1)
    assert counts(server, "notify_answers_foreign")[0] >= 950
    for _ in range(3):
        bob.send_raw(answer_to(notify))
    time.sleep(0.3)
    assert counts(server, "notify_answers_early", "notify_2xx", "notify_answers_late") == (3, 1, 2)


def test_without_the_engine_nobody_looks_at_datagrams(ours, phones):
    server = ours(presence=dict(MEMORY, notify_engine="tm"), db=None, workers=1, debug=2)
    assert TAKEN not in server.log() and not engine_lines(server)

