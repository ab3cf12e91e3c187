"""Where requests come from and how they are addressed: transports, IPv6, advertised addresses, odd URIs."""
import re
import socket

import pytest

from conftest import MODES
from kit.sip import Message, pidf

FIELDS = ("presentity_uri", "watcher_username", "watcher_domain", "to_user", "to_domain", "from_user", "from_domain",
          "socket_info", "local_contact",
          "contact", "record_route")


def plain(text, server):
    text = re.sub(r"127\.0\.0\.1:\d+|\[::1\]:\d+", "ADDRESS", str(text).replace(str(server.port), "PORT"))
    return re.sub(r";tag=[\w.-]+", ";tag=T", text)


def described(row, server):
    return " ".join("%s=%s" % (name, plain(row[name], server)) for name in FIELDS)


class Stream:
    """A phone on TCP."""

    def __init__(self, server, phone):
        self.socket = socket.create_connection(("127.0.0.1", server.port))
        self.phone, self.buffer = phone, b""

    def ask(self, request):
        self.socket.sendall(request.replace(b"SIP/2.0/UDP", b"SIP/2.0/TCP"))
        return self.read()

    def read(self):
        self.socket.settimeout(3)
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += self.socket.recv(65536)
        head, rest = self.buffer.split(b"\r\n\r\n", 1)
        length = int(re.search(rb"(?i)content-length: *(\d+)", head).group(1))
        while len(rest) < length:
            rest += self.socket.recv(65536)
        self.buffer = rest[length:]
        return Message(head + b"\r\n\r\n" + rest[:length])


@pytest.mark.parametrize("address", ["", "sip:presence.example.org:5099;transport=tcp"])
def test_tcp(both, address):
    def scenario(server, phone, trace):
        bob = phone("bob")
        stream = Stream(server, bob)
        local = stream.socket.getsockname()[1]
        request = bob.request("SUBSCRIBE", "sip:alice@example.org", ["Event: presence", "Expires: 600"],
                              call_id="tcp-1", from_tag="f1",
                              contact="<sip:bob@127.0.0.1:%d;transport=tcp>" % local)
        seen = [stream.ask(request), stream.read()]
        for message in seen:
            trace.note(message.start.split()[0],
                       "\n".join(plain(message.get(name, "-"), server).replace(str(local), "LOCAL") for name in (
                "Contact", "Event", "Subscription-State", "Expires", "From", "To")) + "\n"
                       + plain(message.start, server).replace(str(local), "LOCAL"))
        for row in server.rows("active_watchers"):
            trace.note("row", "\n".join("%s=%s" % (name, plain(row[name], server).replace(str(local), "LOCAL"))
                                        for name in FIELDS))
        stream.socket.close()

    presence = dict(subs_db_mode=1, publ_cache=0)
    if address:
        presence["server_address"] = address
    both(scenario, workers=1, tcp=True, presence=presence, modules=("presence_xml",))


URIS = ["sip:Alice@Example.ORG", "sip:alice@example.org:5070", "sip:alice;x=y@example.org",
        "sip:alice%40home@example.org", "sip:alice:secret@example.org",
        "sip:alice@example.org;transport=tcp", "sips:alice@example.org", "sip:al'ice@example.org",
        "sip:alice@[2001:db8::1]", "sip:alice@10.0.0.1",
        "sip:alice@example.org?subject=x", "sip:%s@example.org" % ("a" * 60), "sip:*97@example.org",
        "sip:+49(30)1234@example.org;user=phone"]


@pytest.mark.parametrize("mode", ["write-through", "database-only"])
def test_uris(both, mode):
    def scenario(server, phone, trace):
        for uri in URIS:
            alice, bob = phone("alice"), phone("bob")
            reply = alice.publish(uri, body=pidf())
            trace.note(uri + " publish", reply and reply.code)
            watch = bob.subscribe(uri)
            trace.note(uri + " subscribe", watch.reply and watch.reply.code)
            watch.wait(1, timeout=1)
            trace.note(uri + " notified", [bool(n.body) for n in watch.notifies])
            watcher = bob.subscribe("sip:carol@example.org", from_uri=uri)
            trace.note(uri + " as a watcher", watcher.reply and watcher.reply.code)
            watcher.wait(1, timeout=1)
            trace.note(uri + " To", [plain(notify.get("To"), server) for notify in watcher.notifies])
            trace.note(uri + " rows",
                       "\n".join(sorted(described(row, server) for row in server.rows("active_watchers"))))
            trace.note(uri + " documents",
                       sorted("%s|%s" % (row["username"], row["domain"]) for row in server.rows("presentity")))
            trace.note(uri + " watchers", sorted("%s|%s|%s|%s" % (
                row["presentity_uri"], row["watcher_username"], row["watcher_domain"], row["status"])
                                                 for row in server.rows("watchers")))
            watch.unsubscribe(), watcher.unsubscribe(from_uri=uri)
            if reply is not None and reply.code == 200:
                alice.publish(uri, etag=reply.get("SIP-ETag"), expires=0)
            bob.quiet(0.05)

    # Where memory holds the dialog, NOTIFYs have the URIs of its first request.
    own = ("sip:alice@example.org:5070", "sip:alice:secret@example.org", "sip:alice@example.org;transport=tcp",
           "sips:alice@example.org", "sip:alice@example.org?subject=x", "sip:+49(30)1234@example.org;user=phone")
    different = {} if mode == "database-only" else {
        uri + " To": ("RFC 3261 12.2.1.1", lambda to, uri=uri: "<%s>" % uri in to) for uri in own}
    both(scenario, workers=1, different=different, **MODES[mode])


def test_advertised(both):
    def scenario(server, phone, trace):
        bob = phone("bob")
        watch = bob.subscribe("sip:alice@example.org")
        watch.wait(1)
        trace.note("reply", plain(watch.reply.get("Contact"), server))
        trace.note("NOTIFY",
                   plain(watch.notifies[0].get("Contact"),
                         server) + plain(watch.notifies[0].get("Via").split(";")[0], server))
        trace.note("rows", [described(row, server) for row in server.rows("active_watchers")])

    def prepare(server):
        server.listen = ["udp:127.0.0.1:%d advertise 192.0.2.7:5062" % server.port]

    both(scenario, workers=1, prepare=prepare, presence=dict(subs_db_mode=1))


def test_tel(both):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        trace.note("publish", alice.publish("tel:+491234", body=pidf()).code)
        watch = bob.subscribe("tel:+491234")
        trace.note("subscribe", watch.reply.code)
        watch.wait(1, timeout=1)
        trace.note("notified", len([n for n in watch.notifies if n.body]))

    both(scenario, workers=1, **MODES["write-through"], different={
        "subscribe": ("what can be published can be watched", lambda code: code == "200"),
        "notified": ("the same", lambda notified: notified == "1")})
