"""The page for Prometheus: every metric of docs/metrics.md is on it, promtool is content with it, and its numbers are
the traffic."""
import re
import threading
import time

import pytest

from conftest import MODES
from kit.kamailio import ROOT, Kamailio
from kit.prometheus import PAGE, families, page, promtool, values
from kit.responder import Responder
from kit.sip import Client, dialog_info, pidf
from test_dmq import joined, node
from test_pua import ALICE, parameters
from test_statistics import statistics

DOCUMENTED = dict(re.findall(r"^### `(\w+)`\n\n(\w+), unit:", (ROOT / "docs" / "metrics.md").read_text(), re.M))


def serve(**settings):
    settings.setdefault("modules", ("presence_xml", "presence_dialoginfo"))
    function = settings.pop("function", "presence_metrics")
    settings["extra_params"] = PAGE % function + settings.get("extra_params", "")
    return Kamailio("ours", tcp=True, **settings)


def of(numbers, name, **labels):
    """The sum of the samples of a metric that have these labels."""
    wanted = ['%s="%s"' % item for item in labels.items()]
    return sum(number for sample, number in numbers.items()
               if sample.split("{")[0] == name and all(pair in sample for pair in wanted))


STORAGE = dict({mode: settings["presence"] for mode, settings in MODES.items()},
               notifiers=dict(subs_db_mode=3, publ_cache=0, notifier_processes=2, waitn_time=1))


@pytest.mark.parametrize("mode", STORAGE)
def test_numbers_are_the_traffic(mode):
    settings = STORAGE[mode]
    with serve(presence=settings, workers=3) as server:
        alice, bob, deaf = Client(server, "alice"), Client(server, "bob"), Client(server, "deaf", answer=481)
        watch, lamp = bob.subscribe(alice.uri), bob.subscribe(alice.uri, event="dialog")
        watch.wait(1), lamp.wait(1)
        deaf.subscribe(alice.uri).wait(1)
        bob.quiet(0.5)
        etag = alice.publish(body=pidf()).get("SIP-ETag")
        watch.wait(2)
        alice.publish(body=dialog_info("early"), event="dialog", ctype="application/dialog-info+xml")
        lamp.wait(2)
        assert alice.publish(body=pidf(), etag="nobody's").code == 412
        assert alice.publish(body="x", ctype="text/plain").code == 415
        assert alice.publish(body=pidf(), event="nothing").code == 489
        assert alice.publish(etag=etag, expires=0).code == 200
        watch.wait(3)
        watch.unsubscribe()
        watch.wait(4)
        bob.quiet(1.2)
        numbers, old = values(server), statistics(server, "presence")
        publish = lambda **labels: of(numbers, "presence_publish_responses_total", **labels)
        assert [publish(event="presence", code=code) for code in (200, 412, 415, 500)] == [2, 1, 1, 0]
        assert (publish(event="dialog", code=200), publish(event="other", code=489), publish()) == (1, 1, 6)
        subscribe = lambda **labels: of(numbers, "presence_subscribe_responses_total", **labels)
        assert (subscribe(event="presence", code=200) + subscribe(event="presence", code=202),
                subscribe(event="dialog")) == (3, 1)
        sent = lambda **labels: of(numbers, "presence_notify_sent_total", **labels)
        assert [sent(event="presence", reason=reason)
                for reason in ("change", "subscribe", "unsubscribe", "ended")] == [2, 2, 1, 0]
        assert [sent(event="dialog", reason=reason) for reason in ("change", "subscribe")] == [1, 1]
        answered = lambda **labels: of(numbers, "presence_notify_responses_total", **labels)
        assert (answered(event="presence", code=200), answered(event="presence", code=481),
                answered(event="dialog", code=200)) == (4, 1, 2)
        round_trips = lambda event: of(numbers, "presence_notify_round_trip_seconds_count", event=event)
        assert (round_trips("presence"), round_trips("dialog")) == (5, 2)
        assert 0 < of(numbers, "presence_notify_round_trip_seconds_sum", event="presence") < 5
        changes = lambda event: of(numbers, "presence_change_notified_seconds_count", event=event)
        assert (changes("presence"), changes("dialog")) == ((0, 0) if mode == "notifiers" else (2, 1))
        ended = lambda reason: of(numbers, "presence_subscriptions_ended_total", event="presence", reason=reason)
        assert [ended(reason)
                for reason in ("unsubscribed", "notify_refused", "notify_timeout", "expired")] == [1, 1, 0, 0]
        assert of(numbers, "presence_subscriptions", event="dialog", status="active") == 1
        assert of(numbers, "presence_subscriptions", event="presence") == 0
        assert (of(numbers, "presence_publications", event="dialog"), of(numbers, "presence_presentities")) == (1, 1)
        written = of(numbers, "presence_database_seconds_count", operation="write")
        assert (written > 0) == (mode != "memory")
        assert of(numbers, "presence_database_errors_total") == old["db_errors"]
        # The host's own statistics count the same.
        assert (publish(code=200), sent(),
                answered(code=200)) == (old["publish_2xx"], old["notify_sent"], old["notify_2xx"])
        for client in (alice, bob, deaf):
            client.close()


def test_every_metric_is_there_and_well_formed():
    """A server that has done nothing yet, and one with pua and another node."""
    with serve() as server:
        text, content_type = page(server)
        assert content_type.startswith("text/plain; version=0.0.4")
        assert families(text) == {name: kind for name, kind in DOCUMENTED.items() if name.startswith("presence_")}
        assert promtool("check", "metrics", text=text) == (0, "")
        assert 'presence_build_info{name="kamailio-presence",version="' in text and ' kamailio="' not in text
    with serve(function="pua_metrics", modules=("presence_xml", "pua"), extra_params=parameters()) as server:
        text = page(server)[0]
        assert families(text) == {name: kind for name, kind in DOCUMENTED.items() if name.startswith("pua_")}
        assert promtool("check", "metrics", text=text) == (0, "")


def test_one_page_has_pua_and_the_other_nodes():
    here = node("ours", modules=("dmq", "presence", "presence_xml", "presence_dialoginfo", "pua"))
    here.extra_params += PAGE % "presence_metrics" + parameters()
    here.listen.append("tcp:127.0.0.1:%d" % here.port)
    with here:
        with node("ours", seed=here) as there:
            joined(here, there)
            alice = Client(there, "alice")
            assert alice.publish(body=pidf()).code == 200
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline and not of(values(here), "presence_dmq_messages_received_total"):
                time.sleep(0.2)
            text = page(here)[0]
            assert families(text) == DOCUMENTED
            assert promtool("check", "metrics", text=text) == (0, "")
            names = re.findall(r'^presence_node_up\{node="([^"]+)"\} 1$', text, re.M)
            assert len(names) == 1 and "127.0.0.2" in names[0]
            alice.close()


def test_requests_of_pua_are_counted():
    responder = Responder()
    extra = PAGE % "presence_metrics" + parameters() + 'modparam("tm", "fr_timer", 600)\nloadmodule "jsonrpcs.so"\n'
    route = 'event_route[xhttp:request] { if ($hu == "/RPC") { jsonrpc_dispatch(); exit; } presence_metrics(); }\n'
    extra = re.sub(r"event_route\[xhttp:request\].*\n", "", extra) + 'modparam("jsonrpcs", "transport", 1)\n'
    with Kamailio("ours", modules=("presence_xml", "pua", "pua_rpc"), tcp=True, extra_params=extra,
                  more_route=route) as server:
        for ident, answer in (("a", 200), ("b", 403), ("c", None)):
            responder.script = lambda message, answer=answer: answer
            server.json_rpc("pua.publish", ALICE, "600", "presence", "application/pidf+xml", ident, ".", responder.uri,
                            ".", pidf())
        numbers = values(server)
        answered = {code: of(numbers, "pua_responses_total", method="PUBLISH", code=code)
                    for code in ("200", "403", "timeout")}
        assert answered == {"200": 1, "403": 1, "timeout": 1}
        assert of(numbers, "pua_requests_sent_total", method="PUBLISH") == 3 == of(numbers, "pua_requests_sent_total")
        assert of(numbers, "pua_publications") == statistics(server, "pua")["publications"]
        assert of(numbers, "pua_database_seconds_count", operation="read") > 0
    responder.close()


def test_a_notify_that_nobody_answers_is_a_timeout():
    with serve(extra_params='modparam("tm", "fr_timer", 500)\n') as server:
        silent = Client(server, "silent", answer=None)
        silent.subscribe("sip:alice@example.org").wait(1)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and not of(values(server), "presence_notify_responses_total", code="timeout"):
            silent.quiet(0.3)
        numbers = values(server)
        assert of(numbers, "presence_notify_responses_total", event="presence", code="timeout") == 1
        assert of(numbers, "presence_notify_round_trip_seconds_count") == 0
        assert of(numbers, "presence_subscriptions_ended_total", event="presence", reason="notify_timeout") == 1
        silent.close()


def test_the_route_that_looks_at_answers_does_not_cost_the_round_trip():
    """Where a subscription is kept for event_route[presence:notify-reply], its NOTIFY is measured all the same."""
    route = 'event_route[presence:notify-reply] { xlog("L_NOTICE", "REPLY $subs(event)\\n"); }\n'
    with serve(more_route=route) as server:
        bob = Client(server, "bob")
        watch = bob.subscribe("sip:alice@example.org", event="dialog")
        watch.wait(1)
        watch.unsubscribe()
        watch.wait(2)
        bob.quiet(0.4)
        numbers = values(server)
        assert of(numbers, "presence_notify_round_trip_seconds_count", event="dialog") == 2
        assert server.log().count("REPLY dialog") == 2
        bob.close()


def test_a_fan_out_of_the_sender_processes_is_measured_to_its_end():
    watchers = 150
    with serve(presence=dict(subs_db_mode=0, publ_cache=2)) as server:
        bob = Client(server, "bob")
        for _ in range(watchers):
            bob.subscribe("sip:alice@example.org")
        bob.wait_notifies(watchers, 10)
        alice = Client(server, "alice")
        began = time.monotonic()
        assert alice.publish(body=pidf()).code == 200
        bob.wait_notifies(2 * watchers, 10)
        took = time.monotonic() - began
        bob.quiet(0.3)
        numbers = values(server)
        assert of(numbers, "presence_fanouts_handed_over_total") == 1
        assert of(numbers, "presence_change_notified_seconds_count", event="presence") == 1
        measured = of(numbers, "presence_change_notified_seconds_sum", event="presence")
        assert took / 10 < measured < took + 0.3
        alice.close(), bob.close()


def test_writers_that_wait_for_each_other_are_seen():
    with serve(presence=dict(subs_db_mode=1, publ_cache=1), workers=8) as server:
        def publish(user):
            phone = Client(server, user)
            for _ in range(15):
                phone.publish(body=pidf(user))
            phone.close()

        threads = [threading.Thread(target=publish, args=("u%d" % at,)) for at in range(8)]
        [thread.start() for thread in threads], [thread.join() for thread in threads]
        numbers = values(server)
        assert of(numbers, "presence_publish_responses_total", code=200) == 120
        # What several processes write in one transaction is one operation.
        shared = int(re.search(r"db_shared_commits = (\d+)", server.rpc("stats.get_statistics", "presence:")).group(1))
        assert of(numbers, "presence_database_seconds_count", operation="write") + shared >= 120
        assert shared > 0
        assert of(numbers, "presence_lock_wait_seconds_count", lock="database") > 0
        buckets = [number for sample, number in numbers.items()
                   if sample.startswith('presence_database_seconds_bucket{operation="write"')]
        assert (buckets == sorted(buckets)
                and buckets[-1] == of(numbers, "presence_database_seconds_count", operation="write"))


def test_lines_that_the_log_lacks_are_counted():
    with serve(workers=1) as server:
        alice = Client(server, "alice")
        for _ in range(40):
            assert alice.publish(body=pidf(), event="nothing").code == 489
        written = server.log().count("answered 489")
        assert of(values(server), "presence_log_lines_left_out_total") == 40 - written > 0
        alice.close()


def refused(**settings):
    """What a server says that does not start."""
    server = Kamailio("ours", presence=dict(subs_db_mode=0, publ_cache=2), db=None, modules=("presence_xml",),
                      **settings)
    try:
        server.start(expect_failure=True)
        assert server.process.poll() not in (None, 0)
        return server.log()
    finally:
        server.remove()


def test_it_says_what_it_needs():
    assert "load the xhttp module" in refused(more_route="event_route[xhttp:request] { presence_metrics(); }\n")
    with serve(publish='if (presence_metrics()) { exit; } handle_publish()') as server:
        alice = Client(server, "alice")
        assert alice.publish(body=pidf()).code == 200
        assert "presence_metrics answers HTTP requests" in server.log()
        alice.close()


def test_scripts_in_lua_have_the_page(tmp_path):
    script = tmp_path / "page.lua"
    script.write_text('function ksr_request_route()\n  KSR.sl.send_reply(200, "OK")\nend\n'
                      'function ksr_xhttp_event(name)\n  KSR.presence.presence_metrics()\nend\n')
    extra = ('tcp_accept_no_cl=yes\nmodparam("app_lua", "load", "%s")\nmodparam("xhttp", "event_callback", '
             '"ksr_xhttp_event")\n' % script)
    with Kamailio("ours", tcp=True, modules=("presence_xml", "xhttp", "app_lua"), route='cfgengine "lua"\n',
                  extra_params=extra) as server:
        assert "presence_build_info" in page(server)[0]
