"""Runs one scenario on the stock modules and on ours, and compares what went over the wire and into the tables."""
import re

HIDDEN = ("via", "from", "to", "call-id", "server", "user-agent", "max-forwards")


def normalise(text):
    """Replaces what differs from run to run: addresses, tags, times, ids."""
    text = re.sub(r"(udp:)?127\.0\.0\.1:\d+", "ADDRESS", text)
    text = re.sub(r"\ba\.\d{9,}\.[\w.]+", "ETAG", text)
    text = re.sub(r"pres-[0-9a-f]+-[0-9a-f]+-[0-9a-f]+", "RUID", text)
    text = re.sub(r"[0-9a-f]{32}(-[0-9a-f]{8})?", "HEX", text)
    text = re.sub(r"'from_tag': '\w+'", "'from_tag': TAG", text)
    text = re.sub(r"from_tag=\[\w+\]", "from_tag=[TAG]", text)
    text = re.sub(r"\b17\d{8}\b|\b18\d{8}\b", "TIME", text)
    text = re.sub(r"expires=(359\d|3600)\b", "expires=3600", text)
    text = re.sub(r"expires=(99\d|1000)\b", "expires=1000", text)
    text = re.sub(r"expires=(9\d|100)\b", "expires=100", text)
    # A second has passed between a request and what is compared.
    text = re.sub(r"expires=(\d*)9\b", lambda found: "expires=%d" % (int(found.group(1) + "9") + 1), text)
    return text


class Trace:
    """What a scenario saw: labelled pieces of text in order."""

    def __init__(self, which):
        self.which = which
        self.pieces = []

    def note(self, label, text):
        self.pieces.append((label, normalise(str(text))))

    def message(self, label, message, body=True):
        if message is None:
            return self.note(label, "nothing")
        lines = [message.start]
        lines += ["%s: %s" % (name, value) for name, value in message.headers if name.lower() not in HIDDEN]
        if body and message.body:
            lines += ["", message.text]
        return self.note(label, "\n".join(lines))

    def messages(self, label, messages, body=True):
        self.note(label + " count", len(messages))
        for index, message in enumerate(messages):
            self.message("%s %d" % (label, index + 1), message, body)

    def rows(self, label, server, table, order=None):
        for index, row in enumerate(server.rows(table, order)):
            self.note("%s row %d" % (label, index + 1), row)
        self.note(label + " rows", len(server.rows(table, order)))


def same(stock, ours, different=None):
    """Asserts equal traces. `different` names labels where ours is right and stock is not: label -> (why, check of
    ours)."""
    different = dict(different or {})
    assert [label for label, _ in stock.pieces] == [label for label, _ in ours.pieces], \
        "not the same steps:\nstock %s\nours  %s" % ([p[0] for p in stock.pieces], [p[0] for p in ours.pieces])
    wrong = []
    for (label, theirs), (_, mine) in zip(stock.pieces, ours.pieces):
        if label in different:
            why, check = different.pop(label)
            assert theirs != mine, "%s: stock does the same now, the exception (%s) is out of date:\n%s" % (
                label, why, mine)
            assert check(mine), "%s: expected otherwise (%s):\n%s" % (label, why, mine)
        elif theirs != mine:
            wrong.append("--- %s\nstock: %s\nours:  %s" % (label, theirs, mine))
    assert not different, "these labels were never seen: %s" % sorted(different)
    assert not wrong, "\n".join(wrong)
