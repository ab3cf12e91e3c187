"""RPC commands that are given what they cannot use: an error that says what is allowed, and nothing is done."""
import re

import pytest

from kit.kamailio import ROOT, Kamailio
from kit.sip import Client

ALICE, BOB = "sip:alice@example.org", "sip:bob@example.org"
COMMANDS = sorted(set(re.findall(r"^### `((?:presence|pua)\.\w+)`$", "\n".join(
    (ROOT / "docs" / page).read_text() for page in ("presence.md", "pua.md")), re.M)))
PUA = 'modparam("pua", "db_url", "@DB@")\n'


@pytest.fixture(scope="module")
def server():
    with Kamailio("ours", http=True, presence=dict(subs_db_mode=1), modules=("presence_xml", "pua"), workers=1,
                  extra_params=PUA) as running:
        bob = Client(running, "bob")
        bob.subscribe(ALICE).wait(1)
        yield running
        # Nothing was done.
        bob.quiet(1.2)
        assert len(bob.notifies) == 1
        assert "count: 1" in running.rpc("presence.subscriptions", "count=1")
        bob.close()


@pytest.mark.parametrize("command", COMMANDS)
def test_arguments_of_another_type_and_too_many(server, command):
    for arguments in ([True], [None], [{"a": 1}], [["x"]], ["x"] * 20, [1, True], ["y" * 5000]):
        answer = server.json_rpc(command, *arguments)
        assert len(answer["error"]["message"].split()) > 3, (command, arguments, answer)


@pytest.mark.parametrize("words,sentence", [
    (("presence.drain", "-1"), "seconds -1: allowed is 0 to 86400"),
    (("presence.drain", "soon"), "seconds soon: allowed is 0 to 86400"),
    (("presence.drain", "1.5"), "seconds 1.5: allowed is 0 to 86400"),
    (("presence.drain", "86401"), "seconds 86401: allowed is 0 to 86400"),
    (("presence.drain", ""), "allowed is 0 to 86400"),
    (("presence.drain", "60", "60"), "too many parameters: 1 is allowed"),
    (("presence.drain", "60", "", "60"), "too many parameters: 1 is allowed"),
    (("presence.cleanup", "now"), "too many parameters: none is allowed"),
    (("presence.explain", ".", "."), ". names nobody: write bob"),
    (("presence.explain", "bob", "."), ". names nobody"),
    (("presence.explain", "bob", ""), "names nobody"),
    (("presence.explain", "bob", "alice", "nonsense"), "no event package nonsense"),
    (("presence.subscriptions", "watcher=."), ". names nobody"),
    (("presence.subscriptions", "count=2"), "allowed is 0 or 1"),
    (("presence.subscriptions", "older=-1"), "allowed is a number of seconds"),
    (("presence.subscriptions", "older=18446744073709551615"), "allowed is a number of seconds"),
    (("presence.subscriptions", "event=presence.winfo", "event=presence"), "event= is given twice"),
    (("presence.history", "what=everything"), "allowed is published"),
    (("presence.publications", "offset=99999999999"), "below 4294967296"),
    (("presence.failing", "0"), "entries 0: allowed is 1 to 1000"),
    (("presence.busiest", "-5"), "entries -5: allowed is 1 to 1000"),
    (("presence.presentity_list", "verbose"), "verbose: allowed is full or basic"),
    (("presence.presentity_show", "alice"), "alice is no URI"),
    (("presence.watcher_list", ""), "Empty presentity URI"),
    (("presence.watcher_list", ALICE, "all"), "all: allowed is full or basic"),
    (("presence.refreshWatchers", ALICE, "presence", "3"), "the type must be 0, 1 or 2"),
    (("presence.refreshWatchers", ALICE, "presence", "0", "a", "b"), "Execution failed"),
    (("presence.updateWatchers", "nonsense", "presence"), "nonsense is no URI"),
    (("presence.updateWatchers", ALICE, ""), "Empty event parameter"),
    (("presence.subscription_end", BOB, ALICE, "presence", "why"), "reason why: allowed is"),
    (("presence.subscription_end", BOB, ALICE, "presence", "giveup", "-1"), "retry-after -1: allowed is"),
    (("presence.subscription_end", "bob", ALICE, "presence"), "bob is no URI"),
    (("presence.publication_expire", "alice", "presence", "a"), "alice is no URI"),
    (("pua.list", ".", "-1"), "offset -1: allowed is 0 to"),
    (("pua.list", ".", "0", "1001"), "limit 1001: allowed is 1 to 1000"),
    (("pua.list", "alice"), "alice is no URI"),
])
def test_a_value_that_is_not_allowed(server, words, sentence):
    # kamcmd takes a leading minus for an option of its own.
    answer = server.rpc(*("s:" + word if word[:1] in ("", "-") else word for word in words))
    assert answer.startswith("error: ") and sentence in answer


@pytest.mark.parametrize("command,number", [("presence.drain", -1), ("presence.busiest", -1), ("presence.failing", 0)])
def test_a_number_that_is_not_allowed(server, command, number):
    assert "allowed is" in server.json_rpc(command, number)["error"]["message"]


@pytest.mark.parametrize("which", ["stock", "ours"])
def test_empty_arguments_at_the_end_say_nothing(which):
    """As with stock, whose commands do not look at what they do not take."""
    with Kamailio(which, http=True, presence=dict(subs_db_mode=1), modules=("presence_xml", "pua"),
                  extra_params=PUA) as running:
        for words in (("refreshWatchers", ALICE, "presence", 0), ("refreshWatchers", ALICE, "presence", 1),
                      ("updateWatchers", ALICE, "presence"), ("cleanup",), ("presentity_list",),
                      ("presentity_list", "full")):
            command, given = "presence." + words[0], list(words[1:])
            answer = running.json_rpc(command, *given)
            # With force_active of presence_xml there are no rules to ask.
            assert ("error" in answer) == (0 in given or "update" in command)
            for count in (1, 2, 3):
                again = running.json_rpc(command, *given + [""] * count)
                assert again.get("error") == answer.get("error"), (words, count)
            said = running.rpc(command, *given + ["s:"] * 3)
            assert said.startswith("error") == ("error" in answer), (words, said)
        assert "error" not in running.json_rpc("pua.cleanup", "")


def test_stock_does_without_them(ours):
    """"an RPC command with a parameter of the wrong type": stock carries it out all the same."""
    with Kamailio("stock", http=True) as stock:
        assert "error" not in stock.json_rpc("presence.presentity_list", True)
        assert "error" not in stock.rpc("presence.cleanup", "now")
    server = ours(http=True)
    assert "neither a text nor a number" in server.json_rpc("presence.presentity_list", True)["error"]["message"]
    assert "error: 500 - too many parameters" in server.rpc("presence.cleanup", "now")
