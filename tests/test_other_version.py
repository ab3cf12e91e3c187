"""A cluster in which nodes run another version of Kamailio, as they do while it is upgraded (`make test-pairs`).

OTHER_KAMAILIO_BIN names that server, OTHER_PRESENCE_MODULES the modules of ours that were built for it.
"""
import itertools
import os
import pathlib
import time

import pytest

from kit.kamailio import HERE, Host, kamailio_host
from kit.sip import Client, pidf
from test_dmq import errors, joined, life, node
from test_mixed_versions import SERVED_BY_BOTH, document, gone, served_by_both, sharing

pytestmark = [pytest.mark.suite("cluster"),
              pytest.mark.skipif(not os.environ.get("OTHER_KAMAILIO_BIN"),
                                 reason="OTHER_KAMAILIO_BIN names no second server")]
LIFE, AGE = 20, 6
COUNTS_FROM_RECEIPT = (6, 1)


@pytest.fixture(scope="module")
def there():
    """The other server."""
    ours = os.environ.get("OTHER_PRESENCE_MODULES", "")
    host = Host(kamailio_host.Server("OTHER_"), ours or "/nowhere")
    assert not ours or (pathlib.Path(ours) / "presence.so").exists(), "there is no presence.so in %s" % ours
    assert host.server.numbers != HERE.server.numbers, "both servers are %s" % host.server.full_version
    return host


def kinds(host):
    return ["stock", "ours"] if (host.ours / "presence.so").exists() else ["stock"]


def pairs(there):
    """All kinds of nodes here with all kinds there, in both orders: which kind and which server, twice."""
    both = list(itertools.product([(kind, HERE) for kind in kinds(HERE)], [(kind, there) for kind in kinds(there)]))
    return both + [(two, one) for one, two in both]


def name(pair):
    return " and ".join("%s %s" % (kind, host.server.version) for kind, host in pair)


def has_ours(pair):
    return any(kind == "ours" for kind, _ in pair)


def answers_all(kind, host):
    """Whether a node sends another that joins what is there: ours do, and stock's from 6.1 on."""
    return kind == "ours" or host.server.numbers >= COUNTS_FROM_RECEIPT


def test_a_publication_is_seen_on_the_node_of_the_other_version(there):
    """With ours in the place of one of stock's nodes, or of both, watchers are notified as by stock's nodes alone."""
    results = {}
    for pair in pairs(there):
        (one, here), (two, other) = pair
        first = node(one, host=here, subs_db_mode=0, publ_cache=2)
        second = node(two, first, host=other, subs_db_mode=0, publ_cache=2)
        with first, second:
            joined(first, second)
            results[pair] = [life(first, second), life(second, first)]
            assert not [line for line in errors(first, second) if "json" in line], name(pair)
    for pair, seen in results.items():
        (_, here), (_, other) = pair
        assert [part[:3] for part in seen] == [[True, True, []]] * 2, name(pair)
        assert seen == results[("stock", here), ("stock", other)], name(pair)


def test_a_publication_lives_as_long_on_the_joining_node_of_the_other_version(there):
    """The document is there until its owner's answer said, and no longer. Stock's nodes before 6.1 add what has passed
    already to what newer nodes say."""
    announcing = [pair for pair in pairs(there) if answers_all(*pair[0])]
    started, first, joiners = [], [], []
    try:
        for (one, here), _ in announcing:
            server = node(one, host=here, subs_db_mode=0, publ_cache=2, clean_period=5)
            started.append(server)
            first.append(server.start())
        for server in first:
            alice = Client(server, "alice")
            assert alice.publish(to="sip:alice@example.org", body=pidf("alice"), expires=LIFE).code == 200
            alice.close()
        start = time.monotonic()
        time.sleep(AGE)
        for (_, (two, other)), server in zip(announcing, first):
            joiner = node(two, server, host=other, subs_db_mode=0, publ_cache=2, clean_period=5)
            started.append(joiner)
            joiners.append(joiner.start())
        for server, joiner in zip(first, joiners):
            joined(server, joiner)
        time.sleep(max(0.0, start + LIFE - 4 - time.monotonic()))
        sooner = {name(pair): document(server, 1) for pair, server in zip(announcing, joiners)}
        assert sooner == {name(pair): True for pair in announcing}
        time.sleep(max(0.0, start + LIFE + 2 - time.monotonic()))
        later = {name(pair): document(server, 2) for pair, server in zip(announcing, joiners) if not adds_age(pair)}
        assert later and not any(later.values()), later
    finally:
        for server in started:
            server.remove()


def adds_age(pair):
    (one, here), (two, other) = pair
    return two == "stock" and other.server.numbers < COUNTS_FROM_RECEIPT <= here.server.numbers


def shares_subscriptions(pair):
    """Ours with ours on any two versions; stock's from 6.1 on, but those of 6.1 refuse what nodes from 6.2 on say."""
    versions = [host.server.numbers[:2] for _, host in pair]
    stock = [version for (kind, _), version in zip(pair, versions) if kind == "stock"]
    return all(version >= (6, 1) for version in stock) and not ((6, 1) in stock and max(versions) > (6, 1))


def test_subscriptions_are_shared_with_the_node_of_the_other_version(there):
    results, shared = {}, [pair for pair in pairs(there) if shares_subscriptions(pair)]
    for pair in shared:
        (one, here), (two, other) = pair
        with sharing(one, host=here) as first, sharing(two, first, host=other) as second:
            joined(first, second)
            time.sleep(1.5)
            results[name(pair)] = [served_by_both(first, second), gone(first, second)]
    assert results == {name(pair): [SERVED_BY_BOTH, [481, 481]] for pair in shared}


def test_nodes_that_know_no_subscriptions_share_publications_alone(there):
    """Each serves its own watchers; ours find out that an older node of stock's takes no subscriptions."""
    for pair in pairs(there):
        (one, here), (two, other) = pair
        has_older = any(kind == "stock" and host.server.numbers < COUNTS_FROM_RECEIPT for kind, host in pair)
        if not has_ours(pair) or not has_older:
            continue
        with open_node(one, here) as first, open_node(two, other, first) as second:
            joined(first, second)
            time.sleep(1.5)
            phones = [Client(first, "bob"), Client(second, "carol")]
            watches = [phone.subscribe("sip:alice@example.org") for phone in phones]
            alice = Client(first, "alice")
            alice.publish(body=pidf())
            assert ["open" in watch.wait(2)[-1].text for watch in watches] == [True, True], name(pair)
            for phone in phones + [alice]:
                phone.close()


def open_node(kind, host, seed=None):
    if kind == "ours":
        return sharing(kind, seed, skip=0, host=host)
    return node(kind, seed, host=host, subs_db_mode=0, publ_cache=2)
