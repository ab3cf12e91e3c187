"""Compares the two sides of a life step by step; what is declared in differences.py is left out and counted."""

import re

from . import differences, invariants, rows
from .side import named, named_event


# The host's lines about an address that it could not find, and a connection that it could not open.
SENDING = re.compile(
    r"core/(?:tcp_main|resolve|dns_cache)\.c|core/forward\.h|tm \[(?:ut\.h|(?:uac|t_msgbuilder)\.c):\d+\]"
    r"|presence: NOTIFY to .* could not be sent"
)
# What ours may take of shared memory beside stock: a part of what stock takes, and its pools, in bytes.
MOST_MEMORY, POOLS = 1.25, 160 << 10


def fields_of(line):
    """The fields of a line of the script; the words that have no name are one field."""
    found, words = {}, []
    for word in re.findall(r"\w+=\[[^\]]*\]|\S+", line):
        name, equals, _ = word.partition("=")
        if equals and name.isidentifier():
            found[name] = word
        else:
            words.append(word)
    return dict(found, words=" ".join(words))


# The numbers of events in the table pua.
AGENT_EVENTS = {1: "presence", 2: "presence.winfo", 4: "dialog;sla", 8: "message-summary", 32: "dialog", 64: "reg"}

WATCHER = re.compile(r" *<watcher .*?(?:</watcher>|/>)\n?", re.S)


def unordered(body):
    """A body with the watchers of a list in one order: RFC 3858 gives none."""
    return (sorted(WATCHER.findall(body)), WATCHER.sub("", body)) if "<watcherinfo" in body else body


class Finding:
    """One difference that nobody has declared, or a broken invariant."""

    def __init__(self, kind, number, what, stock="", ours=""):
        self.kind, self.number, self.what, self.stock, self.ours = kind, number, what, stock, ours

    @property
    def signature(self):
        return "%s: %s" % (self.kind, self.what)

    def __str__(self):
        lines = ["step %d, %s: %s" % (self.number, self.kind, self.what)]
        if self.kind != "invariant":
            lines.append("  stock: %s" % (self.stock,))
        return "\n".join(lines + (["  ours:  %s" % (self.ours,)] if self.ours != "" else []))


class Case:
    """What a declaration judges: one item that differs."""

    def __init__(self, life, seen, kind, what, stock, ours, sides, subject):
        self.life, self.seen, self.kind, self.what, self.stock, self.ours = life, seen, kind, what, stock, ours
        self.config, self.step, self.sides, self.subject = life["config"], seen.step, sides, subject

    @property
    def so_far(self):
        """The steps up to the one in which the item was seen, that one too."""
        return self.life["steps"][: self.seen.number + 1]


class Comparison:
    def __init__(self, life, stock, ours, counts):
        self.life, self.stock, self.ours, self.counts = life, stock, ours, counts
        self.slots = {}  # what the publication of each slot is about: (presentity, event)
        self.apart = set()  # (presentity, event) on which the sides have gone apart for a declared reason
        self.findings = []

    def all(self):
        """All findings, the first first."""
        for theirs, mine in zip(self.stock.steps, self.ours.steps):
            if mine.skipped and theirs.skipped:
                continue
            if self._stock_has_no_opinion(theirs.number) or self.ours.dead and mine.skipped:
                break
            self._step(theirs, mine)
            if self.findings:
                break
        else:
            if not self.ours.dead and not self._stock_has_no_opinion(len(self.life["steps"])):
                self._rows(self.stock.end, self.stock.last_rows, self.ours.last_rows)
                self._errors(self.stock.end, self.ours.end)
                self._memory()
        self.findings += invariants.broken(self.life, self.ours, Finding, self.counts)
        self.findings.sort(key=lambda finding: finding.number)
        return self.findings

    def _memory(self):
        """Shared memory that the life has taken: ours takes its pools at the first use, and no more than stock else."""
        stock, ours = self.stock.grown, self.ours.grown
        if stock is not None and ours is not None and ours > stock * MOST_MEMORY + POOLS:
            self._differs(self.ours.end, "memory", "shared memory at the end", stock, ours)

    def _stock_has_no_opinion(self, number):
        """Stock has died, or has not started: from here on invariants alone are judged. A process of it may have died
        some steps before the one in which the server was found to be gone."""
        last = max([seen.number for seen in self.stock.steps if not seen.skipped], default=0)
        late = 3 if "exited by a signal" in self.stock.log() else 0
        return bool(self.stock.dead) and number >= last - late

    # -- one item ------------------------------------------------------------------------------------------------

    def _differs(self, seen, kind, what, stock, ours, subject=None):
        """Notes a difference unless it is declared; a declaration may say that the sides go apart from here on."""
        case = Case(self.life, seen, kind, what, stock, ours, (self.stock, self.ours), subject)
        for one in differences.DIFFERENCES:
            if one.matches(case):
                self.counts[one.name] = self.counts.get(one.name, 0) + 1
                if one.apart and subject:
                    self.apart.add(self._registered(subject))
                return
        self.findings.append(Finding(kind, seen.number, what, stock, ours))

    def _subject(self, seen):
        step = seen.step
        if step["do"] in ("subscribe", "refresh"):
            dialog = self.ours.dialogs.get(step["dialog"])
            return (dialog.to, dialog.about) if dialog else None
        if step["do"] == "publish":
            subject, slot = (named(step), named_event(step)), (step["who"], step["slot"], step["event"])
            if step["op"] == "initial":
                self.slots[slot] = subject
            return self.slots.get(slot, subject)
        if step["do"] in ("command", "json"):
            return step.get("who"), step.get("event")
        return None

    def _registered(self, subject):
        """A subject by the package that serves it: `dialog;sla` is `dialog` where no module has registered it."""
        who, event = subject
        config = self.life["config"]
        is_passive = config.get("companions", {}).get("presence_xml", {}).get("passive_mode")
        is_plain = event == "dialog;sla" and (is_passive or not config.get("sla"))
        return who, "dialog" if is_plain else event or ""

    def _is_apart(self, subject):
        if not subject:
            return False
        who, event = self._registered(subject)
        return (who, event) in self.apart or (event.endswith(".winfo") and (who, event[:-6]) in self.apart)

    # -- one step ------------------------------------------------------------------------------------------------

    def _step(self, theirs, mine):
        subject = self._subject(mine)
        if not self._is_apart(subject):
            self._reply(theirs, mine, subject)
        if self.findings:
            return
        self._notifies(theirs, mine)
        if self.findings:
            return
        if theirs.answer != mine.answer and not self.apart:
            self._differs(
                mine,
                "rpc",
                mine.step["do"] + " " + " ".join(map(str, mine.step.get("words", []))),
                theirs.answer,
                mine.answer,
            )
        if not self.apart and theirs.script != mine.script:
            self._script(theirs, mine)
        self._rows(mine, theirs.rows, mine.rows)
        self._errors(theirs, mine)

    def _describe(self, seen):
        step = seen.step
        if step["do"] == "publish":
            return "PUBLISH " + step["op"]
        return {"subscribe": "SUBSCRIBE", "refresh": "SUBSCRIBE in dialog"}.get(step["do"], step["do"])

    def _reply(self, theirs, mine, subject):
        if theirs.skipped != mine.skipped:
            return self._differs(mine, "skipped", self._describe(mine), theirs.skipped, mine.skipped, subject)
        stock, ours = theirs.reply, mine.reply
        name = self._describe(mine)
        if (stock is None) != (ours is None) or (stock and stock[0][:3] != ours[0][:3]):
            code = lambda reply: reply[0][:3] if reply else "none"
            return self._differs(
                mine, "reply", "%s %s, ours %s" % (name, code(stock), code(ours)), stock, ours, subject
            )
        if stock is None:
            return None
        if theirs.codes != mine.codes:
            self._differs(
                mine, "replies", "%s %s" % (name, stock[0][:3]), sorted(theirs.codes), sorted(mine.codes), subject
            )
        if stock[0] != ours[0]:
            self._differs(
                mine, "reason phrase", "%s %s, ours %s" % (name, stock[0], ours[0]), stock[0], ours[0], subject
            )
        return self._headers(mine, "reply header", name + " " + stock[0][:3], stock[1], ours[1], subject)

    def _headers(self, seen, kind, name, stock, ours, subject):
        for header in sorted({item[0] for item in stock + ours}):
            theirs = [value for key, value in stock if key == header]
            mine = [value for key, value in ours if key == header]
            if theirs != mine:
                self._differs(seen, kind, "%s %s" % (name, header), theirs, mine, subject)

    def _notifies(self, theirs, mine):
        for key in sorted(set(theirs.notifies) | set(mine.notifies)):
            dialog = self.ours.dialogs.get(key) or self.stock.dialogs.get(key)
            subject = (dialog.to, dialog.about) if dialog else None
            if self._is_apart(subject):
                continue
            stock, ours = theirs.notifies.get(key, []), mine.notifies.get(key, [])
            if any(step.get("dialog") == key and step.get("again") for step in self.life["steps"]):
                # Two dialogs of one name: which of them is notified first is nobody's promise.
                stock, ours = sorted(stock, key=repr), sorted(ours, key=repr)
            name = "NOTIFY after %s" % self._describe(mine)
            if len(stock) != len(ours):
                show = lambda all_: [(dict(headers).get("subscription-state"), body) for headers, body in all_]
                self._differs(
                    mine,
                    "notifies",
                    "%s: %d, ours %d" % (name, len(stock), len(ours)),
                    show(stock),
                    show(ours),
                    subject,
                )
                continue
            for (headers, body), (our_headers, our_body) in zip(stock, ours):
                self._headers(mine, "NOTIFY header", name, headers, our_headers, subject)
                if unordered(body) != unordered(our_body):
                    self._differs(
                        mine, "NOTIFY body", "%s, %s" % (name, subject and subject[1]), body, our_body, subject
                    )

    def _script(self, theirs, mine):
        only = lambda one, other: [line for line in one if one.count(line) > other.count(line)]
        stock, ours = only(theirs.script, mine.script), only(mine.script, theirs.script)
        place = (stock or ours)[0].split(" ", 1)[0]
        subject = self._subject(mine)
        if len(stock) != len(ours):
            self._differs(mine, "script", place + ": number", "\n".join(stock), "\n".join(ours), subject)
            return
        for one, other in zip(stock, ours):
            place, one, other = one.split(" ", 1)[0], fields_of(one), fields_of(other)
            for name in sorted(set(one) | set(other)):
                if one.get(name) != other.get(name):
                    what = "%s: %s" % (place, name)
                    self._differs(mine, "script", what, one.get(name, ""), other.get(name, ""), subject)

    def _rows(self, seen, stock, ours):
        for table in sorted(set(stock) & set(ours)):
            theirs = [row for row in stock[table] if not self._is_apart(self._owner(table, row))]
            mine = [row for row in ours[table] if not self._is_apart(self._owner(table, row))]
            theirs, mine = rows.without_brief(table, theirs, mine)
            when = "after " + self._describe(seen)
            if len(theirs) != len(mine):
                plain = lambda rows_: [{name: row[name] for name in row if name != rows.LEFT} for row in rows_]
                only = lambda one, other: [row for row in plain(one) if row not in plain(other)]
                what = "%s: %d, ours %d %s" % (table, len(theirs), len(mine), when)
                stock_only, ours_only = only(theirs, mine), only(mine, theirs)
                owners = {self._owner(table, row) for row in stock_only + ours_only}
                self._differs(
                    seen, "rows", what, stock_only, ours_only, owners.pop() if len(owners) == 1 else None
                )
                continue
            for one, other in zip(theirs, mine):
                for name in one:
                    if one[name] != other.get(name) and name != rows.LEFT:
                        self._differs(
                            seen,
                            "row",
                            "%s.%s %s" % (table, name, when),
                            one[name],
                            other.get(name),
                            self._owner(table, one),
                        )

    @staticmethod
    def _owner(table, row):
        if table == "presentity":
            return (row["username"], row["event"])
        if table == "pua":
            return (row["pres_uri"].split(":", 1)[-1].split("@")[0], AGENT_EVENTS.get(row["event"], ""))
        return (row["presentity_uri"].split(":", 1)[-1].split("@")[0], row["event"])

    def _errors(self, theirs, mine):
        if self.apart and all(SENDING.search(line) for line in mine.errors):
            # What one side has and the other has not is sent to connections that are gone.
            return None
        if mine.errors and not theirs.errors and not theirs.skipped:
            text = mine.errors[0].split(": ", 2)[-1]
            self._differs(
                mine, "errors", "after " + self._describe(mine), "none", "\n".join(mine.errors), self._subject(mine)
            )
            return text
        return None
