"""What nodes of stock's newer versions say of a publication's life when another joins, and what they understand of ours."""
import contextlib
import time

import pytest

from kit.kamailio import SERVER
from kit.sip import Client, pidf
from test_dmq import joined, message, node, update

LIFE, AGE = 20, 6
# Before 6.1 a node of stock's tells a node that joins nothing.
PAIRS = [("ours", "ours"), ("ours", "stock")] + ([("stock", "ours"), ("stock", "stock")] if SERVER.numbers >= (6, 1) else [])


def document(server, number):
    """What a new watcher learns of alice."""
    bob = Client(server, "bob%d" % number)
    try:
        notifies = bob.subscribe("sip:alice@example.org").wait(1)
        return "open" in notifies[0].text if notifies else None
    finally:
        bob.close()


@pytest.mark.suite("T15")
def test_a_publication_lives_as_long_on_a_node_that_joined_later():
    """All pairs at once: the document is there until its owner's answer said, and no longer."""
    with contextlib.ExitStack() as servers:
        pairs, start = [], None
        for one, two in PAIRS:
            first = servers.enter_context(node(one, subs_db_mode=0, publ_cache=2, clean_period=5))
            pairs.append((one, two, first))
        for _, _, first in pairs:
            alice = Client(first, "alice")
            reply = alice.publish(to="sip:alice@example.org", body=pidf("alice"), expires=LIFE)
            assert reply.code == 200 and reply.get("Expires") == str(LIFE)
            alice.close()
        start = time.monotonic()
        time.sleep(AGE)
        joiners = []
        for one, two, first in pairs:
            second = servers.enter_context(node(two, first, subs_db_mode=0, publ_cache=2, clean_period=5))
            joiners.append((one, two, second, first))
        for _, _, second, first in joiners:
            joined(first, second)
        time.sleep(max(0.0, start + LIFE - 4 - time.monotonic()))
        assert {(one, two): document(second, 1) for one, two, second, _ in joiners} == {pair: True for pair in PAIRS}
        time.sleep(max(0.0, start + LIFE + 2 - time.monotonic()))
        assert {(one, two): document(second, 2) for one, two, second, _ in joiners} == {pair: False for pair in PAIRS}


@pytest.mark.suite("T15")
def test_expires_counts_from_where_the_hosts_version_counts():
    """A hundred seconds of age: from 6.1 on `expires` counts from `recv`, before from the arrival; a clock that is wrong changes nothing."""
    counts_from_receipt = SERVER.numbers >= (6, 1)
    with node("ours") as server:
        sender = Client(server, "peer", "127.0.0.1")
        now = int(time.time())
        for user, received, right in (("late", now - 100, 500 if counts_from_receipt else 600), ("ahead", now + 3000, 600),
                                      ("behind", now - 3000, 600), ("unknown", 0, 600)):
            text = update("a.1.2.%d.0" % received, expires=600, user=user, ruid="r-" + user, body=pidf(user), recv=received)
            assert message(sender, text).code == 200
            row = next(row for row in server.rows("presentity") if row["username"] == user)
            assert abs(row["expires"] - now - right) <= 3, user
        sender.close()
