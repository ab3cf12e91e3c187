"""A scripted presence server: answers PUBLISH and SUBSCRIBE as a scenario wants, and remembers every request."""
import itertools
import socket
import threading
import time

from .sip import CRLF, Message


class Responder:
    """Answers requests in a thread of its own. `script` maps a message to a code, (code, extra headers), or None
    (silence)."""

    def __init__(self, script=None, expires=None):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.script = script or (lambda message: 200)
        self.expires = expires
        self.delay = 0.0
        self.provisional = None       # sent half-way when an INVITE's answer is delayed
        self.requests = []
        self.replies = []
        self._etags = itertools.count(1)
        self._tags = {}
        self._answers = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def uri(self):
        return "sip:127.0.0.1:%d" % self.port

    def close(self):
        self._stop.set()
        self._thread.join(5)
        self.socket.close()

    def _run(self):
        self.socket.settimeout(0.05)
        while not self._stop.is_set():
            try:
                data, source = self.socket.recvfrom(65535)
            except socket.timeout:
                continue
            message = Message(data)
            if not message.is_request:
                self.replies.append(message)
                continue
            key = (message.get("Via"), message.method)
            if key in self._answers:
                if self._answers[key]:
                    self.socket.sendto(self._answers[key], source)
                continue
            message.at = time.monotonic()
            self._answers[key] = None
            self.requests.append(message)
            answer = self.script(message)
            if answer is None:
                continue
            if self.delay and self.provisional and message.method == "INVITE":
                extra = answer[1] if isinstance(answer, tuple) else ()
                threading.Timer(self.delay / 2, self._answer, (message, (self.provisional, extra), source, key)).start()
            if self.delay:
                threading.Timer(self.delay, self._answer, (message, answer, source, key)).start()
            else:
                self._answer(message, answer, source, key)

    def _answer(self, message, answer, source, key):
        code, extra = answer if isinstance(answer, tuple) else (answer, ())
        to = message.get("To")
        if "tag=" not in to:
            tag = self._tags.setdefault(message.get("Call-ID"), "srv%d" % (len(self._tags) + 1))
            to += ";tag=" + tag
        lines = ["SIP/2.0 %d %s" % (code, {200: "OK", 202: "OK"}.get(code, "Answer"))]
        lines += ["Via: %s" % via for via in message.all("Via")]
        lines += ["From: " + message.get("From"), "To: " + to, "Call-ID: " + message.get("Call-ID"),
                  "CSeq: " + message.get("CSeq")]
        if code // 100 == 2:
            expires = self.expires if self.expires is not None else message.get("Expires", "3600")
            if not any(h.lower().startswith("expires") for h in extra):
                lines.append("Expires: %s" % expires)
            if message.method == "PUBLISH" and not any(h.lower().startswith("sip-etag") for h in extra):
                lines.append("SIP-ETag: tag-%d" % next(self._etags))
            if message.method == "SUBSCRIBE" and not any(h.lower().startswith("contact") for h in extra):
                lines.append("Contact: <sip:server@127.0.0.1:%d>" % self.port)
        lines += list(extra)
        lines.append("Content-Length: 0")
        data = (CRLF.join(lines) + CRLF + CRLF).encode()
        self._answers[key] = data
        if not self._stop.is_set():
            self.socket.sendto(data, source)

    def wait(self, count, timeout=5.0):
        """The requests seen, once there are `count`, or after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while len(self.requests) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        return list(self.requests)

    def notify(self, server, subscribe, state="active;expires=3600", body="", cseq=1, contact=None, tag=None,
               ctype="text/plain",
               event=None, record_route=None):
        """Sends a NOTIFY in the dialog of a SUBSCRIBE that was received; returns the reply's code."""
        tag = tag or self._tags.get(subscribe.get("Call-ID"), "srv")
        to = subscribe.get("From")
        lines = ["NOTIFY sip:127.0.0.1:%d SIP/2.0" % server.port,
                 "Via: SIP/2.0/UDP 127.0.0.1:%d;branch=z9hG4bKn%d%s"
                 % (self.port, cseq, id(lines_key(subscribe, cseq, tag)))]
        if record_route:
            lines.append("Record-Route: %s" % record_route)
        lines += ["From: %s;tag=%s" % (subscribe.get("To").split(";tag")[0], tag), "To: " + to,
                  "Call-ID: " + subscribe.get("Call-ID"), "CSeq: %d NOTIFY" % cseq,
                  "Contact: <%s>" % (contact or "sip:server@127.0.0.1:%d" % self.port),
                  "Event: " + (event or subscribe.get("Event")), "Subscription-State: " + state, "Max-Forwards: 70"]
        if body:
            lines.append("Content-Type: " + ctype)
        lines.append("Content-Length: %d" % len(body))
        before = len(self.replies)
        self.socket.sendto((CRLF.join(lines) + CRLF + CRLF + body).encode(), ("127.0.0.1", server.port))
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            for reply in self.replies[before:]:
                if reply.method == "NOTIFY" and reply.code >= 200:
                    return reply
            time.sleep(0.01)
        return None


def lines_key(*parts):
    """An object whose identity is new for each call."""
    return list(parts)
