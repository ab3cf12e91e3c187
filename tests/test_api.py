"""The C API of presence as an outside author's module sees it: the same calls and callbacks on stock and on ours."""
import os
import re
import shutil
import subprocess

import pytest

from kit.kamailio import ROOT, Kamailio, kamailio_host
from kit.sip import Client

SOURCE = ROOT / "tests" / "apimod" / "apitest_mod.c"
ROUTE = """
request_route {
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    if (is_method("MESSAGE")) { apitest_status(); sl_send_reply("200", "OK"); exit; }
    if (!t_newtran()) exit;
    if (is_method("PUBLISH")) { apitest_publish(); }
    else if ($hdr(X-As) != $null) { apitest_subscribe_as(); } else { apitest_subscribe(); }
    t_release();
}
"""


def compile_with(compiler, folder, more=()):
    host = kamailio_host.Host()
    xml = subprocess.run(["pkg-config", "--cflags", "libxml-2.0"], capture_output=True, text=True).stdout.split()
    out = folder / "apitest.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-g", "-Wall", "-Werror", "-Wno-unused-function",
                    '-DMOD_NAME="apitest"',
                    "-DMOD_NAMEID=apitest"] + host.flags + list(more) + xml
                   + ["-isystem", str(host.headers.folder), str(SOURCE), "-o", str(out)], check=True)
    return out


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    return compile_with(os.environ.get("CC", "gcc"), tmp_path_factory.mktemp("apitest"))


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_it_compiles_without_warnings(compiler, tmp_path):
    if shutil.which(compiler) is None:
        pytest.skip("%s is not installed" % compiler)
    assert compile_with(compiler, tmp_path).exists()


def said(server):
    """What the module said, in order; the watchers' and documents' own order is the only thing that is sorted out."""
    lines = [line.split("APITEST ", 1)[1] for line in server.log().split("\n") if "APITEST " in line]
    return [re.sub(r"\d+@", "@", line) for line in lines]


MODE = dict(subs_db_mode=1, publ_cache=1)


def both(module, scenario, **params):
    seen = {}
    for which in ("stock", "ours"):
        more = "".join('modparam("apitest", "%s", %d)\n' % pair for pair in params.items())
        server = Kamailio(which, presence=MODE, modules=("presence_xml", str(module)[:-3]), route=ROUTE,
                          extra_params=more, workers=1)
        server.force_active = True
        with server:
            clients = {}

            def phone(user):
                return clients.setdefault(user, Client(server, user))

            answers = scenario(server, phone)
            assert server.alive()
            for client in clients.values():
                client.close()
            seen[which] = (answers, said(server))
    return seen["stock"], seen["ours"]


def publish(client, body, **more):
    return client.publish(to="sip:alice@example.org", body=body, event="apitest", ctype="text/plain", **more)


def subscriptions(server, phone):
    """A small life: documents, watchers, changes, the end."""
    out = []
    alice, bob = phone("alice"), phone("bob")
    first = publish(alice, "one", expires=None)
    out.append((first.code, first.get("Expires")))
    watches = []
    for user in ("bob", "blockedjoe", "pendingsue", "politeann"):
        watch = phone(user).subscribe("sip:alice@example.org", event="apitest")
        phone(user).quiet(0.2)
        watches.append(watch)
    second = publish(alice, "two")
    bob.quiet(0.2)
    changed = publish(alice, "uno", etag=first.get("SIP-ETag"))
    out.append((changed.code, changed.get("SIP-ETag") == first.get("SIP-ETag")))
    bob.quiet(0.2)
    publish(alice, None, etag=second.get("SIP-ETag"), expires=0)
    bob.quiet(0.2)
    watches[0].refresh()
    bob.quiet(0.2)
    watches[0].unsubscribe()
    alias = phone("carol").subscribe("sip:alice@example.org", event="apitest", extra=["X-As: 1"])
    phone("carol").quiet(0.2)
    alice.reply_to(alice.request("MESSAGE", alice.uri))
    for watch in watches + [alias]:
        watch.client.quiet(0.1)
        out.append([(n.get("Subscription-State", "").split(";expires")[0], n.get("Content-Type"), in_any_order(n.text))
                    for n in watch.notifies])
    out.append((alias.reply.code, alias.reply.reason))
    return out


def in_any_order(text):
    """Documents of one second come in the order of their seconds: whether two share one is chance."""
    return re.sub(r"\[([^]]*)\]", lambda found: "[%s]" % "+".join(sorted(found.group(1).split("+"))), text)


def steps(lines):
    """Callbacks whose number depends on what is cached, and the order in which memory is given back, are left out."""
    return [line for line in lines if not line.startswith(("free", "aux_free", "aggregate"))]


@pytest.mark.parametrize("params",
                         [dict(), dict(aggregate=1), dict(default_expires=77), dict(aggregate=1, keep_etag=1)])
def test_callbacks(module, params):
    """A package that decides nothing about its watchers."""
    stock, ours = both(module, subscriptions, **params)
    if not params.get("aggregate"):
        # A document was removed and another is left: stock notifies the watchers of nothing, ours of what is left.
        for mine, theirs in zip(ours[0][2:6], stock[0][2:6]):
            assert theirs[3] == ("active", None, "") and mine[3] == ("active", "text/plain", "uno")
            mine[3] = theirs[3]
    assert ours[0] == stock[0]
    assert steps(ours[1]) == steps(stock[1])


@pytest.mark.parametrize("params",
                         [dict(auth=1), dict(auth=1, aggregate=1), dict(auth=1, aux=1),
                          dict(auth=1, aux=1, aggregate=1)])
def test_callbacks_that_decide(module, params):
    """Stock gives the filtered body back by another function than it was made with, and dies: the order it calls in up
    to there is that of ours. Each body is given back exactly once."""
    with Kamailio("ours", presence=MODE, modules=("presence_xml", str(module)[:-3]), route=ROUTE, workers=1,
                  extra_params="".join('modparam("apitest", "%s", %d)\n' % pair for pair in params.items())) as server:
        clients = {}
        answers = subscriptions(server, lambda user: clients.setdefault(user, Client(server, user)))
        lines = said(server)
        assert server.alive()
        for client in clients.values():
            client.close()
    active, blocked, pending, polite = answers[2:6]
    assert all("<" in text for state, _, text in active if state == "active") and len(active) >= 5
    assert [text for _, _, text in blocked + pending + polite if text] == []
    assert blocked[0][0] == "terminated;reason=rejected" and pending[0][0] == "pending" and polite[0][0] == "active"
    made = sum(line.startswith(("filter", "aggregate")) for line in lines)
    assert sum(line.startswith("free") for line in lines) == made
    assert sum(line.startswith("aux_free") for line in lines) == sum(line.startswith("aux ") for line in lines)
    if params.get("aux"):
        assert any(re.match(r"filter bob v\d", line)
                   for line in lines), "the watcher's own body is made before the rules are applied"


@pytest.mark.parametrize("aggregate", [0, 1])
def test_every_function(module, aggregate):
    def scenario(server, phone):
        server.rpc("apitest.run")
        return None

    stock, ours = both(module, scenario, aggregate=aggregate)
    different = ("update same", "get from", "get changed", "get [", "delete", "gone", "count")
    plain = [[line for line in steps(lines) if not line.startswith(different)] for _, lines in (stock, ours)]
    assert plain[0] == plain[1]
    # Stock cannot replace on SQLite, and takes the first subscription with the To tag for the one that is to go.
    assert "update same 0" in ours[1] and "delete 1" in ours[1] and "gone 0" in ours[1]
    assert ("get [changed]" if aggregate else "get changed") in ours[1]


def test_under_address_sanitizer(tmp_path):
    """The module's own code, its texts and what it is given: no byte beyond what was allocated for the stack and for
    libc."""
    runtime = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()
    module = compile_with("gcc", tmp_path, ["-fsanitize=address", "-fno-omit-frame-pointer"])
    options = "detect_leaks=0:verify_asan_link_order=0:exitcode=99:log_path=%s" % (tmp_path / "asan")
    server = Kamailio("ours", presence=MODE, modules=("presence_xml", str(module)[:-3]), route=ROUTE, workers=1,
                      extra_params='modparam("apitest", "aux", 1)\nmodparam("apitest", "aggregate", 1)\n',
                      environment=dict(LD_PRELOAD=runtime, ASAN_OPTIONS=options))
    with server:
        maps = open("/proc/%d/maps" % server.pids()[1]).read()
        assert "libasan" in maps
        clients = {}
        answers = subscriptions(server, lambda user: clients.setdefault(user, Client(server, user)))
        server.rpc("apitest.run")
        for client in clients.values():
            client.close()
        assert server.alive() and answers[0][0] == 200
        assert server.stop() == 0
    reports = [path.read_text()[:2000] for path in tmp_path.glob("asan.*")]
    assert not reports, reports[0]
