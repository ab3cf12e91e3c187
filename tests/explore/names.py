"""Names for what differs from run to run (ports, tags, entity tags, times), so that sides are compared word by word."""

import math
import re


class Names:
    """What one side has learned: a token and its name."""

    def __init__(self):
        self._names = {}
        self._pattern = None

    def learn(self, token, name):
        if token and token not in self._names:
            self._names[token] = name
            self._pattern = None

    def token(self, name):
        """The token of a name, or None."""
        return next((token for token, known in self._names.items() if known == name), None)

    def plain(self, text):
        """The text with every known token replaced by its name."""
        if self._pattern is None:
            words = sorted(self._names, key=len, reverse=True)
            self._pattern = re.compile(
                r"(?<![\w.-])(?:%s)(?![\w-])" % "|".join(re.escape(word) for word in words) if words else r"(?!)"
            )
        text = self._pattern.sub(lambda found: self._names[found.group(0)], text)
        text = re.sub(r"\bpres-[0-9a-f]+-[0-9a-f]+-[0-9a-f]+", "RUID", text)
        # The same character, however an XML writer puts it.
        text = re.sub(r"&#x([0-9A-Fa-f]+);", lambda found: chr(int(found[1], 16)), text)
        # Ids that pua, tm and dialog make.
        text = re.sub(r"\b[0-9a-f]{16}-\d+@127\.0\.0\.1", "CALL-ID", text)
        text = re.sub(r"\bpadi-[0-9a-f]+-[0-9a-f]+-", "padi-", text)
        text = re.sub(r"\bdid=[0-9a-f]+\.[0-9a-f]+", "did=DIALOG", text)
        text = re.sub(r'\bid="(?:0x[0-9a-f]+|t[0-9a-f]{13})"', 'id="GENERATED"', text)
        return re.sub(r"\ba\.\d{9,}\.[\w.]+", "ETAG", text)


# What one side sees may be this much later than the other side's on a busy machine, in seconds.
SECONDS_APART = 3


class Span:
    """A number of seconds that is known up to the moments at which the clock was read: from `low` to `high`."""

    def __init__(self, low, high):
        self.low, self.high = low, high

    def __eq__(self, other):
        return isinstance(other, Span) and self.low <= other.high and other.low <= self.high

    def __repr__(self):
        return "%d" % self.low if self.low == self.high else "%d..%d" % (self.low, self.high)

    @classmethod
    def granted(cls, left, granted, started, seen):
        """What was granted between the seconds `granted` to a dialog whose NOTIFY says that `left` seconds are left.
        It was seen at `seen`, in a step that began at `started`; it may have been on its way since before."""
        low, high = granted
        return cls(
            left + max(0, math.floor(started - SECONDS_APART) - high),
            left + max(0, math.floor(seen) - low),
        )
