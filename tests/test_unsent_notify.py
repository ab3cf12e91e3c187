"""What the script learns of a SUBSCRIBE whose NOTIFY cannot be sent."""
import re

import pytest

SUBSCRIBE = 'handle_subscribe(); xlog("L_ERR", "handled: $rc\\n");'


def handled(server):
    return re.findall(r"handled: (-?\d+)", server.log())


# Contacts to which the server, which has one socket for UDP over IPv4, has no way; and one to which it has.
@pytest.mark.parametrize("contact", ["sip:bob@127.0.0.1:5999", "sip:bob@127.0.0.1:5999;transport=tcp",
                                     "sips:bob@127.0.0.1:5999", "sip:bob@[::1]:5999",
                                     "sip:bob@127.0.0.1:5999;transport=sctp"],
                         ids=["udp", "tcp", "sips", "ipv6", "sctp"])
@pytest.mark.parametrize("mode", [0, 3])
def test_the_script_learns_that_the_notify_cannot_be_sent(both, contact, mode):
    """As in stock: the SUBSCRIBE has its 2xx, and the function fails."""
    def scenario(server, phones, trace):
        alice, bob = phones("alice"), phones("bob")
        alice.publish(body="<presence xmlns='urn:ietf:params:xml:ns:pidf' entity='sip:alice@example.org'/>")
        watch = bob.subscribe(alice.uri, contact="<%s>" % contact)
        answers = [watch.reply.code]
        watch.send(600, contact="<%s>" % contact)
        answers.append(watch.reply.code)
        watch.send(0, contact="<%s>" % contact)
        answers.append(watch.reply.code)
        bob.quiet(0.3)
        trace.note("answers", answers)
        trace.note("handled", handled(server))

    both(scenario, subscribe=SUBSCRIBE, workers=1, presence=dict(subs_db_mode=mode, publ_cache=2 if mode == 0 else 0))
