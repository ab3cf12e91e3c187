"""Each odd value once, in a short life: what chance draws seldom, a sweep draws surely."""

from . import odd

PACKAGES = ("presence_xml", "presence_dialoginfo", "presence_mwi")
SLOT = dict(do="publish", who="alice", slot="s1", event="presence", expires=3600)


def _config(mode, rules=False):
    return dict(
        mode=mode, cache=1, notifiers=0, packages=list(PACKAGES), rules=rules, sla=False, params={}, ours={}, workers=1,
        route="seen", transport="udp",
    )


def _subscribe(mode, **more):
    """A subscription with something odd, beside a plain one, changes, a refresh, and a start."""
    first = dict(do="subscribe", who="bob", to="alice", dialog="d0", event="presence", expires=3600)
    again = dict(do="refresh", dialog="d0", expires=3600)
    change = dict(SLOT, op="modify", kind="open")
    steps = [
        dict(SLOT, op="initial", kind="open"), dict(first, who="carol", dialog="plain"), dict(first, **more), change,
        again, dict(do="restart", how="term"), dict(change, kind="closed"), dict(again, expires=0),
    ]
    return dict(config=_config(mode), steps=steps)


def _refresh(mode, **more):
    life = _subscribe(mode)
    at = [step["do"] for step in life["steps"]].index("refresh")
    life["steps"][at] = dict(life["steps"][at], **more)
    return life


def _publish(mode, op, **more):
    first = dict(SLOT, op="initial", kind="open")
    steps = [
        dict(do="subscribe", who="bob", to="alice", dialog="d0", event="presence", expires=3600),
        dict(first, **more) if op == "initial" else first, dict(SLOT, op="modify", kind="open"),
        dict(SLOT, op="refresh"), dict(do="restart", how="term"), dict(SLOT, op="remove"),
    ]
    if op != "initial":
        at = [step.get("op") for step in steps].index(op)
        steps[at] = dict(steps[at], **more)
    return dict(config=_config(mode), steps=steps)


def _rules(mode, kind, action):
    plain = dict(do="rules", who="alice", watchers={"bob": action, "carol": "allow"})
    steps = _subscribe(mode)["steps"]
    steps = [dict(plain, watchers={"bob": "allow"})] + steps[:4] + [dict(plain, kind=kind)] + steps[3:]
    return dict(config=_config(mode, rules=True), steps=steps)


def lives(mode, outside=True):
    """All of them, one after the other."""
    for contact in odd.CONTACTS:
        yield _subscribe(mode, headers={"Contact": contact})
        yield _refresh(mode, headers={"Contact": contact})
    for value in odd.FROMS:
        yield _subscribe(mode, headers={"From": value})
    for uri in odd.URIS:
        yield _subscribe(mode, ruri=uri, headers={"To": "<%s>" % uri})
        yield _publish(mode, "initial", ruri=uri)
    for accept in odd.ACCEPTS:
        yield _subscribe(mode, accept=accept)
    for headers in odd.MORE:
        yield _subscribe(mode, headers=headers)
        yield _refresh(mode, headers=headers)
    for expires in odd.EXPIRES:
        yield _subscribe(mode, expires=expires)
        yield _refresh(mode, expires=expires)
        yield _publish(mode, "initial", expires=expires)
    for headers in odd.PUBLISHED:
        for op in ("initial", "modify", "refresh"):
            yield _publish(mode, op, headers=headers)
    for kind in odd.KINDS:
        yield _publish(mode, "modify", kind=kind)
    for ctype in odd.CONTENT_TYPES:
        yield _publish(mode, "modify", ctype=ctype)
    for again in odd.AGAIN:
        yield _subscribe(mode, twice=again)
        yield _refresh(mode, twice=again)
        for op in ("initial", "modify", "refresh", "remove"):
            yield _publish(mode, op, twice=again)
    for kind in odd.RULES if outside else ():
        for action in ("allow", "block", "confirm"):
            yield _rules(mode, kind, action)
