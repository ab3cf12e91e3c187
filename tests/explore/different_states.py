"""Where ours differs from stock in what is shown, stored, counted and logged."""

from .judging import (
    ALONE,
    CALLS,
    REMOTE_CSEQ,
    SECONDS_APART,
    SEEN_KINDS,
    VERSION,
    begins_again,
    code,
    codes,
    event,
    expired,
    fields,
    from_of,
    given,
    has_another_call,
    has_been,
    has_been_killed,
    has_blocked,
    has_refused,
    has_subscribed,
    header,
    host_at_its_end,
    in_other_letters,
    is_ahead,
    is_over_at_once,
    is_refusing,
    long,
    long_before,
    not_timed_out,
    publishes,
    raised_at_starts,
    refreshes,
    seconds_apart,
    several,
    shows_less,
)

# As in differences.py.
TABLE = [
    (
        "initial PUBLISH that expires at once",
        "initial PUBLISH with Expires 0",
        "RFC 3903 6: nothing to store",
        True,
        lambda case: case.kind == "rows"
        and "presentity" in case.what
        and any(
            step["do"] == "publish" and step["op"] == "initial" and str(step["expires"]) == "0"
            for step in case.so_far
        )
        or (case.kind in SEEN_KINDS or codes(("publish",), 200, 412)(case) or codes(("publish",), 500, 412)(case))
        and is_over_at_once(case),
    ),
    (
        "the end of a dialog, refreshed",
        "a document of an ended dialog is refreshed",
        "RFC 3903 4.4",
        True,
        lambda case: event(case) in CALLS + (None,)
        and any(has_been(case, one, kind=("closed",)) for one in CALLS)
        and (case.kind in ("reply", "script") or "presentity" in case.what),
    ),
    (
        "the next call of a publication",
        "the next call of a publication",
        "RFC 3903 4.3",
        True,
        lambda case: case.kind in SEEN_KINDS and event(case) in CALLS and has_another_call(case),
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
        "one tuple id in memory",
        "memory, two presence documents with one tuple id",
        "RFC 3863 4.1.2: a device that publishes anew has forgotten its entity tag",
        True,
        lambda case: case.config["cache"] == 2
        and case.kind == "NOTIFY body"
        and event(case) == "presence"
        and begins_again(case),
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
        lambda case: "Contact" in given(case.step)
        and given(case.step)["Contact"] in ("*", "", "<>", "nonsense", "<{user}@{at}>", "<sip:{user}@{at}")
        and case.kind in ("reply", "script") and (case.kind == "script" or code(case.ours) == 400),
    ),
    (
        "users that tables do not hold",
        "URI without user, SQLite",
        "RFC 3261 19.1.1: a URI may have no user",
        True,
        lambda case: codes(("subscribe", "publish"), 500, 200)(case)
        and (case.step.get("ruri") or "From" in given(case.step)),
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
        "RFC 6665 4.4.1: the end is notified once",
        True,
        lambda case: case.config["mode"] == 3 and case.kind in ("notifies", "rows", "script") and expired(case),
    ),
    (
        "the moment of the end",
        None,
        "what runs out in the second of a step ends in this step or in the next",
        True,
        lambda case: (codes(("publish",), 412, 200)(case) or codes(("publish",), 200, 412)(case))
        and has_been(case, event(case), expires=(1, 2))
        or expired(case)
        and case.kind == "notifies"
        and not_timed_out(case.stock) == not_timed_out(case.ours),
    ),
    (
        "documents that have run out",
        "startup_mode",
        "RFC 3903 6: what has run out is no state; stock shows it in the next second, or until its timer removes it",
        True,
        lambda case: (
            case.kind == "NOTIFY header" and case.what.endswith("content-type") and not case.ours
            or case.kind == "NOTIFY body" and shows_less(case)
        )
        and has_been(case, event(case), expires=(1, 2)),
    ),
    (
        "status without a rule",
        None,
        "pres_auth_status: stock answers what was in memory where no rule names the watcher",
        False,
        lambda case: case.kind == "script" and case.what.startswith("status: ") and "status 2" in case.ours,
    ),
    (
        "watcher information in memory",
        "memory only, SUBSCRIBE for watcher information",
        "the process of stock that serves it ends by signal 11",
        True,
        lambda case: (case.config["mode"], case.config["cache"]) == (0, 2)
        and case.kind == "notifies"
        and str(event(case)).endswith(".winfo")
        and not case.stock,
    ),
    (
        "watchers of others in the same slot",
        "`pres_has_subscribers`, another",
        "pres_has_subscribers: stock counts whatever is stored in the same slot of its table",
        False,
        lambda case: "subs_htable_size" in case.config["params"]
        and case.config["mode"] != 3
        and fields(case, "words")
        and (case.stock, case.ours) == ("watched 1", "watched -1"),
    ),
    (
        "strings that are written later",
        "a row that the database refuses",
        "memory and write-back: what no column holds is named, and keeps nobody else from being served",
        True,
        lambda case: case.config["mode"] in (0, 2) and codes(("subscribe",), 500, 200)(case) and long(case),
    ),
    (
        "versions that count each NOTIFY",
        None,
        "RFC 4235 4.3: stock does not count the NOTIFY of a change of rules in the database-only mode, nor that to "
        "a watcher who was blocked at first",
        False,
        lambda case: case.config["mode"] > 0
        and case.kind == "row"
        and "active_watchers.version" in case.what
        and int(case.ours) > int(case.stock)
        and any(step["do"] == "rules" for step in case.so_far),
    ),
    (
        "versions of documents that are sent again",
        "refreshWatchers with 1, documents with a version",
        "RFC 4235 4.1.1, RFC 4575 5.1: each document has the next version",
        False,
        lambda case: case.subject and refreshes(case) > 0
        and (
            case.kind == "NOTIFY body"
            and is_ahead(case, refreshes(case), VERSION)
            or case.kind == "row" and "active_watchers.version" in case.what
            and 0 < int(case.ours) - int(case.stock) <= refreshes(case)
        ),
    ),
    (
        "changed rules of a watcher whose connection is gone",
        "rules that change, a watcher whose connection is gone",
        "RFC 3856 6.6: the rules hold for each watcher, whether the NOTIFY finds a way or not",
        True,
        lambda case: case.config["transport"] != "udp"
        and case.sides[1].restarted_before(case.seen.number)
        and (
            case.kind == "rpc" and case.stock.startswith("error: 500") and not case.ours
            # Who is blocked has no subscription any more.
            or case.kind == "rows" and case.what.startswith("active_watchers") and not case.ours
            and has_blocked(case)
        ),
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
        lambda case: any(codes(("subscribe", "refresh"), 500, ours)(case) for ours in (200, 202))
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
            # A NOTIFY that stock does not try, and that finds no way.
            or case.kind == "row" and "active_watchers.version" in case.what
            and case.step["do"] == "publish" and int(case.ours) > int(case.stock)
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
        and (
            any(codes(("refresh",), 500, ours)(case) for ours in (200, 400, 481))
            or case.kind == "script" and case.step["do"] == "refresh"
        ),
    ),
    (
        "watcher information beside notifiers",
        "database-only with notifier processes, watcher information",
        "RFC 3858 4.1: stock's partial documents name no watcher",
        True,
        lambda case: case.config["notifiers"] > 0
        and case.kind in SEEN_KINDS
        and str(event(case)).endswith(".winfo"),
    ),
    (
        "changes beside notifiers",
        "database-only with notifier processes, a watcher who may not see the state",
        "RFC 5025 3.2.1: who is blocked politely learns of no change",
        True,
        lambda case: case.config["notifiers"] > 0
        and case.kind == "notifies"
        and case.step["do"] == "publish"
        and len(case.stock) > len(case.ours)
        and not any(body for _, body in case.stock),
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
        "a watcher of watchers whose connection is gone",
        "SUBSCRIBE to a resource whose winfo watcher has lost its connection",
        "RFC 6665 4.2.1.2: each SUBSCRIBE that is accepted is followed by a NOTIFY",
        True,
        lambda case: case.config["transport"] in ("ws", "wss")
        and case.kind == "notifies"
        and case.step["do"] in ("subscribe", "refresh")
        and not case.stock
        and has_subscribed(case, "presence.winfo"),
    ),
    (
        "rows of watchers that a crash loses",
        "watchers_write_behind",
        "the row of a new watcher is written within a second after the answer; a crash in that second loses it",
        True,
        lambda case: case.config["mode"] == 2
        and case.config["ours"].get("watchers_write_behind", 1)
        and case.kind == "rows"
        and case.what.startswith("watchers")
        and len(case.ours) < len(case.stock)
        and has_been_killed(case),
    ),
    (
        "publications that a crash loses",
        "publ_update_period",
        "what has changed since the last period is not in the table when the server is killed",
        True,
        lambda case: case.config.get("ours", {}).get("publ_update_period")
        and has_been_killed(case)
        and (
            case.kind in SEEN_KINDS
            or case.kind in ("rows", "row") and case.what.startswith("presentity")
            or codes(("publish",), 200, 412)(case)
            or codes(("publish",), 412, 200)(case)
        ),
    ),
    (
        "another order of refusals",
        None,
        "both refuse; ours reads the body before it looks for the entity tag, and names a package that is not there "
        "before a From that cannot be read",
        False,
        lambda case: codes(("subscribe", "refresh"), 400, 489)(case)
        and from_of(case.step)
        or case.step["do"] == "publish"
        and case.step.get("op") != "initial"
        and (
            code(case.ours) in (400, 415)
            and code(case.stock) in (412, 489, 500)
            # Stock returns 1 after a 412.
            or code(case.seen.reply) in (400, 415)
            and fields(case, "words")
            and case.ours.endswith(" -1")
        ),
    ),
    (
        "User-Agent that no table holds",
        "a User-Agent with characters that the database",
        "it is only shown: a tab and bytes that are no UTF-8 are shown as others",
        False,
        lambda case: any("agent" in step or "headers" in step for step in case.so_far)
        and (case.kind in ("row", "script") and "user_agent" in case.what)
        # A log line ends at a NUL.
        or case.kind == "script"
        and any("\0" in str(given(step).get("User-Agent")) for step in case.so_far),
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
        "watchers who wait, database-only",
        "watcher information in database-only mode, a watcher that nobody",
        "RFC 3857 4.7.1: who has not been decided about waits, in each mode",
        True,
        lambda case: case.config["mode"] == 3
        and case.config["rules"]
        and case.kind == "NOTIFY body"
        and str(event(case)).endswith(".winfo")
        and case.ours.count('status="waiting"') > case.stock.count('status="waiting"'),
    ),
    (
        "winfo of a watcher who is gone",
        "watcher information, a NOTIFY that is answered 404 or 481",
        "RFC 3857 4.7.1: a subscription that ends is a change",
        True,
        lambda case: case.kind == "notifies"
        and str(event(case)).endswith(".winfo")
        and len(case.ours) > len(case.stock)
        and any(step["do"] == "answers" and step["code"] in (404, 408, 481, None) for step in case.so_far),
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
        lambda case: any(step["do"] == "hard_state" for step in case.so_far)
        and (
            case.kind == "rpc"
            or case.kind in ("rows", "row") and "presentity" in case.what
            or case.kind in SEEN_KINDS and event(case) == "presence"
        ),
    ),
    (
        "a fetch of what cannot be read",
        "a fetch (SUBSCRIBE with Expires 0) whose state",
        "RFC 6665 4.4.3: a state that cannot be read is no answer",
        True,
        lambda case: is_refusing(case)
        and str(case.step.get("expires")) == "0"
        and (codes(("subscribe",), 200, 500)(case) or case.kind == "script" and case.step["do"] == "subscribe"),
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
        lambda case: case.config["mode"] in (1, 2)
        and fields(case, "cs")
        and int(case.ours.partition("=")[2] or 0) > int(case.stock.partition("=")[2] or 0)
        and any(step["do"] == "restart" for step in case.life["steps"][: case.seen.number]),
    ),
    (
        "branch flags over a restart",
        "$subs(attr), 25 attributes",
        "stock loses a SUBSCRIBE's branch flags over a restart",
        False,
        lambda case: case.config["mode"] in (1, 2)
        and (fields(case, "flags") or case.kind == "row" and "active_watchers.flags" in case.what)
        and str(case.stock) in ("0", "flags=[0]")
        and str(case.ours) in ("8", "32", "flags=[8]", "flags=[32]"),
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
