"""Bodies of publications: good ones, odd ones, bad ones. Each good one carries the mark of its step."""

from kit.sip import dialog_info, pidf

TYPES = {
    "presence": "application/pidf+xml",
    "dialog": "application/dialog-info+xml",
    "message-summary": "application/simple-message-summary",
    "reg": "application/reginfo+xml",
    "conference": "application/conference-info+xml",
    "ua-profile": "text/xml",
    "xcap-diff": "application/xcap-diff+xml",
    "dialog;sla": "application/dialog-info+xml",
}


def rules(watchers):
    """A pres-rules document: user -> sub-handling."""
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<cr:ruleset xmlns="urn:ietf:params:xml:ns:pres-rules" '
        'xmlns:pr="urn:ietf:params:xml:ns:pres-rules" xmlns:cr="urn:ietf:params:xml:ns:common-policy">\n'
    )
    for user, action in sorted(watchers.items()):
        text += (
            '<cr:rule id="%s"><cr:conditions><cr:identity><cr:one id="sip:%s@example.org"/></cr:identity>'
            '</cr:conditions>'
            '<cr:actions><pr:sub-handling>%s</pr:sub-handling></cr:actions><cr:transformations><pr:provide-services>'
            '<pr:all-services/></pr:provide-services><pr:provide-persons><pr:all-persons/></pr:provide-persons>'
            '<pr:provide-all-attributes/></cr:transformations></cr:rule>\n' % (user, user, action)
        )
    return text + "</cr:ruleset>\n"


def odd_rules(kind, watchers):
    """The same, broken, huge, or written as it seldom is; None for no document."""
    text = rules(watchers)
    others = "".join('<cr:one id="sip:other%d@example.org"/>' % number for number in range(4000))
    head, _, rest = text.partition("?>")
    written = {
        "cut": lambda: text[: len(text) * 2 // 3],
        "nothing": lambda: "",
        "gone": lambda: None,
        "garbage": lambda: "nonsense <",
        "huge": lambda: text.replace("</cr:ruleset>", "<!-- %s --></cr:ruleset>" % ("x" * 600000)),
        "many": lambda: text.replace("<cr:identity>", "<cr:identity>" + others),
        "deep": lambda: text.replace("</cr:ruleset>", "<a>" * 600 + "</a>" * 600 + "</cr:ruleset>"),
        "bomb": lambda: head + "?>" + BOMB.decode() + rest.replace("</cr:ruleset>", "&c;</cr:ruleset>"),
        "bom": lambda: "\ufeff" + text,
        "prefix": lambda: text.replace("cr:", "p:").replace(":cr=", ":p="),
        "no-namespace": lambda: text.replace("cr:", "").replace("pr:", ""),
        "upper": lambda: text.replace(">allow<", ">ALLOW<").replace(">block<", ">BLOCK<"),
        "blank": lambda: text.replace("sub-handling>", "sub-handling> \n", 1).replace("</pr:sub", " </pr:sub"),
        "twice": lambda: text.replace("</cr:ruleset>", text.split("<cr:rule", 2)[-1].split("\n", 1)[1]),
        "unknown": lambda: text.replace(">allow<", ">perhaps<"),
        "comment": lambda: text.replace(">allow<", "><!-- yes -->allow<").replace(">block<", "><!-- no -->block<"),
        "quote": lambda: text.replace('"sip:', "'sip:").replace('.org"', ".org'"),
    }
    return written[kind]()


def mark(step):
    """What shows in a document which step has published it."""
    return "mark%sx" % step


def _presence(kind, user, step, slot):
    text = pidf(user, note=mark(step), tuple_id=slot, basic="closed" if kind == "closed" else "open")
    if kind == "latin":
        return text.replace("<note>", "<note>Br\u00fccke ").encode("latin-1")
    if kind == "utf8":
        return text.replace("<note>", "<note>Br\u00fccke \u2603 ").encode()
    return text


def _dialog(kind, user, step, slot):
    state = {"closed": "terminated", "early": "early", "trying": "trying"}.get(kind, "confirmed")
    text = dialog_info(state, user, version=step, dialog_id=slot)
    return text.replace('call-id="%s"' % slot, 'call-id="%s"' % mark(step))


def _voicemail(kind, user, step, slot):
    return "Messages-Waiting: %s\r\nVoice-Message: %d/0\r\nX-Mark: %s\r\n" % (
        "no" if kind == "closed" else "yes",
        step,
        mark(step),
    )


def _registration(kind, user, step, slot):
    return (
        '<?xml version="1.0"?>\n<reginfo xmlns="urn:ietf:params:xml:ns:reginfo" version="%d" state="full">'
        '<registration aor="sip:%s@example.org" id="%s" state="%s"><contact id="%s" state="%s" event="registered">'
        '<uri>sip:%s@192.0.2.1</uri></contact></registration></reginfo>\n'
        % ((step, user, slot) + (("terminated",) if kind == "closed" else ("active",)) + (mark(step), "active", user))
    )


def _conference(kind, user, step, slot):
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<conference-info xmlns="urn:ietf:params:xml:ns:conference-info" '
        'entity="sip:%s@example.org" state="full" version="%d"><conference-description><display-text>%s</display-text>'
        '</conference-description><users><user entity="sip:%s@example.org" state="full"><endpoint entity="%s">'
        "<status>%s</status></endpoint></user></users></conference-info>\n"
        % (user, step, mark(step), slot, slot, "disconnected" if kind == "closed" else "connected")
    )


def _profile(kind, user, step, slot):
    return '<?xml version="1.0"?>\n<profile user="%s" slot="%s">%s</profile>\n' % (user, slot, mark(step))


def _difference(kind, user, step, slot):
    return (
        '<?xml version="1.0"?>\n<xcap-diff xmlns="urn:ietf:params:xml:ns:xcap-diff" '
        'xcap-root="http://example.org/root/">'
        '<document sel="pres-rules/users/%s/index" new-etag="%s"/></xcap-diff>\n' % (user, mark(step))
    )


MAKERS = {
    "presence": _presence,
    "dialog": _dialog,
    "dialog;sla": _dialog,
    "message-summary": _voicemail,
    "reg": _registration,
    "conference": _conference,
    "ua-profile": _profile,
    "xcap-diff": _difference,
}


def document(event, kind, user, step, slot):
    """The body of a PUBLISH, as bytes."""
    good = MAKERS[event](kind, user, step, slot)
    text = good if isinstance(good, bytes) else good.encode()
    if kind == "broken":
        return text[: len(text) * 2 // 3]
    if kind == "newline":
        return b"\r\n" + text
    if kind == "large":
        return text.replace(b"</presence>", b"<!-- " + b"x" * 9000 + b" --></presence>")
    if kind == "nul":
        return text + b"\0"
    return _seldom(kind, text)


BOMB = (
    b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    b'<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]>\n'
)


def _seldom(kind, text):
    """Documents that are well-formed, or nearly so, and that few publishers write."""
    head, _, rest = text.partition(b"?>") if text.startswith(b"<?xml") else (b"", b"", text)
    declared = head + b"?>" if head else b""
    if kind == "bom":
        return b"\xef\xbb\xbf" + text
    if kind == "utf16":
        return rest.decode().encode("utf-16")
    if kind == "doctype":
        return declared + b"<!DOCTYPE presence>" + rest
    if kind == "entities":
        return declared + BOMB + rest.replace(b"</", b"&c;</", 1)
    if kind == "deep":
        return rest.replace(b"</", b"<a>" * 600 + b"</a>" * 600 + b"</", 1)
    if kind == "multipart":
        return b"--x\r\nContent-Type: application/pidf+xml\r\n\r\n" + text + b"\r\n--x--\r\n"
    if kind == "prefix":
        return rest.replace(b"xmlns=", b"xmlns:p=")
    if kind == "cdata":
        return rest.replace(b"</", b"<![CDATA[<&>]]></", 1)
    if kind == "emoji":
        return rest.replace(b"</", "\U0001f600".encode() + b"</", 1)
    if kind == "declaration":
        return b"<?xml version='1.0' encoding='iso-8859-1' standalone='yes'?>" + rest
    return text
