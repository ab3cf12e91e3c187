"""event_route[presence:notify-reply] runs on the NOTIFY as it was sent, for answers and where none came."""
import re

import pytest

from conftest import MODES
from kit.kamailio import ROUTE
from kit.sip import pidf
from test_script import ATTRIBUTES

REQUEST = "ci rm ru rU rd fu tu ft tt cs bs hdr(Event) hdr(Subscription-State) hdr(Contact) hdr(Max-Forwards) ua".split(
    )
REPLY = "rs rr".split()


def shown():
    parts = ["%s=[$%s]" % (name, name) for name in REQUEST]
    parts += ["reply %s=[$notify_reply($%s)]" % (name, name) for name in REPLY]
    parts += ["subs %s=[$subs(%s)]" % (name, name) for name in ATTRIBUTES]
    return 'xlog("L_NOTICE", "SHOW %s\\n");' % " ".join(parts)


EVENTS = "event_route[presence:notify-reply] { %s }\n" % shown()


def lines(server):
    return [line.split("SHOW ", 1)[1] for line in server.log().split("\n") if "SHOW " in line]


def masked(line):
    line = re.sub(r"\b(ci|callid|ft|from_tag|tt|to_tag)=\[[^]]+\]", r"\1=[SOME]", line)
    return re.sub(r"tag=[\w.-]+", "tag=SOME", line)


@pytest.mark.parametrize("answer", [200, 486, 408, None])
@pytest.mark.parametrize("mode", ["memory", "write-through", "database-only"])
def test_the_route_sees_the_request(both, mode, answer):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        alice.publish(body=pidf(alice.user))
        bob.answer = answer
        watch = bob.subscribe(alice.uri, extra=["User-Agent: phone 1"])
        watch.wait(1)
        bob.quiet(2.5 if answer is None else 0.4)
        bob.answer = 200
        if answer == 200:
            watch.unsubscribe(extra=["User-Agent: phone 1"])
            bob.quiet(0.4)
        seen = lines(server)
        trace.note("NOTIFYs", [masked(line) for line in seen])
        assert seen, "the route has not run"
        assert "ci=[%s]" % watch.call_id in seen[0] and "rm=[NOTIFY]" in seen[0]
        if answer in (408, None):
            assert "reply rs=[408] reply rr=[TIMEOUT]" in seen[0]

    both(scenario, workers=1, route=ROUTE % dict(publish="handle_publish()", subscribe="handle_subscribe()") + EVENTS,
         extra_params='modparam("tm", "fr_timer", 1000)\nmodparam("tm", "retr_timer1", 5000)\n', **MODES[mode])


@pytest.mark.parametrize("mode", ["memory", "write-through", "database-only"])
def test_the_route_sees_the_subscription_as_it_was(both, mode):
    """The first silence ends the subscription; the answer to the second NOTIFY comes after that."""
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        published = alice.publish(body=pidf(alice.user))
        bob.answer = None
        watch = bob.subscribe(alice.uri, extra=["User-Agent: phone 1"])
        watch.wait(1)
        bob.quiet(0.3)
        alice.publish(body=pidf(alice.user, basic="closed"), etag=published.get("SIP-ETag"))
        bob.quiet(2.7)
        # Stock does not read remote_cseq from the table for a change.
        seen = [re.sub(r"(expires=|remote_cseq=)\[?\d+", r"\1SOME", masked(line)) for line in lines(server)]
        trace.note("NOTIFYs", seen)
        assert len(seen) == 2 and all("subs pres_uri=[%s]" % alice.uri in line for line in seen)

    both(scenario, workers=1, route=ROUTE % dict(publish="handle_publish()", subscribe="handle_subscribe()") + EVENTS,
         extra_params='modparam("tm", "fr_timer", 1000)\nmodparam("tm", "retr_timer1", 5000)\n', **MODES[mode])


def test_the_route_writes_no_errors(ours, phones):
    server = ours(workers=1, route=ROUTE % dict(publish="handle_publish()", subscribe="handle_subscribe()") + EVENTS)
    bob = phones(server, "bob")
    bob.subscribe("sip:alice@example.org").wait(1)
    bob.quiet(0.4)
    assert lines(server) and "ERROR" not in server.log()
