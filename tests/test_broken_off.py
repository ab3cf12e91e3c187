"""A panic in the middle of sending costs nobody a state: a watcher that was left out is notified soon, and later
changes go on."""
import pytest

from conftest import MODES
from kit.sip import pidf
from test_composition import Lamp, dialogs, seen
from test_faults import faulty_modules  # noqa: F401  (a fixture)

IN_MEMORY = ["memory", "write-through"]


def notified(watches, note, seconds=4.0):
    """Whether each of them has been sent a document with this note as its last one."""
    for watch in watches:
        count = 0
        while count < 20 and not (watch.notifies and note in watch.notifies[-1].text):
            watch.client.quiet(seconds / 20)
            count += 1
    return [watch.notifies[-1].text.count(note) == 1 for watch in watches]


@pytest.mark.suite("stuck-lamp")
@pytest.mark.parametrize("point", ["compose", "notify", "portion", "round"])
@pytest.mark.parametrize("mode", IN_MEMORY)
def test_a_panic_while_sending_mutes_nobody(faulty_modules, ours, phones, mode, point):  # noqa: F811
    server = ours(workers=2, **MODES[mode])
    alice = phones(server, "alice")
    watches = [phones(server, "w%d" % n).subscribe(alice.uri) for n in range(3)]
    etag = alice.publish(body=pidf(note="first")).get("SIP-ETag")
    assert notified(watches, "first") == [True] * 3
    etag = alice.publish(body=pidf(note="second"), etag=etag,
                         extra=["X-Fault: panic-at-%s" % point]).get("SIP-ETag", etag)
    assert notified(watches, "second") == [True] * 3, "the timer sends what was broken off\n" + server.log()[-2000:]
    reply = alice.publish(body=pidf(note="third"), etag=etag)
    assert reply.code == 200
    assert notified(watches, "third") == [True] * 3
    assert all(watch.refresh().code == 200 for watch in watches) and server.alive()
    # The sequence numbers have only gone up.
    for watch in watches:
        numbers = [n.cseq for n in watch.notifies]
        assert numbers == sorted(set(numbers)), numbers


@pytest.mark.suite("stuck-lamp")
def test_a_panic_that_always_comes_is_tried_twice(faulty_modules, ours, phones):  # noqa: F811
    server = ours(workers=1, **MODES["memory"])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    watch = bob.subscribe(alice.uri)
    watch.wait(1)
    etag = alice.publish(body=pidf(note="first"), extra=["X-Fault: panic-at-compose*2"]).get("SIP-ETag")
    bob.quiet(2.5)
    assert len(watch.notifies) == 1
    assert server.log().count("panic while NOTIFYs were sent") == 2
    alice.publish(body=pidf(note="second"), etag=etag)
    assert notified([watch], "second") == [True]


@pytest.mark.suite("stuck-lamp")
@pytest.mark.parametrize("point", ["notify", "portion"])
def test_a_panic_in_a_sender_process_mutes_nobody(faulty_modules, ours, phones, point):  # noqa: F811
    server = ours(workers=2, **MODES["memory"])
    alice, crowd = phones(server, "alice"), phones(server, "crowd")
    watches = [crowd.subscribe(alice.uri) for _ in range(80)]
    etag = alice.publish(body=pidf(note="first"), extra=["X-Fault: panic-at-%s" % point]).get("SIP-ETag")
    assert notified(watches, "first") == [True] * 80, server.log()[-2000:]
    alice.publish(body=pidf(note="second"), etag=etag)
    assert notified(watches, "second") == [True] * 80


@pytest.mark.suite("stuck-lamp")
@pytest.mark.parametrize("point", ["compose", "notify"])
def test_in_the_database_the_next_change_goes_on(faulty_modules, ours, phones, point):  # noqa: F811
    server = ours(workers=1, **MODES["database-only"])
    alice = phones(server, "alice")
    watches = [phones(server, "w%d" % n).subscribe(alice.uri) for n in range(3)]
    etag = alice.publish(body=pidf(note="first"), extra=["X-Fault: panic-at-%s" % point]).get("SIP-ETag")
    assert sum(notified(watches, "first", 1.0)) >= 2, "the panic of one watcher's NOTIFY costs the others nothing"
    alice.publish(body=pidf(note="second"), etag=etag)
    assert notified(watches, "second") == [True] * 3


@pytest.mark.suite("stuck-lamp")
def test_late_state_that_a_panic_breaks_off_is_shown_once(faulty_modules, ours, phones):  # noqa: F811
    """The timer stores it, and comes upon the panic when it notifies: what was broken off is made up for, and the
    document has its time once."""
    lamp = Lamp(phones, ours(workers=1, **MODES["memory"]))
    for state, version in (("confirmed", 500), ("terminated", 501)):
        assert lamp.publish(dialogs(("x", state), version=version)).code == 200
    assert lamp.now() == {"x": "terminated"}
    count = len(lamp.watch.notifies)
    late = dialogs(("x", "confirmed"), version=0)
    assert lamp.publish(late, extra=["X-Fault: panic-at-round"]).code == 200
    lamp.watcher.quiet(13)
    assert [seen(notify) for notify in lamp.watch.notifies[count:]] == [{"x": "confirmed"}]


@pytest.mark.suite("stuck-lamp")
def test_a_removal_that_nobody_sends_any_more_is_not_shown_later(faulty_modules, ours, phones):  # noqa: F811
    """After the second panic the removal is left to the next change: who subscribes meanwhile is shown the state."""
    server = ours(workers=1, modules=("presence_xml", "presence_mwi"), **MODES["memory"])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    voicemail = dict(event="message-summary", ctype="application/simple-message-summary")
    etag = alice.publish(body="Messages-Waiting: yes\r\n", **voicemail).get("SIP-ETag")
    watch = bob.subscribe(alice.uri, event="message-summary")
    watch.wait(1)
    assert alice.publish(etag=etag, expires=0, body="Messages-Waiting: no\r\n",
                         extra=["X-Fault: panic-at-notify*2"], **voicemail).code == 200
    bob.quiet(2.5)
    assert server.log().count("panic while NOTIFYs were sent") == 2
    carol = phones(server, "carol").subscribe(alice.uri, event="message-summary")
    assert carol.wait(1)[0].text == ""
