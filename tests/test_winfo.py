"""Watcher information (RFC 3857, 3858)."""
import re
import sqlite3
import time

import pytest

from conftest import MODES
from kit.sip import pidf
from test_authorization import XML


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


def test_a_watcher_with_an_ampersand(both):
    """Stock leaves the URI out."""
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        bob.subscribe(alice.uri, from_uri="sip:a&b@example.org")
        text = alice.subscribe(alice.uri, event="presence.winfo").wait(1)[0].text
        assert ('status="active"/>' if trace.which == "stock" else ">sip:a&amp;b@example.org</watcher>") in text

    both(scenario, workers=1, **MODES["write-through"])


@pytest.mark.parametrize("mode", ["write-through", "defaults", "database-only"])
def test_a_watcher_that_nobody_has_confirmed_waits(both, mode):
    """RFC 3857 4.7.1: it is listed after its subscription has ended, so that the presentity can decide about it."""
    def listed(watch):
        text = watch.notifies[-1].text
        return sorted(re.findall(r'<watcher id="([^"]*)" event="(\w+)" status="(\w+)">([^<]*)<', text))

    def scenario(server, phone, trace):
        alice, bob, carol = phone("alice"), phone("bob"), phone("carol")
        mine = alice.subscribe(alice.uri, event="presence.winfo")
        watches = [user.subscribe(alice.uri) for user in (bob, carol)]
        mine.wait(3)
        watches[0].unsubscribe()
        mine.wait(4)
        mine.refresh()
        mine.wait(5)
        found = [[status, uri] + ([ident] if status == "waiting" else [])
                 for ident, event, status, uri in listed(mine)]
        trace.note("listed", sorted(found))

    different = {"listed": ("whatever the mode", lambda seen: "waiting" in seen and "pending" in seen)}
    both(scenario, workers=1, **dict(MODES[mode], **XML),
         different=different if mode == "database-only" else None)


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


@pytest.mark.parametrize("mode", sorted(MODES))
def test_of_a_package_that_is_switched_off(ours, phones, mode):
    """Stock dies here with signal 11; RFC 3858 4.2: the list names the package that is watched."""
    server = ours(modules=("presence_xml",), extra_params='modparam("presence_xml", "disable_presence", 1)\n',
                  **MODES[mode])
    alice = phones(server, "alice")
    watch = alice.subscribe(alice.uri, event="presence.winfo")
    assert watch.reply.code == 200
    assert '<watcher-list resource="%s" package="presence"/>' % alice.uri in watch.wait(1)[0].text
    assert alice.subscribe(alice.uri).reply.code == 489


def test_all_that_is_known_of_a_watcher(ours, phones):
    """winfo_details 1: how long a watcher has subscribed and still does (RFC 3858 4.2)."""
    server = ours(presence=dict(subs_db_mode=0, publ_cache=2, winfo_details=1))
    alice, bob = phones(server, "alice"), phones(server, "bob")
    list_of = alice.subscribe(alice.uri, event="presence.winfo")
    list_of.wait(1)
    bob.subscribe(alice.uri, expires=600).wait(1)
    alice.quiet(0.3)
    found = re.search(r'status="active" expiration="(\d+)" duration-subscribed="(\d+)">' + re.escape(bob.uri),
                      list_of.notifies[-1].text)
    assert found and 595 <= int(found.group(1)) <= 600 and int(found.group(2)) <= 2


def wait_for_list(watch, words, seconds=6.0):
    deadline = time.monotonic() + seconds
    while not all(word in watch.notifies[-1].text for word in words) and time.monotonic() < deadline:
        watch.client.quiet(0.1)
    return watch.notifies[-1].text


@pytest.mark.parametrize("processes", [0, 1])
def test_a_missed_change_is_followed_by_the_whole_list(ours, phones, processes):
    """Where subscriptions are rows: a partial document would leave out what was missed (RFC 3858 4.1)."""
    server = ours(presence=dict(subs_db_mode=3, publ_cache=0, notifier_processes=processes, waitn_time=1))
    alice = phones(server, "alice")
    mine = alice.subscribe(alice.uri, event="presence.winfo")
    mine.wait(1)

    def run(text):
        with sqlite3.connect(str(server.db_path), timeout=10) as table:
            table.execute(text)

    run("create trigger fails before update on active_watchers when old.event = 'presence.winfo' "
        "begin select raise(abort, 'no'); end")
    assert phones(server, "bob").subscribe(alice.uri).reply.code == 200
    mine.client.quiet(0.5)
    assert len(mine.notifies) == 1
    run("drop trigger fails")
    assert 'state="full"' in wait_for_list(mine, ["sip:bob@example.org"])
    # A row that another server has marked: it is not known for what.
    if processes:
        seen = len(mine.notifies)
        run("update active_watchers set updated = 3 where event = 'presence.winfo'")
        mine.wait(seen + 1, timeout=8)
        text = mine.notifies[-1].text
        assert 'state="full"' in text and "sip:bob@example.org" in text
