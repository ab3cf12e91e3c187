"""Draws lives with hypothesis."""

from hypothesis import strategies as st

from . import generate_agents, requests
from . import odd as odd_values

USERS = ("alice", "bob", "carol", "dave")
EVENTS = ("presence", "dialog", "message-summary")
PACKAGES = {
    "presence": "presence_xml",
    "dialog": "presence_dialoginfo",
    "message-summary": "presence_mwi",
    "reg": "presence_reginfo",
    "conference": "presence_conference",
    "ua-profile": "presence_profile",
    "xcap-diff": "presence_xml",
}
CODES = (200, 202, 302, 400, 403, 404, 408, 481, 489, 500, 503, 603, None)

PARAMS = {
    "expires_offset": (0, 3),
    "max_expires": (3600, 600),
    "min_expires": (0, 60),
    "min_expires_action": (1, 2),
    "send_fast_notify": (1, 0),
    "timeout_rm_subs": (1, 0),
    "retrieve_order": (0, 1),
    "retrieve_order_by": ("priority", "priority, received_time", "received_time desc"),
    "sip_uri_match": (0, 1),
    "pres_subs_mode": (1, 0),
    "delete_same_subs": (0, 1),
    "subs_respond_200": (1, 0),
    "force_delete": (0, 1),
    "cseq_offset": (0, 5),
    "timer_mode": (1, 0),
    "startup_mode": (1, 0),
    "subs_remove_match": (0, 1),
    "enable_sphere_check": (0, 1),
    "fetch_rows": (500, 1),
    "server_address": (None, "sip:presence@example.org:5060", "sip:presence@example.org:5060;transport=tcp"),
    "subs_htable_size": (9, 2),
    "pres_htable_size": (9, 2),
    "db_table_lock_type": (1, 0),
}

# Parameters that stock does not have and that must not change what is seen.
OURS = {
    "sender_processes": (0, 2),
    "watchers_cache": (0, 5),
    "share_watcher_bodies": (0,),
    "publ_update_period": (1,),
    "notify_engine": ("tm", "direct"),
    "notify_slots": (0, 1),
    "notify_early_answers": (0,),
    "history_size": (0, 1),
    "predict_bodies": (0,),
    "omit_xml_check": (0,),
    "sqlite_direct": (0,),
    "print_statements": (0,),
    "watchers_write_behind": (0,),
    "share_commits": (0,),
    "seed_memory": (0,),
    "shm_slab": (0,),
}

# Parameters of the packages' modules: what they call of the module's API depends on them.
COMPANIONS = {
    "presence_xml": (
        "disable_presence",
        "disable_winfo",
        "disable_xcapdiff",
        "passive_mode",
        "force_dummy_presence",
        "force_presence_single_body",
    ),
    "presence_dialoginfo": ("force_single_dialog", "force_dummy_dialog"),
}


# What a life may have beside a presence server.
PARTS = {"agent": generate_agents.some, "xcap": lambda config: st.just(_with_xcap(config))}
PARTS["pair"] = lambda config: st.just(_pair(config))
PARTS["ip6"] = lambda config: st.just(_with_ip6(config))


def _with_ip6(config):
    """Phones that are reached over IPv6."""
    return dict(config, ip6=True, transport=config["transport"] if config["transport"] in ("udp", "tcp") else "udp")


def _pair(config):
    """Two servers, with the phones at either; what a start brings back from the other is no matter of stock's."""
    route = config["route"] if config["route"] in ("plain", "seen", "xavp", "functions") else "seen"
    return dict(config, pair=True, transport="udp", notifiers=0, route=route)


def _with_xcap(config):
    """Rules come over HTTP, where nothing else is asked for there."""
    if not config["rules"] or config["transport"] not in ("udp", "tcp"):
        return config
    return dict(config, xcap=True)


@st.composite
def configs(draw, mode=None, outside=True, part=None):
    mode = draw(st.sampled_from((0, 1, 2, 3))) if mode is None else mode
    cache = draw(st.sampled_from((1, 0, 2) if mode != 3 else (0, 1)))
    packages = draw(
        st.sampled_from(
            (
                ("presence_xml", "presence_dialoginfo", "presence_mwi"),
                ("presence_xml",),
                ("presence_xml", "presence_dialoginfo"),
                ("presence_mwi", "presence_xml"),
                ("presence_xml", "presence_dialoginfo", "presence_reginfo", "presence_conference"),
                ("presence_profile", "presence_reginfo", "presence_mwi"),
                ("presence_conference", "presence_dialoginfo"),
            )
        )
    )
    names = draw(st.lists(st.sampled_from(sorted(PARAMS)), max_size=3, unique=True))
    params = {name: draw(st.sampled_from(PARAMS[name][1:])) for name in names}
    ours = draw(_ours())
    if cache != 1 or params.get("retrieve_order"):
        ours.pop("publ_update_period", None)
    if draw(st.integers(0, 3)) == 0:
        params.update(clean_period=1, db_update_period=1)
    config = dict(
        mode=mode,
        cache=cache,
        notifiers=1 if mode == 3 and draw(st.integers(0, 11)) == 0 else 0,
        packages=list(packages),
        rules=outside and "presence_xml" in packages and draw(st.booleans()),
        sla="presence_xml" in packages and draw(st.integers(0, 2)) == 0,
        params=params,
        companions=draw(_companions(packages)),
        ours=ours,
        workers=draw(st.sampled_from((1, 1, 2))),
        route=draw(st.sampled_from(("plain", "seen", "seen", "xavp", "lua", "lua-events", "functions"))),
        transport=draw(st.sampled_from(("udp", "udp", "udp", "udp", "tcp", "tcp", "tls", "ws", "wss"))),
    )
    part = part or draw(st.sampled_from(("plain",) * 9 + ("agent",) * 2 + ("xcap",) * 2 + ("pair", "ip6")))
    return draw(PARTS[part](config)) if part in PARTS else config


@st.composite
def _ours(draw):
    names = draw(st.lists(st.sampled_from(sorted(OURS)), max_size=3, unique=True))
    return {name: draw(st.sampled_from(OURS[name])) for name in names}


@st.composite
def _companions(draw, packages):
    """At most one switch of the modules that are loaded, in one life of four."""
    names = [(module, name) for module in packages for name in COMPANIONS.get(module, ())]
    if not names or draw(st.integers(0, 3)):
        return {}
    module, name = draw(st.sampled_from(names))
    return {module: {name: 1}}


def _expires(brief):
    common = (3600, 3600, 600, 3600, None)
    return st.sampled_from(common + (2, 1) if brief else common + (0, 30, 7200, 4294967295, 100000000000, "nonsense"))


@st.composite
def subscribe(draw, config):
    step = dict(
        do="subscribe",
        who=draw(st.sampled_from(USERS[1:])),
        to=draw(st.sampled_from(("alice", "alice", "alice", "carol"))),
        dialog="d0",
        event=draw(_event(config)),
        expires=draw(_expires(_brief(config))),
    )
    if draw(st.integers(0, 2)) == 0:
        step["shape"] = draw(st.sampled_from(requests.SHAPES))
    odd = draw(st.integers(0, 30))
    if odd == 0:
        step["event_more"] = draw(
            st.sampled_from(
                (
                    ";id=7",
                    ";id=x9",
                    ";x=y",
                    ";id=" + "i" * 64,
                    ";id=" + "i" * 65,
                    ';id="q"',
                    ";id=\u00fc",
                    ";id=\udcff",
                    ";ID=7",
                    " ;id = 7",
                    ";id",
                    ";id=",
                )
            )
        )
    elif odd == 1:
        step["agent"] = draw(st.sampled_from((10, 254, 255, 256, 700, "Tele\u00fc", "\udcff\udcfe phone", "a\tb")))
    elif odd == 2:
        step["accept"] = draw(
            st.sampled_from(
                (
                    "application/pidf+xml",
                    "application/dialog-info+xml",
                    "text/plain",
                    "application/pidf+xml, application/watcherinfo+xml",
                )
            )
        )
    elif odd == 3:
        step["contact"] = draw(st.sampled_from((100, 230, 400, "none")))
    elif odd == 4:
        step["call_id"] = draw(st.sampled_from((100, 255, 256, 300)))
    elif odd == 5:
        step["again"] = draw(st.sampled_from((True, "copy")))
    elif odd == 7 and config["transport"] == "udp":
        step["headers"] = {"Contact": draw(st.sampled_from(odd_values.CONTACTS))}
    elif odd == 8:
        step["headers"] = {"From": draw(st.sampled_from(odd_values.FROMS))}
    elif odd == 9:
        step["ruri"] = draw(st.sampled_from(odd_values.URIS))
        step["headers"] = {"To": "<%s>" % step["ruri"]}
    elif odd == 10:
        step["accept"] = draw(st.sampled_from(odd_values.ACCEPTS))
    elif odd == 11:
        step["headers"] = draw(st.sampled_from(odd_values.MORE))
    elif odd == 12:
        step["expires"] = draw(st.sampled_from(odd_values.EXPIRES))
    elif odd == 13:
        step["from_tag"] = draw(st.sampled_from((60, 64, 65, 255, "a\x01b", "t\u00fc")))
    elif odd == 14:
        step["twice"] = draw(st.sampled_from(odd_values.AGAIN))
    elif odd == 6:
        step["from"] = draw(st.sampled_from(("erin", "x" * 64, "x" * 65, "o'hara", "a%20b", "fr\u00fchling")))
    return step


def _brief(config):
    return config["params"].get("clean_period") == 1


def _event(config, winfo=True):
    events = [event for event, package in PACKAGES.items() if package in config["packages"]]
    events += ["dialog;sla"] * config["sla"]
    if winfo:
        events = events * 3 + ["presence.winfo"] * 2 * ("presence_xml" in config["packages"]) + ["foo"]
    return st.sampled_from(events)


@st.composite
def refresh(draw, config):
    dialog = draw(subscribe(config))
    step = dict(do="refresh", dialog=dialog["dialog"], expires=draw(st.one_of(st.just(0), _expires(_brief(config)))))
    odd = draw(st.integers(0, 15))
    if odd == 0:
        step["cseq_step"] = draw(st.sampled_from((0, -1, 5)))
    elif odd == 1:
        step["tag"] = "wrong"
    elif odd == 2:
        step["shape"] = draw(st.sampled_from(requests.SHAPES))
    elif odd == 3:
        step["event"] = draw(_event(config))
    elif odd == 4:
        step["event_more"] = draw(st.sampled_from((";id=7", ";id=x9", ";x=y")))
    elif odd == 5:
        step["expires"] = draw(st.sampled_from(odd_values.EXPIRES))
    elif odd == 6:
        step["contact"] = "none"
    elif odd == 7 and config["transport"] == "udp":
        step["headers"] = {"Contact": draw(st.sampled_from(odd_values.CONTACTS))}
    elif odd == 8:
        step["cseq_step"] = draw(st.sampled_from((2**30, 2**31 - 10, 2**31)))
    elif odd == 9:
        step["twice"] = draw(st.sampled_from(odd_values.AGAIN))
    elif odd == 10:
        step["headers"] = draw(st.sampled_from(odd_values.MORE))
    return step


@st.composite
def publish(draw, config):
    event = draw(_event(config, winfo=False))
    op = draw(st.sampled_from(("initial", "modify", "modify", "refresh", "remove", "initial", "modify")))
    kinds = ("open", "open", "open", "closed", "closed", "utf8", "early") + (
        ("broken",) if draw(st.integers(0, 9)) == 0 else ()
    )
    step = dict(
        do="publish",
        who=draw(st.sampled_from(("alice", "alice", "carol"))),
        slot=draw(st.sampled_from(("s1", "s2"))),
        op=op,
        event=event,
        expires=draw(_expires(_brief(config))),
        kind=draw(st.sampled_from(kinds)),
    )
    odd = draw(st.integers(0, 30))
    if odd == 1:
        step["kind"] = draw(st.sampled_from(("latin", "newline", "large", "nul")))
    elif odd == 2:
        step["ctype"] = draw(st.sampled_from(odd_values.CONTENT_TYPES))
    elif odd == 3:
        step["shape"] = draw(st.sampled_from(("port", "user-phone", "escaped", "case")))
    elif odd == 4:
        step["event_more"] = draw(st.sampled_from((";id=7", ";x=y")))
    elif odd == 5:
        step["contact"] = True
    elif odd in (6, 7) and config["route"] in ("functions", "lua", "lua-events"):
        step["headers"] = {"Subject": draw(st.sampled_from(("again", "rules", "again rules")))}
    elif odd == 8:
        step["ruri"] = draw(st.sampled_from(odd_values.URIS))
    elif odd == 9:
        step["expires"] = draw(st.sampled_from(odd_values.EXPIRES))
    elif odd == 10:
        step["headers"] = draw(st.sampled_from(odd_values.PUBLISHED))
    elif odd in (11, 12):
        step["kind"] = draw(st.sampled_from(odd_values.KINDS))
    elif odd == 13:
        # The entity tag of a publication of another event.
        if op in ("modify", "refresh", "remove"):
            step["as_event"] = draw(_event(config, winfo=False))
    elif odd == 14:
        step["body"] = True
    elif odd == 15:
        step["twice"] = draw(st.sampled_from(odd_values.AGAIN))
    elif odd == 0:
        step.update(op="foreign", etag=draw(st.sampled_from(("a.1.2.3.4", "nonsense"))))
    return step


def answers():
    return st.fixed_dictionaries(
        dict(
            do=st.just("answers"),
            who=st.sampled_from(USERS[1:]),
            code=st.sampled_from((200, 200) + CODES),
            delay=st.sampled_from((0.0, 0.0, 0.2)),
            headers=st.sampled_from(([], [], ["Retry-After: 10"], ["Contact: <sip:elsewhere@127.0.0.1:9>"])),
        )
    )


def rpc():
    alice = "sip:alice@example.org"
    return st.sampled_from(
        (
            ["presence.cleanup"],
            ["presence.refreshWatchers", alice, "presence", 0],
            ["presence.refreshWatchers", alice, "presence", 1],
            ["presence.refreshWatchers", alice, "dialog", 1],
            ["presence.updateWatchers", alice, "presence"],
            ["presence.refreshWatchers", alice, "foo", 0],
        )
    ).map(lambda words: dict(do="rpc", words=words))


@st.composite
def rules(draw):
    actions = st.sampled_from(("allow", "block", "polite-block", "confirm"))
    step = dict(
        do="rules",
        who=draw(st.sampled_from(("alice", "alice", "carol"))),
        watchers=draw(st.dictionaries(st.sampled_from(USERS), actions, max_size=4)),
    )
    if draw(st.integers(0, 7)) == 0:
        step["kind"] = draw(st.sampled_from(odd_values.RULES))
    return step


def hard_state():
    return st.fixed_dictionaries(
        dict(
            do=st.just("hard_state"),
            who=st.sampled_from(("alice", "alice", "carol")),
            file=st.sampled_from(("index", "index", "lunch")),
            kind=st.sampled_from(("open", "open", "closed", "utf8", "none")),
        )
    )


ROWS = (
    "delete from presentity",
    "delete from active_watchers",
    "delete from watchers",
    "update active_watchers set status=2",
    "update active_watchers set status=4, reason='deactivated'",
    "update watchers set status=3",
    "update active_watchers set expires=1",
    "update presentity set expires=1",
    "update active_watchers set updated=1",
)


def row():
    return st.sampled_from(ROWS).map(lambda sql: dict(do="row", sql=sql))


def refuse(config):
    tables = ("active_watchers", "presentity", "watchers") + ("xcap",) * config["rules"]
    return st.fixed_dictionaries(dict(do=st.just("refuse"), table=st.sampled_from(tables)))


def wait():
    return st.just(dict(do="wait", seconds=2.6))


def restart():
    return st.fixed_dictionaries(dict(do=st.just("restart"), how=st.sampled_from(("term", "term", "kill"))))


@st.composite
def _step(draw, config, dialogs, slots, touch, calls):
    """One step, which refers to dialogs, publications and calls that there are."""
    kinds = ["subscribe"] * 5 + ["publish"] * 6 + ["answers", "rpc"] + ["restart"] * (not config.get("pair"))
    kinds += ["refresh"] * (5 if dialogs else 0)
    kinds += (
        (["rules"] * 3 + ["hard_state"] if config["rules"] else [])
        + ["wait"] * (_brief(config) and bool(dialogs or slots))
        + (["row", "refuse"] if touch else [])
    )
    agent = generate_agents.kinds(config, calls) if config.get("agent") else []
    kind = draw(st.sampled_from(kinds + agent))
    if kind in agent:
        return draw(generate_agents.step(kind, calls))
    if kind == "subscribe":
        step = draw(subscribe(config))
        step["dialog"] = "d%d" % len(dialogs)
        if step.get("again"):
            step["dialog"] = draw(st.sampled_from(dialogs)) if dialogs else "d0"
        if step["dialog"] not in dialogs:
            dialogs.append(step["dialog"])
        return _somewhere(draw, config, step)
    if kind == "refresh":
        return dict(draw(refresh(config)), dialog=draw(st.sampled_from(dialogs)))
    if kind == "publish":
        step = draw(publish(config))
        if step["op"] in ("modify", "refresh", "remove"):
            if slots:
                who, slot, event = draw(st.sampled_from(slots))
                step.update(who=who, slot=slot, event=event)
            else:
                step["op"] = "initial"
                step.pop("as_event", None)
        if step["op"] == "initial":
            slots.append((step["who"], step["slot"], step["event"]))
        return _somewhere(draw, config, step)
    if kind == "refuse":
        return draw(refuse(config))
    others = (answers, rpc, restart, rules, hard_state, wait, row)
    return draw({make.__name__: make for make in others}[kind]())


def _somewhere(draw, config, step):
    """The step at one of two servers."""
    return dict(step, at=draw(st.sampled_from((0, 1)))) if config.get("pair") else step


@st.composite
def lives(draw, mode=None, length=12, outside=True, part=None):
    """A configuration and a sequence of steps; `outside`: whether rows can be changed while a server runs."""
    config = draw(configs(mode, outside, part))
    dialogs, slots, calls, touch = [], [], [], outside and draw(st.integers(0, 7)) == 0
    number = draw(st.integers(min(4, length), length))
    return dict(config=config, steps=[draw(_step(config, dialogs, slots, touch, calls)) for _ in range(number)])
