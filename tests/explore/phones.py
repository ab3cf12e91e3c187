"""The phones of one life: their sockets are read in one loop, each message is kept with its time."""

import re
import select
import socket
import time

from kit.sip import CRLF, Message

from . import stream

DOMAIN = "example.org"
CONTACT = {
    "udp": "",
    "tcp": ";transport=tcp",
    "tls": ";transport=tls",
    "ws": ";transport=ws",
    "wss": ";transport=ws",
}
COMPACT = {
    "v": "Via",
    "f": "From",
    "t": "To",
    "i": "Call-ID",
    "m": "Contact",
    "o": "Event",
    "l": "Content-Length",
    "c": "Content-Type",
}


class Phone:
    """A user with one address; it answers NOTIFYs with a code (None: silence), a delay in seconds, and more headers."""

    def __init__(self, side, user, transport):
        self.side, self.user, self.transport = side, user, transport
        self.server = side.server
        self.code, self.delay, self.more = 200, 0.0, []
        self.call = 200  # the answer to an INVITE; None: it rings
        self.connect()

    def connect(self):
        is_ip6 = self.is_ip6 = self.side.config.get("ip6", False)
        if self.transport == "udp":
            self.socket = socket.socket(socket.AF_INET6 if is_ip6 else socket.AF_INET, socket.SOCK_DGRAM)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
            self.socket.bind(("::1" if is_ip6 else "127.0.0.1", 0))
        else:
            self.socket = stream.connect(self.transport, self.side.server, "::1" if is_ip6 else None)
            self.buffer = b""
        self.port = self.socket.getsockname()[1]
        self.side.names.learn("%s:%d" % ("[::1]" if is_ip6 else "127.0.0.1", self.port), "PHONE(%s)" % self.user)

    @property
    def uri(self):
        return "sip:%s@%s" % (self.user, DOMAIN)

    @property
    def contact(self):
        return "<sip:%s@127.0.0.1:%d%s>" % (self.user, self.port, CONTACT[self.transport])

    def send(self, data):
        if self.socket is None:
            return
        if self.is_ip6:
            # Where it is reached; nothing that it sends has its address in a body.
            data = data.replace(b"127.0.0.1:%d" % self.port, b"[::1]:%d" % self.port)
        try:
            if self.transport == "udp":
                self.socket.sendto(data, ("::1" if self.is_ip6 else self.server.address, self.server.port))
            else:
                self.socket.sendall(data)
        except OSError:
            pass

    def read(self):
        """The messages that can be read at once."""
        if self.transport == "udp":
            return [self.socket.recv(65535)]
        try:
            part = self.socket.recv(65535)
            while getattr(self.socket, "pending", int)():
                part += self.socket.recv(65535)
        except OSError:
            part = b""
        if not part:
            self.socket.close()
            self.socket = None
            return []
        self.buffer += part
        found = []
        while b"\r\n\r\n" in self.buffer:
            head = self.buffer.split(b"\r\n\r\n", 1)[0]
            length = re.search(rb"(?i)\r\nContent-Length[ \t]*:[ \t]*(\d+)", head)
            end = len(head) + 4 + int(length.group(1) if length else 0)
            if len(self.buffer) < end:
                break
            found.append(self.buffer[:end])
            self.buffer = self.buffer[end:].lstrip(b"\r\n")
        return found

    def answer(self, request, code):
        lines = ["SIP/2.0 %d Answer" % code] + ["Via: %s" % via for via in request.all("Via")]
        lines += ["%s: %s" % (name, request.get(name)) for name in ("From", "To", "Call-ID", "CSeq")]
        lines += self._in_dialog(request, lines) if request.method == "INVITE" else self.more
        lines.append("Content-Length: 0")
        self.send((CRLF.join(lines) + CRLF + CRLF).encode())

    def _in_dialog(self, request, lines):
        """What the answer to an INVITE has beside, and a tag in its To."""
        at = next(number for number, line in enumerate(lines) if line.startswith("To: "))
        lines[at] += ";tag=callee-%s" % self.user
        return ["Contact: %s" % self.contact] + ["Record-Route: %s" % route for route in request.all("Record-Route")]

    def close(self):
        if self.socket:
            self.socket.close()
            self.socket = None


# A phone rings so many seconds after the INVITE, and is answered so many after that.
RINGS = 0.15


class Seen:
    """One message as a phone received it."""

    def __init__(self, phone, message):
        self.phone, self.message, self.at = phone, message, time.time()


class Network:
    """All phones of one side."""

    # How long an unanswered NOTIFY keeps its transaction; config.py sets fr_timer to less.
    SILENCE = 1.3

    def __init__(self, side):
        self.side = side
        self.phones = {}
        self.replies, self.notifies, self.invites = [], [], []
        self._branches = set()
        self._later = []
        self._silent_until = 0.0

    def add(self, user, transport):
        self.phones[user] = Phone(self.side, user, transport)

    def close(self):
        for phone in self.phones.values():
            phone.close()

    def reconnect(self):
        """After a restart of the server: connections are gone, addresses of UDP stay."""
        for phone in self.phones.values():
            if phone.transport != "udp":
                phone.close()
                phone.connect()

    def pump(self, seconds):
        """Reads until something was read or `seconds` have passed; answers what is due. True if there was something."""
        deadline = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            for item in [item for item in self._later if item[0] <= now]:
                self._later.remove(item)
                item[1].answer(item[2], item[3])
            until = min([deadline] + [item[0] for item in self._later])
            sockets = {phone.socket: phone for phone in self.phones.values() if phone.socket}
            ready = select.select(list(sockets), [], [], max(0.0, until - now))[0]
            for one in ready:
                for raw in sockets[one].read():
                    self._take(sockets[one], Message(raw))
            if ready:
                return True
            if time.monotonic() >= deadline:
                return False

    def _take(self, phone, message):
        message.headers = [(COMPACT.get(name.lower(), name), value) for name, value in message.headers]
        if not message.is_request:
            self.replies.append(Seen(phone, message))
            return
        branch = (message.get("Via", ""), message.get("CSeq"))
        again = branch in self._branches
        self._branches.add(branch)
        if message.method != "NOTIFY":
            self._called(phone, message, again)
            return
        if not again:
            self.notifies.append(Seen(phone, message))
        if phone.code is None:
            self._silent_until = max(self._silent_until, time.monotonic() + (0 if again else self.SILENCE))
        elif phone.delay:
            if not again:
                self._later.append((time.monotonic() + phone.delay, phone, message, phone.code))
        else:
            phone.answer(message, phone.code)

    def _called(self, phone, message, again):
        """Calls: a phone rings, then answers, each a moment after what was before."""
        if message.method == "INVITE" and not again:
            answers = [180] if phone.call is None else [180, phone.call]
            for number, code in enumerate(answers):
                self._later.append((time.monotonic() + RINGS * (number + 1), phone, message, code))
        elif message.method not in ("INVITE", "ACK"):
            phone.answer(message, 200)
        if message.method == "CANCEL":
            invite = next((one for one in self.invites if one.get("Call-ID") == message.get("Call-ID")), None)
            if invite:
                phone.answer(invite, 487)
        if message.method == "INVITE":
            self.invites.append(message)

    def request(self, phone, data, call_id, cseq, timeout=5.0, again=None):
        """Sends a request and returns its final reply, or None; `again`: sends it once more, as it is, at once or so
        many seconds after the reply."""
        for _ in range(2 if again == "at once" else 1):
            phone.send(data)
        reply = self._reply(phone, data, call_id, cseq, timeout)
        if isinstance(again, float):
            time.sleep(again)
            phone.send(data)
        return reply

    def _reply(self, phone, data, call_id, cseq, timeout):
        deadline, again = time.monotonic() + timeout, time.monotonic() + 1.5
        seen = len(self.replies)
        while time.monotonic() < deadline:
            self.pump(max(0.0, min(deadline, again) - time.monotonic()))
            for reply in self.replies[seen:]:
                if (
                    reply.message.code >= 200
                    and reply.message.get("Call-ID") == call_id
                    and (reply.message.get("CSeq") or "?").split()[0] == str(cseq)
                ):
                    return reply
            seen = len(self.replies)
            if time.monotonic() >= again and phone.transport == "udp":
                phone.send(data)
                again = time.monotonic() + 2.0
        return None

    def settle(self, quiet):
        """Reads until no answer is due, the workers have done what they had, and nothing comes for `quiet` seconds."""
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            while self.pump(quiet) and time.monotonic() < deadline:
                pass
            if self._later or time.monotonic() < self._silent_until:
                self.pump(0.05)
                continue
            before = len(self.notifies)
            self.side.barrier()
            if not self.pump(quiet / 2) and len(self.notifies) == before:
                return
