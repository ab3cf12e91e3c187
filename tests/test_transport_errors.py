"""NOTIFYs that this machine cannot send: as in stock, that is no answer of the watcher, and its subscription stays."""
import socket
import uuid

import pytest

from conftest import MODES
from kit.sip import Message, pidf
from test_dialogs import Stream
from test_notify_engine import QUICK, counts

# The system refuses to send a datagram there at once, with a default route and without one.
NOWHERE = "<sip:bob@255.255.255.255:5060>"
# Timer F is two seconds in these servers.
LONGER_THAN_TIMER_F = 3.5
ENGINES = ["tm", "direct"]
STORES = ["memory", "write-through", "database-only"]


@pytest.fixture
def beside_stock(both):
    def run(scenario, engine, mode, **options):
        def prepare(server):
            if server.which == "ours":
                server.presence = dict(server.presence, notify_engine=engine)

        presence = MODES[mode]["presence"]
        both(scenario, prepare=prepare, workers=2, tcp=True, extra_params=QUICK, presence=presence,
             before="tcp_rd_buf_size=200000\n", modules=("presence_xml",), **options)
    return run


def publish_over_tcp(server, alice, body, etag=None):
    """A document that no datagram carries."""
    lines = ["PUBLISH %s SIP/2.0" % alice.uri, "Via: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bK" + uuid.uuid4().hex,
             "From: <%s>;tag=1" % alice.uri, "To: <%s>" % alice.uri, "Call-ID: " + uuid.uuid4().hex,
             "CSeq: 1 PUBLISH", "Max-Forwards: 70", "Event: presence", "Expires: 600",
             "Content-Type: application/pidf+xml", "Content-Length: %d" % len(body)]
    lines += ["SIP-If-Match: " + etag] if etag else []
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.settimeout(5)
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
        return Message(connection.recv(65536))


def seen(watch):
    """What the watcher was sent: numbers, and whether there was a body."""
    return [(notify.cseq, len(notify.body) > 0) for notify in watch.notifies]


def is_counted_as_unsent(server, engine, many, wait=5):
    """The statistics, and one line that names the watcher and the cause."""
    names = "notify_unsent", "notify_timeout", "notify_under_way", "notify_transport_errors"
    # Timer E tries once more.
    wanted = (many, 0, 0, 2 * many if engine == "direct" else 0)
    assert counts(server, *names, wanted=wanted, seconds=wait) == wanted
    lines = [line for line in server.log().split("\n") if "could not be sent" in line]
    assert lines and all("NOTIFY to sip:bob" in line and "Call-ID" in line for line in lines), lines
    return lines


@pytest.mark.parametrize("mode", STORES)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_document_that_fits_no_datagram_ends_no_subscription(beside_stock, engine, mode):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        watch = bob.subscribe(alice.uri)
        watch.wait(1)
        published = publish_over_tcp(server, alice, pidf(alice.user, note="x" * 66000))
        trace.note("large", published.code)
        bob.quiet(LONGER_THAN_TIMER_F)
        trace.note("NOTIFYs", seen(watch))
        if trace.which == "ours":
            lines = is_counted_as_unsent(server, engine, 1)
            assert engine == "tm" or "Message too long" in lines[0] and " bytes)" in lines[0], lines
        small = publish_over_tcp(server, alice, pidf(alice.user, note="small"), published.get("SIP-ETag"))
        trace.note("small", small.code)
        watch.wait(2)
        trace.note("NOTIFYs of both", seen(watch))
        watch.send(600)
        trace.note("refresh", watch.reply.code)

    beside_stock(scenario, engine, mode)


@pytest.mark.parametrize("mode", STORES)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_contact_without_a_route_ends_no_subscription(beside_stock, engine, mode):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        watch = bob.subscribe(alice.uri, contact=NOWHERE)
        trace.note("subscribed", watch.reply.code)
        bob.quiet(LONGER_THAN_TIMER_F)
        # A change, too.
        alice.publish(body=pidf(alice.user))
        bob.quiet(LONGER_THAN_TIMER_F)
        trace.note("NOTIFYs", seen(watch))
        if trace.which == "ours":
            lines = is_counted_as_unsent(server, engine, 2)
            assert engine == "tm" or " bytes)" in lines[0], lines
            assert counts(server, "subscriptions", wanted=(1,)) == (1,)
        watch.send(600)
        watch.wait(1)
        trace.note("way back", (watch.reply.code, seen(watch)))
        watch.send(0, contact=NOWHERE)
        bob.quiet(LONGER_THAN_TIMER_F)
        trace.note("end", (watch.reply.code, seen(watch)))
        if mode != "memory":
            trace.rows("active_watchers", server, "active_watchers")
        if trace.which == "ours":
            is_counted_as_unsent(server, engine, 3)
            assert counts(server, "subscriptions", wanted=(0,)) == (0,)

    beside_stock(scenario, engine, mode)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_connection_that_is_gone_means_what_it_means_in_stock(beside_stock, engine):
    def scenario(server, phone, trace):
        alice = phone("alice")
        stream = Stream(socket.create_connection(("127.0.0.1", server.port)), "tcp")
        reply, _ = stream.subscribe(alice.uri, "call-1")
        trace.note("subscribed", reply.code)
        stream.connection.close()
        alice.quiet(0.5)
        alice.publish(body=pidf(alice.user))
        alice.quiet(LONGER_THAN_TIMER_F)
        trace.note("rows", len(server.rows("active_watchers")))

    beside_stock(scenario, engine, "write-through")
