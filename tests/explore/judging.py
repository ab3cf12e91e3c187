"""What the declared differences are recognised by: questions about one case, its step, and the steps before it."""

import re

from .names import SECONDS_APART
from .side import named as named_user


def code(reply):
    return int(reply[0][:3]) if isinstance(reply, tuple) else 0


def codes(kind, stock, ours):
    """A reply of `stock` where ours answers `ours`, to steps of one kind."""
    return (
        lambda case: case.kind == "reply"
        and case.step["do"] in kind
        and code(case.stock) == stock
        and code(case.ours) == ours
    )


def expires(case):
    """The Expires of a step as a number; None where it is none."""
    text = str(case.step.get("expires", ""))
    return int(text) if text.isdigit() else None


def given(step):
    """The headers that a request is given, name -> value."""
    headers = step.get("headers")
    return headers if isinstance(headers, dict) else {}


def of_dialog(case):
    """The requests so far of the dialog that this step is about."""
    return [step for step in case.so_far if step.get("dialog") == case.step.get("dialog")]


def event_of(case, step):
    """The event of a request; that of the dialog where the request is one in a dialog and names no other."""
    opened = [one for one in case.so_far if one["do"] == "subscribe" and one["dialog"] == step.get("dialog")]
    return step.get("event", opened[-1]["event"] if opened else None)


def odd_expires(case):
    if case.step["do"] not in ("subscribe", "refresh", "publish"):
        return False
    written = given(case.step).get("Expires")
    return (
        isinstance(written, str)
        and not written.strip().isdigit()
        or case.step.get("expires") is not None
        and expires(case) is None
    )


def event_more(case):
    """What follows the name of the event."""
    written = str(given(case.step).get("Event", ""))
    return case.step.get("event_more", "") + written.partition(";")[2]


def last_cseq(case):
    """The CSeq that a dialog has come to, as far as steps raise it."""
    dialog = case.step.get("dialog")
    return sum(max(1, step.get("cseq_step", 1)) for step in case.so_far if dialog and step.get("dialog") == dialog)


def not_only_489(case):
    """Stock does not know an event with parameters; ours does, and answers as to any other request."""
    return case.kind == "reply" and code(case.stock) == 489 and code(case.ours) not in (400, 489)


CONTROL = re.compile(r"<[^>]*[\x00-\x20\x7f]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def control(step, *names):
    """A control character where none may be, or white space inside a URI, in one of these headers, or in the URI."""
    written = [given(step).get(name) for name in names]
    return bool(CONTROL.search(" ".join(map(str, written))) or CONTROL.search(step.get("ruri") or ""))


def header(name, header):
    """A header of replies or NOTIFYs."""
    return (
        lambda case: case.kind in ("reply header", "NOTIFY header")
        and case.what.endswith(" " + header)
        and name in case.what
    )


def expired(case):
    """A subscription of a few seconds has been granted before."""
    return any(step["do"] in ("subscribe", "refresh") and step.get("expires") in (1, 2) for step in case.so_far)


# The version of a document, not that of XML.
VERSION = re.compile(r'version="(\d+)" state=')


def raised_at_starts(case, found=None):
    """The number is ahead of stock's by a thousand for a start before, at most; `found`: where it is in two texts."""
    starts = sum(step["do"] == "restart" for step in case.so_far)
    numbers = [str(number) for number in (case.stock, case.ours)]
    if found:
        same = all(found) and VERSION.sub("", case.stock) == VERSION.sub("", case.ours)
        numbers = [one[1] for one in found] if same else ["none"]
    if not all(number.isdigit() for number in numbers):
        return False
    ahead = int(numbers[1]) - int(numbers[0])
    return ahead > 0 and ahead % 1000 == 0 and ahead <= 1000 * starts


def refreshes(case):
    """So often the documents of this resource have been sent again without a change."""
    words = ["presence.refreshWatchers", "sip:%s@example.org" % case.subject[0], case.subject[1], 1]
    return sum(step.get("words") == words for step in case.so_far)


def is_ahead(case, most, version):
    """Both show the same, and ours has a version that is greater by so much at most."""
    found = [version.search(text) for text in (case.stock, case.ours)]
    if not all(found) or version.sub("", case.stock) != version.sub("", case.ours):
        return False
    return 0 < int(found[1][1]) - int(found[0][1]) <= most


def host_at_its_end(case):
    """The host's TCP processes lose each other while the server stops."""
    lines = case.ours.splitlines() if case.kind == "errors" else []
    return bool(lines) and all("core/pass_fd.c" in line or "core/tcp_main.c" in line for line in lines)


# Packages that show one document.
ALONE = ("message-summary", "reg", "ua-profile", "xcap-diff")
# Packages whose documents show calls.
CALLS = ("dialog", "dialog;sla")
SEEN_KINDS = ("NOTIFY header", "NOTIFY body", "notifies")


def publishes(case, event, **wanted):
    """The step is a PUBLISH of this event, and its fields are these."""
    return (
        case.step["do"] == "publish"
        and case.step["event"] == event
        and all(case.step.get(k) in v for k, v in wanted.items())
    )


def has_been(case, event, **wanted):
    """A PUBLISH of this event with these fields has been among the steps so far."""
    return any(
        step["do"] == "publish" and step["event"] == event and all(step.get(k) in v for k, v in wanted.items())
        for step in case.so_far
    )


def shows_less(case):
    """Ours shows some of the documents that stock shows, or none."""
    stock, ours = [set(re.findall(r"mark\d+x", str(text))) for text in (case.stock, case.ours)]
    return ours < stock


def not_timed_out(notifies):
    """The NOTIFYs of a step but those that say that a subscription has run out."""
    return [one for one in notifies if one[0] != "terminated;reason=timeout"]


def has_been_killed(case):
    """The servers have been killed in one of the steps so far."""
    return any(step["do"] == "restart" and step["how"] == "kill" for step in case.so_far)


def has_been_restarted(case):
    """The servers have been stopped and started in one of the steps so far."""
    return any(step["do"] == "restart" for step in case.so_far)


def has_blocked(case):
    """Rules that block somebody have been among the steps so far."""
    return any(step["do"] == "rules" and "block" in step["watchers"].values() for step in case.so_far)


def has_subscribed(case, event):
    """A SUBSCRIBE to this event has been among the steps so far."""
    return any(step["do"] == "subscribe" and step["event"] == event for step in case.so_far)


def begins_again(case):
    """A publication of this resource has begun while the one before it, with the same ids, was there."""
    first = [step["slot"] for step in case.so_far if is_about(case, step) and step["op"] == "initial"]
    return len(set(first)) < len(first)


def is_about(case, step):
    """The step is a PUBLISH of the resource that a case is about."""
    return step["do"] == "publish" and case.subject == (named_user(step), step["event"])


def is_over_at_once(case):
    """A first PUBLISH of this resource has been over at once."""
    return any(is_about(case, step) and step["op"] == "initial" and str(step["expires"]) == "0" for step in case.so_far)


def has_another_call(case):
    """A publication of this resource has shown the end of a call, and something else since."""
    ended = set()
    for step in case.so_far:
        if not is_about(case, step):
            continue
        slot = (step["who"], step["slot"])
        if slot in ended and step["op"] != "remove":
            return True
        if step.get("kind") == "closed" and step["op"] in ("initial", "modify"):
            ended.add(slot)
    return False


def is_refusing(case):
    """A table is away in this step."""
    away = set()
    for step in case.so_far:
        if step["do"] == "refuse":
            away ^= {step["table"]}
        if step["do"] == "restart":
            away = set()
    return bool(away)


def has_refused(case):
    """A table has been away."""
    return any(step["do"] == "refuse" for step in case.so_far)


def several(case):
    """More than one publication of an event has been made."""
    first = [step for step in case.so_far if step["do"] == "publish" and step["op"] == "initial"]
    return sum(step["event"] == event(case) for step in first) > 1


def event(case):
    return case.subject[1] if case.subject else case.step.get("event")


def from_of(step):
    """The From that a request is given; empty for the usual one."""
    return str(given(step).get("From", ""))


def long(case):
    """A string of the request is longer than its column."""
    step = case.step
    return (
        any(
            isinstance(step.get(name), int) and step[name] > limit
            for name, limit in (("contact", 90), ("call_id", 255), ("agent", 255), ("from_tag", 64))
        )
        or len(step.get("from") or "") > 64
        or len(step.get("event_more") or "") > 64
        or any(len(part) > 64 for part in re.split("[<>@:]", from_of(step)))
        or any(len(part) > 64 for part in re.split("[@:]", step.get("ruri") or ""))
    )


def long_before(case):
    """The same of this request or one before."""
    return any(long(Step(step)) for step in case.so_far)


class Step:
    """A step alone, as a case has it."""

    def __init__(self, step):
        self.step = step


def escaped(case):
    """A user written with escapes, in this step or before."""
    return any(
        step.get("shape") == "escaped"
        or "%" in (step.get("from") or "") + (step.get("ruri") or "") + from_of(step)
        for step in case.so_far
    )


def in_other_letters(case):
    """A URI was written in other letters, in this step or before."""
    return any(
        step.get("shape") == "case" or re.search("ALICE|EXAMPLE", step.get("ruri") or "")
        for step in case.so_far
    )


def differ_in_blanks(case):
    """Both show the same, but for the blanks between elements and the version."""
    plain = [re.sub(r'\s*version="\d+"|\s+', "", str(text)) for text in (case.stock, case.ours)]
    return plain[0] == plain[1]


def fields(case, *names):
    """A line of the script that differs in these fields alone."""
    if case.kind != "script" or ": " not in case.what:
        return False
    return set(case.what.split(": ", 1)[1].split(", ")) <= set(names)


REMOTE_CSEQ = re.compile(r"remote_cseq=\[\d*\]")
EXPIRES = re.compile(r"(expires=\[?)(\d+)")


def seconds_apart(stock, ours):
    """How far the intervals in two texts are apart where nothing else differs."""
    if EXPIRES.sub(r"\1", stock) != EXPIRES.sub(r"\1", ours):
        return SECONDS_APART + 1
    pairs = zip(EXPIRES.findall(stock), EXPIRES.findall(ours))
    return max([abs(int(one) - int(other)) for (_, one), (_, other) in pairs], default=0)


def named(case):
    """A first SUBSCRIBE whose From or To is more than sip:user@host, in this step or before."""
    return any(
        step.get("shape") in ("port", "user-phone", "sips", "escaped", "case")
        or any(name in step for name in ("from", "headers", "ruri"))
        for step in case.so_far
    )
