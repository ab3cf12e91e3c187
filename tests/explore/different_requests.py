"""Where ours differs from stock in what is accepted and refused, and in what a request is taken for."""

from .judging import (
    CALLS,
    SEEN_KINDS,
    code,
    codes,
    control,
    differ_in_blanks,
    escaped,
    event,
    event_more,
    event_of,
    expires,
    fields,
    given,
    has_been,
    header,
    in_other_letters,
    last_cseq,
    long,
    named,
    not_only_489,
    odd_expires,
    of_dialog,
)
from .odd import BROKEN_RULES
from .side import is_beyond

# As in differences.py.
TABLE = [
    (
        "event id",
        "`Event: presence;id=x`",
        "RFC 6665 8.2.1: the id is part of the subscription's name",
        True,
        lambda case: not_only_489(case) and code(case.ours) != 481 and "id" in event_more(case).lower(),
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
        # `dialog;sla` is one of `dialog` where no module has registered it.
        lambda case: not_only_489(case)
        and (event_more(case) or case.step.get("event") == "dialog;sla")
        and "id" not in event_more(case).lower(),
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
            for step in case.so_far
            if step.get("dialog") == case.step["dialog"]
        ),
    ),
    (
        "changed rules in write-back",
        "write-back, the rules change for a watcher",
        "stock writes no row of a watcher for whom the rules have changed since the SUBSCRIBE",
        True,
        lambda case: case.config["mode"] == 2
        and any(step["do"] == "rules" for step in case.so_far)
        and (
            case.kind == "rows" and "active_watchers" in case.what and not case.stock
            or case.sides[1].restarted_before(case.seen.number)
            and (case.kind == "notifies" and not case.stock or codes(("refresh",), 481, 200)(case))
        ),
    ),
    (
        "another event in the dialog",
        "SUBSCRIBE in a dialog of another event",
        "RFC 6665 4.1.2.2",
        True,
        # In the database-only mode stock answers 200, and goes on with the other event.
        lambda case: case.step["do"] == "refresh"
        and ("event" in case.step or any("Event" in given(step) for step in of_dialog(case)))
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
        and any("from" in step or "From" in given(step) for step in case.life["steps"]),
    ),
    (
        "the same SUBSCRIBE again",
        "the same SUBSCRIBE again when its transaction",
        "RFC 3261 17.2.2",
        True,
        lambda case: case.step.get("again")
        and case.kind in SEEN_KINDS + ("reply", "reply header", "rows", "script")
        or case.kind == "row"
        and "active_watchers." in case.what
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
            or fields(case, "fu", "tu", "uri", "pres_uri", "from_domain", "to_domain", "to_user", "watcher_domain")
            or case.config["mode"] == 3
            and fields(case, "fu", "tu", "uri", "pres_uri", "remote_cseq")
            or case.kind == "NOTIFY body"
            and str(event(case)).endswith(".winfo")
            and case.stock.lower() == case.ours.lower()
            # A refresh that names its resource in other letters: stock shows that resource.
            or case.kind in ("NOTIFY header", "NOTIFY body")
            and case.step["do"] == "refresh"
            and in_other_letters(case)
        )
        and named(case),
    ),
    (
        "the Contact of a refresh",
        "SUBSCRIBE in a dialog, its Contact is the beginning",
        "RFC 3261 12.2.2: it is the remote target from then on",
        False,
        lambda case: (
            case.kind in ("row", "NOTIFY header")
            and (case.what.startswith("active_watchers.contact") or case.what.endswith(" start"))
            or fields(case, "contact", "words")
        )
        and str(case.ours).strip("[]'\"").split(" SIP/2.0")[0] in str(case.stock)
        and any(step["do"] == "refresh" for step in case.so_far),
    ),
    (
        "the line of a SUBSCRIBE",
        "`dialog;sla`, whose line a SUBSCRIBE asks for",
        "RFC 6665 3.1.2",
        True,
        lambda case: any(
            event_of(case, step) == "dialog;sla"
            and ({"contact", "from", "ruri"} & set(step) or {"Contact", "From"} & set(given(step)))
            for step in case.so_far
        )
        and (case.kind in SEEN_KINDS + ("reply", "rows", "row", "script")),
    ),
    (
        "letters that a database does not tell apart",
        None,
        "MariaDB and db_text compare URIs in any letters, memory and the other drivers as they are written",
        True,
        lambda case: case.life.get("driver") in ("mysql", "text")
        and in_other_letters(case)
        and (
            case.config["cache"] != 0
            and codes(("publish",), 200, 412)(case)
            # Found under another name than the row's, stock's document is sent as it was published.
            or case.kind == "NOTIFY body"
            and differ_in_blanks(case)
        ),
    ),
    (
        "URIs with control characters",
        "a Contact, Call-ID, tag, event id or URI with control",
        "RFC 3261 25.1",
        True,
        # Where the script names the watcher itself ($fu), stock sends no answer at all.
        lambda case: case.kind == "reply"
        and (code(case.ours) in (400, 414) or code(case.ours) == 489 and case.stock is None)
        and control(case.step, "Contact", "From", "To", "Event", "SIP-If-Match")
        or (case.kind == "rows" and not case.ours or case.kind == "errors" and "no URI" in case.ours)
        and any(control(step) for step in case.so_far),
    ),
    (
        "lines of the core about a Contact",
        None,
        "ours reads the whole request before it looks for the package; the core logs what its parser cannot read",
        False,
        lambda case: case.kind == "errors"
        and "Contact" in given(case.step)
        and all("core/parser/contact" in line for line in case.ours.splitlines()),
    ),
    (
        "Record-Route that cannot be read",
        "a Record-Route that cannot be read below others",
        "RFC 3261 25.1: what is no URI is nobody's address",
        True,
        lambda case: any(control(step, "Record-Route") for step in case.so_far)
        and (
            case.kind in ("NOTIFY header", "row") and case.what.split()[-1] in ("route", "start")
            or "record_route" in case.what
        ),
    ),
    (
        "a Record-Route of several lines",
        None,
        "RFC 3261 7.3.1: a fold is a blank; stock keeps it in the row, and in what a script sees",
        False,
        lambda case: any(
            "\r\n" in str(given(step).get("Record-Route"))
            for step in case.so_far
        )
        and (case.kind == "script" or "record_route" in case.what),
    ),
    (
        "a watcher that is no URI",
        "handle_subscribe with a watcher that is no URI",
        "each request is answered",
        True,
        # The script names the sender, and the host reads none from such a From.
        lambda case: case.step["do"] in ("subscribe", "refresh")
        and case.config["route"] == "xavp"
        and "From" in given(case.step)
        and (case.kind != "reply" or case.stock is None and code(case.ours) in (400, 489)),
    ),
    (
        "the script after a From that cannot be read",
        "`handle_subscribe` with a From that cannot be read",
        "a function returns 1 or -1; stock ends the script after its 400",
        False,
        lambda case: case.kind == "script"
        and "From" in given(case.step)
        and code(case.seen.reply) in (400, 489)
        and " -1" in case.ours,
    ),
    (
        "rules that cannot be read",
        "the presentity's rules cannot be read when a watcher",
        "RFC 6665 4.2.1.2: nobody is shown what they might hide, and who publishes has nothing to do with it",
        True,
        lambda case: (
            str(event(case)).split(".")[0] == "presence"
            or case.kind == "errors" and ("pres_apply_auth" in case.ours or "pres_watcher_allowed" in case.ours)
        )
        and any(
            step["do"] == "rules" and step.get("kind") in BROKEN_RULES
            for step in case.so_far
        ),
    ),
    (
        "rules that are gone",
        "rules document that is gone, updateWatchers",
        "RFC 3856 6.6: a decision stands as long as the rules by which it was made",
        True,
        lambda case: (case.kind == "rpc" or str(event(case)).split(".")[0] in ("presence", "None"))
        and any(step["do"] == "rules" and step.get("kind") == "gone" for step in case.so_far),
    ),
    (
        "strings that no column holds",
        "a Contact, Call-ID, tag, event id or URI with control",
        "RFC 3261 25.1",
        True,
        lambda case: case.kind == "reply"
        and code(case.ours) in (400, 414)
        and (
            long(case)
            and not odd_expires(case)
            or "event_more" in case.step
            # What the columns of MariaDB do not hold; stock learns it from the refused statement.
            or is_beyond(case.step, case.life.get("driver"))
        ),
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
        lambda case: (case.step.get("op") == "foreign" or "SIP-If-Match" in given(case.step))
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
        lambda case: last_cseq(case) >= 2**31 - 10
        and (case.kind == "script" or case.kind == "reply" and code(case.ours) == 400),
    ),
    (
        "body of another type",
        "body of another type than the package",
        "RFC 3903 6",
        True,
        lambda case: (case.step.get("ctype") or {"Content-Type", "Event"} & set(given(case.step)))
        and codes(("publish",), 200, 415)(case),
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
        "a document type before the dialogs",
        "a dialog-info document with a document type",
        "RFC 4235 4.1.1",
        True,
        lambda case: any(
            has_been(case, one, kind=("doctype",), op=("initial",)) and (event(case) in (one, None)) for one in CALLS
        ),
    ),
    (
        "bytes behind the document",
        "a document in UTF-16, or with NUL bytes behind it",
        "what a table and a phone can hold",
        True,
        lambda case: case.step.get("kind") in ("nul", "utf16")
        or (case.kind == "NOTIFY body" or "presentity.body" in case.what)
        and has_been(case, event(case), kind=("nul", "utf16")),
    ),
    (
        "a package refuses a body",
        "a package refuses a body and says nothing",
        "RFC 3903 6",
        True,
        lambda case: case.step["do"] == "publish" and code(case.stock) == 500 and code(case.ours) in (400, 415),
    ),
]
