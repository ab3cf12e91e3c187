"""Script functions, variables, event routes, RPC, KEMI."""
import pytest

from conftest import MODES
from kit.kamailio import Kamailio
from kit.sip import pidf

ATTRIBUTES = ("uri pres_uri to_user to_domain from_user from_domain watcher_username watcher_domain event event_id "
              "to_tag from_tag "
              "callid remote_cseq local_cseq contact local_contact record_route status reason version flags "
              "user_agent").split()


def show(place):
    return 'xlog("L_NOTICE", "SHOW %s: %s\\n");' % (place, " ".join("%s=[$subs(%s)]" % (a, a) for a in ATTRIBUTES))


ROUTE = """
request_route {
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    if (is_method("MESSAGE")) {
        pres_has_subscribers("$ru", "presence"); $var(a) = $retcode;
        pres_has_subscribers("sip:none@example.org", "presence"); $var(b) = $retcode;
        pres_refresh_watchers("$ru", "presence", 1); $var(c) = $retcode;
        pres_refresh_watchers("$ru", "foo", 1); $var(d) = $retcode;
        sl_send_reply("299", "$var(a) $var(b) $var(c) $var(d)");
        exit;
    }
    if (!t_newtran()) { sl_reply_error(); exit; }
    if (is_method("PUBLISH")) { handle_publish(); } else { handle_subscribe(); %s }
    xlog("L_NOTICE", "SHOW code $retcode\\n");
    t_release();
    exit;
}
event_route[tm:local-request] { %s }
event_route[presence:notify-reply] { %s xlog("L_NOTICE", "SHOW answer $notify_reply($rs) $notify_reply($rr)\\n"); }
""" % (show("after"), show("sent"), show("answered"))


def test_variables_and_functions(both):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        watch = bob.subscribe(alice.uri, extra=["User-Agent: phone 1"])
        watch.wait(1)
        bob.quiet(0.3)
        watch.refresh(extra=["User-Agent: phone 1"])
        bob.quiet(0.3)
        trace.note("functions", alice.reply_to(alice.request("MESSAGE", alice.uri)).reason)
        bob.quiet(0.3)
        watch.unsubscribe(extra=["User-Agent: phone 1"])
        bob.quiet(0.3)
        bob.subscribe(alice.uri, event="foo")
        bob.quiet(0.5)
        trace.note("log", "\n".join(line.split("SHOW", 1)[1] for line in server.log().split("\n") if "SHOW" in line))

    both(scenario, workers=1, route=ROUTE, **MODES["write-through"])


FLAGS = """
request_route {
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    if ($hdr(X-Flags) != $null) { $bF = $(hdr(X-Flags){s.int}); }
    if (!t_newtran()) { sl_reply_error(); exit; }
    if (is_method("PUBLISH")) { handle_publish(); t_release(); exit; }
    handle_subscribe();
    xlog("L_NOTICE", "SHOW after $subs(flags)\\n");
    t_release();
    exit;
}
event_route[tm:local-request] { xlog("L_NOTICE", "SHOW sent $subs(watcher_username) $subs(flags)\\n"); }
event_route[presence:notify-reply] { xlog("L_NOTICE", "SHOW answered $subs(watcher_username) $subs(flags)\\n"); }
"""


@pytest.mark.parametrize("mode", sorted(MODES))
def test_a_subscription_keeps_its_branch_flags(both, mode):
    """By `$bF` a script remembers that a phone is behind NAT: `$subs(flags)` shows it in each of its NOTIFYs."""
    def seen(server, step):
        lines = [line.split("SHOW ", 1)[1] for line in server.log().split("\n") if "SHOW" in line]
        fresh, server.shown = lines[getattr(server, "shown", 0):], len(lines)
        # NOTIFYs of one change are in no order.
        return "%s: %s" % (step, " | ".join(sorted(fresh)))

    def scenario(server, phone, trace):
        alice, bob, carol = phone("alice"), phone("bob"), phone("carol")

        def noted(step):
            for watcher in (bob, carol):
                watcher.quiet(0.3)
            trace.note(step, seen(server, step).replace(bob.user, "bob").replace(carol.user, "carol"))

        at_bob = bob.subscribe(alice.uri, extra=["X-Flags: 8"])
        noted("one watcher")
        carol.subscribe(alice.uri, extra=["X-Flags: 1073741824"])
        noted("another one")
        alice.publish(body=pidf(alice.user))
        noted("a change")
        at_bob.refresh(extra=["X-Flags: 4"])
        noted("a refresh with other flags")
        alice.publish(body=pidf(alice.user))
        noted("a change after it")
        if mode != "memory":
            trace.note("rows", str(sorted(row["flags"] for row in server.rows("active_watchers"))))

    different = {} if mode == "database-only" else {
        "a refresh with other flags": ("a subscription has one value: stock shows the request's once, and the first "
                                       "one afterwards", lambda text: "4" not in text)}
    both(scenario, workers=1, route=FLAGS, different=different, **MODES[mode])


def test_rpc(both):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        alice.publish(body=pidf(alice.user))
        watch = bob.subscribe(alice.uri)
        watch.wait(1)
        for words in (["presence.presentity_list"], ["presence.presentity_list", "full"], ["presence.cleanup"],
                      ["presence.refreshWatchers"], ["presence.refreshWatchers", alice.uri],
                      ["presence.refreshWatchers", alice.uri, "foo", 1], ["presence.updateWatchers"],
                      ["presence.updateWatchers", alice.uri, "foo"],
                      ["presence.refreshWatchers", alice.uri, "presence", 1]):
            trace.note(" ".join(str(word) for word in words), server.rpc(*words))
        watch.wait(2)
        trace.note("NOTIFYs", len(watch.notifies))

    both(scenario, workers=1, **MODES["memory"])


def test_newer_rpc(ours, phones):
    server = ours(**MODES["memory"])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    alice.publish(body=pidf())
    bob.subscribe(alice.uri)
    assert "etag: a." in server.rpc("presence.presentity_show", alice.uri)
    assert "404" in server.rpc("presence.presentity_show", "sip:nobody@example.org")
    listed = server.rpc("presence.watcher_list", alice.uri, "full")
    assert "watcher_user: bob" in listed and "callid:" in listed
    assert "error" in server.rpc("presence.publish_cache_sync")
    assert all(server.rpc("core.help", name) for name in ("presence.watcher_list", "presence.cleanup"))


def test_cache_sync_sees_foreign_rows(ours, phones):
    import sqlite3
    server = ours(**MODES["write-through"])
    bob = phones(server, "bob")
    watch = bob.subscribe("sip:carol@example.org")
    watch.wait(1)
    connection = sqlite3.connect(str(server.db_path), timeout=10)
    connection.execute("insert into presentity (username, domain, event, etag, expires, received_time, body, sender, "
                       "priority, ruid) "
                       "values ('carol', 'example.org', 'presence', 'x', 2000000000, 1, ?, '', 0, 'r1')",
                       (pidf("carol").encode(),))
    connection.commit()
    connection.close()
    server.rpc("presence.refreshWatchers", "sip:carol@example.org", "presence", 1)
    assert b"open" in watch.wait(2)[-1].body


LIBRARY = """
request_route {
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    pres_refresh_watchers("sip:alice@example.org", "message-summary", 1);
    pres_update_watchers("sip:alice@example.org", "message-summary");
    pres_has_subscribers("sip:alice@example.org", "message-summary");
    pres_auth_status("sip:a@b", "sip:c@d");
    sl_send_reply("299", "still here");
    exit;
}
"""


def test_library_mode(ours, phones):
    """Without db_url and without memory modes nothing may crash."""
    server = ours(db=None, modules=("presence_mwi",), route=LIBRARY, presence=dict(clean_period=1, db_update_period=1))
    for command in (["presence.cleanup"], ["presence.presentity_list"],
                    ["presence.refreshWatchers", "sip:a@b", "presence", 1],
                    ["presence.watcher_list", "sip:a@b"], ["presence.publish_cache_sync"],
                    ["presence.updateWatchers", "sip:a@b", "x"]):
        server.rpc(*command)
    bob = phones(server, "bob")
    assert bob.reply_to(bob.request("MESSAGE", "sip:alice@example.org")).reason == "still here"
    bob.quiet(2.5)
    assert server.alive() and "cannot remove" not in server.log()


@pytest.mark.parametrize("function", ["handle_publish()", "handle_subscribe()"])
def test_a_library_does_not_serve(function):
    """As stock: the script may not call what needs storage."""
    lines = []
    for which in ("stock", "ours"):
        server = Kamailio(which, db=None, modules=("presence_mwi",), route="request_route { %s; }\n" % function)
        try:
            server.start(expect_failure=True)
            assert server.process.poll() not in (None, 0)
            lines.append([line.split("Bad config")[1] for line in server.log().split("\n") if "Bad config" in line][0])
        finally:
            server.remove()
    assert lines[0] == lines[1] and "db_url not set" in lines[0]


ANSWERED = """
request_route {
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    if (!t_newtran()) { sl_reply_error(); exit; }
    if ($hdr(Subject) == "refused") t_reply("403", "No");
    if (is_method("PUBLISH")) { handle_publish(); } else { handle_subscribe(); }
    xlog("L_NOTICE", "SHOW code $retcode\\n");
    if ($hdr(Subject) == "twice") { handle_publish(); xlog("L_NOTICE", "SHOW code $retcode\\n"); }
    t_release();
    exit;
}
"""


@pytest.mark.parametrize("mode", ["memory", "write-through", "database-only"])
def test_a_request_with_its_final_answer_is_not_handled(both, mode):
    """-1, as with stock. Stock has made a row of it; ours has not: its sender cannot know."""
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        refused = ["Subject: refused"]
        watch = bob.subscribe(alice.uri, extra=refused)
        trace.message("SUBSCRIBE", watch.reply)
        bob.quiet(0.3)
        trace.messages("NOTIFY", watch.notifies)
        seen = phone("carol").subscribe(alice.uri)
        seen.wait(1)
        trace.message("PUBLISH", alice.publish(body=pidf(), extra=refused))
        seen.client.quiet(0.3)
        trace.note("NOTIFYs of a refused document", len(seen.notifies))
        trace.message("PUBLISH twice", alice.publish(body=pidf(), extra=["Subject: twice"]))
        seen.client.quiet(0.3)
        trace.note("NOTIFYs", len(seen.notifies))
        trace.note("codes", [line.split("SHOW ")[1] for line in server.log().splitlines() if "SHOW " in line])
        if server.which == "ours" and mode != "memory":
            server.rpc("presence.cleanup")
            assert [row["watcher_username"] for row in server.rows("active_watchers")] == [seen.client.user]
            assert len(server.rows("presentity")) == 1

    both(scenario, workers=1, route=ANSWERED, **MODES[mode])
