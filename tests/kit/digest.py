"""Digest authentication (RFC 8760 with MD5, as Kamailio's auth asks for it) for the phones of the tests."""
import hashlib
import re
import uuid

from .sip import CRLF, Client


def md5(text):
    return hashlib.md5(text.encode()).hexdigest()


def parameters(challenge):
    return {name.lower(): quoted or plain
            for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', challenge)}


def credentials(challenge, method, uri, user, password):
    """The value of Authorization or Proxy-Authorization that answers a challenge."""
    asked = parameters(challenge)
    realm, nonce = asked["realm"], asked["nonce"]
    inner = (md5("%s:%s:%s" % (user, realm, password)), md5("%s:%s" % (method, uri)))
    text = 'Digest username="%s", realm="%s", nonce="%s", uri="%s", algorithm=MD5' % (user, realm, nonce, uri)
    if "qop" in asked:
        count, own = "00000001", uuid.uuid4().hex[:12]
        answer = md5("%s:%s:%s:%s:auth:%s" % (inner[0], nonce, count, own, inner[1]))
        return text + ', qop=auth, nc=%s, cnonce="%s", response="%s"' % (count, own, answer)
    return text + ', response="%s"' % md5("%s:%s:%s" % (inner[0], nonce, inner[1]))


class Account(Client):
    """A phone with a password: each request is sent without it first, in a dialog of its own, for the nonce."""

    def __init__(self, server, user, password, **options):
        super().__init__(server, user, **options)
        self.password = password

    def reply_to(self, request, **options):
        head, body = request.split(b"\r\n\r\n", 1)
        lines = head.decode().split(CRLF)
        method, uri = lines[0].split()[:2]
        stranger = [re.sub(r"(?i)^(Call-ID: ).*", r"\g<1>" + uuid.uuid4().hex, line) for line in lines]
        stranger = [re.sub(r"branch=\S+", "branch=z9hG4bK" + uuid.uuid4().hex[:16], line) for line in stranger]
        asked = super().reply_to((CRLF.join(stranger) + CRLF + CRLF).encode() + body, **options)
        if asked is None or asked.code not in (401, 407):
            return asked
        name, field = {401: ("WWW-Authenticate", "Authorization"),
                       407: ("Proxy-Authenticate", "Proxy-Authorization")}[asked.code]
        lines.insert(-1, "%s: %s" % (field, credentials(asked.get(name), method, uri, self.user, self.password)))
        return super().reply_to((CRLF.join(lines) + CRLF + CRLF).encode() + body, **options)
