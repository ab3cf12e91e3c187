"""Draws the users of pua of a life, and the steps in which they publish."""

from hypothesis import strategies as st

from . import agents

USERS = (
    ("pua_usrloc", "pua_rpc"),
    ("pua_usrloc", "pua_reginfo"),
    ("pua_dialoginfo",),
    ("pua_rpc", "pua_json"),
    ("pua_reginfo", "pua_json"),
    ("pua_usrloc", "pua_dialoginfo", "pua_rpc"),
)
WHO = ("alice", "alice", "carol")


@st.composite
def some(draw, config):
    """A configuration with users of pua in it."""
    users = list(draw(st.sampled_from(USERS)))
    params = {}
    names = [(module, name) for module in ["pua"] + users for name in agents.PARAMS.get(module, {})]
    for module, name in draw(st.lists(st.sampled_from(names), max_size=2, unique=True)):
        params.setdefault(module, {})[name] = agents.PARAMS[module][name]
    calls = "pua_dialoginfo" in users
    return dict(
        config,
        agent=dict(users=users, params=params),
        packages=list(agents.PACKAGES),
        notifiers=0,
        # With several, stock's loses what it publishes at once on SQLite.
        workers=1,
        route=draw(st.sampled_from(("plain", "functions", "xavp"))),
        transport="udp" if calls else draw(st.sampled_from(("udp", "udp", "tcp"))),
    )


def kinds(config, calls):
    """The kinds of steps of a life with users of pua, more than once for what is drawn more often."""
    users = config["agent"]["users"]
    found = ["register"] * 4 if {"pua_usrloc", "pua_reginfo"} & set(users) else []
    found += ["command"] * (4 if "pua_rpc" in users else 0) + ["json"] * (4 if "pua_json" in users else 0)
    if "pua_dialoginfo" in users:
        found += ["call"] * 4 + ["hangup"] * (4 if calls else 0)
    return found


@st.composite
def step(draw, kind, calls):
    """A step of this kind; `calls`: the names of those that have been made."""
    who = draw(st.sampled_from(WHO))
    if kind == "register":
        expires = draw(st.sampled_from((3600, 600, 600, 60, 0, "*")))
        return dict(do=kind, who=who, expires=expires, line=draw(st.sampled_from((0, 0, 0, 1))))
    if kind == "call":
        calls.append("c%d" % len(calls))
        to = draw(st.sampled_from([user for user in ("alice", "bob", "carol") if user != who]))
        return dict(do=kind, call=calls[-1], who=who, to=to, answer=draw(st.sampled_from((200, 200, 486, None))))
    if kind == "hangup":
        return dict(do=kind, call=draw(st.sampled_from(calls)))
    if kind == "json":
        return dict(
            do=kind,
            who=who,
            event=draw(st.sampled_from(("dialog", "dialog", "presence", "message-summary"))),
            slot=draw(st.sampled_from(("k1", "k1", "k2"))),
            state=draw(st.sampled_from(("early", "confirmed", "terminated"))),
            expires=draw(st.sampled_from((3600, 3600, 60, 0))),
            kind="broken" if draw(st.integers(0, 9)) == 0 else "good",
        )
    name = draw(st.sampled_from(("pua.publish",) * 4 + ("pua.send_publish", "pua.subscribe", "pua.cleanup")))
    if name == "pua.cleanup":
        return dict(do=kind, name=name)
    made = dict(
        do=kind,
        name=name,
        who=who,
        event=draw(st.sampled_from(("presence", "presence", "dialog"))),
        expires=draw(st.sampled_from((3600, 600, 3600, 0))),
    )
    if name != "pua.subscribe":
        made.update(ident=draw(st.sampled_from(("i1", "i1", "i2"))), kind=draw(st.sampled_from(("open", "closed"))))
        odd = draw(st.integers(0, 7))
        if odd == 0:
            made["kind"] = "none"
        if odd == 1:
            made["extra"] = "X-One: 1\r\n"
    return made
