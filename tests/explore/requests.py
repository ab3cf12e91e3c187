"""SUBSCRIBE and PUBLISH as phones write them: one request, many shapes."""

import re

from kit.sip import CRLF

from .phones import COMPACT, CONTACT, DOMAIN

# Shapes of a SUBSCRIBE; what each changes is in `subscribe`.
SHAPES = (
    "plain",
    "compact",
    "display",
    "parameters",
    "record-route",
    "port",
    "user-phone",
    "escaped",
    "many-headers",
    "case",
    "folded",
    "no-expires-contact",
    "sips",
)


def long_value(size, step, prefix="x"):
    return prefix + ("%d-" % step + "y" * size)[: size - len(prefix)]


def _sip_uri(user, shape):
    if shape == "port":
        return "sip:%s@%s:5060" % (user, DOMAIN)
    if shape == "user-phone":
        return "sip:%s@%s;user=phone" % (user, DOMAIN)
    if shape == "escaped":
        return "sip:%%%02x%s@%s" % (ord(user[0]), user[1:], DOMAIN)
    if shape == "case":
        return "sip:%s@%s" % (user, DOMAIN.upper())
    return "sip:%s@%s" % (user, DOMAIN)


def subscribe(phone, dialog, step, number, expires, event, transport):
    """The bytes of a SUBSCRIBE in a dialog (new or known)."""
    shape = step.get("shape", "plain")
    compact = shape == "compact"
    name = lambda long, short: short if compact else long
    to = _sip_uri(dialog.to, shape)
    from_ = "<%s>" % _sip_uri(step.get("from", dialog.who), shape)
    if shape == "display":
        from_ = '"%s, (Desk)" %s' % (dialog.who, from_)
    contact = phone.contact
    if event == "dialog;sla":
        # Phones that share a line show its user: stock takes the line from there.
        contact = contact.replace("<sip:%s@" % phone.user, "<sip:%s@" % dialog.to)
    if shape == "parameters":
        contact = contact[:-1] + ';ob;x-a="b">;expires=60;+sip.instance="<urn:uuid:0-1-2>"'
    if isinstance(step.get("contact"), int):
        contact = "<sip:%s@%s" % (long_value(step["contact"], number, "c"), contact.split("@", 1)[1])
    lines = [
        "SUBSCRIBE %s SIP/2.0" % (dialog.target or to),
        "%s: SIP/2.0/%s 127.0.0.1:%d;branch=z9hG4bK%s-%s"
        % (name("Via", "v"), transport.upper(), phone.port, dialog.call_id, step.get("branch", dialog.cseq)),
        "%s: %s;tag=%s" % (name("From", "f"), from_, dialog.from_tag),
        "%s: <%s>%s" % (name("To", "t"), to, ";tag=" + dialog.to_tag if dialog.to_tag else ""),
        "%s: %s" % (name("Call-ID", "i"), dialog.call_id),
        "CSeq: %d SUBSCRIBE" % dialog.cseq,
        "Max-Forwards: 70",
    ]
    if step.get("contact") != "none":
        lines.append("%s: %s" % (name("Contact", "m"), contact))
    if event is not None:
        lines.append("%s: %s%s" % (name("Event", "o"), event, step.get("event_more", "")))
    if expires is not None:
        lines.append("Expires: %s" % expires)
    if step.get("accept"):
        lines.append("Accept: %s" % step["accept"])
    if step.get("agent"):
        lines.append(
            "User-Agent: %s" % (long_value(step["agent"], number) if isinstance(step["agent"], int) else step["agent"])
        )
    if shape == "record-route":
        lines.append(
            "Record-Route: <sip:127.0.0.1:%d;lr%s;ftag=%s>"
            % (phone.port, CONTACT[transport], dialog.from_tag)
        )
    if shape == "many-headers":
        lines += [
            "Supported: replaces,eventlist, timer",
            "Allow: INVITE, ACK, BYE, NOTIFY",
            "Allow-Events: talk,hold,conference",
            "P-Preferred-Identity: <sip:%s@%s>" % (dialog.who, DOMAIN),
            "Accept-Language: en",
        ]
    if shape == "folded":
        lines += ["Subject: one", "  two"]
    lines = _written_so(lines, step, phone)
    lines.append("%s: 0" % name("Content-Length", "l"))
    return (CRLF.join(lines) + CRLF + CRLF).encode("utf-8", "surrogateescape")


def _written_so(lines, step, phone):
    """The lines with those of a step's `headers` in their place: name -> value, list of values, or None for none. In a
    value {at} is the address of the phone, {user} its user."""
    if step.get("ruri"):
        lines = ["%s %s SIP/2.0" % (lines[0].split(" ", 1)[0], step["ruri"])] + lines[1:]
    for header, value in step.get("headers", {}).items():
        at = "127.0.0.1:%d" % phone.port + (CONTACT[phone.transport] if header in ("Record-Route", "Path") else "")
        fill = lambda text: text.replace("{at}", at).replace("{user}", phone.user)
        names = {header.lower()} | {short for short, long in COMPACT.items() if long.lower() == header.lower()}
        old = next((line for line in lines[1:] if line.split(":", 1)[0].strip().lower() in names), "")
        tag = re.search(r";tag=[^;>]+", old)
        lines = [line for line in lines if line is not old]
        for one in [] if value is None else value if isinstance(value, list) else [value]:
            lines.append("%s: %s%s" % (header, fill(one), tag.group() if tag and header in ("From", "To") else ""))
    return lines


def publish(phone, step, number, body, ctype, etag, transport):
    """The bytes of a PUBLISH; returns them with Call-ID and CSeq."""
    call_id = "publish-%d" % number
    to = _sip_uri(step.get("to", step["who"]), step.get("shape", "plain"))
    lines = [
        "PUBLISH %s SIP/2.0" % to,
        "Via: SIP/2.0/%s 127.0.0.1:%d;branch=z9hG4bK%s" % (transport.upper(), phone.port, call_id),
        "From: <%s>;tag=p%d" % (to, number),
        "To: <%s>" % to,
        "Call-ID: %s" % call_id,
        "CSeq: 1 PUBLISH",
        "Max-Forwards: 70",
    ]
    if step.get("contact"):
        lines.append("Contact: %s" % phone.contact)
    event = step.get("as_event", step.get("event"))
    if event is not None:
        lines.append("Event: %s%s" % (event, step.get("event_more", "")))
    if step.get("expires") is not None:
        lines.append("Expires: %s" % step["expires"])
    if etag:
        lines.append("SIP-If-Match: %s" % etag)
    if body and ctype:
        lines.append("Content-Type: %s" % ctype)
    lines = _written_so(lines, step, phone)
    lines.append("Content-Length: %d" % len(body))
    return (CRLF.join(lines) + CRLF + CRLF).encode("utf-8", "surrogateescape") + body, call_id
