"""Lives in which each declared difference occurs: `shows` names those that a life is there for."""

ALL = (
    "presence_xml",
    "presence_dialoginfo",
    "presence_mwi",
    "presence_reginfo",
    "presence_conference",
    "presence_profile",
)

# What the clock or the host decides, and no sequence of steps brings about each time.
BY_CHANCE = (
    "seconds in lines of the script", "the moment of the end", "end of the host", "publications that a crash loses",
    # Mostly the server is found to be gone in the same step.
    "watcher information in memory",
)


def life(shows, steps, driver="sqlite", **config):
    plain = dict(
        mode=1, cache=1, notifiers=0, packages=list(ALL), rules=False, params={}, ours={}, workers=1, route="plain",
        transport="udp",
    )
    return dict(shows=shows, driver=driver, config=dict(plain, **config), steps=steps)


def sub(dialog, to, event="presence", expires=3600, who="bob", **more):
    return dict(do="subscribe", who=who, to=to, dialog=dialog, event=event, expires=expires, **more)


def again(dialog, expires=3600, **more):
    return dict(do="refresh", dialog=dialog, expires=expires, **more)


def pub(slot, op="initial", event="presence", kind="open", who="alice", expires=3600, **more):
    return dict(do="publish", who=who, slot=slot, op=op, event=event, expires=expires, kind=kind, **more)


def rules(who, **watchers):
    return dict(do="rules", who=who, watchers=watchers)


def restart(how="term"):
    return dict(do="restart", how=how)


LIVES = [
    life(
        [
            "event id", "event id that is no token", "parameters of Event", "another event id in the dialog",
            "another From in the dialog", "escapes that are not needed", "URIs of the dialog",
            "Expires beyond 2^32", "SUBSCRIBE without Contact", "Contact that is none",
            "users that tables do not hold", "User-Agent that no table holds",
            "CSeq in the row",
        ],
        [
            sub("id", "p1", event_more=";id=7"),
            sub("no-token", "p2", event_more=";id=\u00fc"),
            sub("parameter", "p3", event_more=";x=y"),
            sub("other-id", "p4"),
            again("other-id", event_more=";id=9"),
            sub("other-from", "p5"),
            again("other-from", headers={"From": "<sip:mallory@example.org>"}),
            sub("beyond", "p8", expires=100000000000),
            sub("no-contact", "p9", contact="none"),
            sub("star", "p10", headers={"Contact": "*"}),
            sub("agent", "p12", agent="\udcff\udcfe phone"),
            restart(),
            sub("port", "p13", shape="port"),
            again("port"),
            sub("no-user", "example.org", ruri="sip:example.org", headers={"To": "<sip:example.org>"}),
            sub("escaped", "p15", shape="escaped"),
        ],
    ),
    life(
        ["the same SUBSCRIBE again"],
        [sub("twice", "alice"), sub("twice", "alice", again="copy")],
    ),
    life(
        [
            "Expires that is no number, PUBLISH", "entity tag that cannot be ours", "body of another type",
            "body without a type", "415 says what is taken", "XML that cannot be read", "bytes behind the document",
            "initial PUBLISH that expires at once", "the end of a dialog, refreshed", "another order of refusals",
            "a package refuses a body",
        ],
        [
            pub("s1", op="foreign", etag="a.1.2.3.4", event="reg", ctype="", who="bob"),
            pub("s1", expires="nonsense"),
            pub("s1", op="foreign", etag="nonsense", event="reg"),
            pub("s1", ctype="text/plain", who="bob"),
            pub("s1", ctype="", who="carol"),
            pub("s1", kind="broken", who="dave"),
            pub("s1", kind="broken", event="dialog", who="bob"),
            pub("s1", kind="nul", event="conference"),
            pub("s1", kind="newline", event="message-summary", who="dave"),
            pub("s1", kind="broken", event="reg", who="carol"),
            sub("at-once", "carol", event="dialog"),
            pub("s1", event="dialog", who="carol", expires=0),
            pub("s2", event="dialog"),
            pub("s2", op="modify", kind="closed", event="dialog"),
            pub("s2", op="refresh", event="dialog"),
        ],
    ),
    life(
        ["a watcher that is no URI"],
        [sub("folded", "alice", headers={"From": '"Bob\r\n Smith" <sip:bob@example.org>'})],
        route="xavp",
    ),
    life(
        ["a document type before the dialogs"],
        [
            pub("s1", event="dialog"),
            sub("d", "alice", event="dialog"),
            pub("s1", event="dialog", kind="doctype"),
        ],
    ),
    life(
        ["the next call of a publication", "voicemail, refreshed", "voicemail, one of several is removed"],
        [
            sub("d", "alice", event="dialog"),
            pub("s1", event="dialog"),
            pub("s1", op="modify", kind="closed", event="dialog"),
            pub("s1", op="modify", event="dialog"),
            sub("m", "alice", event="message-summary"),
            pub("s1", event="message-summary"),
            pub("s1", op="refresh", event="message-summary"),
            sub("r", "carol", event="message-summary"),
            pub("s1", event="message-summary", who="carol"),
            pub("s2", event="message-summary", who="carol"),
            pub("s2", op="remove", event="message-summary", who="carol"),
        ],
    ),
    life(
        ["voicemail, several in memory", "refreshed in memory"],
        [
            pub("s1", event="message-summary"),
            pub("s2", event="message-summary"),
            sub("m", "alice", event="message-summary"),
            pub("s1", op="modify", event="message-summary"),
            sub("p", "carol"),
            pub("s1", who="carol"),
            pub("s1", op="refresh", who="carol"),
        ],
        mode=0, cache=2,
    ),
    life(
        ["versions of documents that are sent again"],
        [
            sub("d", "alice", event="dialog"), pub("s1", event="dialog"),
            dict(do="rpc", words=["presence.refreshWatchers", "sip:alice@example.org", "dialog", 1]),
            again("d"),
        ],
    ),
    life(
        ["changed rules of a watcher whose connection is gone"],
        [sub("p", "alice"), restart(), rules("alice", bob="block")],
        transport="ws", mode=2, rules=True,
    ),
    life(["strings that no column holds"], [sub("u", "alice", ruri="sip:\U0001f600@example.org")], driver="mysql"),
    life(
        ["parameters of Event"],
        [sub("l", "alice", event="dialog;sla"), pub("s1", event="dialog;sla")],
        sla=True, companions={"presence_xml": {"passive_mode": 1}},
    ),
    life(["one tuple id in memory"], [pub("s1"), sub("p", "alice"), pub("s1")], cache=2),
    life(
        ["PUBLISH below min_expires"],
        [pub("s1", expires=30)],
        params={"min_expires": 60, "min_expires_action": 2},
    ),
    life(["expires_offset above the interval"], [pub("s1", expires=2)], params={"expires_offset": 3}),
    life(
        ["send_fast_notify 0"],
        [
            pub("s1", event="dialog"), sub("d", "alice", event="dialog"), pub("s2", event="dialog"),
            sub("e", "carol", event="dialog"), again("e"), pub("s1", event="dialog", who="carol"),
        ],
        params={"send_fast_notify": 0},
    ),
    life(
        ["URIs in other letters"],
        [pub("s1"), sub("c", "ALICE")],
        params={"sip_uri_match": 1},
    ),
    life(
        ["watchers who wait, database-only"],
        [sub("p", "alice", expires=0), sub("w", "alice", event="presence.winfo", who="carol")],
        mode=3, rules=True,
    ),
    life(
        ["winfo of a watcher who is gone"],
        [dict(do="answers", who="carol", code=481), sub("w", "alice", event="presence.winfo"),
         sub("p", "alice", who="carol")],
    ),
    life(
        ["status without a rule"],
        [rules("alice", carol="allow"), sub("p", "alice", who="dave")],
        route="functions", mode=0, rules=True,
    ),
    life(
        ["winfo of changed rules", "hard state", "a watcher's URI in its list"],
        [
            sub("amp", "carol", headers={"From": "<sip:a&b@example.org>"}),
            sub("list-amp", "carol", event="presence.winfo", who="carol"),
            rules("alice", bob="allow"),
            sub("w", "alice", event="presence.winfo", who="carol"),
            sub("p", "alice"),
            rules("alice", bob="block"),
            rules("alice", bob="allow"),
            dict(do="hard_state", who="alice", file="index", kind="open"),
        ],
        rules=True,
    ),
    life(
        ["versions that count each NOTIFY", "remote CSeq in event routes"],
        [
            sub("d", "carol", event="dialog"),
            again("d"),
            rules("alice", bob="allow"),
            sub("p", "alice"),
            rules("alice", bob="polite-block"),
        ],
        mode=3, rules=True, route="seen",
    ),
    life(
        ["the end of a subscription, database-only"],
        [sub("brief", "dave", expires=1), dict(do="wait", seconds=4)],
        mode=3, params={"clean_period": 1, "db_update_period": 1},
    ),
    life(
        [
            "versions in documents after a start", "numbers in the row after a start",
            "numbers in event routes after a start",
        ],
        [
            pub("s1", event="dialog"),
            sub("d", "alice", event="dialog"),
            restart(),
            again("d"),
            restart(),
        ],
        mode=2, route="seen",
    ),
    life(
        ["branch flags over a restart"],
        [sub("p", "alice"), pub("s1"), restart(), again("p"), pub("s1", op="modify")],
        mode=2, route="seen",
    ),
    life(
        ["a database that refuses"],
        [pub("s1"), sub("p", "alice"), dict(do="refuse", table="presentity"), again("p"), pub("s1", op="modify")],
    ),
    life(
        ["a fetch of what cannot be read"],
        [sub("p", "alice"), dict(do="refuse", table="watchers"), sub("f", "alice", event="presence.winfo", expires=0)],
        rules=True,
    ),
    life(
        ["changes beside notifiers"],
        [rules("alice", bob="confirm"), sub("p", "alice"), pub("s1")],
        mode=3, cache=0, notifiers=1, rules=True,
    ),
    life(
        ["lines of the core about a Contact"],
        [sub("c", "alice", event="nothing", headers={"Contact": "<sip:{user}@{at}"})],
    ),
    life(["rows of watchers that a crash loses"], [sub("p", "alice"), restart("kill")], mode=2),
    life(
        ["a watcher of watchers whose connection is gone"],
        [sub("w", "alice", event="presence.winfo", who="carol"), restart(), sub("p", "alice")],
        transport="ws", mode=3,
    ),
    life(["the transport of a WebSocket"], [sub("p", "alice")], transport="ws",
         params={"server_address": "sip:presence@example.org:5060"}),
    life(
        [
            "User-Agent in the way", "strings that are written later",
        ],
        [sub("agent", "alice", agent="\udcff\udcfe phone"), {**sub("long", "carol"), "from": "x" * 65}],
        driver="postgres", mode=2,
    ),
    life(
        ["strings that no column holds", "lines of a driver that refuses"],
        [
            sub("call-id", "bob", call_id=300),
            sub("contact", "carol", contact=400),
            sub("id", "alice", event_more=";id=" + "i" * 65),
        ],
        driver="postgres",
    ),
    life(
        ["a refresh beside notifiers on PostgreSQL"],
        [sub("p", "alice"), again("p")],
        driver="postgres", mode=3, notifiers=1,
    ),
    life(
        ["watcher information beside notifiers"],
        [sub("w", "alice", event="presence.winfo", who="carol"), sub("p", "alice")],
        mode=3, notifiers=1,
    ),
    life(
        ["changed rules in write-back"],
        [rules("alice", carol="block"), sub("p", "alice", who="carol"), rules("alice", carol="confirm"), again("p")],
        mode=2, rules=True,
    ),
    life(
        ["watchers of others in the same slot"],
        [sub("m", "carol", event="message-summary"), pub("s1", who="carol")],
        mode=0, route="functions", params={"subs_htable_size": 2},
    ),
    life(["the Contact of a refresh"], [sub("p", "alice", shape="parameters"), again("p")], mode=2),
    life(
        [
            "URIs with control characters", "Record-Route that cannot be read", "a Record-Route of several lines",
            "the script after a From that cannot be read",
        ],
        [
            sub("from", "p4", headers={"From": '"a\0b" <sip:bob@example.org>'}),
            sub("folded", "p3", headers={"Record-Route": "<sip:{at};lr>\r\n\t;x=y"}),
            sub("unread", "p2", headers={"Record-Route": "<sip:{at};lr;x=\x01>"}),
            sub("contact", "p1", headers={"Contact": "<sip:{user}\x01@{at}>"}),
        ],
        route="seen",
    ),
    life(
        ["rules that cannot be read"],
        [rules("alice", bob="allow"), pub("s1"), sub("p", "alice"), dict(rules("alice", bob="allow"), kind="garbage"),
         again("p")],
        rules=True,
    ),
    life(
        ["rules that are gone"],
        [rules("alice", bob="allow"), pub("s1"), sub("p", "alice"), dict(rules("alice"), kind="gone"), again("p")],
        rules=True,
    ),
    life(
        ["documents that have run out"],
        [pub("s1", expires=1), pub("s2"), dict(do="wait", seconds=2.6), sub("p", "alice")],
        cache=0, params={"startup_mode": 0},
    ),
    life(["the line of a SUBSCRIBE"], [sub("l", "carol", event="dialog;sla", contact=80)], sla=True),
    life(
        ["the line of a SUBSCRIBE"],
        [sub("l", "carol", event="dialog;sla"), again("l", headers={"Contact": "<sip:other@{at}>"})],
        sla=True,
    ),
    life(
        ["letters that a database does not tell apart"],
        [pub("s1", event="reg", shape="case"), pub("s1", op="modify", event="reg")],
        driver="text", mode=0,
    ),
    life(
        ["entities", "ids that are not ASCII", "CSeq of 2^31", "another event in the dialog"],
        [
            pub("s1", event="dialog", kind="entities"),
            sub("tag", "alice", from_tag="t\u00fc"),
            sub("number", "carol"),
            again("number", cseq_step=2**31),
            sub("event", "p3"),
            again("event", event="dialog"),
        ],
    ),
    life(["a line, refreshed"], [pub("s1", event="dialog;sla"), pub("s1", op="refresh", event="dialog;sla")], sla=True),
    life(
        ["the table lock of MariaDB"],
        [sub("p", "alice"), pub("s1"), pub("s1", op="modify")],
        driver="mysql", notifiers=1,
    ),
    life(["empty fields of db_text"], [sub("p", "alice"), again("p")], driver="text", mode=2),
    life(
        [
            "records of pua that a stop loses", "JSON on SQLite", "the end of a publication that is not there",
        ],
        [
            sub("d", "alice", event="dialog"),
            dict(do="command", name="pua.publish", who="alice", event="presence", expires=0, ident="none"),
            dict(do="json", who="alice", event="dialog", slot="k1", state="confirmed", expires=3600, kind="good"),
            dict(do="register", who="carol", expires=600),
            restart(),
        ],
        agent=dict(users=["pua_usrloc", "pua_rpc", "pua_json"], params={}),
    ),
    life(
        ["one id for several presentities in the table"],
        [sub("d", "bob", event="dialog"), dict(do="call", call="c", who="alice", to="bob", answer=200)],
        agent=dict(users=["pua_dialoginfo"], params={"pua": {"db_mode": 2}}),
    ),
    life(
        ["changes of one publication at once"],
        [dict(do="register", who="alice", expires=one, line=line) for one, line in ((600, 0), (600, 1), ("*", 0))],
        agent=dict(users=["pua_reginfo"], params={}),
    ),
    life(
        ["an end below min_expires"],
        [sub("p", "alice")] + [dict(do="register", who="alice", expires=expires, line=0) for expires in (600, 0)],
        agent=dict(users=["pua_usrloc"], params={"pua": {"min_expires": 60}}),
    ),
]
