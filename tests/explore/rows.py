"""The rows of the tables, with times as spans and tokens as names."""

import time

from .names import SECONDS_APART, Span

TABLES = {
    "presentity": "username, event, body",
    "active_watchers": "callid, to_tag",
    "watchers": "presentity_uri, watcher_username, event",
    "pua": "pres_uri, pres_id, event, watcher_uri",
}
# What is known of a row beside its columns: the seconds that it has left.
LEFT = "seconds left"
ABSOLUTE = ("expires", "received_time", "inserted_time", "desired_expires")
# A priority above is a number of seconds since 2015.
SINCE = 1 << 27
# What pua chooses for its dialogs.
CHOSEN = ("call_id", "to_tag", "from_tag", "tuple_id")
# Numbers of the host's sockets and times of updates that are nobody's business.
IGNORED = ("id", "ruid", "updated", "updated_winfo", "inserted_time")


def _plain(side, table, row):
    window = None
    if table == "active_watchers":
        dialog = next((d for d in side.dialogs.values() if d.call_id == row["callid"]), None)
        window = dialog.granted if dialog else None
    if table == "presentity":
        window = side.granted.get(row["etag"])
    found = {}
    for name, value in row.items():
        if name in IGNORED:
            continue
        if isinstance(value, bytes):
            value = value.decode("utf-8", "backslashreplace")
        if name in ABSOLUTE:
            value = Span(int(value) - window[1], int(value) - window[0]) if window and int(value or 0) > 0 else "TIME"
        elif name == "priority" and int(value or 0) > SINCE:
            value = "TIME"
        elif table == "pua" and name in CHOSEN:
            value = bool(value)
        elif isinstance(value, str):
            value = side.names.plain(value)
        found[name] = "" if value is None else value
    return found


def _lasts(table, row):
    """A document that does not expire."""
    return table == "presentity" and int(row["expires"] or 0) < 0


def _left(table, row, now):
    """How many seconds a row has left."""
    return float("inf") if table == "watchers" or _lasts(table, row) else int(row["expires"] or 0) - now


def without_brief(table, stock, ours):
    """The rows of both sides but for those that one side may see in their last second and the other not any more."""
    key = {"active_watchers": "callid", "presentity": "etag"}.get(table)
    brief = {row.get(key) for row in stock + ours if row[LEFT] < 1 + SECONDS_APART}
    return tuple([row for row in rows if row.get(key) not in brief] if brief else rows for rows in (stock, ours))


def table(side, name):
    now = time.time()
    # What has run out is cleaned at a moment that depends on the timer's phase.
    lasting = [
        row
        for row in side.backend.rows(side.which, side.server, name)
        if name == "watchers" or int(row["expires"] or 0) > now + 1 or _lasts(name, row)
    ]
    found = [dict(_plain(side, name, row), **{LEFT: _left(name, row, now)}) for row in lasting]
    return sorted(found, key=lambda row: [str(row[column]) for column in TABLES[name].split(", ")])


def written_through(side):
    """The tables that hold the truth at every moment in this configuration."""
    config = side.config
    names = []
    if not side.backend.outside:
        return {}
    if config["cache"] != 2 and not config.get("ours", {}).get("publ_update_period"):
        names.append("presentity")
    if config["mode"] in (1, 3):
        names += ["active_watchers", "watchers"]
    return {name: table(side, name) for name in names}


def all_tables(side):
    """All tables, after an orderly stop."""
    names = ["presentity"] if side.config["cache"] != 2 else []
    names += ["active_watchers", "watchers"] if side.config["mode"] else []
    names += ["pua"] if side.config.get("agent") else []
    return {name: table(side, name) for name in names}
