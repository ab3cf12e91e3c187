"""Draws lives with hypothesis."""
from hypothesis import strategies as st

from . import requests

USERS = ("alice", "bob", "carol", "dave")
EVENTS = ("presence", "dialog", "message-summary")
PACKAGES = {"presence": "presence_xml", "dialog": "presence_dialoginfo", "message-summary": "presence_mwi"}
CODES = (200, 202, 302, 400, 403, 404, 408, 481, 489, 500, 503, 603, None)

PARAMS = {
    "expires_offset": (0, 3), "max_expires": (3600, 600), "min_expires": (0, 60), "min_expires_action": (1, 2),
    "send_fast_notify": (1, 0), "timeout_rm_subs": (1, 0), "retrieve_order": (0, 1), "sip_uri_match": (0, 1), "pres_subs_mode": (1, 0),
    "delete_same_subs": (0, 1), "subs_respond_200": (1, 0), "force_delete": (0, 1), "cseq_offset": (0, 5), "timer_mode": (1, 0),
    "startup_mode": (1, 0), "subs_remove_match": (0, 1), "enable_sphere_check": (0, 1), "fetch_rows": (500, 1),
    "subs_htable_size": (9, 2), "pres_htable_size": (9, 2), "db_table_lock_type": (1, 0),
}


@st.composite
def configs(draw, mode=None):
    mode = draw(st.sampled_from((0, 1, 2, 3))) if mode is None else mode
    cache = draw(st.sampled_from((1, 0, 2) if mode != 3 else (0, 1)))
    packages = draw(st.sampled_from((("presence_xml", "presence_dialoginfo", "presence_mwi"), ("presence_xml",),
                                     ("presence_xml", "presence_dialoginfo"), ("presence_mwi", "presence_xml"))))
    names = draw(st.lists(st.sampled_from(sorted(PARAMS)), max_size=3, unique=True))
    params = {name: draw(st.sampled_from(PARAMS[name][1:])) for name in names}
    if draw(st.integers(0, 3)) == 0:
        params.update(clean_period=1, db_update_period=1)
    return dict(mode=mode, cache=cache, notifiers=1 if mode == 3 and draw(st.integers(0, 5)) == 0 else 0, packages=list(packages),
                rules=draw(st.booleans()), params=params, route=draw(st.sampled_from(("plain", "seen"))), workers=1,
                transport=draw(st.sampled_from(("udp", "udp", "tcp"))))


def _expires(brief):
    common = (3600, 3600, 600, 3600, None)
    return st.sampled_from(common + (2, 1) if brief else common + (0, 30, 7200, 4294967295, 100000000000, "nonsense"))


@st.composite
def subscribe(draw, config):
    step = dict(do="subscribe", who=draw(st.sampled_from(USERS[1:])), to=draw(st.sampled_from(("alice", "alice", "alice", "carol"))),
                dialog="d%d" % draw(st.integers(0, 3)), event=draw(_event(config)), expires=draw(_expires(_brief(config))))
    step["dialog"] += step["who"][0] + step["to"][0] + step["event"][:1]
    if draw(st.integers(0, 2)) == 0:
        step["shape"] = draw(st.sampled_from(requests.SHAPES))
    odd = draw(st.integers(0, 24))
    if odd == 0:
        step["event_more"] = draw(st.sampled_from((";id=7", ";id=x9", ";x=y")))
    elif odd == 1:
        step["agent"] = draw(st.sampled_from((10, 254, 255, 256, 700)))
    elif odd == 2:
        step["accept"] = draw(st.sampled_from(("application/pidf+xml", "application/dialog-info+xml", "text/plain",
                                               "application/pidf+xml, application/watcherinfo+xml")))
    elif odd == 3:
        step["contact"] = draw(st.sampled_from((100, 230, 400, "none")))
    return step


def _brief(config):
    return config["params"].get("clean_period") == 1


def _event(config, winfo=True):
    events = [event for event, package in PACKAGES.items() if package in config["packages"]]
    if winfo:
        events = events * 3 + ["presence.winfo"] * ("presence_xml" in config["packages"]) + ["foo"]
    return st.sampled_from(events)


@st.composite
def refresh(draw, config):
    dialog = draw(subscribe(config))
    step = dict(do="refresh", dialog=dialog["dialog"], expires=draw(st.one_of(st.just(0), _expires(_brief(config)))))
    odd = draw(st.integers(0, 14))
    if odd == 0:
        step["cseq_step"] = draw(st.sampled_from((0, -1, 5)))
    elif odd == 1:
        step["tag"] = "wrong"
    elif odd == 2:
        step["shape"] = draw(st.sampled_from(requests.SHAPES))
    return step


@st.composite
def publish(draw, config):
    event = draw(_event(config, winfo=False))
    op = draw(st.sampled_from(("initial", "modify", "modify", "refresh", "remove", "initial", "modify")))
    kinds = ("open", "open", "open", "closed", "closed", "utf8", "early") + (("broken",) if draw(st.integers(0, 9)) == 0 else ())
    step = dict(do="publish", who=draw(st.sampled_from(("alice", "alice", "carol"))), slot=draw(st.sampled_from(("s1", "s2"))), op=op,
                event=event, expires=draw(_expires(_brief(config))), kind=draw(st.sampled_from(kinds)))
    if draw(st.integers(0, 30)) == 0:
        step.update(op="foreign", etag=draw(st.sampled_from(("a.1.2.3.4", "nonsense"))))
    return step


def answers():
    return st.fixed_dictionaries(dict(do=st.just("answers"), who=st.sampled_from(USERS[1:]), code=st.sampled_from((200, 200) + CODES),
                                      delay=st.sampled_from((0.0, 0.0, 0.2)),
                                      headers=st.sampled_from(([], [], ["Retry-After: 10"], ["Contact: <sip:elsewhere@127.0.0.1:9>"]))))


def rpc():
    alice = "sip:alice@example.org"
    return st.sampled_from((["presence.cleanup"], ["presence.refreshWatchers", alice, "presence", 0],
                            ["presence.refreshWatchers", alice, "presence", 1], ["presence.refreshWatchers", alice, "dialog", 1],
                            ["presence.updateWatchers", alice, "presence"], ["presence.refreshWatchers", alice, "foo", 0],
                            )).map(lambda words: dict(do="rpc", words=words))


def rules():
    actions = st.sampled_from(("allow", "block", "polite-block", "confirm"))
    return st.fixed_dictionaries(dict(do=st.just("rules"), who=st.sampled_from(("alice", "alice", "carol")),
                                      watchers=st.dictionaries(st.sampled_from(USERS), actions, max_size=4)))


def wait():
    return st.just(dict(do="wait", seconds=3.2))


def restart():
    return st.fixed_dictionaries(dict(do=st.just("restart"), how=st.sampled_from(("term", "term", "kill"))))


@st.composite
def lives(draw, mode=None, length=12):
    """A configuration and a sequence of steps."""
    config = draw(configs(mode))
    # What is drawn more often stands more often.
    kinds = [subscribe(config)] * 5 + [refresh(config)] * 4 + [publish(config)] * 6 + [answers(), rpc(), restart()]
    if config["rules"]:
        kinds += [rules()] * 3
    if _brief(config):
        kinds += [wait()]
    steps = draw(st.lists(st.one_of(kinds), min_size=3, max_size=length))
    return dict(config=config, steps=steps)
