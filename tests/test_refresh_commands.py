"""pres_refresh_watchers(), pres_update_watchers() and their commands with types, files and packages that do not go
together; on stock and on ours."""
import re

import pytest

from conftest import MODES
from kit.sip import dialog_info, pidf
from test_authorization import XML, forget, put, rules

URI = "sip:alice@example.org"
FILE = ', "http://example.org/index", "index"'
ASKED = [("pres_refresh_watchers", event, kind, file) for event in ("presence", "dialog", "nothing")
         for kind in (-1, 0, 1, 2, 3) for file in ("", FILE)]
ASKED += [("pres_update_watchers", event, None, "") for event in ("presence", "dialog", "nothing")]


def call(name, event, kind, file):
    return '%s("%s", "%s"%s%s)' % (name, URI, event, "" if kind is None else ", %d" % kind, file)


ROUTE = '''
request_route {
    if (is_method("PUBLISH")) { handle_publish(); exit; }
    if (is_method("SUBSCRIBE")) { handle_subscribe(); exit; }
    if (is_method("ACK")) exit;
%s
    sl_reply("200", "OK");
}
''' % "".join('    if ($rU == "n%d") { %s; xlog("L_NOTICE", "SEEN n%d is $rc\\n"); sl_reply("200", "OK"); exit; }\n'
              % (number, call(*asked), number) for number, asked in enumerate(ASKED))


def watched(phone):
    alice, bob = phone("alice"), phone("bob")
    alice.publish(URI, body=pidf())
    alice.publish(URI, event="dialog", body=dialog_info("confirmed"), ctype="application/dialog-info+xml")
    watches = [bob.subscribe(URI, event=event) for event in ("presence", "dialog")]
    for watch in watches:
        watch.wait(1)
    bob.quiet(0.3)
    return alice, bob, watches


def since(bob, watches, before):
    bob.quiet(0.25)
    return [len(watch.notifies) - count for watch, count in zip(watches, before)]


@pytest.mark.parametrize("mode", ["write-through", "database-only"])
def test_functions(both, mode):
    def scenario(server, phone, trace):
        alice, bob, watches = watched(phone)
        for number, asked in enumerate(ASKED):
            before = [len(watch.notifies) for watch in watches]
            alice.send_raw(alice.request("OPTIONS", "sip:n%d@example.org" % number))
            alice.receive(3)
            counts = since(bob, watches, before)
            result = re.findall(r"SEEN n%d is (-?\d+)" % number, server.log())
            trace.note(call(*asked), "%s, NOTIFYs: %s" % (result, counts))

    both(scenario, workers=1, route=ROUTE, modules=("presence_xml", "presence_dialoginfo"), **MODES[mode])


# A type that there is not is an error of the command, which says what is allowed; stock does 1 then.
WORDS = [("presence.refreshWatchers", event, kind) + file for event in ("presence", "dialog", "nothing")
         for kind in (0, 1, 2) for file in ((), ("http://example.org/index", "index"))]
WORDS += [("presence.updateWatchers", event) for event in ("presence", "dialog", "nothing")]


@pytest.mark.parametrize("mode", ["write-through", "database-only"])
def test_commands(both, mode):
    def scenario(server, phone, trace):
        alice, bob, watches = watched(phone)
        for name, *words in WORDS:
            before = [len(watch.notifies) for watch in watches]
            answer = server.json_rpc(name, URI, *words)
            counts = since(bob, watches, before)
            trace.note(" ".join(map(str, [name] + words)), "%s, NOTIFYs: %s" % (sorted(answer)[0:1], counts))

    both(scenario, workers=1, http=True, modules=("presence_xml", "presence_dialoginfo"), **MODES[mode])


@pytest.mark.parametrize("mode", sorted(set(MODES) - {"memory"}))
def test_rules_that_cannot_be_read(both, mode):
    """With nobody to judge, too: the answer is for those who have put that document."""
    def scenario(server, phone, trace):
        put(server, "alice", "")
        trace.note("answer", server.rpc("presence.updateWatchers", URI, "presence"))

    both(scenario, workers=1, **dict(MODES[mode], **XML))


@pytest.mark.parametrize("mode", sorted(set(MODES) - {"memory"}))
def test_rules_that_are_gone(both, mode):
    """Stock answers an error and leaves each watcher what it was; ours judges them, and answers an error where there
    is nothing to judge any more."""
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        put(server, alice.user, rules(**{bob.user: "allow"}))
        watch = bob.subscribe(alice.uri)
        watch.wait(1)
        forget(server, alice.user)
        answers = [server.rpc("presence.updateWatchers", alice.uri, "presence") for _ in range(2)]
        bob.quiet(0.4)
        states = [notify.get("Subscription-State").split(";")[0] for notify in watch.notifies]
        error = "error: 500 - Processing error\n"
        expected = ([error, error], ["active"]) if trace.which == "stock" else (["", error], ["active", "pending"])
        assert (answers, states) == expected

    both(scenario, workers=1, **dict(MODES[mode], **XML))
