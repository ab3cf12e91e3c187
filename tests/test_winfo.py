"""Watcher information (RFC 3857, 3858)."""
from conftest import MODES
from kit.sip import pidf


def test_full_then_partial(both):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        mine = alice.subscribe(alice.uri, event="presence.winfo")
        mine.wait(1)
        watch = bob.subscribe(alice.uri)
        mine.wait(2)
        watch.refresh()
        mine.wait(3)
        watch.unsubscribe()
        mine.wait(4)
        mine.refresh()
        mine.wait(5)
        mine.unsubscribe()
        mine.wait(6)
        trace.messages("winfo", mine.notifies)

    both(scenario, workers=1, **MODES["write-through"])


def test_in_memory_only(ours, phones):
    """Stock dies here with signal 11."""
    server = ours(db=None, modules=("presence_xml",), **MODES["memory"])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    mine = alice.subscribe(alice.uri, event="presence.winfo")
    watch = bob.subscribe(alice.uri)
    assert watch.reply.code == 200
    mine.wait(2)
    assert ">sip:bob@example.org</watcher>" in mine.notifies[-1].text
    alice.publish(body=pidf())
    assert watch.wait(2)[-1].body
