"""What the documents name exists, what exists is named, and the configurations in them start."""
import pathlib
import re
import subprocess

import pytest

from kit import database
from kit.kamailio import KAMAILIO, OURS, ROOT, STOCK, Kamailio, free_port
from kit.sip import Client, pidf

DOCUMENTS = sorted((ROOT / "docs").glob("*.md")) + [ROOT / "README.md"]


def exported(module):
    """Names in the tables of a module: parameters, commands, functions."""
    source = (ROOT / "kamailio-glue" / ("%s_mod.c" % module)).read_text()
    parameters = re.findall(r'\{"(\w+)", PARAM_\w+, &params', source)
    commands = re.findall(r'\{"((?:presence|pua)\.\w+)", kr_', source)
    assert len(parameters) > 10 and commands
    return parameters, commands


@pytest.mark.parametrize("module", ["presence", "pua"])
def test_everything_is_described(module):
    parameters, commands = exported(module)
    text, compat = (ROOT / "docs" / ("%s.md" % module)).read_text(), (ROOT / "COMPAT.md").read_text()
    clustering = (ROOT / "docs" / "clustering.md").read_text()
    missing = [name for name in parameters if "`%s`" % name not in text and "`%s`" % name not in clustering and name not in clustering]
    assert not [name for name in missing if name not in ("enable_subs_dmq", "enable_subs_sync_dmq", "default_socket")]
    assert not [name for name in commands if "`%s`" % name not in text]
    assert not [name for name in parameters if name not in compat]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_what_is_named_exists(path):
    known = {module: exported(module) for module in ("presence", "pua")}
    text = path.read_text()
    for module, name in re.findall(r'modparam\("(presence|pua)", "(\w+)"', text):
        assert name in known[module][0], name
    for command in re.findall(r"kamcmd ((?:presence|pua)\.\w+)", text):
        assert command in known["presence"][1] + known["pua"][1], command
    for link in re.findall(r"\]\(([\w/.-]+)\)", text):
        assert (path.parent / link).exists(), link


def configurations():
    for path in DOCUMENTS:
        for at, block in enumerate(re.findall(r"```\n(.*?)```", path.read_text(), re.S)):
            if re.search(r'^modparam\("(presence|pua)"', block, re.M):
                yield pytest.param(block, id="%s-%d" % (path.name, at))
    for path in sorted((ROOT / "examples").glob("*.cfg")):
        yield pytest.param(path.read_text(), id=path.name)


@pytest.mark.parametrize("block", list(configurations()))
def test_configurations_are_accepted(block, tmp_path):
    """Kamailio itself reads them (`-c`), with what a fragment leaves out put around it."""
    port, path = free_port(), tmp_path / "kamailio.cfg"
    database.create_sqlite(tmp_path / "presence.sqlite")
    block = block.replace("    ...\n", "").replace("PRESENCE_MODULES/", "%s/" % OURS).replace("KEMI_SCRIPTS", str(ROOT / "examples" / "kemi"))
    nodes = tmp_path / "nodes.list"
    nodes.write_text("1 sip:127.0.0.1:%d\n" % port)
    block = block.replace("/etc/kamailio/presence-nodes.list", str(nodes))
    block = re.sub(r"sqlite:///+[\w/.]+", "sqlite:///%s" % (tmp_path / "presence.sqlite"), block).replace("192.0.2.1", "127.0.0.1")
    if "request_route" not in block and "cfgengine" not in block:
        block += "request_route { exit; }\n"
    if not block.startswith("#!KAMAILIO"):
        first = ["db_sqlite", "tm", "sl", "pv", "textops"] + ([] if "dmq.so" in block else ["presence"])
        lines = ["#!KAMAILIO", "listen=udp:127.0.0.1:%d" % port, 'mpath="%s/:%s/"' % (OURS, STOCK)]
        lines += ['loadmodule "%s.so"' % module for module in first if 'loadmodule "%s.so"' % module not in block]
        if 'modparam("pua"' in block and 'loadmodule "pua.so"' not in block:
            lines.append('loadmodule "pua.so"')
        block = "\n".join(lines) + "\n" + block
    path.write_text(block)
    done = subprocess.run([KAMAILIO, "-c", "-f", str(path), "-E"], capture_output=True, text=True, timeout=30)
    output = done.stdout + done.stderr
    assert "config file ok, exiting" in output and done.returncode == 0, output[-2000:] + pathlib.Path(path).read_text()


# A proxy before other nodes: it serves nobody by itself.
EDGE = ROOT / "examples" / "edge-by-presentity.cfg"
SERVERS = [path for path in sorted((ROOT / "examples").glob("*.cfg")) if path != EDGE]


def test_the_edge_sends_each_presentity_to_one_node(tmp_path):
    with Kamailio("ours", presence=dict(subs_db_mode=1)) as one, Kamailio("ours", presence=dict(subs_db_mode=1)) as two:
        nodes = tmp_path / "nodes.list"
        nodes.write_text("".join("1 sip:127.0.0.1:%d\n" % node.port for node in (one, two)))
        edge = Kamailio("ours", folder=tmp_path)
        text = EDGE.read_text().replace("/etc/kamailio/presence-nodes.list", str(nodes)).replace("/run/kamailio/ctl", str(tmp_path / "ctl"))
        text = text.replace(":5060\n", ":%d\n" % edge.port).replace("children=4", "children=4\ndisable_tcp=yes")
        text = text.replace('mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"', 'mpath="%s/"' % STOCK)
        edge.config, edge.make_database = lambda: text, lambda: None
        with edge:
            alice, bob = Client(edge, "alice"), Client(edge, "bob")
            watches, tags = [], []
            for n in range(12):
                uri = "sip:user%d@example.org" % n
                tags.append(alice.publish(uri, body=pidf("user%d" % n)).get("SIP-ETag"))
                watches.append(bob.subscribe(uri))
                assert watches[-1].reply.code == 200 and "open" in watches[-1].wait(1)[0].text
            shares = [{row["presentity_uri"] for row in node.rows("active_watchers")} for node in (one, two)]
            published = [{"sip:%s@example.org" % row["username"] for row in node.rows("presentity")} for node in (one, two)]
            assert all(shares) and not shares[0] & shares[1] and shares == published
            route = [r.strip() for r in watches[0].reply.all("Record-Route")]
            assert watches[0].refresh(extra=["Route: " + ", ".join(reversed(route))]).code == 200
            # A node is lost: its presentities go on at the other.
            lost = next(n for n in range(12) if "sip:user%d@example.org" % n in shares[0])
            one.stop(9)
            uri = "sip:user%d@example.org" % lost
            again = alice.reply_to(alice.request("PUBLISH", uri, ["Event: presence", "Expires: 600", "Content-Type: application/pidf+xml"],
                                                 pidf("user%d" % lost)), timeout=12)
            assert again.code == 200
            assert "open" in bob.subscribe(uri).wait(1, timeout=12)[0].text
            alice.close(), bob.close()
            one.start()


@pytest.mark.parametrize("path", SERVERS, ids=lambda path: path.name)
def test_examples_serve(path, tmp_path):
    """Each example starts as it is, but for its ports and its database, and shows a publication to a watcher."""
    from kit.servers import PostgreSQL
    server = PostgreSQL() if "postgres" in path.name else None
    port = free_port()
    database.create_sqlite(tmp_path / "presence.sqlite")
    text = path.read_text().replace("PRESENCE_MODULES/", "%s/" % OURS).replace("/run/kamailio/ctl", str(tmp_path / "ctl"))
    text = text.replace("KEMI_SCRIPTS", str(ROOT / "examples" / "kemi"))
    text = re.sub(r"sqlite:///+[\w/.]+", "sqlite:///%s" % (tmp_path / "presence.sqlite"), text).replace(":5060", ":%d" % port).replace(":8080", ":%d" % port)
    if server:
        text = re.sub(r"postgres://[^\"]+", server.url, text)
    if "tcp:" not in text:
        text = text.replace("children=4", "children=4\ndisable_tcp=yes")
    made = Kamailio("ours", folder=tmp_path)
    made.port, made.config, made.make_database = port, lambda: text, lambda: None
    try:
        with made:
            alice, bob = Client(made, "alice"), Client(made, "bob")
            watch = bob.subscribe(alice.uri)
            assert watch.reply.code == 200
            assert alice.publish(body=pidf()).code == 200
            decides = "rules" in path.name
            watch.wait(1 if decides else 2, timeout=8)
            assert decides or "open" in watch.notifies[-1].text
            assert not [line for line in made.log().split("\n") if "CRITICAL" in line or "presence: cannot" in line]
            alice.close(), bob.close()
    finally:
        if server:
            server.stop()
