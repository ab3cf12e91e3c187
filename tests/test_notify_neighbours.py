"""NOTIFYs without tm and the rest of a configuration: what sees, changes or drops packets does the same with `auto` as
with tm."""
import pathlib
import re
import socket
import sqlite3

import pytest

from kit import database
from kit.kamailio import STOCK, Kamailio, free_port
from kit.sip import Client, pidf
from test_notify_engine import MEMORY, SERVE, counts, engine_lines, masked, served, under_way_ends
from test_statistics import statistics

TM, AUTO = "tm", "auto"


def on(engine, **options):
    options.setdefault("db", None)
    return dict(options, presence=dict(MEMORY, notify_engine=engine), workers=1)


# -- who asks tm for the transaction of an answer
# -------------------------------------------------------------------------------

ASKING = {
    "a condition": 'reply_route { if (!t_check_trans()) { xlog("L_NOTICE", "SEEN\\n"); drop; } }\n',
    "a variable": 'reply_route { if ($T(id_index) == $null) { xlog("L_NOTICE", "SEEN\\n"); drop; } }\n',
    "a route that is called": 'reply_route { route(CHECK); }\n'
                              'route[CHECK] { if ($rs == 200) { if (not t_check_trans()) { xlog("L_NOTICE", "SEEN\\n'
                              '"); drop; } } }\n',
    "an assignment": 'reply_route { $var(known) = $T(id_label); if ($var(known) == 0) { xlog("L_NOTICE", "SEEN\\n"); '
                     'drop; } }\n',
    "a part of a condition": 'reply_route { if ($rs >= 200 && ($rs < 100 || !t_check_trans())) { xlog("L_NOTICE", '
                             '"SEEN\\n"); drop; } }\n',
    "a loop": 'reply_route { $var(i) = 0; while ($var(i) < 1) { if (!t_check_trans()) drop; $var(i) = $var(i) + 1; } '
              '}\n',
    "a switch": 'reply_route { switch ($rs) { case 999: xlog("L_NOTICE", "SEEN 999\\n"); break; } if '
                '(!t_check_trans()) { drop; } }\n',
    "a route by its name": 'reply_route { $var(name) = "CHECK"; route($var(name)); }\n'
                           'route[CHECK] { if (!t_check_trans()) { xlog("L_NOTICE", "SEEN\\n"); drop; } }\n',
}


@pytest.mark.parametrize("how", ASKING)
def test_a_reply_route_that_asks_tm_finds_its_transactions(ours, phones, how):
    seen = {}
    for engine in (TM, AUTO):
        server = ours(modules=("presence_xml", "tmx"), route=SERVE + ASKING[how], **on(engine))
        seen[engine] = served(server, phones), counts(server, "notify_2xx", "notify_retransmissions")
    assert seen[AUTO] == seen[TM]
    # A variable of tm does not look for the transaction itself: tm's answers are dropped, too.
    assert seen[TM][0][2] == (0, 2) and (seen[TM][1] == (2, 0) or how in ("a variable", "an assignment")), seen
    assert "tm's transactions" in engine_lines(server)[0]


PLAIN = {
    "Debian's": 'reply_route { if (!sanity_check("17604", "6")) { xlog("L_NOTICE", "SEEN\\n"); drop; } }\n',
    "other functions": 'reply_route { if (is_method("INVITE") && search("x")) { route(OTHER); } append_hf("X-Way: '
                       'back\\r\\n"); }\n'
                       'route[OTHER] { remove_hf("X-Way"); }\n',
    "variables": 'reply_route { $var(a) = $rs + 1; $avp(b) = $hdr(CSeq); if ($rs =~ "^2") { xlog("L_NOTICE", "SEEN\\n'
                 '"); } }\n',
    "answers of a transaction alone": 'onreply_route[ASKED] { if (!t_check_trans()) drop; }\n',
}


@pytest.mark.parametrize("how", PLAIN)
def test_a_reply_route_that_does_not_is_served(ours, phones, how):
    seen = {}
    for engine in (TM, AUTO):
        server = ours(route=SERVE + PLAIN[how], **on(engine))
        seen[engine] = served(server, phones)[:2], counts(server, "notify_2xx")
    assert seen[AUTO] == seen[TM]
    assert counts(server, "notify_direct", "notify_by_tm", wanted=(2, 0)) == (2, 0)


def test_an_answer_that_the_script_drops_has_not_come(ours, phones):
    """With both engines, what reply_route throws away ends nothing."""
    seen = {}
    route = SERVE + 'reply_route { if ($rs == 200 && $rm == "NOTIFY") drop; }\n'
    quick = 'modparam("tm", "fr_timer", 1000)\nmodparam("tm", "retr_timer1", 300)\n'
    for engine in (TM, AUTO):
        server = ours(route=route, extra_params=quick, **on(engine))
        bob = phones(server, "bob")
        bob.subscribe("sip:alice@example.org").wait(1)
        bob.quiet(2)
        assert under_way_ends(server)
        seen[engine] = counts(server, "notify_2xx", "notify_timeout", "subscriptions")
    assert seen[AUTO] == seen[TM] == (0, 1, 0)
    assert counts(server, "notify_direct", wanted=(1,)) == (1,)


def test_the_route_for_stray_answers_sees_none_of_them(ours, phones):
    seen = {}
    route = SERVE + 'onreply_route[STRAY] { xlog("L_NOTICE", "SEEN stray $rs\\n"); return 0; }\n'
    for engine in (TM, AUTO):
        server = ours(route=route, extra_params='modparam("tm", "on_sl_reply", "STRAY")\n', **on(engine))
        seen[engine] = served(server, phones)[:2], counts(server, "notify_2xx")
        stranger = phones(server, "eve")
        stranger.send_raw("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK77ef.4c1b.0\r\nFrom: <sip:a@b>;"
                          "tag=1\r\n"
                          "To: <sip:a@b>;tag=2\r\nCall-ID: stray\r\nCSeq: 1 NOTIFY\r\nContent-Length: 0\r\n\r\n")
        stranger.quiet(0.2)
        assert server.log().count("SEEN stray") == 1
    assert seen[AUTO] == seen[TM] and seen[TM][0][0] == 0
    assert counts(server, "notify_direct", "notify_by_tm", wanted=(2, 0)) == (2, 0)


SCRIPTS = {
    "lua": """
function ksr_request_route()
  if KSR.is_OPTIONS() then KSR.sl.sl_send_reply(200, "OK") return 1 end
  KSR.tm.t_newtran()
  if KSR.is_PUBLISH() then KSR.presence.handle_publish() else KSR.presence.handle_subscribe() end
  return 1
end
function ksr_reply_route()
  if KSR.tm.t_check_trans() <= 0 then KSR.xlog.xnotice("SEEN\\n") KSR.set_drop() end
  return 1
end
""",
    "py": """
import KSR
def mod_init():
    return Script()
class Script:
    def child_init(self, rank):
        return 0
    def ksr_request_route(self, msg):
        if KSR.is_OPTIONS():
            KSR.sl.sl_send_reply(200, "OK")
            return 1
        KSR.tm.t_newtran()
        KSR.presence.handle_publish() if KSR.is_PUBLISH() else KSR.presence.handle_subscribe()
        return 1
    def ksr_reply_route(self, msg):
        if KSR.tm.t_check_trans() <= 0:
            KSR.xlog.xnotice("SEEN\\n")
            KSR.set_drop()
        return 1
""",
}


@pytest.mark.parametrize("language", ["lua", "py"])
def test_a_reply_route_in_another_language_is_left_to_tm(ours, phones, language, tmp_path):
    """What it asks for cannot be seen; callbacks set to none say that there is none."""
    module, engine = {"lua": ("app_lua", "lua"), "py": ("app_python3", "python")}[language]
    script = tmp_path / ("script." + language)
    script.write_text(SCRIPTS[language])
    seen = {}
    load = 'modparam("%s", "load", "%s")\n' % (module, script)
    for mode, more in ((TM, ""), (AUTO, ""),
                       ("none", 'kemi.reply_route_callback = "none"\nkemi.onsend_route_callback = "none"\n')):
        server = ours(modules=("presence_xml", module), route='cfgengine "%s"\n' % engine, extra_params=load + more,
                      **on(TM if mode == TM else AUTO))
        seen[mode] = served(server, phones), counts(server, "notify_2xx")
    assert seen[AUTO] == seen[TM] == ((0, [None, None], (0, 2)), (2,))
    assert seen["none"] == ((0, [None, None], (2, 0)), (2,))


# -- what is kept of addresses that do not answer
# -------------------------------------------------------------------------------

def test_the_list_of_silent_addresses_is_kept(ours, phones):
    seen = {}
    quick = 'modparam("tm", "fr_timer", 1000)\nmodparam("tm", "retr_timer1", 300)\n'
    for engine in (TM, AUTO):
        server = ours(modules=("presence_xml", "cfg_rpc"), before="use_dst_blocklist=yes\n", extra_params=quick,
                      **on(engine))
        bob = phones(server, "bob")
        bob.answer = None
        bob.subscribe("sip:alice@example.org")
        bob.quiet(2)
        seen[engine] = re.sub(r"\d+", "N",
                              server.rpc("dst_blocklist.view")), counts(server, "notify_timeout", "notify_by_tm")
    assert seen[AUTO] == seen[TM] and seen[TM][1] == (1, 1)
    assert "use_dst_blocklist" in engine_lines(server)[0]
    # It is switched off and on while the server runs.
    server.rpc("cfg.set_now_int", "core", "use_dst_blocklist", 0)
    eve = phones(server, "eve")
    eve.subscribe("sip:alice@example.org").wait(1)
    assert counts(server, "notify_direct", "notify_by_tm", wanted=(1, 1)) == (1, 1)
    server.rpc("cfg.set_now_int", "core", "use_dst_blocklist", 1)
    eve.subscribe("sip:carol@example.org").wait(1)
    assert counts(server, "notify_direct", "notify_by_tm", wanted=(1, 2)) == (1, 2)
    assert [line.split("NOTIFYs", 1)[1].split(" (")[0] for line in engine_lines(server)[1:]] == [
        " to addresses go out without tm from now on",
        " go out through tm from now on: use_dst_blocklist sees them"]


def test_tm_does_not_count_them(both):
    """COMPAT, "statistics of tm"."""
    def scenario(server, phone, trace):
        bob = phone("bob")
        bob.answer = None
        bob.subscribe("sip:alice@example.org").wait(1)
        seen = statistics(server, "tmx")
        listed = server.rpc("tm.list").count("NOTIFY")
        assert listed + seen["UAC_transactions"] == (2 if server.which == "stock" else 0)
        assert server.which == "stock" or counts(server, "notify_direct", "notify_under_way") == (1, 1)

    both(scenario, presence=MEMORY, db=None, workers=1, modules=("presence_xml", "tmx"))


# -- what sees and changes packets
# ----------------------------------------------------------------------------------------------

def hidden(message):
    """A NOTIFY whose addresses, tags and ids another module has changed."""
    text = re.sub(r"sips?:[^\s<>;\"]+|SIP/2.0/UDP \S+|(?<=Call-ID: )\S+|(?<=tag=)\S+|(?<=expires=)\d+", "X",
                  message.raw.decode())
    return re.sub(r";[a-z]+=[^;>\s]+", "", text)


def exchange(server, phones, **subscribe):
    alice, bob = phones(server, "alice"), phones(server, "bob")
    alice.publish(body=pidf())
    subscribe = {name: value.replace("PORT", str(bob.port)) for name, value in subscribe.items()}
    watch = bob.subscribe(alice.uri, **subscribe)
    watch.wait(1)
    alice.publish(body=pidf(basic="closed"))
    watch.wait(2)
    bob.quiet(0.2)
    return bob


NEIGHBOURS = {
    "topoh": (("topoh",), 'modparam("topoh", "mask_key", "key")\nmodparam("topoh", "mask_ip", "192.0.2.9")\n'
                          'modparam("topoh", "mask_callid", 1)\n', ""),
    "topos": (("topos",), 'modparam("topos", "db_url", "@DB@")\n', ""),
    "sipdump": (("sipdump",), 'modparam("sipdump", "enable", 1)\nmodparam("sipdump", "mode", 2)\n',
                'event_route[sipdump:msg] { if ($sipdump(buf) =~ "NOTIFY sip:|CSeq: [0-9]+ NOTIFY") '
                '{ xlog("L_NOTICE", "SEEN $sipdump(tag)\\n"); } }\n'),
    "corex": ((), 'modparam("corex", "nio_intercept", 1)\n',
              'event_route[network:msg] { xlog("L_NOTICE", "SEEN packet\\n"); }\n'),
    "core:msg-received": ((), "received_route_mode=1\n",
                          'event_route[core:msg-received] { xlog("L_NOTICE", "SEEN $si\\n"); }\n'),
    "nathelper": (("nathelper",), "", ""),
    "path, outbound and rr": (("path", "stun", "outbound"), "", ""),
}


@pytest.mark.parametrize("neighbour", NEIGHBOURS)
def test_packets_pass_other_modules_as_tms_do(phones, neighbour):
    modules, params, route = NEIGHBOURS[neighbour]
    if not all((pathlib.Path(STOCK) / (module + ".so")).exists() for module in modules):
        pytest.skip("this host has no %s" % neighbour)
    if neighbour == "topoh":
        route = "event_route[topoh:msg-outgoing] { xlog(\"L_NOTICE\", \"SEEN out\\n\"); }\n"
    serve = (SERVE.replace("if (!t_newtran())", "add_contact_alias(); if (!t_newtran())") if neighbour == "nathelper"
             else SERVE)
    seen = {}
    for engine in (TM, AUTO):
        server = Kamailio("ours", modules=("presence_xml",) + modules, extra_params=params, route=serve + route,
                          **on(engine, db="sqlite" if neighbour == "topos" else None))
        if neighbour == "topos":
            server.make_database()
            connection = sqlite3.connect(str(server.db_path))
            connection.executescript(database.schema("db_sqlite", "topos-create.sql").read_text())
            connection.close()
        with server:
            before = server.log().count("SEEN")
            bob = exchange(server, phones)
            seen[engine] = [hidden(message)
                            for message in bob.notifies], server.log(
                                    ).count("SEEN") - before, counts(server, "notify_2xx", wanted=(2,))
            served_by = counts(server, "notify_direct", "notify_by_tm", wanted=(2, 0) if engine == AUTO else None)
    assert seen[AUTO] == seen[TM] and seen[TM][2] == (2,)
    assert served_by == (2, 0)
    assert not route or seen[TM][1] >= 2


def test_siptrace_copies_them(ours, phones):
    seen = {}
    for engine in (TM, AUTO):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
            collector.bind(("127.0.0.1", 0))
            collector.settimeout(0.5)
            params = ('modparam("siptrace", "trace_on", 1)\nmodparam("siptrace", "trace_mode", 1)\n'
                      'modparam("siptrace", "hep_mode_on", 1)\n'
                      'modparam("siptrace", "trace_to_database", 0)\nmodparam("siptrace", "duplicate_uri", '
                      '"sip:127.0.0.1:%d")\n'
                      % collector.getsockname()[1])
            server = ours(modules=("presence_xml", "siptrace"), extra_params=params, **on(engine))
            exchange(server, phones)
            copies = []
            try:
                while True:
                    copies.append(collector.recv(65535))
            except socket.timeout:
                pass
            seen[engine] = (sum(b"NOTIFY sip:" in copy for copy in copies),
                            sum(b"SIP/2.0 200" in copy and b" NOTIFY\r\n" in copy for copy in copies))
    assert seen[AUTO] == seen[TM] == (2, 2)
    assert counts(server, "notify_direct", "notify_by_tm", wanted=(2, 0)) == (2, 0)


# -- from where and to where
# ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("before, script, contact", [
    ("", "force_send_socket(udp:127.0.0.1:OTHER);", None),
    ("mhomed=1\n", "", None),
    ("advertised_address=192.0.2.7\nadvertised_port=5062\n", "", None),
    ("udp_mtu=1300\nudp_mtu_try_proto=TCP\n", "", None),
    ("", "", "<sip:bob@127.0.0.1:PORT;transport=udp>"),
    ("", "", "<sip:bob@127.0.0.1:PORT;ob;line=x>"),
    ("", "", "\"Bob\" <sip:bob;p=q@127.0.0.1:PORT>;+sip.instance=\"<urn:uuid:0>\""),
], ids=["force_send_socket", "mhomed", "advertised", "udp_mtu", "transport", "outbound", "parameters"])
def test_they_go_from_and_to_where_tms_go(before, script, contact):
    seen = {}
    for engine in (TM, AUTO):
        other = free_port()
        server = Kamailio("ours", before=before,
                          route=SERVE.replace("if (!t_newtran())",
                                              script.replace("OTHER", str(other)) + " if (!t_newtran())"),
                          **on(engine))
        server.listen.append("udp:127.0.0.1:%d" % other)
        with server:
            large = pidf(note="n" * 3000) if "mtu" in before else pidf()
            alice, bob = Client(server, "alice"), Client(server, "bob")
            alice.publish(body=large)
            watch = bob.subscribe(alice.uri,
                                  **(dict(contact=contact.replace("PORT", str(bob.port))) if contact else {}))
            watch.wait(1)
            alice.publish(body=pidf(basic="closed"))
            watch.wait(2)
            names = {server.port: "FIRST", other: "SECOND"}
            seen[engine] = [(masked(message.raw, bob, server).replace(":%d" % other, ":SECOND"),
                             names[message.source[1]])
                            for message in bob.notifies]
            served_by = counts(server, "notify_direct", "notify_by_tm", wanted=(2, 0) if engine == AUTO else None)
            alice.close(), bob.close()
    assert seen[AUTO] == seen[TM] and len(seen[TM]) == 2
    assert served_by == (2, 0)


def test_an_alias_in_the_contact_is_followed(ours, phones):
    """The parameter that nathelper's add_contact_alias() writes says where a phone behind a NAT is: NOTIFYs go
    there."""
    seen = {}
    for engine in (TM, AUTO):
        server = ours(**on(engine))
        bob = phones(server, "bob")
        bob.subscribe("sip:alice@example.org",
                      contact="<sip:bob@192.0.2.4:5062;line=x;alias=127.0.0.1~%d~1>" % bob.port).wait(1)
        bob.quiet(0.2)
        seen[engine] = [re.sub(r"%d|%d" % (bob.port, server.port), "PORT", masked(message.raw, bob, server))
                        for message in bob.notifies]
    assert seen[AUTO] == seen[TM] and len(seen[TM]) == 1 and "sip:bob@192.0.2.4:5062;line=x SIP/2.0" in seen[TM][0]


def test_ipv6_is_served():
    seen = {}
    for engine in (TM, AUTO):
        server = Kamailio("ours", **on(engine))
        server.listen.append("udp:[::1]:%d" % server.port)
        with server, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as bob:
            bob.bind(("::1", 0))
            bob.settimeout(3)
            here = bob.getsockname()[1]
            maker = Client(server, "bob")
            request = maker.request("SUBSCRIBE", "sip:alice@example.org", contact="<sip:bob@[::1]:%d>" % here,
                                    headers=["Event: presence", "Expires: 600"]).decode()
            request = re.sub(r"Via: [^;]+", "Via: SIP/2.0/UDP [::1]:%d" % here, request)
            bob.sendto(request.encode(), ("::1", server.port))
            received = [bob.recv(65535).decode() for _ in range(2)]
            notify = next(text for text in received if text.startswith("NOTIFY"))
            seen[engine] = re.sub(r"(branch|tag)=[^;\s>]+|Call-ID: \S+|expires=\d+", "X",
                                  notify).replace(":%d" % here, ":BOB").replace(
                ":%d" % server.port, ":SERVER")
            lines = [line for line in notify.split("\r\n") if re.match("Via|From|To|Call-ID|CSeq", line)]
            bob.sendto(("SIP/2.0 200 OK\r\n" + "\r\n".join(lines) + "\r\nContent-Length: 0\r\n\r\n").encode(),
                       ("::1", server.port))
            bob.settimeout(0.3)
            with pytest.raises(socket.timeout):
                bob.recv(65535)
            assert counts(server, "notify_2xx", "notify_under_way", wanted=(1, 0)) == (1, 0)
            served_by = counts(server, "notify_direct", "notify_by_tm", wanted=(1, 0) if engine == AUTO else None)
            maker.close()
    assert seen[AUTO] == seen[TM]
    assert served_by == (1, 0)
