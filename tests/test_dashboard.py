"""The dashboard and the alert rules: Debian's Prometheus answers each query about real servers under load, and promtool
tests each alert."""
import json
import os
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest

from kit.example import Example
from kit.kamailio import OURS, ROOT
from kit.prometheus import PAGE, Prometheus, promtool
from kit.responder import Responder
from kit.sip import Client, dialog_info, pidf
from test_dmq import joined, node
from test_metrics import DOCUMENTED
from test_pua import parameters

DASHBOARD = json.loads((ROOT / "packaging" / "grafana" / "dashboard.json").read_text())
ALERTS = ROOT / "packaging" / "grafana" / "alerts.yml"
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
USED = re.compile(r"\b((?:presence|pua)_[a-z_]+)")


def metric(name):
    """The documented name behind one in a query."""
    return re.sub(r"_(bucket|sum|count)$", "", name)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory):
    """Two nodes under load, one of them with pua, and a Prometheus that has seen some seconds of it."""
    here = node("ours", modules=("dmq", "presence", "presence_xml", "presence_dialoginfo", "pua", "pua_rpc"))
    both = PAGE.replace("{ if (!",
                        '{ if ($hu == "/RPC") { jsonrpc_dispatch(); exit; } if (!').replace(
                            "loadmodule", 'loadmodule "jsonrpcs.so"\nloadmodule')
    here.extra_params += both % "presence_metrics" + parameters() + 'modparam("jsonrpcs", "transport", 1)\n'
    here.listen.append("tcp:127.0.0.1:%d" % here.port)
    presentity_server, stop = Responder(), threading.Event()

    def watch_and_publish():
        alice, bob = Client(here, "alice"), Client(here, "bob")
        for event, body, kind in (("presence", pidf(), "application/pidf+xml"),
                                  ("dialog", dialog_info("early"), "application/dialog-info+xml")):
            for _ in range(70):
                bob.subscribe(alice.uri, event=event)
        while not stop.is_set():
            alice.publish(body=pidf(), extra=["SIP-If-Match: unknown"])
            for event, body, kind in (("presence", pidf(), "application/pidf+xml"),
                                      ("dialog", dialog_info("early"), "application/dialog-info+xml")):
                alice.publish(body=body, event=event, ctype=kind, expires=60)
                passing = bob.subscribe(alice.uri, event=event)
                passing.unsubscribe()
            bob.quiet(0.2)
        alice.close(), bob.close()

    def publish_by_pua():
        while not stop.is_set():
            here.json_rpc("pua.publish", "sip:carol@example.org", "600", "presence", "application/pidf+xml", "x", ".",
                          presentity_server.uri, ".", pidf())
            time.sleep(0.2)

    with here, node("ours", seed=here) as there, Prometheus(tmp_path_factory.mktemp("prometheus"), here.port,
                                                            rules=[ALERTS]) as prometheus:
        joined(here, there)
        threads = [threading.Thread(target=work) for work in (watch_and_publish, publish_by_pua)]
        [thread.start() for thread in threads]
        try:
            assert prometheus.wait('count_over_time(presence_notify_responses_total{code="200"}[1m]) > 6', 60)
            yield prometheus
        finally:
            stop.set()
            [thread.join(30) for thread in threads]
            presentity_server.close()


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_each_query_gives_data(prometheus, panel):
    for target in panel["targets"]:
        query = target["expr"].replace("$__rate_interval", "20s").replace("$instance", ".*")
        assert "$" not in query
        found = prometheus.wait(query, 20)
        # Where nothing happened, a quantile is not a number; Grafana leaves a gap.
        assert found and any(number == number for _, number in found), (query, found)


def test_prometheus_takes_the_rules_and_none_of_them_fires_on_a_sound_server(prometheus):
    with urllib.request.urlopen("http://127.0.0.1:%d/api/v1/rules" % prometheus.port, timeout=5) as reply:
        rules = json.loads(reply.read())["data"]["groups"][0]["rules"]
    assert len(rules) == len(alerts()) and all(rule["health"] == "ok" for rule in rules), rules
    assert not [rule["name"] for rule in rules if rule["state"] == "firing"]


def test_the_dashboard_is_whole():
    """Grafana's structure: one data source variable, distinct ids, no panels that overlap; every metric has a panel."""
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["datasource", "instance"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    cells = [(x, y) for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
             for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24
    assert all(target["datasource"]["uid"] == "${datasource}" and target["legendFormat"] for panel in PANELS
               for target in panel["targets"])
    shown = {metric(name) for query in QUERIES for name in USED.findall(query)}
    assert shown == set(DOCUMENTED) - {"pua_build_info"}


# Where the package installs it: an address that leads there from every program that shows an alert.
RUNBOOK = "file:///usr/share/doc/kamailio-presence/docs/troubleshooting.md"


def alerts():
    """Each rule: name, expression, how long, runbook."""
    found = re.findall(r"- alert: (\w+)\n    expr: '(.*)'\n    for: (\w+)\n    labels: \{severity: "
                       r"(?:warning|critical)\}\n    annotations:\n"
                       r"      summary: '.+'\n      runbook_url: '(\S+)'\n", ALERTS.read_text())
    assert len(found) == ALERTS.read_text().count("- alert:")
    return found


def anchors(text):
    """The anchors of a document's headings, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_each_alert_has_its_runbook():
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    for name, expression, _, runbook in alerts():
        assert runbook == "%s#%s" % (RUNBOOK, name.lower()) and name.lower() in anchors(text)
        section = text.split("\n### %s\n" % name)[1].split("\n#")[0]
        assert section.strip(), name
        assert {metric(used) for used in USED.findall(expression)} <= set(DOCUMENTED), expression


@pytest.mark.parametrize("document", ["metrics.md", "troubleshooting.md", "operations.md"])
def test_links_to_headings_lead_somewhere(document):
    text = (ROOT / "docs" / document).read_text()
    for target, anchor in re.findall(r"\]\(([\w.-]*\.md)?#([\w-]+)\)", text):
        assert anchor in anchors((ROOT / "docs" / (target or document)).read_text()), (target, anchor)


# What makes each alert fire, as series of promtool (a minute apart), and when it does.
CASES = {
    "PresenceDown": ({}, "3m"),
    "PresenceServerErrors": ({'presence_publish_responses_total{code="503"}': "0+5x30",
                              'presence_subscribe_responses_total{code="500"}': "0x30"}, "15m"),
    "PresencePublicationsLost": ({'presence_publish_responses_total{code="412"}': "0+2x40",
                                  'presence_publish_responses_total{code="200"}': "0+10x40"}, "30m"),
    "PresenceDialogsLost": ({'presence_subscribe_responses_total{code="481"}': "0+2x40",
                             'presence_subscribe_responses_total{code="200"}': "0+10x40"}, "30m"),
    "PresenceNotifyTimeouts": ({'presence_notify_responses_total{code="timeout"}': "0+1x40",
                                'presence_notify_responses_total{code="200"}': "0+10x40"}, "30m"),
    "PresenceNotifyUnsent": ({"presence_notify_unsent_total": "0+1x30"}, "15m"),
    "PresenceSlowFanOut": ({'presence_change_notified_seconds_bucket{le="5"}': "0x40",
                            'presence_change_notified_seconds_bucket{le="10"}': "0+9x40",
                            'presence_change_notified_seconds_bucket{le="+Inf"}': "0+9x40"}, "30m"),
    "PresenceFanOutsWait": ({"presence_fanout_oldest_age_seconds": "11x30"}, "15m"),
    "PresenceDatabaseErrors": ({"presence_database_errors_total": "0+1x30"}, "15m"),
    "PresenceDatabaseSlow": ({'presence_database_seconds_bucket{le="0.5"}': "0x40",
                              'presence_database_seconds_bucket{le="1"}': "0+9x40",
                              'presence_database_seconds_bucket{le="+Inf"}': "0+9x40"}, "30m"),
    "PresenceRowsRefused": ({"presence_database_rows_refused_total": "0x5 1x20"}, "10m"),
    "PresenceRowsWait": ({"presence_database_rows_waiting": "1001x30"}, "20m"),
    "PresenceMemoryShort": ({"presence_shared_memory_free_bytes": "9x30",
                             "presence_shared_memory_size_bytes": "100x30"}, "10m"),
    "PresenceNodeDown": ({'presence_node_up{node="b"}': "0x10"}, "5m"),
    "PresenceNodesDiffer": ({'presence_build_info{version="1"}': "1x90", 'presence_build_info{version="2"}': "1x90"},
                            "70m"),
    "PresenceSubscriptionsDropped": ({'presence_subscriptions{event="dialog"}': "300x10 100x20"}, "15m"),
    "PresenceForeignMessages": ({"presence_dmq_messages_rejected_total": "0x5 1x20"}, "10m"),
    "PresenceLeaseLost": ({"presence_lease_held": "1x5 0x20", "presence_lease_renewals_total": "0+60x5 300x20"}, "10m"),
    "PresenceDocumentsUnreadable": ({"presence_documents_unreadable_total": "0x5 1x20"}, "10m"),
    "PuaTimeouts": ({'pua_responses_total{code="timeout"}': "0+2x40", 'pua_responses_total{code="200"}': "0+10x40"},
                    "30m"),
    "PuaDatabaseErrors": ({"pua_database_errors_total": "0+1x30"}, "15m"),
}
SOUND = {
    "presence_lease_held": "1x90", "presence_lease_renewals_total": "0+60x90",
    'presence_build_info{version="1"}': "1x90", 'presence_publish_responses_total{code="503"}': "7x90",
    'presence_publish_responses_total{code="412"}': "0+1x90",
    'presence_publish_responses_total{code="200"}': "0+50x90",
    'presence_subscribe_responses_total{code="481"}': "0+1x90",
    'presence_subscribe_responses_total{code="500"}': "0x90",
    'presence_subscribe_responses_total{code="200"}': "0+50x90",
    'presence_notify_responses_total{code="timeout"}': "0+1x90",
    'presence_notify_responses_total{code="200"}': "0+50x90", "presence_notify_unsent_total": "3x90",
    'presence_change_notified_seconds_bucket{le="5"}': "0+9x90",
    'presence_change_notified_seconds_bucket{le="+Inf"}': "0+9x90",
    "presence_fanout_oldest_age_seconds": "2x90", "presence_database_errors_total": "4x90",
    'presence_database_seconds_bucket{le="0.5"}': "0+9x90",
    'presence_database_seconds_bucket{le="+Inf"}': "0+9x90", "presence_database_rows_refused_total": "2x90",
    "presence_database_rows_waiting": "5000 0x90",
    "presence_shared_memory_free_bytes": "50x90", "presence_shared_memory_size_bytes": "100x90",
    'presence_node_up{node="b"}': "1x90",
    'presence_subscriptions{event="dialog"}': "300x20 290x70", "presence_dmq_messages_rejected_total": "1x90",
    "presence_documents_unreadable_total": "1x90",
    'pua_responses_total{code="timeout"}': "0+1x90", 'pua_responses_total{code="200"}': "0+50x90",
    "pua_database_errors_total": "1x90",
}


def series(samples):
    return "".join("  - series: '%s'\n    values: '%s'\n" % item for item in samples.items())


def test_promtool_takes_the_rules():
    code, said = promtool("check", "rules", ALERTS)
    assert code == 0 and "SUCCESS: %d rules found" % len(CASES) in said, said


def test_each_alert_fires_when_it_should_and_not_on_a_sound_server(tmp_path):
    assert list(CASES) == [name for name, *_ in alerts()]
    text = "rule_files: ['%s']\nevaluation_interval: 1m\ntests:\n" % ALERTS
    for name, (samples, at) in CASES.items():
        text += "- interval: 1m\n  input_series:%s\n" % ("\n" + series(samples).rstrip() if samples else " []")
        text += ("  promql_expr_test:\n  - expr: 'count(ALERTS{alertname=\"%s\", alertstate=\"firing\"}) >= 1'\n    "
                 "eval_time: %s\n" % (name, at))
        text += "    exp_samples: [{labels: '{}', value: 1}]\n"
    text += "- interval: 1m\n  input_series:\n%s  promql_expr_test:\n" % series(SOUND)
    for at in ("10m", "30m", "45m", "80m"):
        text += "  - expr: 'ALERTS{alertstate=\"firing\"}'\n    eval_time: %s\n    exp_samples: []\n" % at
    (tmp_path / "test.yml").write_text(text)
    code, said = promtool("test", "rules", tmp_path / "test.yml")
    assert code == 0, said[-3000:]


def test_packages_bring_dashboard_and_rules(tmp_path):
    done = subprocess.run([str(ROOT / "scripts" / "stage.sh"), str(tmp_path)], capture_output=True, text=True,
                          env=dict(os.environ, MODULES_OUT=str(OURS)))
    assert done.returncode == 0, done.stderr
    shared = tmp_path / "usr" / "share" / "kamailio-presence"
    assert (json.loads((shared / "dashboard.json").read_text()) == DASHBOARD
            and (shared / "alerts.yml").read_text() == ALERTS.read_text())
    assert (tmp_path / RUNBOOK.removeprefix("file:///")).is_file()
    described = (ROOT / "docs" / "metrics.md").read_text()
    assert "/usr/share/kamailio-presence/alerts.yml" in described and RUNBOOK in described


def test_the_example_shows_its_metrics_to_this_machine():
    with Example("metrics") as made:
        with urllib.request.urlopen("http://127.0.0.1:%d/metrics" % made.http_port, timeout=5) as reply:
            text = reply.read().decode()
        assert "presence_build_info" in text and promtool("check", "metrics", text=text) == (0, "")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen("http://127.0.0.1:%d/" % made.http_port, timeout=5)
        assert refused.value.code == 404
