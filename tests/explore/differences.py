"""Where ours differs from stock and is right: each declared once, with its reason and its row of COMPAT.md."""


class Difference:
    """`row` is the beginning of a row of COMPAT.md's tables of differences, or of the parameter's row that says it;
    `matches` judges one case; `apart` says that the two sides hold different things from then on."""

    def __init__(self, name, row, reason, matches, apart=False):
        self.name, self.row, self.reason, self.matches, self.apart = name, row, reason, matches, apart


def _code(reply):
    return int(reply[0][:3]) if isinstance(reply, tuple) else 0


def _codes(kind, stock, ours):
    """A reply of `stock` where ours answers `ours`, to steps of one kind."""
    return (
        lambda case: case.kind == "reply"
        and case.step["do"] in kind
        and _code(case.stock) == stock
        and _code(case.ours) == ours
    )


def _expires(case):
    """The Expires of a step as a number; None where it is none."""
    text = str(case.step.get("expires", ""))
    return int(text) if text.isdigit() else None


def _odd_expires(case):
    return (
        case.step["do"] in ("subscribe", "refresh", "publish")
        and case.step.get("expires") is not None
        and _expires(case) is None
    )


def _header(name, header):
    """A header of replies or NOTIFYs."""
    return (
        lambda case: case.kind in ("reply header", "NOTIFY header")
        and case.what.endswith(" " + header)
        and name in case.what
    )


def _expired(case):
    """A subscription of a few seconds has been granted before."""
    steps = case.life["steps"][: case.seen.number + 1]
    return any(step["do"] in ("subscribe", "refresh") and step.get("expires") in (1, 2) for step in steps)


def _raised_at_starts(case):
    """The number is ahead of stock's by a thousand for a start before, at most."""
    starts = sum(step["do"] == "restart" for step in case.life["steps"][: case.seen.number + 1])
    numbers = [str(number) for number in (case.stock, case.ours)]
    if not all(number.isdigit() for number in numbers):
        return False
    ahead = int(numbers[1]) - int(numbers[0])
    return ahead > 0 and ahead % 1000 == 0 and ahead <= 1000 * starts


def _host_at_its_end(case):
    """The host's TCP processes lose each other while the server stops."""
    lines = case.ours.splitlines() if case.kind == "errors" else []
    return bool(lines) and all("core/pass_fd.c" in line or "core/tcp_main.c" in line for line in lines)


SEEN_KINDS = ("NOTIFY header", "NOTIFY body", "notifies")


def _publishes(case, event, **wanted):
    """The step is a PUBLISH of this event, and its fields are these."""
    return (
        case.step["do"] == "publish"
        and case.step["event"] == event
        and all(case.step.get(k) in v for k, v in wanted.items())
    )


def _has_been(case, event, **wanted):
    """A PUBLISH of this event with these fields has been among the steps so far."""
    steps = case.life["steps"][: case.seen.number + 1]
    return any(
        step["do"] == "publish" and step["event"] == event and all(step.get(k) in v for k, v in wanted.items())
        for step in steps
    )


def _event(case):
    return case.subject[1] if case.subject else case.step.get("event")


def _long(case):
    """A string of the request is longer than its column."""
    step = case.step
    return (
        any(
            isinstance(step.get(name), int) and step[name] > limit
            for name, limit in (("contact", 90), ("call_id", 255), ("agent", 255))
        )
        or len(step.get("from") or "") > 64
        or len(step.get("event_more") or "") > 64
    )


def _escaped(case):
    """A user written with escapes, in this step or before."""
    return any(
        step.get("shape") == "escaped" or "%" in (step.get("from") or "")
        for step in case.life["steps"][: case.seen.number + 1]
    )


def _fields(case, *names):
    """A line of the script that differs in these fields alone."""
    if case.kind != "script" or ": " not in case.what:
        return False
    return set(case.what.split(": ", 1)[1].split(", ")) <= set(names)


def _named(case):
    """A first SUBSCRIBE whose From or To is more than sip:user@host, in this step or before."""
    return any(
        step.get("shape") in ("port", "user-phone", "sips", "escaped", "case") or "from" in step or "headers" in step
        or step.get("ruri")
        for step in case.life["steps"][: case.seen.number + 1]
    )


# Name, row of COMPAT.md, reason, whether the sides hold different things from then on, what it matches.
_TABLE = [
    (
        "event id",
        "`Event: presence;id=x`",
        "RFC 6665 8.2.1: the id is part of the subscription's name",
        True,
        lambda case: (
            _codes(("subscribe", "refresh", "publish"), 489, 200)(case)
            or _codes(("publish",), 489, 412)(case)
            or _codes(("publish",), 489, 415)(case)
        )
        and "id" in case.step.get("event_more", "").lower(),
    ),
    (
        "event id that is no token",
        "`Event: presence;id=x`",
        "RFC 3261 25.1",
        True,
        lambda case: _code(case.ours) == 400 and case.kind == "reply" and "event_more" in case.step,
    ),
    (
        "parameters of Event",
        "Event with parameters other than id",
        "RFC 4235 3.2, RFC 6080 5.2, RFC 6446",
        True,
        lambda case: case.kind == "reply"
        and _code(case.stock) == 489
        and _code(case.ours) in (200, 412, 415)
        and "event_more" in case.step
        and "id" not in case.step["event_more"].lower(),
    ),
    (
        "another event id in the dialog",
        "SUBSCRIBE in a dialog with another event id",
        "RFC 6665 4.4.1",
        True,
        lambda case: case.step["do"] == "refresh"
        and case.kind == "reply"
        and _code(case.ours) == 481
        and "id=" in str(case.life["steps"]),
    ),
    (
        "another From in the dialog",
        "SUBSCRIBE in a dialog from another From",
        "a dialog belongs to who opened it",
        True,
        lambda case: _codes(("refresh",), 200, 481)(case) and any("from" in step for step in case.life["steps"]),
    ),
    (
        "the same SUBSCRIBE again",
        "the same SUBSCRIBE again when its transaction",
        "RFC 3261 17.2.2",
        True,
        lambda case: case.step.get("again")
        and case.kind in SEEN_KINDS + ("reply", "reply header", "rows", "script")
        or case.kind == "row"
        and "active_watchers.expires" in case.what
        and any(step.get("again") for step in case.life["steps"][: case.seen.number]),
    ),
    (
        "escapes that are not needed",
        "a user written with escapes that it does not need",
        "RFC 3261 19.1.4",
        True,
        _escaped,
    ),
    (
        "URIs of the dialog",
        "From and To of NOTIFYs, the first request",
        "RFC 3261 12.2.1.1",
        False,
        lambda case: (case.kind == "NOTIFY header" and case.what.split()[-1] in ("from", "to")
                      or _fields(case, "fu", "tu"))
        and _named(case),
    ),
    (
        "strings that no column holds",
        "a Contact, Call-ID, tag, event id or URI with control",
        "RFC 3261 25.1",
        True,
        lambda case: case.kind == "reply"
        and _code(case.ours) in (400, 414)
        and (_long(case) or "event_more" in case.step),
    ),
    (
        "Expires that is no number, PUBLISH",
        "body without Content-Type, Content-Length longer",
        "RFC 3261 20.19",
        True,
        lambda case: _odd_expires(case)
        and (case.kind == "script" or case.kind == "reply" and _code(case.ours) == 400),
    ),
    (
        "Expires beyond 2^32",
        "Expires beyond 2^32",
        "RFC 3261 20.19: the greatest interval that is granted",
        True,
        lambda case: (_expires(case) or 0) >= 1 << 32 and (case.kind == "reply" or _header("", "expires")(case)),
    ),
    (
        "PUBLISH below min_expires",
        "PUBLISH below min_expires",
        "RFC 3903 6",
        True,
        lambda case: case.step["do"] == "publish"
        and "min_expires" in case.config["params"]
        and (case.kind == "reply" and _code(case.ours) == 423 or _header("PUBLISH", "expires")(case)),
    ),
    (
        "expires_offset above the interval",
        "expires_offset above the interval",
        "RFC 3903 6",
        True,
        lambda case: "expires_offset" in case.config["params"]
        and _header("PUBLISH", "expires")(case)
        and case.ours == ["1"],
    ),
    (
        "entity tag that cannot be ours",
        "SIP-If-Match that cannot be ours",
        "RFC 3903 6",
        False,
        lambda case: case.step.get("op") == "foreign"
        and (_codes(("publish",), 500, 412)(case) or case.kind == "script"),
    ),
    (
        "body of another type",
        "body of another type than the package",
        "RFC 3903 6",
        True,
        lambda case: case.step.get("ctype") and _codes(("publish",), 200, 415)(case),
    ),
    (
        "body without a type",
        "body without Content-Type, Content-Length longer",
        "RFC 3261 20.15",
        True,
        lambda case: "ctype" in case.step and case.step["ctype"] is None and _codes(("publish",), 200, 400)(case),
    ),
    (
        "415 says what is taken",
        "broken XML",
        "RFC 3903 6",
        False,
        lambda case: case.kind == "reply header" and "415 accept" in case.what and not case.stock,
    ),
    (
        "XML that cannot be read",
        "XML that packages other than presence cannot read",
        "RFC 3903 6",
        True,
        lambda case: _codes(("publish",), 200, 415)(case) and case.step.get("kind") in ("broken", "newline"),
    ),
    (
        "bytes behind the document",
        "a document in UTF-16, or with NUL bytes behind it",
        "what a table and a phone can hold",
        True,
        lambda case: case.step.get("kind") == "nul",
    ),
    (
        "a package refuses a body",
        "a package refuses a body and says nothing",
        "RFC 3903 6",
        True,
        lambda case: case.step["do"] == "publish" and _code(case.stock) == 500 and _code(case.ours) in (400, 415),
    ),
    (
        "initial PUBLISH that expires at once",
        "initial PUBLISH with Expires 0",
        "RFC 3903 6: nothing to store",
        True,
        lambda case: (case.kind in ("rows",) + SEEN_KINDS or _codes(("publish",), 200, 412)(case))
        and _has_been(case, _event(case), op=("initial",), expires=(0,)),
    ),
    (
        "the end of a dialog, refreshed",
        "a document of an ended dialog is refreshed",
        "RFC 3903 4.4",
        True,
        lambda case: _has_been(case, "dialog", kind=("closed",))
        and (case.kind in ("reply", "script") or "presentity" in case.what),
    ),
    (
        "the next call of a publication",
        "the next call of a publication",
        "RFC 3903 4.3",
        True,
        lambda case: case.kind in SEEN_KINDS
        and _event(case) == "dialog"
        and _has_been(case, "dialog", kind=("closed",)),
    ),
    (
        "voicemail, refreshed",
        "message-summary, PUBLISH refresh without body",
        "RFC 3903 4.3",
        True,
        lambda case: case.kind in SEEN_KINDS and _publishes(case, "message-summary", op=("refresh",)),
    ),
    (
        "voicemail, one of several is removed",
        "packages that show one document",
        "RFC 3903 4.5",
        True,
        lambda case: case.kind in SEEN_KINDS and _publishes(case, "message-summary", op=("remove",)),
    ),
    (
        "voicemail, several in memory",
        "several message-summary documents in memory",
        "one state, from wherever it is asked",
        True,
        lambda case: case.kind == "NOTIFY body" and _event(case) == "message-summary",
    ),
    (
        "refreshed in memory",
        "memory, PUBLISH refresh without body",
        "RFC 3903 4.3",
        True,
        lambda case: case.config["cache"] == 2
        and case.kind in SEEN_KINDS
        and _has_been(case, _event(case), op=("refresh",)),
    ),
    (
        "send_fast_notify 0",
        "send_fast_notify 0, there is a document",
        "RFC 6665 4.2.1.2",
        True,
        lambda case: "send_fast_notify" in case.config["params"] and case.kind == "notifies",
    ),
    (
        "URIs in other letters",
        "sip_uri_match 1, the URI of a SUBSCRIBE in other letters",
        "the parameter says so",
        True,
        lambda case: "sip_uri_match" in case.config["params"] and case.kind in SEEN_KINDS,
    ),
    (
        "SUBSCRIBE without Contact",
        "SUBSCRIBE without Contact",
        "RFC 3261 8.1.1.8",
        True,
        lambda case: case.step.get("contact") == "none"
        and (_codes(("subscribe",), 500, 400)(case) or _codes(("subscribe",), 489, 400)(case)),
    ),
    (
        "Contact that is none",
        "SUBSCRIBE without Contact",
        "RFC 3261 8.1.1.8",
        True,
        lambda case: "Contact" in case.step.get("headers", {})
        and case.step["headers"]["Contact"] in ("*", "", "<>", "nonsense")
        and case.kind in ("reply", "script") and (case.kind == "script" or _code(case.ours) == 400),
    ),
    (
        "users that tables do not hold",
        "URI without user, SQLite",
        "RFC 3261 19.1.1: a URI may have no user",
        True,
        lambda case: _codes(("subscribe", "publish"), 500, 200)(case)
        and (case.step.get("ruri") or "From" in case.step.get("headers", {})),
    ),
    (
        "watchers of other events",
        None,
        "pres_has_subscribers: stock counts whatever is in the same slot of its table",
        False,
        lambda case: case.kind == "script" and case.what.startswith("watched: ") and "watched -1" in case.ours,
    ),
    (
        "empty fields of db_text",
        None,
        "stock writes empty fields, and refuses the table that holds one at the next start",
        True,
        lambda case: case.life.get("driver") == "text"
        and any(step["do"] == "restart" for step in case.life["steps"][: case.seen.number]),
    ),
    (
        "another order of refusals",
        None,
        "both refuse; ours reads the body before it looks for the entity tag",
        False,
        lambda case: case.step["do"] == "publish"
        and case.step.get("op") != "initial"
        and _code(case.ours) in (400, 415)
        and _code(case.stock) in (412, 489, 500),
    ),
    (
        "User-Agent that no table holds",
        "a User-Agent with characters that the database",
        "it is only shown: a tab and bytes that are no UTF-8 are shown as others",
        False,
        lambda case: any("agent" in step or "headers" in step for step in case.life["steps"][: case.seen.number + 1])
        and (case.kind == "row" and "user_agent" in case.what or case.kind == "script" and "user_agent" in case.what),
    ),
    (
        "lines of a driver that refuses",
        "a SUBSCRIBE whose strings are longer than their columns",
        "the driver's own lines about the statement that was tried",
        False,
        lambda case: case.kind == "errors" and _long(case) and "value too long" in case.ours
        or "Data too long" in str(case.ours),
    ),
    (
        "the end of a subscription, database-only",
        "database-only, subscription expires",
        "RFC 6665 4.4.1: the end is told once",
        True,
        lambda case: case.config["mode"] == 3 and case.kind in ("notifies", "rows") and _expired(case),
    ),
    (
        "winfo of changed rules",
        "updateWatchers",
        "RFC 3857 4.7.1",
        True,
        lambda case: case.kind == "notifies"
        and _event(case) == "presence.winfo"
        and case.step["do"] in ("rules", "rpc"),
    ),
    (
        "a database that refuses",
        "the database is gone, subscriptions live in memory",
        "what is in memory goes on",
        True,
        lambda case: any(step["do"] == "refuse" for step in case.life["steps"][: case.seen.number + 1]),
    ),
    (
        "rules in memory only",
        "memory only, rules documents",
        "RFC 5025 3: the presentity's rules decide, however subscriptions are kept",
        True,
        lambda case: case.config["rules"]
        and (case.config["mode"], case.config["cache"]) == (0, 2)
        and case.kind in SEEN_KINDS + ("reply", "script", "reply header", "reason phrase"),
    ),
    (
        "CSeq in the row",
        "write-through, restart after the first NOTIFY",
        "the row holds the number that was sent",
        False,
        lambda case: case.kind == "row"
        and "active_watchers.local_cseq" in case.what
        and (case.stock, case.ours) == (0, 1),
    ),
    (
        "numbers in the row after a start",
        "write-back, kill -9",
        "RFC 3261 12.2.1.1: the numbers of a dialog only grow, whatever the last stop has written",
        False,
        lambda case: case.config["mode"] == 2
        and case.kind == "row"
        and any(name in case.what for name in ("active_watchers.local_cseq", "active_watchers.version"))
        and _raised_at_starts(case),
    ),
    (
        "numbers in event routes after a start",
        "write-back, kill -9",
        "RFC 3261 12.2.1.1: the numbers of a dialog only grow, whatever the last stop has written",
        False,
        lambda case: case.config["mode"] == 2
        and _fields(case, "cs")
        and any(step["do"] == "restart" for step in case.life["steps"][: case.seen.number]),
    ),
    (
        "NOTIFYs without a body that are left out have numbers",
        None,
        "send_fast_notify 0: RFC 3261 12.2.1.1 wants numbers that grow",
        False,
        lambda case: case.config["params"].get("send_fast_notify") == 0
        and (_fields(case, "cs") or case.kind == "row" and any(
            name in case.what for name in ("active_watchers.local_cseq", "active_watchers.version"))),
    ),
    (
        "remote CSeq in event routes",
        None,
        "database-only: $subs(remote_cseq) is that of the request; stock has not read it",
        False,
        lambda case: case.config["mode"] == 3 and case.kind == "script" and case.what.endswith(": remote_cseq"),
    ),
    ("end of the host", None, "the host's TCP processes lose each other at the stop", False, _host_at_its_end),
]
DIFFERENCES = [Difference(name, row, reason, matches, apart) for name, row, reason, apart, matches in _TABLE]
