"""The reference pages and live answers name the same fields of RPC commands."""
import re

import pytest

from kit.kamailio import ROOT, Kamailio
from kit.sip import Client, pidf

ALICE = "sip:alice@example.org"
# How a command is asked, with what its field needs; by default without arguments.
ASKED = {
    "presence.presentity_list": ("full",), "presence.presentity_show": (ALICE, "full"),
    "presence.watcher_list": (ALICE, "full"), "presence.explain": ("bob", "alice", "presence"),
    "presence.history": ("presentity=alice",), "presence.subscription_end": ("sip:bob@example.org", ALICE, "presence"),
    "presence.drain": ("1",),
}
# These end what the others show.
LAST = ["presence.subscription_end", "presence.drain"]


def documented(page):
    """Command to fields, as the page lists them."""
    found, command = {}, None
    for line in (ROOT / "docs" / page).read_text().split("\n"):
        heading = re.match(r"### `((?:presence|pua)\.\w+)`", line)
        if heading or line.startswith("## "):
            command = heading.group(1) if heading else None
        field = re.match(r"\| `(\w+)`(?:, `(\w+)`)* \|", line)
        if command and field:
            found.setdefault(command, set()).update(re.findall(r"`(\w+)`", line.split("|")[1]))
    return found


def names(answer):
    """Every member's name in an answer, at any depth; the texts of lists are values."""
    if isinstance(answer, dict):
        return set(answer).union(*(names(value) for value in answer.values())) if answer else set()
    return set().union(*(names(value) for value in answer)) if isinstance(answer, list) else set()


@pytest.fixture(scope="module")
def server():
    with Kamailio("ours", http=True, presence=dict(subs_db_mode=0, publ_cache=2), modules=("presence_xml",),
                  workers=1) as running:
        alice, bob, boss, carol = (Client(running, name) for name in ("alice", "bob", "boss", "carol"))
        assert alice.publish(body=pidf()).code == 200
        watch = bob.subscribe(alice.uri)
        ended = boss.subscribe(alice.uri)
        ended.unsubscribe()
        watch.wait(1)
        carol.answer = 486
        carol.subscribe(alice.uri).wait(1)
        carol.quiet(0.2)
        yield running
        for phone in (alice, bob, boss, carol):
            phone.close()


@pytest.mark.parametrize("command", sorted(documented("presence.md"), key=lambda name: (name in LAST, name)))
def test_an_answer_has_documented_fields_only(server, command):
    fields = documented("presence.md")[command]
    answer = server.json_rpc(command, *ASKED.get(command, ()))
    assert "result" in answer, answer
    given = names(answer["result"])
    assert given <= fields, "not in docs/presence.md: %s" % sorted(given - fields)
    assert given, "the answer is empty: ask for something that exists"
