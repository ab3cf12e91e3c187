"""A small SIP client over UDP for the scenarios: builds requests, reads messages, answers NOTIFYs."""
import itertools
import re
import select
import socket
import time
import uuid

_ports = itertools.count()
CRLF = "\r\n"


class Message:
    """One SIP message as it was on the wire, with its headers in order."""

    def __init__(self, raw):
        self.raw = raw
        head, _, self.body = raw.partition(b"\r\n\r\n")
        # A line that begins with white space goes on with the one before (RFC 3261 7.3.1).
        lines = re.sub("\r\n[ \t]+", " ", head.decode("utf-8", "replace")).split(CRLF)
        self.start = lines[0]
        self.headers = []
        for line in lines[1:]:
            name, _, value = line.partition(":")
            self.headers.append((name.strip(), value.strip()))

    @property
    def is_request(self):
        return not self.start.startswith("SIP/2.0 ")

    @property
    def method(self):
        return self.start.split(" ", 1)[0] if self.is_request else self.get("CSeq", "0 ?").split()[-1]

    @property
    def code(self):
        return None if self.is_request else int(self.start.split(" ", 2)[1])

    @property
    def reason(self):
        return self.start.split(" ", 2)[2]

    def get(self, name, default=None):
        for key, value in self.headers:
            if key.lower() == name.lower():
                return value
        return default

    def all(self, name):
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def cseq(self):
        return int(self.get("CSeq").split()[0])

    def tag(self, header):
        found = re.search(r";\s*tag=([^;>\s]+)", self.get(header, ""))
        return found.group(1) if found else None

    @property
    def text(self):
        return self.body.decode("utf-8", "replace")

    def __repr__(self):
        return "<%s %s>" % (self.start, self.get("Subscription-State", ""))


class Client:
    """One phone: a UDP socket with a user name. Every message it sees is kept in `trace`."""

    def __init__(self, server, user="alice", domain="example.org", answer=200):
        self.server = server
        self.user = user
        self.domain = domain
        self.answer = answer          # what NOTIFYs are answered with: an int, None (silence) or a function
        self.answer_headers = ""
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.address = getattr(server, "near", "127.0.0.1")
        self.socket.bind((self.address, 0))
        self.port = self.socket.getsockname()[1]
        self.trace = []
        self.notifies = []
        self.replies = []
        self._seen_branches = set()

    def close(self):
        self.socket.close()

    @property
    def uri(self):
        return "sip:%s@%s" % (self.user, self.domain)

    @property
    def contact(self):
        return "<sip:%s@%s:%d>" % (self.user, self.address, self.port)

    def send_raw(self, data):
        if isinstance(data, str):
            data = data.encode()
        self.socket.sendto(data, (self.server.address, self.server.port))

    def request(self, method, to, headers=(), body="", call_id=None, from_tag=None, to_tag=None, cseq=1, ruri=None,
                contact=True, from_uri=None, content_length=None, branch=None):
        call_id = call_id or uuid.uuid4().hex
        body_bytes = body if isinstance(body, bytes) else body.encode()
        lines = [
            "%s %s SIP/2.0" % (method, ruri or to),
            "Via: SIP/2.0/UDP %s:%d;branch=%s" % (self.address, self.port, branch or "z9hG4bK" + uuid.uuid4().hex[:16]),
            "From: <%s>;tag=%s" % (from_uri or self.uri, from_tag or uuid.uuid4().hex[:10]),
            "To: <%s>%s" % (to, ";tag=" + to_tag if to_tag else ""),
            "Call-ID: %s" % call_id,
            "CSeq: %d %s" % (cseq, method),
            "Max-Forwards: 70",
        ]
        if contact is True:
            lines.append("Contact: %s" % self.contact)
        elif contact:
            lines.append("Contact: %s" % contact)
        lines += list(headers)
        lines.append("Content-Length: %d" % (len(body_bytes) if content_length is None else content_length))
        return (CRLF.join(lines) + CRLF + CRLF).encode() + body_bytes

    def receive(self, timeout):
        """Reads one datagram, answers it when it is a NOTIFY. None after `timeout` seconds."""
        ready, _, _ = select.select([self.socket], [], [], timeout)
        if not ready:
            return None
        data, source = self.socket.recvfrom(65535)
        message = Message(data)
        message.source = source
        self.trace.append(message)
        if message.is_request:
            branch = message.get("Via", "")
            again = branch in self._seen_branches
            self._seen_branches.add(branch)
            if message.method == "NOTIFY" and not again:
                self.notifies.append(message)
            self._answer(message, source)
        else:
            self.replies.append(message)
        return message

    def _answer(self, message, source):
        code = self.answer(message) if callable(self.answer) else self.answer
        if code is None:
            return
        lines = ["SIP/2.0 %d %s" % (code, {200: "OK", 481: "Subscription does not exist"}.get(code, "Answer"))]
        lines += ["Via: %s" % via for via in message.all("Via")]
        lines += ["%s: %s" % (name, message.get(name)) for name in ("From", "To", "Call-ID", "CSeq")]
        if self.answer_headers:
            lines.append(self.answer_headers)
        lines.append("Content-Length: 0")
        self.socket.sendto((CRLF.join(lines) + CRLF + CRLF).encode(), source)

    def reply_to(self, request, timeout=5.0, resend=True):
        """Sends a request and returns its final reply; retransmits as UDP needs it."""
        head = request.split(b"\r\n\r\n")[0].decode("utf-8", "replace")
        call_id = re.search(r"(?im)^(?:Call-ID|i)[ \t]*:[ \t]*(.*?)\r?$", head)
        cseq = re.search(r"(?im)^CSeq[ \t]*:[ \t]*(\d+)", head)
        wanted = (call_id.group(1).strip() if call_id else None, cseq.group(1) if cseq else None)
        self.send_raw(request)
        deadline = time.monotonic() + timeout
        again = time.monotonic() + (0.5 if resend else timeout)
        while time.monotonic() < deadline:
            message = self.receive(max(0.0, min(deadline, again) - time.monotonic()))
            if message is None:
                if resend and time.monotonic() >= again and time.monotonic() < deadline:
                    self.send_raw(request)
                    again = time.monotonic() + 1.0
                continue
            if not message.is_request and message.code >= 200:
                got = (message.get("Call-ID"), (message.get("CSeq") or "?").split()[0])
                if wanted == got or None in wanted:
                    return message
        return None

    def wait_notifies(self, count, timeout=3.0):
        """Reads until `count` NOTIFYs were seen in all, or the time is over; returns all of them."""
        deadline = time.monotonic() + timeout
        while len(self.notifies) < count and time.monotonic() < deadline:
            self.receive(max(0.0, deadline - time.monotonic()))
        return self.notifies

    def quiet(self, seconds=0.4):
        """Reads whatever arrives in the next `seconds`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.receive(max(0.0, deadline - time.monotonic()))

    # -- the two dialogs of presence -------------------------------------------------------------------------------

    def publish(self, to=None, body=None, etag=None, expires=3600, event="presence", ctype="application/pidf+xml",
                extra=(), **more):
        headers = []
        if event is not None:
            headers.append("Event: %s" % event)
        if expires is not None:
            headers.append("Expires: %s" % expires)
        if etag is not None:
            headers.append("SIP-If-Match: %s" % etag)
        if body is not None and ctype is not None:
            headers.append("Content-Type: %s" % ctype)
        headers += list(extra)
        more.setdefault("contact", None)
        return self.reply_to(self.request("PUBLISH", to or self.uri, headers, body or "", **more))

    def subscribe(self, to, event="presence", expires=3600, accept=None, extra=(), **more):
        dialog = Subscription(self, to, event, accept)
        dialog.send(expires, extra=extra, **more)
        return dialog


class Subscription:
    """The watcher's side of one subscription dialog."""

    def __init__(self, client, to, event, accept):
        self.client = client
        self.to = to
        self.event = event
        self.accept = accept
        self.call_id = uuid.uuid4().hex
        self.from_tag = uuid.uuid4().hex[:10]
        self.to_tag = None
        self.cseq = 0
        self.target = None
        self.reply = None

    def send(self, expires=3600, extra=(), **more):
        self.cseq += 1
        headers = []
        event = more.pop("event", self.event)
        if event is not None:
            headers.append("Event: %s" % event)
        if expires is not None:
            headers.append("Expires: %s" % expires)
        if self.accept:
            headers.append("Accept: %s" % self.accept)
        headers += list(extra)
        options = dict(call_id=self.call_id, from_tag=self.from_tag, to_tag=self.to_tag, cseq=self.cseq,
                       ruri=self.target)
        options.update(more)
        self.reply = self.client.reply_to(self.client.request("SUBSCRIBE", self.to, headers, **options))
        if self.reply is not None and self.reply.code // 100 == 2:
            self.to_tag = self.to_tag or self.reply.tag("To")
            contact = self.reply.get("Contact")
            if contact:
                self.target = contact.strip("<>")
        return self.reply

    refresh = send

    def unsubscribe(self, **more):
        return self.send(0, **more)

    @property
    def notifies(self):
        return [m for m in self.client.notifies if m.get("Call-ID") == self.call_id]

    def wait(self, count, timeout=3.0):
        deadline = time.monotonic() + timeout
        while len(self.notifies) < count and time.monotonic() < deadline:
            self.client.receive(max(0.0, min(0.1, deadline - time.monotonic())))
        return self.notifies


def pidf(user="alice", domain="example.org", basic="open", note=None, tuple_id="t1", extra=""):
    """A PIDF document (RFC 3863)."""
    text = '<note>%s</note>' % note if note else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:%s@%s">\n'
        '  <tuple id="%s"><status><basic>%s</basic></status>%s</tuple>%s\n'
        '</presence>\n' % (user, domain, tuple_id, basic, text, extra)
    )


def dialog_info(state, user="alice", domain="example.org", version=0, dialog_id="d1", direction="recipient"):
    """A dialog document (RFC 4235)."""
    return (
        '<?xml version="1.0"?>\n'
        '<dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="%d" state="full" entity="sip:%s@%s">\n'
        '  <dialog id="%s" call-id="%s" direction="%s"><state>%s</state></dialog>\n'
        '</dialog-info>\n' % (version, user, domain, dialog_id, dialog_id, direction, state)
    )
