"""Statistics in the host's own framework: what was counted is what was sent."""
import json
import re
import subprocess
import time
import urllib.request

from kit.kamailio import ROOT, Kamailio, free_port
from kit.responder import Responder
from kit.sip import Client, dialog_info, pidf
from test_pua import ALICE, parameters


def statistics(server, group):
    """What `stats.get_statistics` shows of a group."""
    text = server.rpc("stats.get_statistics", group + ":")
    return {name: int(value) for name, value in re.findall(r"%s:(\w+) = (-?\d+)" % group, text)}


def test_presence_is_counted():
    for presence in (dict(subs_db_mode=0, publ_cache=2), dict(),
                     dict(subs_db_mode=3, publ_cache=0, notifier_processes=0)):
        with Kamailio("ours", presence=presence, workers=3) as server:
            start = statistics(server, "presence")
            assert len(start) > 40 and not any(start[name] for name in ("publish_2xx", "subscriptions", "notify_sent"))
            alice, bob, deaf = Client(server, "alice"), Client(server, "bob"), Client(server, "deaf", answer=486)
            reply = alice.publish(body=pidf())
            alice.publish(body=dialog_info("early"), event="dialog", ctype="application/dialog-info+xml")
            assert alice.publish(body=pidf(), etag="nobody's").code == 412
            assert alice.publish(body=pidf(), event="nothing").code == 489
            assert alice.publish(body="x", ctype="text/plain").code == 415
            watch = bob.subscribe(alice.uri)
            lamp = bob.subscribe(alice.uri, event="dialog")
            watch.wait(1), lamp.wait(1)
            deaf.subscribe(alice.uri).wait(1)
            watch.refresh(), watch.wait(2)
            assert bob.subscribe(alice.uri, event="nothing").reply.code == 489
            time.sleep(1.2)
            now = statistics(server, "presence")
            expected = dict(publish_2xx=2, publish_412=1, publish_489=1, publish_415=1, subscribe_2xx=4,
                            subscribe_489=1,
                            notify_sent=4, notify_2xx=3, notify_4xx=1, subscriptions=3, subscriptions_presence=2,
                            subscriptions_dialog=1, publications=2, publications_presence=1, publications_dialog=1,
                            notify_unsent=0, db_errors=0)
            assert {name: now[name] for name in expected} == expected, presence
            alice.publish(etag=reply.get("SIP-ETag"), expires=0)
            watch.wait(3)
            watch.unsubscribe()
            time.sleep(1.2)
            now = statistics(server, "presence")
            assert (now["subscriptions"], now["publications"], now["publications_presence"]) == (2, 1, 0)
            assert (now["db_writes"] > 0) == bool(presence.get("subs_db_mode", 1))
            for client in (alice, bob, deaf):
                client.close()


def test_what_waits_for_the_database_is_counted():
    with Kamailio("ours", presence=dict(subs_db_mode=2, publ_cache=1, db_update_period=3), workers=2) as server:
        bob = Client(server, "bob")
        watches = [bob.subscribe("sip:u%d@example.org" % index) for index in range(10)]
        assert all(watch.reply.code == 200 for watch in watches)
        before = statistics(server, "presence")
        assert before["db_rows_queued"] == 10 or before["db_group_rows"] >= 10
        time.sleep(4.5)
        now = statistics(server, "presence")
        # Of each watcher the row of its subscription, and that of its authorization.
        assert (now["db_rows_queued"], now["watchers_queued"], now["db_group_rows"]) == (0, 0, 20)
        assert 2 <= now["db_groups"] <= 20
        assert (now["fanouts_queued"], now["fanouts_oldest_age"]) == (0, 0)
        bob.close()


def test_pua_is_counted():
    responder = Responder()
    with Kamailio("ours", presence=dict(), http=True, modules=("pua", "pua_rpc"),
                  extra_params=parameters() + 'modparam("tm", "fr_timer", 600)\n') as server:
        for ident in ("a", "b"):
            answer = server.json_rpc("pua.publish", ALICE, "600", "presence", "application/pidf+xml", ident, ".",
                                     responder.uri, ".", pidf())
            assert "result" in answer
        responder.script = lambda message: 403
        server.json_rpc("pua.publish", ALICE, "600", "presence", "application/pidf+xml", "c", ".", responder.uri, ".",
                        pidf())
        responder.script = lambda message: None
        server.json_rpc("pua.publish", ALICE, "600", "presence", "application/pidf+xml", "d", ".", responder.uri, ".",
                        pidf())
        now = statistics(server, "pua")
        expected = dict(publish_sent=4, subscribe_sent=0, answers_2xx=2, answers_failed=1, timeouts=1, publications=2,
                        subscriptions=0, in_flight=0, queued=0, unsent=0)
        assert {name: now[name] for name in expected} == expected
    responder.close()


def test_prometheus_sees_them():
    route = """
request_route { if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; } if (!t_newtran()) exit;
    if (is_method("PUBLISH")) { handle_publish(); } else { handle_subscribe(); } t_release(); }
event_route[xhttp:request] { prom_dispatch(); }
"""
    import urllib.request

    server = Kamailio("ours", presence=dict(subs_db_mode=0, publ_cache=2),
                      modules=("xhttp", "xhttp_prom", "presence", "presence_xml"), route=route,
                      extra_params='modparam("xhttp_prom", "xhttp_prom_stats", "all")\n',
                      before="tcp_accept_no_cl=yes\n")
    server.listen.append("tcp:127.0.0.1:%d" % server.port)
    with server:
        alice = Client(server, "alice")
        assert alice.publish(body=pidf()).code == 200
        with urllib.request.urlopen("http://127.0.0.1:%d/metrics" % server.port, timeout=5) as reply:
            text = reply.read().decode()
        assert (re.search(r"kamailio_presence_publish_2xx 1\b", text)
                and re.search(r"kamailio_presence_publications 1\b", text))
        alice.close()


def test_prometheus_scrapes_what_was_sent(tmp_path):
    """Debian's own Prometheus reads the counters through xhttp_prom; its answers are the traffic that was sent."""
    web, ports = free_port(), """
tcp_accept_no_cl=yes
loadmodule "xhttp.so"
loadmodule "xhttp_prom.so"
modparam("xhttp_prom", "xhttp_prom_stats", "all")
event_route[xhttp:request] { prom_dispatch(); }
"""
    with Kamailio("ours", presence=dict(subs_db_mode=0, publ_cache=2), tcp=True, extra_params=ports) as server:
        (tmp_path / "prometheus.yml").write_text("global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: "
                                                 "kamailio\n  static_configs:\n"
                                                 "  - targets: ['127.0.0.1:%d']\n" % server.port)
        prometheus = subprocess.Popen(
            [str(ROOT / "target" / "tools" / "usr" / "bin" / "prometheus"),
             "--config.file=%s" % (tmp_path / "prometheus.yml"),
             "--storage.tsdb.path=%s" % (tmp_path / "data"), "--web.listen-address=127.0.0.1:%d" % web],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            alice, bob = Client(server, "alice"), Client(server, "bob")
            watch = bob.subscribe(alice.uri)
            watch.wait(1)
            for _ in range(7):
                assert alice.publish(body=pidf()).code == 200
            bob.quiet(0.3)
            wanted = {"publish_2xx": 7, "subscribe_2xx": 1, "subscriptions": 1, "publications": 7,
                      "notify_2xx": len(watch.notifies)}
            seen = {}
            for _ in range(40):
                bob.quiet(0.5)
                seen = {name: value_of(web, "kamailio_presence_" + name) for name in wanted}
                if seen == wanted:
                    break
            assert seen == wanted
            alice.close(), bob.close()
        finally:
            prometheus.terminate()
            prometheus.wait(10)


def value_of(port, name):
    """The newest value of a metric, or None while there is none."""
    try:
        with urllib.request.urlopen("http://127.0.0.1:%d/api/v1/query?query=%s" % (port, name), timeout=3) as reply:
            found = json.loads(reply.read())["data"]["result"]
    except OSError:
        return None
    return int(float(found[0]["value"][1])) if found else None
