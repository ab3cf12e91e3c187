"""NOTIFYs without tm over TCP, TLS and WebSocket: on connections that exist, once each, several in a write."""
import re
import socket
import time

import pytest

from kit.kamailio import Kamailio
from kit.sip import Client, pidf
from test_dialogs import HANDSHAKE, Stream, WebSocket, over_tls, with_tls
from test_notify_engine import MEMORY, QUICK, counts, under_way_ends

ALICE = "sip:alice@example.org"
NAMES = ["tcp", "tls", "ws", "wss"]


def a_server(name="tcp", before="", **more):
    modules = ("presence_xml",) + (("tls",) if name in ("tls", "wss") else ())
    modules += ("xhttp", "websocket") if "ws" in name else ()
    server = Kamailio("ours", workers=1, presence=dict(MEMORY, **more), db=None, before=before, tcp=True,
                      modules=modules, more_route=HANDSHAKE if "ws" in name else "")
    if name in ("tls", "wss"):
        with_tls(server)
        server.before = before + server.before
    return server


def connect(server, name):
    if name in ("tls", "wss"):
        connection = over_tls(server.tls_port)
    else:
        connection = socket.create_connection(("127.0.0.1", server.port))
    return Stream(WebSocket(connection) if "ws" in name else connection, name)


def watched(server, name):
    """Alice has published, and is watched on a connection: she, her tag, the connection, the first NOTIFY."""
    alice = Client(server, "alice")
    etag = alice.publish(body=pidf()).get("SIP-ETag")
    stream = connect(server, name)
    _, first = stream.subscribe(ALICE, "call-1")
    return alice, etag, stream, first


def answer(stream, notify, code="200 OK"):
    lines = ["SIP/2.0 " + code] + ["Via: " + via for via in notify.all("Via")]
    lines += ["%s: %s" % (name, notify.get(name)) for name in ("From", "To", "Call-ID", "CSeq")]
    stream.send("\r\n".join(lines + ["Content-Length: 0", "", ""]).encode())


def masked(notify, stream):
    text = re.sub(r"branch=[^;\r\n]+|tag=[^;\r\n>]+|expires=\d+", "-", notify.raw.decode())
    text = re.sub(r"(127.0.0.1:)\d+", r"\1PORT", text)
    return text.replace("Call-ID: " + notify.get("Call-ID"), "Call-ID: -")


@pytest.mark.parametrize("name", NAMES)
def test_a_watcher_on_a_connection_is_notified_as_by_tm(name):
    seen = {}
    for engine in ("tm", "direct"):
        with a_server(name, notify_engine=engine) as server:
            alice, etag, stream, first = watched(server, name)
            alice.publish(body=pidf(basic="closed"), etag=etag)
            second = stream.receive()
            answer(stream, second)
            assert under_way_ends(server)
            seen[engine] = [masked(first, stream), masked(second, stream)]
            direct, by_tm, errors = counts(server, "notify_direct", "notify_by_tm", "notify_transport_errors",
                                           wanted=(2, 0, 0) if engine == "direct" else (0, 2, 0))
            assert (direct, by_tm, errors) == ((2, 0, 0) if engine == "direct" else (0, 2, 0))
            assert counts(server, "notify_2xx", wanted=(2,)) == (2,)
    assert seen["direct"] == seen["tm"]


@pytest.mark.parametrize("name", ["tcp", "ws"])
def test_the_alias_of_a_contact_is_followed_as_by_tm(name):
    seen = {}
    for engine in ("tm", "direct"):
        with a_server(name, notify_engine=engine) as server:
            stream = connect(server, name)
            number = {"tcp": 2, "ws": 5}[name]
            alias = ";alias=127.0.0.1~%d~%d" % (stream.port, number)
            send = stream.send
            contact = ("Contact: <sip:bob@x.invalid;transport=%s%s>" % (name, alias)).encode()
            stream.send = lambda data: send(re.sub(rb"Contact: <[^>]*>", contact, data))
            _, notify = stream.subscribe(ALICE, "call-1")
            assert under_way_ends(server)
            seen[engine] = masked(notify, stream)
            assert counts(server, "notify_direct") == ((1,) if engine == "direct" else (0,))
    assert seen["direct"] == seen["tm"]


@pytest.mark.parametrize("name", NAMES)
def test_a_connection_that_is_gone_is_left_to_tm(name):
    with a_server(name, before=QUICK) as server:
        alice, etag, stream, _ = watched(server, name)
        assert counts(server, "notify_direct", "notify_by_tm", wanted=(1, 0)) == (1, 0)
        getattr(stream.connection, "connection", stream.connection).close()
        time.sleep(0.5)
        assert alice.publish(body=pidf(basic="closed"), etag=etag).code == 200
        assert counts(server, "notify_direct", "notify_by_tm", wanted=(1, 1)) == (1, 1)
        assert counts(server, "notify_under_way", wanted=(0,)) == (0,)


@pytest.mark.parametrize("name", ["tcp", "tls", "ws"])
def test_nothing_is_sent_again_on_a_connection(name):
    with a_server(name, before=QUICK) as server:
        alice, etag, stream, _ = watched(server, name)
        alice.publish(body=pidf(basic="closed"), etag=etag)
        assert "closed" in stream.receive().raw.decode()
        assert counts(server, "notify_under_way", wanted=(1,)) == (1,)
        # Timer F is two seconds here.
        assert under_way_ends(server, 6)
        assert counts(server, "notify_retransmissions", "notify_timeout", wanted=(0, 1)) == (0, 1)
        getattr(stream.connection, "connection", stream.connection).settimeout(0.3)
        with pytest.raises((TimeoutError, OSError)):
            stream.connection.recv(65536)


@pytest.mark.parametrize("name", ["tcp", "tls", "ws"])
def test_the_notifies_of_a_change_to_one_connection_share_writes(name):
    with a_server(name) as server:
        alice = Client(server, "alice")
        etag = alice.publish(body=pidf()).get("SIP-ETag")
        streams = [connect(server, name), connect(server, name)]
        calls = [["call-%d-%d" % (at, n) for n in range(8)] for at in range(2)]
        # The watchers of the two connections take turns.
        for n in range(8):
            for at in range(2):
                streams[at].subscribe(ALICE, calls[at][n])
        assert counts(server, "notify_joined_writes", wanted=(0,)) == (0,)
        alice.publish(body=pidf(basic="closed"), etag=etag)
        for stream, names in zip(streams, calls):
            got = [stream.receive() for _ in names]
            assert [notify.get("Call-ID") for notify in got] == names
            for notify in got:
                assert "closed" in notify.raw.decode()
                answer(stream, notify)
        assert under_way_ends(server)
        joined, direct, by_tm = counts(server, "notify_joined_writes", "notify_direct", "notify_by_tm")
        assert (direct, by_tm) == (32, 0)
        # A WebSocket has a frame for each.
        assert joined == 0 if name == "ws" else joined >= 2
