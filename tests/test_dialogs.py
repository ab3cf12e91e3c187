"""Whose dialog a SUBSCRIBE belongs to: copies of the first one, other event ids, other watchers; the URIs and Contacts
of NOTIFYs."""
import base64
import os
import re
import socket
import ssl
import subprocess
import uuid

import pytest

from conftest import MODES
from kit.kamailio import ROUTE, free_port
from kit.sip import Message, pidf
from test_authorization import XML
from test_cluster import wait_for
from test_rls import rls_server, store_services

STATELESS = ROUTE.replace("if (!t_newtran()) { sl_reply_error(); exit; }", "").replace("t_release();", "")


def watchers(server, presentity):
    return server.rpc("presence.watcher_list", presentity).count("pres_uri")


def first_subscribe(bob, alice, **more):
    headers = ["Event: presence", "Expires: 600"]
    return bob.request("SUBSCRIBE", alice.uri, headers, from_tag="tag-1", call_id=uuid.uuid4().hex, **more)


@pytest.mark.parametrize("transaction", ["never made", "gone"])
@pytest.mark.parametrize("mode", sorted(MODES))
def test_the_same_subscribe_twice(ours, phones, mode, transaction):
    if transaction == "gone" and mode not in ("memory", "database-only"):
        pytest.skip("one mode with memory stands for all")
    extra = 'modparam("tm", "wt_timer", 100)\n'
    route = STATELESS if transaction == "never made" else None
    server = ours(workers=4, extra_params=extra, **MODES[mode], **(dict(route=route % dict(
        publish="handle_publish()", subscribe="handle_subscribe()")) if route else {}))
    alice, bob = phones(server, "alice"), phones(server, "bob")
    request = first_subscribe(bob, alice)
    first = bob.reply_to(request)
    bob.wait_notifies(1)
    if transaction == "gone":
        bob.quiet(1.5)
    again = bob.reply_to(request, resend=False)
    assert (first.code, again.code) == (200, 200)
    assert first.tag("To") == again.tag("To") and again.get("Contact") == first.get("Contact")
    assert 590 <= int(again.get("Expires")) <= 600
    assert watchers(server, alice.uri) == 1
    bob.quiet(0.3)
    assert len(bob.notifies) == 1, "a copy is answered, and that is all"
    for header, other in (("Expires: 600", "Expires: 0"), ("Event: presence", "Event: presence;id=2"),
                          ("SUBSCRIBE sip:" + alice.user, "SUBSCRIBE sip:carol")):
        assert header.encode() in request
        assert bob.reply_to(request.replace(header.encode(), other.encode()), resend=False).code == 482, other
    alice.publish(body=pidf(alice.user))
    bob.wait_notifies(2)
    call_id = first.get("Call-ID")
    end = bob.request("SUBSCRIBE", alice.uri, ["Event: presence", "Expires: 0"], from_tag="tag-1", call_id=call_id,
                      cseq=2,
                      to_tag=first.tag("To"))
    assert bob.reply_to(end).code == 200
    bob.wait_notifies(3)
    alice.publish(body=pidf(alice.user, basic="closed"))
    bob.quiet(0.4)
    assert len(bob.notifies) == 3 and watchers(server, alice.uri) == 0
    if transaction == "gone":
        bob.quiet(1.5)
    # A late copy begins nothing that would count its NOTIFYs from 1 in the dialog that is over.
    assert bob.reply_to(request, resend=False).code == 481
    bob.quiet(0.2)
    assert len(bob.notifies) == 3 and watchers(server, alice.uri) == 0
    if mode != "memory":
        server.rpc("presence.cleanup")
        assert server.rows("active_watchers") == []


def test_where_stock_takes_another_way(both):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        copied = first_subscribe(bob, alice)
        to_tags = {bob.reply_to(copied, resend=False).tag("To") for _ in range(2)}
        bob.quiet(0.3)
        trace.note("one To tag", len(to_tags))
        trace.note("copy: subscriptions", watchers(server, alice.uri))
        other_cseq = re.sub(rb"z9hG4bK", b"z9hG4bKx", copied.replace(b"CSeq: 1 ", b"CSeq: 2 "))
        trace.note("another CSeq: another To tag", bob.reply_to(other_cseq, resend=False).tag("To") not in to_tags)

        watch = bob.subscribe(alice.uri)
        watch.wait(1)
        trace.note("another event id", watch.refresh(event="presence;id=3").code)
        trace.note("another From", watch.refresh(from_uri="sip:eve@example.org").code)
        trace.note("event parameter", bob.subscribe(alice.uri, event="presence;x=1").reply.code)
        trace.note("CSeq beyond 2^31", bob.subscribe(alice.uri, cseq=2 ** 31).reply.code)
        trace.note("a space in the Contact", bob.subscribe(alice.uri, contact="<sip:a b@127.0.0.1>").reply.code)
        alice.publish("sip:escaped@example.org", body=pidf("escaped"))
        escaped = bob.subscribe("sip:%65scaped@example.org")
        trace.note("escaped", "open" in (escaped.wait(1) or [watch.reply])[0].text)

    both(scenario, workers=1, route=STATELESS % dict(publish="handle_publish()", subscribe="handle_subscribe()"),
         different={
             "copy: subscriptions": ("one dialog, one subscription", lambda count: count == "1"),
             "another event id": ("RFC 6665 4.4.1", lambda code: code == "481"),
             "another From": ("NOTIFYs stay with their watcher", lambda code: code == "481"),
             "event parameter": ("RFC 6665 8.2.1", lambda code: code == "200"),
             "CSeq beyond 2^31": ("RFC 3261 8.1.1.5", lambda code: code == "400"),
             "a space in the Contact": ("RFC 3261 25.1", lambda code: code == "400"),
             "escaped": ("RFC 3261 19.1.4", lambda shown: shown == "True"),
         }, **MODES["memory"])


@pytest.mark.parametrize("mode", ["memory", "database-only"])
def test_copies_side_by_side(ours, phones, mode):
    server = ours(workers=8, route=STATELESS % dict(publish="handle_publish()", subscribe="handle_subscribe()"),
                  **MODES[mode])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    for _ in range(10):
        request = first_subscribe(bob, alice)
        for _ in range(8):
            bob.send_raw(request)
    bob.quiet(1.5)
    assert watchers(server, alice.uri) == 10
    assert {reply.code for reply in bob.replies} == {200} and len(bob.replies) == 80


@pytest.mark.parametrize("mode", ["memory", "defaults", "write-through", "database-only"])
def test_another_event_id_in_the_dialog(ours, phones, mode):
    server = ours(workers=1, **MODES[mode])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    watch = bob.subscribe(alice.uri, event="presence;id=1")
    watch.wait(1)
    plain = bob.subscribe(alice.uri)
    plain.wait(1)
    for other in ("presence", "presence;id=2", "presence;id=11"):
        for expires in (600, 0):
            assert watch.send(expires, event=other).code == 481
    assert plain.send(0, event="presence;id=1").code == 481
    # Both go on as they were.
    alice.publish(body=pidf(alice.user))
    assert len(watch.wait(2)) == 2 and len(plain.wait(2)) == 2
    assert watch.notifies[-1].get("Subscription-State").startswith("active")
    assert watch.send(600, event='Presence ; x=1;ID = "1"').code == 200
    assert plain.refresh(event="presence;x=1").code == 200


@pytest.mark.parametrize("mode", ["memory", "write-through", "database-only"])
def test_a_refresh_by_somebody_else(ours, phones, mode):
    server = ours(workers=1, **MODES[mode])
    alice, bob, eve = phones(server, "alice"), phones(server, "b%6Fb"), phones(server, "eve")
    watch = bob.subscribe(alice.uri)
    watch.wait(1)
    for stranger in ("sip:eve@example.org", "sip:bob@elsewhere.org", "sip:example.org", "tel:+49"):
        for expires in (600, 0):
            stolen = eve.request("SUBSCRIBE", alice.uri, ["Event: presence", "Expires: %d" % expires], cseq=50,
                                 call_id=watch.call_id, from_tag=watch.from_tag, to_tag=watch.to_tag, from_uri=stranger)
            assert eve.reply_to(stolen).code == 481
    alice.publish(body=pidf(alice.user))
    assert len(watch.wait(2)) == 2
    eve.quiet(0.3)
    assert eve.notifies == []
    # The same watcher, written otherwise.
    for same in ("sip:bob@example.org", "sip:%62%6fb@EXAMPLE.org:5070;user=phone", "sips:bob@example.org"):
        assert watch.refresh(from_uri=same).code == 200, same
    watch.wait(5)


def test_the_script_says_who_watches(ours, phones):
    server = ours(workers=1,
                  subscribe='if ($hdr(X-Who) == $null) handle_subscribe(); else handle_subscribe("$hdr(X-Who)")',
                  **MODES["memory"])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    for who in ("sip:boss@example.org", "<sip:boss@example.org>", '"The <Boss>" <sip:b%6Fss@example.org;x=1>;y=2'):
        watch = bob.subscribe(alice.uri, extra=["X-Who: " + who])
        assert watch.reply.code == 200, who
        watch.wait(1)
        assert watch.refresh().code == 200
        assert watch.refresh(extra=["X-Who: <sip:boss@Example.ORG>"]).code == 200
        assert watch.refresh(extra=["X-Who: sip:eve@example.org"]).code == 481
        assert watch.refresh(from_uri="sip:eve@example.org", extra=["X-Who: " + who]).code == 481
        assert "watcher: sip:boss@example.org" in server.rpc("presence.subscriptions", "watcher=sip:boss@example.org")
        assert watch.unsubscribe().code == 200
    for nobody in ("nobody", "<sip:boss@example.org", "sip:", "<>", '"x" y'):
        assert bob.subscribe(alice.uri, extra=["X-Who: " + nobody]).reply.code == 400, nobody


OWN_FORMS = ["sip:bob@example.org:5070", "sip:bob@example.org;user=phone", "sips:bob@example.org", "tel:+4930123456",
             "sip:b%6Fb@example.org"]


@pytest.mark.parametrize("mode", ["memory", "defaults", "write-through"])
def test_the_uris_of_a_notify_are_those_of_the_first_request(ours, phones, mode):
    server = ours(workers=1, **MODES[mode])
    alice, bob = phones(server, "alice"), phones(server, "bob")

    def address(message, name):
        return re.search(r"<([^>]*)>", message.get(name)).group(1)

    for own in OWN_FORMS:
        to = "sip:%s@example.org:5080;x=1" % alice.user
        watch = bob.subscribe(to, from_uri=own)
        watch.wait(1)
        watch.refresh(from_uri=own)
        watch.wait(2)
        alice.publish(body=pidf(alice.user))
        for notify in watch.wait(3):
            assert (address(notify, "To"), address(notify, "From")) == (own, to)
        watch.unsubscribe(from_uri=own)
        assert address(watch.wait(4)[3], "To") == own


def test_a_tel_uri_after_a_restart(ours, phones):
    server = ours(workers=1, **MODES["write-through"])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    watch = bob.subscribe(alice.uri, from_uri="tel:+4930123456")
    watch.wait(1)
    server.restart()
    assert watch.refresh(from_uri="tel:+4930123456").code == 200
    assert "<tel:+4930123456>" in watch.wait(2)[1].get("To")


def test_escaped_users_are_one(ours, phones):
    server = ours(workers=1, **MODES["write-through"], **XML)
    alice, bob = phones(server, "alice"), phones(server, "bob")
    watch = bob.subscribe("sip:%61lic%65@example.org", from_uri="sip:b%6fb@example.org")
    watch.wait(1)
    bob.subscribe("sip:alice@example.org", from_uri="sip:bob@example.org")
    assert [(row["watcher_username"], row["presentity_uri"]) for row in server.rows("watchers")] == [
        ("bob", "sip:alice@example.org")]
    alice.publish("sip:a%6Cice@example.org", body=pidf("alice"))
    assert {row["username"] for row in server.rows("presentity")} == {"alice"}
    assert server.rpc("presence.watcher_list", "sip:%61lice@example.org").count("pres_uri") == 2
    # What needs its escape keeps it, in one form.
    bob.subscribe("sip:a%2fb@example.org")
    assert watchers(server, "sip:a%2Fb@example.org") == 1


class Stream:
    """A phone on a connection: TCP, TLS, WebSocket."""

    def __init__(self, connection, name):
        self.connection, self.name = connection, name
        self.port = connection.getsockname()[1]
        self.buffer = b""

    def send(self, data):
        self.connection.sendall(data)

    def receive(self):
        self.connection.settimeout(5)
        while b"\r\n\r\n" not in self.buffer:
            more = self.connection.recv(65536)
            assert more, "the connection was closed"
            self.buffer += more
        head, _, rest = self.buffer.partition(b"\r\n\r\n")
        length = int(re.search(rb"(?i)\r\nContent-Length: *(\d+)", head).group(1))
        while len(rest) < length:
            rest += self.connection.recv(65536)
        self.buffer = rest[length:]
        return Message(head + b"\r\n\r\n" + rest[:length])

    def subscribe(self, to, call_id, cseq=1, to_tag=None, expires=600, extra=(), event="presence"):
        host = "127.0.0.1:%d" % self.port
        lines = ["SUBSCRIBE %s SIP/2.0" % to,
                 "Via: SIP/2.0/%s %s;branch=z9hG4bK%s" % (self.name.upper(), host, uuid.uuid4().hex),
                 "From: <sip:bob@example.org>;tag=f1", "To: <%s>%s" % (to, ";tag=" + to_tag if to_tag else ""),
                 "Call-ID: " + call_id, "CSeq: %d SUBSCRIBE" % cseq, "Max-Forwards: 70",
                 "Event: " + event, "Expires: %d" % expires,
                 "Contact: <sip:bob@%s;transport=%s>" % (host, self.name[:2] if "ws" in self.name else self.name),
                 *extra,
                 "Content-Length: 0", "", ""]
        self.send("\r\n".join(lines).encode())
        reply, notify = self.receive(), self.receive()
        if reply.is_request:
            reply, notify = notify, reply
        lines = ["SIP/2.0 200 OK"] + ["Via: " + via for via in notify.all("Via")]
        lines += ["%s: %s" % (name, notify.get(name)) for name in ("From", "To", "Call-ID", "CSeq")]
        self.send("\r\n".join(lines + ["Content-Length: 0", "", ""]).encode())
        return reply, notify


@pytest.mark.parametrize("mode", ["memory", "write-through", "database-only"])
@pytest.mark.parametrize("address", ["", "sip:server.example.org:5070", "sip:server.example.org;transport=udp"])
def test_contact_names_the_transport(both, mode, address):
    options = dict(MODES[mode]["presence"], **({"server_address": address} if address else {}))

    def scenario(server, phone, trace):
        stream = Stream(socket.create_connection(("127.0.0.1", server.port)), "tcp")
        reply, notify = stream.subscribe("sip:alice@example.org", "call-1")
        trace.note("reply", reply.get("Contact"))
        trace.note("notify", notify.get("Contact"))
        if mode != "memory":
            trace.note("row", server.rows("active_watchers")[0]["local_contact"])
        reply, notify = stream.subscribe("sip:alice@example.org", "call-1", 2, reply.tag("To"))
        trace.note("refreshed", (reply.get("Contact"), notify.get("Contact")))
        bob = phone("bob")
        watch = bob.subscribe("sip:alice@example.org")
        trace.note("over UDP", (watch.reply.get("Contact"), watch.wait(1)[0].get("Contact")))

    both(scenario, workers=1, presence=options, tcp=True)


TLS = """
modparam("tls", "private_key", "%(folder)s/key.pem")
modparam("tls", "certificate", "%(folder)s/cert.pem")
modparam("tls", "tls_method", "TLSv1.2+")
"""

HANDSHAKE = """
tcp_accept_no_cl=yes
event_route[xhttp:request] {
    set_reply_close();
    set_reply_no_connect();
    if ($hdr(Upgrade) =~ "websocket" && ws_handle_handshake()) { exit; }
    xhttp_reply("404", "Not Found", "", "");
}
"""


def with_tls(server):
    port = free_port()
    server.tls_port = port
    # The host wants to know before it loads the module.
    server.listen.append("tls:127.0.0.1:%d\nenable_tls=yes" % port)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
                    "-keyout", str(server.folder / "key.pem"), "-out", str(server.folder / "cert.pem")], check=True,
                   capture_output=True)
    server.before = TLS % dict(folder=server.folder)


def over_tls(port):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port)))


class WebSocket:
    """The client's side of RFC 6455, as much as SIP needs."""

    def __init__(self, connection):
        self.connection, self.buffer = connection, b""
        key = base64.b64encode(os.urandom(16)).decode()
        connection.sendall(("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                            "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Protocol: sip\r\nSec-WebSocket-Version: 13\r\n"
                            "Content-Length: 0\r\n\r\n" % key).encode())
        connection.settimeout(5)
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += connection.recv(65536) or b"closed\r\n\r\n"
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        assert b" 101 " in head.split(b"\r\n")[0], head

    def getsockname(self):
        return self.connection.getsockname()

    def settimeout(self, seconds):
        self.connection.settimeout(seconds)

    def sendall(self, data):
        assert 126 <= len(data) < 65536
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
        self.connection.sendall(b"\x81\xfe" + len(data).to_bytes(2, "big") + mask + masked)

    def _exactly(self, count):
        while len(self.buffer) < count:
            more = self.connection.recv(65536)
            assert more, "the connection was closed"
            self.buffer += more
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def recv(self, _size):
        _, length = self._exactly(2)
        if length == 126:
            length = int.from_bytes(self._exactly(2), "big")
        return self._exactly(length)


@pytest.mark.parametrize("address", ["", "sip:server.example.org:5070"])
@pytest.mark.parametrize("name", ["tls", "ws", "wss"])
def test_contact_over_tls_and_websockets(both, name, address):
    """wss is a transport of the host, not of a URI (RFC 7118 5); stock names the socket in NOTIFYs, not what runs on
    it."""
    options = dict(MODES["memory"]["presence"], **({"server_address": address} if address else {}))
    modules = ("presence_xml",) + (() if name == "ws" else ("tls",)) + (() if name == "tls" else ("xhttp", "websocket"))

    def scenario(server, phone, trace):
        port = server.port if name == "ws" else server.tls_port
        connection = socket.create_connection(("127.0.0.1", port)) if name == "ws" else over_tls(port)
        stream = Stream(connection if name == "tls" else WebSocket(connection), name)
        reply, notify = stream.subscribe("sip:alice@example.org", "call-1")
        shown = lambda message: message.get("Contact").replace(str(port), "PORT")
        trace.note("reply", shown(reply))
        trace.note("notify", shown(notify))
        reply, notify = stream.subscribe("sip:alice@example.org", "call-1", 2, reply.tag("To"))
        trace.note("refreshed", shown(reply))
        trace.note("notify again", shown(notify))

    word = "tls" if name == "tls" else "ws"
    right = lambda contact: contact.endswith(";transport=%s>" % word)
    different = {}
    if name != "tls" and address:
        different = {label: ("RFC 7118 5", right) for label in ("notify", "notify again")}
    both(scenario, workers=1, presence=options, modules=modules, tcp=True, prepare=None if name == "ws" else with_tls,
         more_route="" if name == "tls" else HANDSHAKE, different=different)


# In memory the process of stock that serves watcher information ends by signal 11.
@pytest.mark.parametrize("mode", ["write-through", "database-only"])
def test_a_watcher_of_watchers_that_is_gone_costs_no_other_its_notify(both, mode):
    """RFC 6665 4.2.1.2: a watcher that is answered 200 is sent the state, also where another one cannot be reached."""
    def scenario(server, phone, trace):
        connection = socket.create_connection(("127.0.0.1", server.port))
        stream = Stream(WebSocket(connection), "ws")
        stream.subscribe("sip:alice@example.org", "call-1", event="presence.winfo")
        connection.close()
        wait_for(lambda: str(stream.port) not in server.rpc("core.tcp_list"), 5)
        watch = phone("bob").subscribe("sip:alice@example.org", event="presence")
        trace.note("answered", watch.reply.code)
        trace.note("notified", len(watch.wait(1, 2)))

    both(scenario, workers=1, modules=("presence_xml", "xhttp", "websocket"), tcp=True, more_route=HANDSHAKE,
         different={"notified": ("RFC 6665 4.2.1.2", lambda count: count == "1")}, **MODES[mode])


def contacts_of_a_list_over_tcp(which):
    """The Contacts of the answer and of the NOTIFY to a watcher of a list."""
    server = rls_server(which)
    server.listen.append("tcp:127.0.0.1:%d" % server.port)
    store_services(server)
    with server:
        stream = Stream(socket.create_connection(("127.0.0.1", server.port)), "tcp")
        accept = "Accept: application/pidf+xml, application/rlmi+xml, multipart/related"
        reply, notify = stream.subscribe("sip:list@example.org", "call-1", extra=["Supported: eventlist", accept])
        assert reply.code == 200
        return reply.get("Contact"), notify.get("Contact")


def test_contact_of_a_list_over_tcp():
    """rls takes its dialogs from the C API: its address has no transport of its own."""
    assert all(contact.endswith(";transport=tcp>") for contact in contacts_of_a_list_over_tcp("ours"))
