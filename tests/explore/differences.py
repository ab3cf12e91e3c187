"""Where ours differs from stock and is right: each declared once, with its reason and its row of COMPAT.md."""


class Difference:
    """`row` is the beginning of a row of COMPAT.md's tables of differences, or of the parameter's row that says it; `matches`
    judges one case; `apart` says that the two sides hold different things from then on."""

    def __init__(self, name, row, reason, matches, apart=False):
        self.name, self.row, self.reason, self.matches, self.apart = name, row, reason, matches, apart


def _code(reply):
    return int(reply[0][:3]) if reply else 0


def _codes(kind, stock, ours):
    """A reply of `stock` where ours answers `ours`, to steps of one kind."""
    return lambda case: case.kind == "reply" and case.step["do"] in kind and _code(case.stock) == stock and _code(case.ours) == ours


def _expires(case):
    """The Expires of a step as a number; None where it is none."""
    text = str(case.step.get("expires", ""))
    return int(text) if text.isdigit() else None


def _odd_expires(case):
    return case.step["do"] in ("subscribe", "refresh", "publish") and case.step.get("expires") is not None and _expires(case) is None


def _header(name, header):
    """A header of replies or NOTIFYs."""
    return lambda case: case.kind in ("reply header", "NOTIFY header") and case.what.endswith(" " + header) and name in case.what


def _expired(case):
    """A subscription of a few seconds has been granted before."""
    steps = case.life["steps"][:case.seen.number + 1]
    return any(step["do"] in ("subscribe", "refresh") and step.get("expires") in (1, 2) for step in steps)


def _host_at_its_end(case):
    """The host's TCP processes lose each other while the server stops."""
    lines = case.ours.splitlines() if case.kind == "errors" else []
    return bool(lines) and all("core/pass_fd.c" in line or "core/tcp_main.c" in line for line in lines)


DIFFERENCES = [
    Difference("event id", "`Event: presence;id=x`", "RFC 6665 8.2.1: the id is part of the subscription's name", apart=True,
               matches=lambda case: _codes(("subscribe", "refresh"), 489, 200)(case) and "id=" in case.step.get("event_more", "")),
    Difference("Expires that is no number, PUBLISH", "body without Content-Type, Content-Length longer", "RFC 3261 20.19", apart=True,
               matches=lambda case: _odd_expires(case) and case.kind == "reply" and case.step["do"] == "publish" and _code(case.ours) == 400),
    Difference("Expires that is no number, SUBSCRIBE", "SUBSCRIBE with an Expires beyond all numbers", "RFC 3261 20.19", apart=True,
               matches=lambda case: _odd_expires(case) and case.kind == "reply" and _code(case.ours) == 400),
    Difference("Expires beyond 2^32", "Expires beyond 2^32", "RFC 3261 20.19: the greatest interval that is granted", apart=True,
               matches=lambda case: (_expires(case) or 0) >= 1 << 32 and (case.kind == "reply" or _header("", "expires")(case))),
    Difference("PUBLISH below min_expires", "PUBLISH below min_expires", "RFC 3903 6", apart=True,
               matches=lambda case: case.step["do"] == "publish" and "min_expires" in case.config["params"]
               and (case.kind == "reply" and _code(case.ours) == 423 or _header("PUBLISH", "expires")(case))),
    Difference("entity tag that cannot be ours", "SIP-If-Match that cannot be ours", "RFC 3903 6",
               matches=lambda case: case.step.get("op") == "foreign" and (_codes(("publish",), 500, 412)(case) or case.kind == "script")),
    Difference("body of another type", "presence body of another type", "RFC 3903 6", apart=True,
               matches=lambda case: case.step.get("ctype") and _codes(("publish",), 200, 415)(case)),
    Difference("body without a type", "body without Content-Type, Content-Length longer", "RFC 3261 20.15", apart=True,
               matches=lambda case: "ctype" in case.step and case.step["ctype"] is None and _codes(("publish",), 200, 400)(case)),
    Difference("rules in memory only", "memory only, rules documents", "RFC 5025 3: the presentity's rules decide, however subscriptions "
               "are kept", apart=True, matches=lambda case: case.config["rules"] and (case.config["mode"], case.config["cache"]) == (0, 2)
               and case.kind in ("NOTIFY header", "NOTIFY body", "notifies", "reply", "script", "reply header", "reason phrase")),
    Difference("initial PUBLISH that expires at once", "initial PUBLISH with Expires 0", "RFC 3903 6: nothing to store", apart=True,
               matches=lambda case: case.step.get("op") == "initial" and _expires(case) == 0 and case.kind in ("rows", "notifies")),
    Difference("the end of a subscription, database-only", "database-only, subscription expires", "RFC 6665 4.4.1: the end is told once",
               apart=True, matches=lambda case: case.config["mode"] == 3 and case.kind in ("notifies", "rows") and _expired(case)),
    Difference("CSeq in the row", "write-through, restart after the first NOTIFY", "the row holds the number that was sent",
               matches=lambda case: case.kind == "row" and "active_watchers.local_cseq" in case.what
               and (case.stock, case.ours) == (0, 1)),
    Difference("end of the host", None, "the host's TCP processes lose each other at the stop", matches=_host_at_its_end),
]
