"""Where ours differs from stock and is right: each declared once, with its reason and its row of COMPAT.md."""

from .judging import (
    ALONE,
    REMOTE_CSEQ,
    SECONDS_APART,
    SEEN_KINDS,
    VERSION,
    code,
    codes,
    escaped,
    event,
    expired,
    expires,
    fields,
    has_another_call,
    has_been,
    has_refused,
    header,
    host_at_its_end,
    in_other_letters,
    is_over_at_once,
    is_refusing,
    long,
    long_before,
    named,
    odd_expires,
    publishes,
    raised_at_starts,
    seconds_apart,
    several,
)


class Difference:
    """`row` is the beginning of a row of COMPAT.md's tables of differences, or of the parameter's row that says it;
    `matches` judges one case; `apart` says that the two sides hold different things from then on."""

    def __init__(self, name, row, reason, matches, apart=False):
        self.name, self.row, self.reason, self.matches, self.apart = name, row, reason, matches, apart


# Name, row of COMPAT.md, reason, whether the sides hold different things from then on, what it matches.
_TABLE = [
    (
        "event id",
        "`Event: presence;id=x`",
        "RFC 6665 8.2.1: the id is part of the subscription's name",
        True,
        lambda case: (
            codes(("subscribe", "refresh", "publish"), 489, 200)(case)
            or codes(("subscribe", "refresh"), 489, 202)(case)
            or codes(("publish",), 489, 412)(case)
            or codes(("publish",), 489, 415)(case)
        )
        and "id" in case.step.get("event_more", "").lower(),
    ),
    (
        "event id that is no token",
        "`Event: presence;id=x`",
        "RFC 3261 25.1",
        True,
        lambda case: code(case.ours) == 400 and case.kind == "reply" and "event_more" in case.step,
    ),
    (
        "parameters of Event",
        "Event with parameters other than id",
        "RFC 4235 3.2, RFC 6080 5.2, RFC 6446",
        True,
        lambda case: case.kind == "reply"
        and code(case.stock) == 489
        and code(case.ours) in (200, 202, 412, 415)
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
        and code(case.ours) == 481
        and any(
            "id=" in step.get("event_more", "")
            for step in case.life["steps"][: case.seen.number + 1]
            if step.get("dialog") == case.step["dialog"]
        ),
    ),
    (
        "the blocked in write-back",
        None,
        "stock writes no row of a watcher who was blocked once, though a later refresh was answered 200",
        False,
        lambda case: case.config["mode"] == 2
        and case.kind == "rows"
        and "active_watchers" in case.what
        and not case.stock
        and any(step["do"] == "rules" and "block" in step["watchers"].values() for step in case.life["steps"]),
    ),
    (
        "another event in the dialog",
        "SUBSCRIBE in a dialog of another event",
        "RFC 6665 4.1.2.2",
        True,
        # In the database-only mode stock answers 200, and goes on with the other event.
        lambda case: case.step["do"] == "refresh"
        and "event" in case.step
        and (case.kind in SEEN_KINDS + ("script", "rows", "row") or case.kind == "reply" and code(case.ours) == 481),
    ),
    (
        "another From in the dialog",
        "SUBSCRIBE in a dialog from another From",
        "a dialog belongs to who opened it",
        True,
        lambda case: (
            codes(("refresh",), 200, 481)(case)
            or codes(("refresh",), 202, 481)(case)
            or codes(("refresh",), 400, 481)(case)
        )
        and any("from" in step or "From" in step.get("headers", {}) for step in case.life["steps"]),
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
        escaped,
    ),
    (
        "URIs of the dialog",
        "From and To of NOTIFYs, the first request",
        "RFC 3261 12.2.1.1",
        False,
        lambda case: (
            case.kind == "NOTIFY header"
            and case.what.split()[-1] in ("from", "to")
            or fields(case, "fu", "tu", "uri", "pres_uri", "from_domain", "to_domain", "watcher_domain")
            or case.config["mode"] == 3
            and fields(case, "fu", "tu", "uri", "pres_uri", "remote_cseq")
            or case.kind == "NOTIFY body"
            and str(event(case)).endswith(".winfo")
            and case.stock.lower() == case.ours.lower()
        )
        and named(case),
    ),
    (
        "the Contact of a refresh",
        "SUBSCRIBE in a dialog, its Contact is the beginning",
        "RFC 3261 12.2.2: it is the remote target from then on",
        False,
        lambda case: case.kind in ("row", "NOTIFY header")
        and (case.what.startswith("active_watchers.contact") or case.what.endswith(" start"))
        and str(case.ours).strip("[]'\"").split(" SIP/2.0")[0] in str(case.stock)
        and any(step["do"] == "refresh" for step in case.life["steps"][: case.seen.number + 1]),
    ),
    (
        "the line of a SUBSCRIBE",
        "`dialog;sla`, whose line a SUBSCRIBE asks for",
        "RFC 6665 3.1.2",
        True,
        lambda case: any(
            step.get("event") == "dialog;sla" and ("contact" in step or "Contact" in step.get("headers", {}))
            for step in case.life["steps"][: case.seen.number + 1]
        )
        and (case.kind in SEEN_KINDS + ("reply", "rows", "row", "script")),
    ),
    (
        "letters that a database does not tell apart",
        None,
        "MariaDB and db_text compare URIs in any letters, memory and the other drivers as they are written",
        True,
        lambda case: case.life.get("driver") in ("mysql", "text")
        and case.config["cache"] != 0
        and codes(("publish",), 200, 412)(case)
        and in_other_letters(case),
    ),
    (
        "strings that no column holds",
        "a Contact, Call-ID, tag, event id or URI with control",
        "RFC 3261 25.1",
        True,
        lambda case: case.kind == "reply"
        and code(case.ours) in (400, 414)
        and (long(case) and not odd_expires(case) or "event_more" in case.step),
    ),
    (
        "Expires that is no number, PUBLISH",
        "body without Content-Type, Content-Length longer",
        "RFC 3261 20.19",
        True,
        lambda case: odd_expires(case)
        and (case.kind == "script" or case.kind == "reply" and code(case.ours) == 400),
    ),
    (
        "Expires beyond 2^32",
        "Expires beyond 2^32",
        "RFC 3261 20.19: the greatest interval that is granted",
        True,
        lambda case: (expires(case) or 0) >= 1 << 32 and (case.kind == "reply" or header("", "expires")(case)),
    ),
    (
        "PUBLISH below min_expires",
        "PUBLISH below min_expires",
        "RFC 3903 6",
        True,
        lambda case: case.step["do"] == "publish"
        and "min_expires" in case.config["params"]
        and (
            case.kind == "reply" and code(case.ours) == 423
            or case.kind == "skipped"
            or header("PUBLISH", "expires")(case)
        ),
    ),
    (
        "expires_offset above the interval",
        "expires_offset above the interval",
        "RFC 3903 6",
        True,
        lambda case: "expires_offset" in case.config["params"]
        and header("PUBLISH", "expires")(case)
        and case.ours == ["1"],
    ),
    (
        "entity tag that cannot be ours",
        "SIP-If-Match that cannot be ours",
        "RFC 3903 6",
        False,
        lambda case: (case.step.get("op") == "foreign" or "SIP-If-Match" in case.step.get("headers", {}))
        and (codes(("publish",), 500, 412)(case) or case.kind == "script"),
    ),
    (
        "entities",
        "a document that declares entities",
        "RFC 3470 4.12, RFC 7303 3: what a phone would have to expand",
        True,
        lambda case: case.step.get("kind") in ("entities", "doctype") and codes(("publish",), 200, 415)(case),
    ),
    (
        "ids that are not ASCII",
        "a Call-ID or tag that is not ASCII",
        "RFC 3261 25.1",
        True,
        lambda case: isinstance(case.step.get("from_tag"), str)
        and (case.kind == "script" or case.kind == "reply" and code(case.ours) == 400),
    ),
    (
        "CSeq of 2^31",
        "CSeq of 2^31",
        "RFC 3261 8.1.1.5",
        True,
        lambda case: case.step.get("cseq_step", 1) >= 2**31 - 10
        and (case.kind == "script" or case.kind == "reply" and code(case.ours) == 400),
    ),
    (
        "body of another type",
        "body of another type than the package",
        "RFC 3903 6",
        True,
        lambda case: case.step.get("ctype") and codes(("publish",), 200, 415)(case),
    ),
    (
        "body without a type",
        "body without Content-Type, Content-Length longer",
        "RFC 3261 20.15",
        True,
        lambda case: "ctype" in case.step and not case.step["ctype"] and codes(("publish",), 200, 400)(case),
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
        lambda case: codes(("publish",), 200, 415)(case)
        and case.step.get("kind") in ("broken", "newline", "deep", "multipart"),
    ),
    (
        "bytes behind the document",
        "a document in UTF-16, or with NUL bytes behind it",
        "what a table and a phone can hold",
        True,
        lambda case: case.step.get("kind") in ("nul", "utf16"),
    ),
    (
        "a package refuses a body",
        "a package refuses a body and says nothing",
        "RFC 3903 6",
        True,
        lambda case: case.step["do"] == "publish" and code(case.stock) == 500 and code(case.ours) in (400, 415),
    ),
    (
        "initial PUBLISH that expires at once",
        "initial PUBLISH with Expires 0",
        "RFC 3903 6: nothing to store",
        True,
        lambda case: case.kind == "rows"
        and "presentity" in case.what
        and any(
            step["do"] == "publish" and step["op"] == "initial" and str(step["expires"]) == "0"
            for step in case.life["steps"][: case.seen.number + 1]
        )
        or (case.kind in SEEN_KINDS or codes(("publish",), 200, 412)(case) or codes(("publish",), 500, 412)(case))
        and is_over_at_once(case),
    ),
    (
        "the end of a dialog, refreshed",
        "a document of an ended dialog is refreshed",
        "RFC 3903 4.4",
        True,
        lambda case: has_been(case, "dialog", kind=("closed",))
        and event(case) in ("dialog", None)
        and (case.kind in ("reply", "script") or "presentity" in case.what),
    ),
    (
        "the next call of a publication",
        "the next call of a publication",
        "RFC 3903 4.3",
        True,
        lambda case: case.kind in SEEN_KINDS and event(case) == "dialog" and has_another_call(case),
    ),
    (
        "voicemail, refreshed",
        "message-summary, PUBLISH refresh without body",
        "RFC 3903 4.3",
        True,
        lambda case: case.kind in SEEN_KINDS and any(publishes(case, event, op=("refresh",)) for event in ALONE),
    ),
    (
        "voicemail, one of several is removed",
        "packages that show one document",
        "RFC 3903 4.5",
        True,
        lambda case: case.kind in SEEN_KINDS and any(publishes(case, event, op=("remove",)) for event in ALONE),
    ),
    (
        "voicemail, several in memory",
        "several message-summary documents in memory",
        "one state, from wherever it is asked",
        True,
        lambda case: case.kind in ("NOTIFY body", "NOTIFY header") and event(case) in ALONE and several(case),
    ),
    (
        "refreshed in memory",
        "memory, PUBLISH refresh without body",
        "RFC 3903 4.3",
        True,
        lambda case: case.config["cache"] == 2
        and case.kind in SEEN_KINDS
        and has_been(case, event(case), op=("refresh",)),
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
        lambda case: "sip_uri_match" in case.config["params"]
        and (case.kind in SEEN_KINDS or codes(("publish",), 412, 200)(case) and in_other_letters(case)),
    ),
    (
        "SUBSCRIBE without Contact",
        "SUBSCRIBE without Contact",
        "RFC 3261 8.1.1.8",
        True,
        lambda case: case.step.get("contact") == "none"
        and (case.kind == "script" or code(case.stock) in (489, 500) and code(case.ours) == 400),
    ),
    (
        "Contact that is none",
        "SUBSCRIBE without Contact",
        "RFC 3261 8.1.1.8",
        True,
        lambda case: "Contact" in case.step.get("headers", {})
        and case.step["headers"]["Contact"] in ("*", "", "<>", "nonsense", "<{user}@{at}>", "<sip:{user}@{at}")
        and case.kind in ("reply", "script") and (case.kind == "script" or code(case.ours) == 400),
    ),
    (
        "users that tables do not hold",
        "URI without user, SQLite",
        "RFC 3261 19.1.1: a URI may have no user",
        True,
        lambda case: codes(("subscribe", "publish"), 500, 200)(case)
        and (case.step.get("ruri") or "From" in case.step.get("headers", {})),
    ),
    (
        "seconds in lines of the script",
        None,
        "a second may have begun between what one side and the other side wrote",
        False,
        lambda case: case.kind == "script" and seconds_apart(case.stock, case.ours) <= SECONDS_APART,
    ),
    (
        "the end of a subscription, database-only",
        "database-only, subscription expires",
        "RFC 6665 4.4.1: the end is told once",
        True,
        lambda case: case.config["mode"] == 3 and case.kind in ("notifies", "rows", "script") and expired(case),
    ),
    (
        "the moment of the end",
        None,
        "what runs out in the second of a step ends in this step or in the next",
        True,
        lambda case: expired(case)
        and case.kind == "notifies"
        and {state for state, _ in case.stock} ^ {state for state, _ in case.ours} <= {"terminated;reason=timeout"},
    ),
    (
        "status without a rule",
        None,
        "pres_auth_status: stock answers what was in memory where no rule names the watcher",
        False,
        lambda case: case.kind == "script" and case.what.startswith("status: ") and "status 2" in case.ours,
    ),
    (
        "strings that are written later",
        "a row that the database refuses",
        "write-back: what no column holds is named, and keeps nobody else from being served",
        True,
        lambda case: case.config["mode"] == 2 and codes(("subscribe",), 500, 200)(case) and long(case),
    ),
    (
        "versions that count each NOTIFY",
        None,
        "RFC 4235 4.3: stock does not count the NOTIFY of a change of rules in the database-only mode",
        False,
        lambda case: case.config["mode"] == 3
        and case.kind == "row"
        and "active_watchers.version" in case.what
        and int(case.ours) > int(case.stock)
        and any(step["do"] == "rules" for step in case.life["steps"][: case.seen.number + 1]),
    ),
    (
        "versions in documents after a start",
        "write-back, kill -9",
        "RFC 3858 4.1, RFC 4235 4.3: versions grow, whatever the last stop has written",
        False,
        lambda case: case.kind == "NOTIFY body"
        and case.config["mode"] == 2
        and raised_at_starts(case, [VERSION.search(text) for text in (case.stock, case.ours)]),
    ),
    (
        "User-Agent in the way",
        "a User-Agent with characters that the database",
        "it is only shown",
        True,
        lambda case: codes(("subscribe", "refresh"), 500, 200)(case)
        and "agent" in case.step
        or case.kind == "rows"
        and "active_watchers" in case.what
        and case.life.get("driver") in ("postgres", "mysql")
        and any(not str(step.get("agent", "")).isascii() for step in case.life["steps"]),
    ),
    (
        "the table lock of MariaDB",
        "MariaDB write-through with the default table lock",
        "stock locks the table, and its next statement fails",
        True,
        lambda case: case.life.get("driver") == "mysql"
        and "db_table_lock_type" not in case.config["params"]
        and (
            case.kind == "notifies" and not case.stock
            or case.config["notifiers"] > 0
            and (case.kind in ("rows", "script") + SEEN_KINDS or codes(("publish",), 412, 200)(case))
        ),
    ),
    (
        "a refresh beside notifiers on PostgreSQL",
        "PostgreSQL, database-only, notifier: refresh",
        "RFC 6665 4.2.1: stock's statement has a table lock that its connection does not hold",
        True,
        lambda case: case.life.get("driver") == "postgres"
        and case.config["notifiers"] > 0
        and (codes(("refresh",), 500, 200)(case) or case.kind == "script" and case.step["do"] == "refresh"),
    ),
    (
        "a line, refreshed",
        "`dialog;sla`, PUBLISH refresh or removal",
        "RFC 3903 4.3, 4.5",
        True,
        lambda case: publishes(case, "dialog;sla", op=("refresh", "remove"))
        and (codes(("publish",), 500, 200)(case) or case.kind == "script"),
    ),
    (
        "empty fields of db_text",
        None,
        "stock writes empty fields, and refuses the table that holds one at the next start",
        True,
        lambda case: case.life.get("driver") == "text"
        and (
            case.kind in ("rows", "row")
            or any(step["do"] == "restart" for step in case.life["steps"][: case.seen.number])
        ),
    ),
    (
        "the transport of a WebSocket",
        "Contact over WebSocket, with server_address",
        "RFC 7118 5",
        False,
        lambda case: case.config["transport"] in ("ws", "wss")
        and (header("NOTIFY", "contact")(case) or fields(case, "local_contact") or "local_contact" in case.what),
    ),
    (
        "another order of refusals",
        None,
        "both refuse; ours reads the body before it looks for the entity tag",
        False,
        lambda case: case.step["do"] == "publish"
        and case.step.get("op") != "initial"
        and code(case.ours) in (400, 415)
        and code(case.stock) in (412, 489, 500),
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
        lambda case: case.kind == "errors"
        and long_before(case)
        and ("value too long" in case.ours or "Data too long" in case.ours),
    ),
    (
        "winfo of changed rules",
        "updateWatchers",
        "RFC 3857 4.7.1",
        True,
        lambda case: case.kind == "notifies"
        and event(case) == "presence.winfo"
        and case.step["do"] in ("rules", "rpc"),
    ),
    (
        "a watcher's URI in its list",
        "watcher information, a watcher whose URI has",
        "RFC 3858 4.1: each watcher has its URI",
        True,
        lambda case: case.kind == "NOTIFY body"
        and str(event(case)).endswith(".winfo")
        and "&amp;" in case.ours
        and "&" not in case.stock,
    ),
    (
        "hard state",
        "a hard-state document",
        "RFC 3903 2: a document without an expiry, shown until it goes",
        True,
        lambda case: any(step["do"] == "hard_state" for step in case.life["steps"][: case.seen.number + 1])
        and (
            case.kind == "rpc"
            or case.kind in ("rows", "row") and "presentity" in case.what
            or case.kind in SEEN_KINDS and event(case) == "presence"
        ),
    ),
    (
        "a database that refuses",
        "the database is gone, subscriptions live in memory",
        "what is in memory goes on",
        True,
        lambda case: has_refused(case)
        # What stock does while a table is away ours does, too; later replies differ where the sides are apart by then.
        and (case.kind != "reply" or is_refusing(case) and not (code(case.stock) < 300 and code(case.ours) >= 500)),
    ),
    (
        "CSeq in the row",
        "write-through, restart after the first NOTIFY",
        "the row holds the number that was sent",
        False,
        lambda case: case.kind == "row"
        and "active_watchers.local_cseq" in case.what
        and (
            (str(case.stock), str(case.ours)) == ("0", "1")
            or case.sides[1].restarted_before(case.seen.number)
            and int(case.ours) - int(case.stock) == 1
        ),
    ),
    (
        "numbers in the row after a start",
        "write-back, kill -9",
        "RFC 3261 12.2.1.1: the numbers of a dialog only grow, whatever the last stop has written",
        False,
        lambda case: case.config["mode"] == 2
        and case.kind == "row"
        and any(name in case.what for name in ("active_watchers.local_cseq", "active_watchers.version"))
        and raised_at_starts(case),
    ),
    (
        "numbers in event routes after a start",
        "write-back, kill -9",
        "RFC 3261 12.2.1.1: the numbers of a dialog only grow, whatever the last stop has written",
        False,
        lambda case: case.config["mode"] == 2
        and fields(case, "cs")
        and any(step["do"] == "restart" for step in case.life["steps"][: case.seen.number]),
    ),
    (
        "NOTIFYs without a body that are left out have numbers",
        None,
        "send_fast_notify 0: RFC 3261 12.2.1.1 wants numbers that grow",
        False,
        lambda case: case.config["params"].get("send_fast_notify") == 0
        and (
            fields(case, "cs")
            or case.kind == "row"
            and any(name in case.what for name in ("active_watchers.local_cseq", "active_watchers.version"))
            or case.kind == "NOTIFY body"
            and VERSION.sub("", case.stock) == VERSION.sub("", case.ours)
        ),
    ),
    (
        "remote CSeq in event routes",
        None,
        "database-only: $subs(remote_cseq) is that of the request; stock has not read it",
        False,
        lambda case: case.config["mode"] == 3
        and fields(case, "remote_cseq", "expires")
        and seconds_apart(*[REMOTE_CSEQ.sub("", text) for text in (case.stock, case.ours)]) <= SECONDS_APART,
    ),
    ("end of the host", None, "the host's TCP processes lose each other at the stop", False, host_at_its_end),
]
DIFFERENCES = [Difference(name, row, reason, matches, apart) for name, row, reason, apart, matches in _TABLE]
