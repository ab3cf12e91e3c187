"""What must be true of our side whatever stock does."""

from .config import PASSWORD
from .promises import Promises


def broken(life, ours, finding, counts):
    """The invariants that do not hold, as findings."""
    found = []
    if ours.dead:
        where = max([s.number for s in ours.steps if not s.skipped], default=0)
        found.append(
            finding("invariant", where, "the server lives", "", "%s\n%s" % (ours.dead[:900], ours.log()[-900:]))
        )
        return found
    note = lambda number, text: found.append(finding("invariant", number, text))
    _end(life, ours, note)
    _dialogs(ours, note)
    _notified(life, ours, note)
    Promises(life, ours, note).check()
    return found


def _end(life, ours, note):
    end = len(ours.steps)
    if ours.stop_seconds > 5:
        note(end, "stops within seconds")
    if any(seen.step["do"] == "restart" and seen.took > 12 for seen in ours.steps):
        note(end, "starts again within seconds")
    if ours.stop_code not in (0, None):
        note(end, "ends in order: exit code %s" % ours.stop_code)
    log = ours.log()
    if PASSWORD in log:
        note(end, "no password in the log")
    for word in ("panicked", "core was generated", "BUG:"):
        if word in log:
            note(end, "no %s in the log" % word)
    touched = any(seen.step["do"] in ("row", "refuse") for seen in ours.steps)
    if life["config"]["mode"] in (1, 2, 3) and not touched:
        rows = {row["callid"] for row in ours.last_rows.get("active_watchers", [])}
        refused = _refused(ours)
        for dialog in ours.living:
            if dialog.call_id not in rows and dialog.who not in refused and not _is_replaced(life, ours, dialog):
                note(end, "the row of a living dialog is there after an orderly stop")


def _is_replaced(life, ours, dialog):
    """delete_same_subs: the last dialog of a watcher takes the place of those before."""
    name = lambda one: (one.who, one.to, one.event)
    same = [one for one in ours.dialogs.values() if name(one) == name(dialog)]
    return bool(life["config"]["params"].get("delete_same_subs")) and len(same) > 1


def _refused(ours):
    """Watchers who have answered a NOTIFY with something that ends a subscription, or not at all."""
    answers = [seen.step for seen in ours.steps if seen.step["do"] == "answers"]
    return {step["who"] for step in answers if step["code"] not in (200, 202)}


def _leads_nowhere(step):
    """The Contact is not that of the phone."""
    contact = step.get("headers", {}).get("Contact")
    return contact is not None and "{at}" not in str(contact)


def _lost_its_way(life, ours, seen):
    """The route set of the dialog leads over a connection that a start has closed."""
    routed = lambda step: step.get("shape") == "record-route" or "Record-Route" in step.get("headers", {})
    steps = [step for step in life["steps"][: seen.number + 1] if step.get("dialog") == seen.step["dialog"]]
    closed = life["config"]["transport"] != "udp" and ours.restarted_before(seen.number)
    return closed and any(routed(step) for step in steps)


def _dialogs(ours, note):
    """CSeq rises by one; the version of dialog-info rises."""
    last, versions = {}, {}
    steps = [seen.step for seen in ours.steps]
    for seen in ours.steps:
        killed = seen.step["do"] == "restart"
        if seen.step.get("again") and ours.restarted_before(seen.number):
            # A dialog that a start has forgotten is made anew by the copy, with the tag that the host makes of it.
            again = ours.dialogs.get(seen.step["dialog"])
            last = {end: number for end, number in last.items() if end[0] is not again}
            versions = {end: number for end, number in versions.items() if end[0] is not again}
        for dialog, message in seen.raw:
            if dialog is None:
                continue
            # A first SUBSCRIBE that came again may have made another dialog, with a tag of ours of its own.
            end = (dialog, message.get("From").partition("tag=")[2])
            if end in last and message.cseq <= last[end]:
                note(seen.number, "CSeq rises")
            elif (
                end in last
                and message.cseq != last[end] + 1
                and not killed
                # A NOTIFY that finds no way has had its number all the same.
                and not any(_leads_nowhere(step) for step in steps if step.get("dialog") == dialog.key)
                and not ours.restarted_before(seen.number)
            ):
                note(seen.number, "CSeq rises by one")
            last[end] = message.cseq
            # The documents of a shared line are shown as they were published.
            if b"<dialog-info" in message.body and dialog.event == "dialog":
                version = (
                    int(message.text.split('version="', 2)[-1].split('"')[0]) if 'version="' in message.text else 0
                )
                if version <= versions.get(end, -1):
                    note(seen.number, "the version of dialog-info rises")
                versions[end] = version


def _runs_out(ours, seen):
    """A publication has been made for so short a time that it may run out in this step."""
    return any(
        before.step["do"] == "publish" and before.step.get("expires") in (1, 2) for before in ours.steps[: seen.number]
    )


def _notified(life, ours, note):
    """Each 2xx SUBSCRIBE is followed by one NOTIFY."""
    if life["config"]["params"].get("send_fast_notify") == 0:
        return
    for seen in ours.steps:
        if seen.step["do"] not in ("subscribe", "refresh") or not seen.reply or not seen.reply[0].startswith("2"):
            continue
        key = seen.step["dialog"]
        if _leads_nowhere(seen.step) or _lost_its_way(life, ours, seen):
            continue
        dialog = ours.dialogs.get(key)
        if dialog and dialog.over and seen.notifies.get(key) == [] or seen.step.get("again"):
            continue
        count = len(seen.notifies.get(key, []))
        if count == 2 and (seen.step.get("expires") in (1, 2) or _runs_out(ours, seen)):
            # It, or a document that it shows, has run out while the step was looked at.
            continue
        if count != 1:
            note(seen.number, "each 2xx SUBSCRIBE is followed by one NOTIFY, not %d" % count)
