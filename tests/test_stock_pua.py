"""What stock's pua does in the cases of COMPAT.md whose scenarios run ours alone: the column "stock" stays true."""
import signal
import time

import pytest

from kit.responder import Responder
from kit.sip import pidf
from test_faults import used
from test_pua import ALICE, ROUTE, publish, responder, server  # noqa: F401
from test_pua_heals import etag, subscribe
from test_pua_waits import Caller


@pytest.fixture(scope="module")
def stock():
    """One server for all that stays in records of its own."""
    with server("stock", workers=4) as kamailio:
        yield kamailio


def answers(responder, *codes):
    given = iter(codes)
    responder.script = lambda message: next(given, 200)


def tags(responder, after=0.0):
    """The entity tags of the requests that came in, `after` this many seconds in which nothing more was to come."""
    time.sleep(after)
    return [etag(message) for message in responder.requests]


def test_changes_are_sent_beside_each_other(stock, responder):
    responder.delay = 0.5
    callers = Caller(stock, responder)
    for note in ("one", "two", "three"):
        callers.ask(pidf(note=note), ident="beside")
    callers.answers(2)
    seen = responder.requests
    assert tags(responder) == [None] * 3 and seen[2].at - seen[0].at < 0.5


def test_an_end_before_the_first_answer_is_not_sent(stock, responder):
    responder.delay = 0.5
    callers = Caller(stock, responder)
    callers.ask(pidf(), ident="early end")
    callers.ask(ident="early end", expires=0)
    assert callers.answers(1.2)[1] is None and len(responder.requests) == 1


def test_a_refused_change_loses_its_tag(stock):
    servers = {code: Responder() for code in (503, 429, 412, 403)}
    for code, peer in servers.items():
        answers(peer, 200, code)
        for note in ("one", "two"):
            assert "result" in publish(stock, peer, body=pidf(note=note), ident="refused %d" % code)
    time.sleep(1.5)
    for code, peer in servers.items():
        assert tags(peer) == [None, "tag-1"], "it is not tried again"
        publish(stock, peer, body=pidf(note="three"), ident="refused %d" % code)
        assert tags(peer)[2] is None, code
        peer.close()


def test_an_interval_too_brief_ends_the_publication(stock, responder):
    answers(responder, (423, ["Min-Expires: 1800"]))
    publish(stock, responder, body=pidf(), ident="brief", expires=600)
    assert tags(responder, 0.5) == [None]


def test_a_first_request_that_is_refused_is_given_up(stock):
    servers = [(answer, Responder(lambda message, answer=answer: answer)) for answer in (
        (401, ['WWW-Authenticate: Digest realm="example.org", nonce="n", qop="auth"']),
        (302, ["Contact: <sip:there@127.0.0.1:9>"]), (503, ["Retry-After: 1"]), 408, 429)]
    for number, (_, peer) in enumerate(servers):
        publish(stock, peer, body=pidf(), ident="given up %d" % number)
        subscribe(stock, peer)
    time.sleep(2.5)
    for answer, peer in servers:
        assert [message.method for message in peer.requests] == ["PUBLISH", "SUBSCRIBE"], answer
        peer.close()


def test_the_end_of_nothing_is_not_answered(stock, responder):
    callers = Caller(stock, responder)
    callers.ask(expires=0, ident="nothing")
    assert callers.answers(1) == [None] and responder.requests == []


def test_a_notify_changes_nothing(stock, responder):
    subscribe(stock, responder)
    first = responder.wait(1)[0]
    time.sleep(0.2)
    for cseq, state in enumerate(("active;expires=7", "terminated;reason=deactivated", "terminated"), 1):
        moved = "sip:moved@127.0.0.1:%d" % responder.port
        assert responder.notify(stock, first, state, cseq=cseq, contact=moved).code == 481, "pua_update_contact is -1"
    time.sleep(0.7)
    assert len(responder.requests) == 1


def test_a_subscribe_without_a_target_is_another_dialog(stock, responder):
    for expires in (600, 900):
        subscribe(stock, responder, expires)
        time.sleep(0.3)
    calls = {message.get("Call-ID") for message in responder.requests}
    assert len(responder.requests) == len(calls) == 2
    subscribe(stock, responder, 0)
    time.sleep(0.3)
    assert not [m for m in responder.requests[2:] if m.get("Call-ID") in calls], "neither is ended"


def test_nothing_is_queued(stock, responder):
    responder.delay = 0.7
    callers = Caller(stock, responder)
    callers.ask(pidf(), ident="queue")
    callers.ask("<broken", ident="queue")
    callers.ask(pidf(), ident="queue", etag="nobody's")
    assert [type(answer) for answer in callers.answers(3)] == [dict, str, str] and len(responder.requests) == 1


def test_line_breaks_become_headers(stock, responder):
    publish(stock, responder, body=pidf(), ident="breaks", ctype="text/plain\r\nX-Bad: 1")
    assert responder.wait(1)[0].get("X-Bad") == "1"


def test_while_the_first_subscribe_is_under_way(responder):
    responder.delay = 0.6
    with server("stock", params=dict(check_remote_contact=0, min_expires=60)) as kamailio:
        subscribe(kamailio, responder, 600)
        subscribe(kamailio, responder, 3600)
        time.sleep(0.9)
        assert [m.get("Expires") for m in responder.requests] == ["610"], "a longer one is not sent"
        other = "sip:other@127.0.0.1:%d" % responder.port
        for expires in (600, 0):
            assert kamailio.rpc("pua.subscribe", other, ALICE, "presence", expires).strip() == ""
        time.sleep(0.9)
        assert [m.get("Expires") for m in responder.requests[1:]] == ["610"], "its end is not sent"
        responder.delay = 0
        publish(kamailio, responder, body=pidf(), ident="i")
        publish(kamailio, responder, ident="i", expires=0)
        assert [m.get("Expires") for m in responder.requests[2:]] == ["3601", "60"]


def test_rows_are_deleted_at_the_start(responder):
    with server("stock") as kamailio:
        publish(kamailio, responder, body=pidf(), ident="i")
        kamailio.restart()
        assert kamailio.rows("pua") == []


@pytest.mark.parametrize("answer", [503, None])
def test_a_refresh_that_fails_ends_what_it_refreshed(responder, answer):
    seen = set()

    def first_only(message):
        is_first = message.method not in seen
        seen.add(message.method)
        return 200 if is_first else answer

    responder.expires, responder.script = 8, first_only
    with server("stock", params=dict(check_remote_contact=0, outbound_proxy=responder.uri),
                more='modparam("tm", "fr_timer", 700)\n') as kamailio:
        publish(kamailio, responder, body=pidf(), ident="i")
        subscribe(kamailio, responder)
        time.sleep(6)
        subscribes = [message for message in responder.requests if message.method == "SUBSCRIBE"]
        refreshes = [etag(message) for message in responder.requests if message.method == "PUBLISH"][1:]
        calls = [message.get("Call-ID") for message in subscribes]
        assert calls[:2] == calls[:1] * 2 and calls[0] not in calls[2:], "the dialog is dropped"
        if answer:
            assert refreshes == ["tag-1"] and kamailio.rows("pua") == [], "it is dropped"
        else:
            assert len(refreshes) >= 3 and set(refreshes) == {"tag-1"}, "it is sent each second"


def test_of_a_fork_the_branch_that_answers_counts(responder):
    responder.delay, responder.expires = 0.5, 8
    with server("stock", params=dict(check_remote_contact=0)) as kamailio:
        subscribe(kamailio, responder)
        first = responder.wait(1)[0]
        contact = "sip:branch-a@127.0.0.1:%d" % responder.port
        assert responder.notify(kamailio, first, tag="branch-a", contact=contact).code == 481
        refresh = responder.wait(2, timeout=8)[1]
        assert refresh.start.startswith("SUBSCRIBE sip:server@") and "tag=srv1" in refresh.get("To")


DROPS = """
event_route[tm:local-request] { if (is_method("PUBLISH")) drop; }
"""


def test_dropped_requests_lose_memory(responder):
    with server("stock", route=ROUTE + DROPS) as kamailio:
        def ask(count):
            for _ in range(count):
                try:
                    publish(kamailio, responder, body=pidf(), ident="dropped", timeout=0.05)
                except (OSError, TimeoutError):
                    pass
            time.sleep(7)
            return used(kamailio)

        before = ask(5)
        lost = ask(25) - before
        assert responder.requests == [] and lost > 25 * 100, lost


def test_refreshes_after_a_restart_come_at_once(responder):
    responder.expires = 40
    with server("stock", params=dict(update_period=15, outbound_proxy=responder.uri)) as kamailio:
        for n in range(40):
            publish(kamailio, responder, body=pidf(), ident="i%d" % n)
        time.sleep(17)
        count = len(responder.requests)
        kamailio.restart()
        times = sorted(message.at for message in responder.wait(count + 40, timeout=30)[count:])
        assert len(times) >= 40 and times[39] - times[0] < 2, times


def test_numbers_of_a_dialog_go_back_after_a_crash(responder, database_server):
    database = database_server("mysql")
    with server("stock", params=dict(check_remote_contact=0, db_table_lock_write=0), db=database.url) as kamailio:
        subscribe(kamailio, responder, 600)
        responder.wait(1), time.sleep(7)
        for expires in (700, 800, 900):
            subscribe(kamailio, responder, expires)
            time.sleep(0.2)
        used_ones = [message.cseq for message in responder.requests]
        kamailio.stop(signal.SIGKILL)
        kamailio.start()
        subscribe(kamailio, responder, 1000)
        last = responder.wait(len(used_ones) + 1)[-1]
        assert last.get("Call-ID") == responder.requests[0].get("Call-ID") and last.cseq <= max(used_ones)
