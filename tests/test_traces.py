"""What publishers that exist send, written after their public descriptions (tests/traces), and what watchers see after
each step."""
import pathlib
import re

import pytest

from conftest import MODES

TRACES = sorted((pathlib.Path(__file__).parent / "traces").glob("*.trace"))
TYPES = {"presence": "application/pidf+xml", "dialog": "application/dialog-info+xml",
         "dialog;sla": "application/dialog-info+xml"}
NAMED = 'if ($hdr(X-Sender) != $null) handle_publish("$hdr(X-Sender)"); else handle_publish()'
# With stock's own answers to these, nothing is left of the later steps: they show what a lamp needs.
SHARED = ["memory", "write-through", "table", "database-only"]


def steps(text):
    """The steps of a trace: publication, what is done, who does it, the body, and what is seen then."""
    for head, body, seen in re.findall(r"^>>> (.*?)\n(.*?)^<<< (.*?)$", text, re.M | re.S):
        words = head.split()
        sender = [word[5:] for word in words if word.startswith("from=")]
        yield words[0], words[1], (sender or [None])[0], body.strip("\n"), [] if seen == "-" else seen.split()


def seen(message):
    """The dialogs or tuples of a document with their states."""
    text = message.text
    found = re.findall(r'<dialog [^>]*?\bid="([^"]+)".*?<state>(\w+)</state>', text, re.S)
    found += re.findall(r'<tuple [^>]*?\bid="([^"]+)".*?<basic>(\w+)</basic>', text, re.S)
    return sorted("%s:%s" % pair for pair in found)


def replay(phones, server, path):
    text = path.read_text()
    event = re.search(r"^event: (.*)$", text, re.M).group(1)
    alice, bob = phones(server, path.stem), phones(server, "watcher")
    watch, tags = bob.subscribe(alice.uri, event=event), {}
    watch.wait(1)
    for number, (publication, action, sender, body, lamp) in enumerate(steps(text), 1):
        more = dict(event=event, ctype=TYPES[event], body=body.replace("@USER@", alice.user) or None)
        if action != "new":
            more["etag"] = tags[publication]
        if action == "remove":
            more["expires"] = 0
        if sender:
            more["extra"] = ["X-Sender: " + sender]
        before = len(watch.notifies)
        reply = alice.publish(**more)
        where = "%s, step %d (%s %s)" % (path.name, number, publication, action)
        assert reply.code == 200, where
        tags[publication] = reply.get("SIP-ETag")
        # With one worker the NOTIFY of a change goes out before that of the refresh; who looks anew sees what was sent,
        # but for a document that has just been removed: it is shown for the last time.
        watch.refresh()
        watch.wait(before + 2, timeout=0.3)
        notified = watch.notifies[before:]
        assert notified, where
        for message in notified[:1] if action == "remove" else notified:
            assert seen(message) == lamp, "%s: %s" % (where, message.text)


@pytest.mark.parametrize("mode", SHARED)
def test_lamps_of_real_publishers(ours, phones, mode):
    server = ours(workers=1, publish=NAMED, extra_params='modparam("presence_xml", "disable_bla", 0)', **MODES[mode])
    assert len(TRACES) >= 13
    for path in TRACES:
        replay(phones, server, path)
