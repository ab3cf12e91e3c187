"""What watchers may rely on, judged from our side alone: nobody unauthorised is sent anything at a change, and the last
accepted state is what every authorised watcher saw last."""

import re

from . import agents, odd
from .documents import mark
from .side import named

# Shapes whose URI is another text than the publication's.
OTHER_URI = ("case", "escaped", "port", "user-phone")
# Below this many seconds a document may be gone when it is looked for.
SHORT = 30


class Publications:
    """What was accepted for one presentity and event: the mark of each publication, and of the newest."""

    def __init__(self):
        self.by_slot, self.newest, self.replaced = {}, None, set()
        self.vague = False

    def accept(self, step, number):
        slot = step["slot"]
        if step["op"] == "modify" and slot in self.by_slot:
            self.replaced.add(self.by_slot[slot])
        if step["op"] in ("initial", "modify"):
            self.by_slot[slot] = self.newest = number
        if step["op"] == "remove":
            gone = self.by_slot.pop(slot, None)
            self.replaced.add(gone)
            if gone == self.newest:
                self.newest = None


class Promises:
    def __init__(self, life, ours, note):
        self.config, self.ours, self.note = life["config"], ours, note
        self.publications, self.rules = {}, {}
        self.last, self.refused, self.odd = {}, set(), set()
        self.answers = {}
        self.unclear = set()  # presentities whose rules are broken, or say different things
        self.names = {}  # dialogs -> the watcher, where a From is another one than that of the phone
        self.touched = False  # somebody else has changed rows, or the database has refused some

    def check(self):
        for seen in self.ours.steps:
            if not seen.skipped:
                self._step(seen, seen.step)

    def _allowed(self, dialog):
        """None where that is a matter of how somebody reads the rules."""
        if not self.config["rules"] or dialog.event != "presence":
            return True
        if (self.config["mode"], self.config["cache"]) == (0, 2) and dialog.to not in self.rules:
            return True
        if dialog.to in self.unclear:
            return None
        return self.rules.get(dialog.to, {}).get(self.names.get(dialog, dialog.who)) == "allow"

    def _step(self, seen, step):
        if step["do"] == "rules":
            self.rules[step["who"]] = step["watchers"]
            self.unclear.discard(step["who"])
            if step.get("kind", "huge") not in odd.SAME_RULES:
                self.unclear.add(step["who"])
        if step["do"] == "hard_state":
            self.publications.setdefault((step["who"], "presence"), Publications()).vague = True
        if step["do"] in agents.STEPS:
            for subject in agents.subjects(step):
                self.publications.setdefault(subject, Publications()).vague = True
        if step["do"] == "answers":
            self.answers[step["who"]] = step["code"]
        if step["do"] == "restart":
            self._restarted(step)
        if step["do"] in ("row", "refuse"):
            self.touched = True
        if step["do"] in ("subscribe", "refresh") and (
            step.get("shape") in OTHER_URI
            or step.get("accept")
            or any(name in step for name in ("from", "ruri", "headers"))
        ):
            self.odd.add(self.ours.dialogs.get(step["dialog"]))
            if step["do"] == "subscribe":
                self._named(step)
        for dialog, message in seen.raw:
            if dialog is not None:
                self._notify(seen, step, dialog, message)
        if step["do"] == "publish" and seen.reply:
            self._published(seen, step)

    def _named(self, step):
        headers = step.get("headers")
        written = step.get("from") or (headers.get("From") if isinstance(headers, dict) else None)
        found = re.search(r"(?:sips?:)?([^@:<]+)@", str(written or ""))
        if found:
            self.names[self.ours.dialogs.get(step["dialog"])] = found[1]

    def _restarted(self, step):
        if self.config["cache"] == 2 or step["how"] == "kill" and self.config.get("ours", {}).get("publ_update_period"):
            for publications in self.publications.values():
                publications.vague = True
        for dialog in self.ours.dialogs.values():
            lost = self.config["mode"] == 0 or (step["how"] == "kill" and self.config["mode"] == 2)
            if lost or dialog.beyond or self.config["transport"] != "udp":
                self.refused.add(dialog)

    def _notify(self, seen, step, dialog, message):
        self.last[dialog] = message
        if self.answers.get(dialog.who, 200) != 200:
            self.refused.add(dialog)
        if message.get("Subscription-State", "").startswith("terminated"):
            self.refused.add(dialog)
        if self._allowed(dialog) is not False:
            return
        if b"mark" in message.body:
            self.note(seen.number, "no document reaches a watcher who is not allowed")
        if step["do"] == "publish" or (
            step["do"] == "rpc" and "refreshWatchers" in step["words"][0] and step["words"][-1] == 1
        ):
            self.note(seen.number, "nobody unauthorised is sent anything at a change (%s)" % step["do"])

    def _published(self, seen, step):
        subject = (named(step), step["event"])
        publications = self.publications.setdefault(subject, Publications())
        granted = next((value for name, value in seen.reply[1] if name == "expires"), "0")
        if not seen.reply[0].startswith("2"):
            return
        if (
            step["op"] == "foreign"
            or "ruri" in step
            or step.get("shape") in OTHER_URI
            or (step["op"] != "remove" and int(granted) < SHORT)
        ):
            publications.vague = True
        publications.accept(step, seen.number)
        if (
            publications.vague
            or step["op"] not in ("initial", "modify")
            or step.get("kind") in ("closed", "broken", "trying")
        ):
            return
        for dialog in self.ours.dialogs.values():
            self._shown(seen, dialog, subject, publications)

    def _shown(self, seen, dialog, subject, publications):
        if self.config["params"].get("delete_same_subs") or self.touched:
            return
        known = dialog.to_tag and (dialog.to, dialog.event) == subject and dialog in self.last
        if (
            not known
            or dialog in self.refused
            or dialog in self.odd
            or not self._allowed(dialog)
            or dialog.ends < seen.started + SHORT
        ):
            return
        if subject[1] == "conference" and len(publications.by_slot) > 1:
            # Put together: the description is that of one document, where the marks of these documents are.
            return
        text = self.last[dialog].text
        if mark(publications.newest) not in text:
            self.note(seen.number, "the last accepted state is what a watcher saw last (%s)" % subject[1])
        elif subject[1] == "presence" and any(old is not None and mark(old) in text for old in publications.replaced):
            self.note(seen.number, "a state that was replaced is not shown (%s)" % subject[1])
