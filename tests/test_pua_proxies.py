"""Where requests of the user agent go after a restart: the table `pua` has no column for the proxy of a request."""
import signal
import time

import pytest

from kit.responder import Responder
from kit.sip import Client, pidf
from test_pua import server

SUBSCRIBES = """
request_route {
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    if (is_method("MESSAGE")) { reginfo_subscribe("$ru"); sl_send_reply("200", "OK"); exit; }
    sl_send_reply("404", "Not here");
}
"""


@pytest.fixture
def peers():
    """The proxy that a request names, that of the parameter, and where the presentity is at home."""
    made = {name: Responder(expires=8) for name in ("given", "parameter", "home")}
    yield made
    for peer in made.values():
        peer.close()


def seen(peers, seconds):
    """Which peers were sent what within these seconds."""
    before = {name: len(peer.requests) for name, peer in peers.items()}
    time.sleep(seconds)
    return {name: sorted({message.method for message in peer.requests[before[name]:]})
            for name, peer in peers.items() if len(peer.requests) > before[name]}


def refreshed_publications(which, peers, default, mode):
    params = dict(db_mode=mode, **(dict(outbound_proxy=peers["parameter"].uri) if default else {}))
    presentity = "sip:bob@127.0.0.1:%d" % peers["home"].port
    with server(which, params=params) as kamailio:
        kamailio.json_rpc("pua.publish", presentity, "3600", "presence", "application/pidf+xml", "id", ".",
                          peers["given"].uri, ".", pidf())
        before = seen(peers, 7.5)
        kamailio.restart(signal.SIGTERM)
        return before, seen(peers, 8.5)


@pytest.mark.parametrize("mode", [0, 2])
@pytest.mark.parametrize("default", [False, True])
def test_refreshes_of_a_publication(peers, default, mode):
    """The proxy that the caller has named is kept in memory; a row, and stock, know that of the parameter alone."""
    as_stock = refreshed_publications("stock", peers, default, mode)
    elsewhere = {"parameter" if default else "home": ["PUBLISH"]}
    assert as_stock == (elsewhere, elsewhere)
    before, after = refreshed_publications("ours", peers, default, mode)
    assert before == ({"given": ["PUBLISH"]} if mode == 0 else elsewhere)
    assert after == elsewhere, "as stock"


def refreshed_subscription(which, peers):
    """A subscription that begins by a proxy: refreshed, refreshed after a restart, begun anew when it is forgotten."""
    more = ('modparam("pua_reginfo", "default_domain", "example.org")\n'
            'modparam("pua_reginfo", "server_address", "sip:reginfo@127.0.0.1")\n'
            'modparam("pua_reginfo", "outbound_proxy", "%s")\n' % peers["given"].uri)
    presentity = "sip:bob@127.0.0.1:%d" % peers["home"].port
    with server(which, params=dict(outbound_proxy=peers["parameter"].uri), more=more, route=SUBSCRIBES,
                modules=("usrloc", "pua", "pua_rpc", "pua_reginfo")) as kamailio:
        phone = Client(kamailio, "phone")
        phone.send_raw(phone.request("MESSAGE", presentity))
        found = [seen(peers, 7.5)]
        kamailio.restart(signal.SIGTERM)
        found.append(seen(peers, 8.5))
        peers["given"].script = lambda message: 481
        found.append(seen(peers, 8.5))
        phone.close()
    peers["given"].script = lambda message: 200
    return found


def test_refreshes_of_a_subscription(peers):
    """In the dialog they go to its target. One that is begun anew after a restart goes where the presentity is."""
    assert refreshed_subscription("stock", peers)[0] == {"given": ["SUBSCRIBE"]}
    given = {"given": ["SUBSCRIBE"]}
    assert refreshed_subscription("ours", peers) == [given, given, dict(given, home=["SUBSCRIBE"])]
