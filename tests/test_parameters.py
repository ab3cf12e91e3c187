"""Each parameter with a value other than its default: the same life on stock and on ours, over the wire and in the
tables."""
import os
import re
import sqlite3

import pytest

from conftest import MODES
from kit import database
from kit.sip import dialog_info, pidf

PARAMETERS = [
    dict(cseq_offset=2),
    dict(expires_offset=3),
    dict(max_expires=100),
    dict(min_expires=60),
    dict(min_expires=60, min_expires_action=2),
    dict(min_expires=60, max_expires=50),
    dict(max_expires=0),
    dict(server_address="sip:10.9.8.7:5077;transport=tcp"),
    dict(server_address="presence.example.org"),
    dict(fetch_rows=1),
    dict(db_table_lock_type=0),
    dict(subs_htable_size=2, pres_htable_size=2),
    dict(subs_remove_match=1),
    dict(sip_uri_match=1),
    dict(pres_subs_mode=0),
    dict(delete_same_subs=1),
    dict(timer_mode=0),
    dict(startup_mode=0),
    dict(enable_sphere_check=1),
    dict(timeout_rm_subs=0),
    dict(local_log_level=3),
    dict(force_delete=1),
]

# Where ours differs on purpose: parameter -> label -> (why, check of ours).
TOO_BRIEF = ("RFC 3903 6: 423 with Min-Expires", lambda text: text.startswith("SIP/2.0 423") and "Min-Expires:" in text)
RAISED = ("the minimum is used", lambda text: "Expires: 60" in text)
WITH_BODY = ("URIs that are the same have the same documents", lambda text: 'id="b"' in text)
DIFFERENT = {
    "min_expires=60-min_expires_action=2": {"publish for 30 s": RAISED},
    "sip_uri_match=1": {"carol 4": WITH_BODY},
}
# What follows differs, too: the steps are compared up to there.
ENDS_AT = {"min_expires=60": ("publish for 30 s", TOO_BRIEF),
           "min_expires=60-max_expires=50": ("publish for 30 s", TOO_BRIEF)}


def name_of(value):
    return "-".join("%s=%s" % pair for pair in value.items())


def life(server, phone, trace):
    """Two documents and two watchers, one of them with capitals in the URI; refreshes, a late one, an end by Expires
    0."""
    alice, bob, carol = phone("alice"), phone("bob"), phone("carol")
    reply = alice.publish(body=pidf(alice.user, tuple_id="a", note="first"))
    trace.message("publish", reply)
    watch = bob.subscribe(alice.uri)
    trace.message("subscribe", watch.reply)
    watch.wait(1, timeout=1)
    short = carol.subscribe(alice.uri, expires=1000)
    trace.message("subscribe for 1000 s", short.reply)
    short.wait(1, timeout=1)
    bob.quiet(1.1)
    trace.message("publish for 30 s", alice.publish(body=pidf(alice.user, tuple_id="b", note="second"), expires=30))
    bob.quiet(1.1)
    changed = alice.publish(body=pidf(alice.user, tuple_id="a", note="third"), etag=reply.get("SIP-ETag"), expires=500)
    trace.message("modify", changed)
    bob.quiet(0.2)
    capital = carol.subscribe("sip:%s@EXAMPLE.org" % alice.user)
    trace.message("capitals", capital.reply)
    carol.quiet(0.2)
    watch.cseq -= 2
    watch.refresh()
    trace.message("late refresh", watch.reply)
    watch.cseq += 2
    watch.refresh(expires=200)
    trace.message("refresh", watch.reply)
    bob.quiet(0.2)
    if server.db:
        for table in ("presentity", "active_watchers", "watchers"):
            for row in server.rows(table):
                # Ours writes the number of the first NOTIFY with the row, so that it is not used again after a crash.
                row.pop("local_cseq", None)
                trace.note(table, row)
    again = bob.subscribe(alice.uri)
    trace.message("another subscription", again.reply)
    bob.quiet(0.2)
    watch.unsubscribe()
    trace.message("unsubscribe", watch.reply)
    trace.message("remove", alice.publish(etag=changed.get("SIP-ETag") if changed else None, expires=0))
    bob.quiet(0.3), carol.quiet(0.1)
    trace.messages("bob", watch.notifies)
    trace.messages("carol", carol.notifies)


EVERY_MODE = ["memory", "write-through", "defaults", "database-only"]
# Each parameter in one of the storage modes; all of them with FULL=1 (make test-parameters).
CELLS = [(values, mode) for at, values in enumerate(PARAMETERS) for mode in EVERY_MODE
         if os.environ.get("FULL") or EVERY_MODE[at % len(EVERY_MODE)] == mode]


@pytest.mark.parametrize("values,mode", CELLS, ids=["%s-%s" % (name_of(values), mode) for values, mode in CELLS])
def test_life_with(both, values, mode):
    presence = dict(MODES[mode]["presence"], **values)
    name = name_of(values)
    ends_at = ENDS_AT.get(name)

    def scenario(server, phone, trace):
        life(server, phone, trace)
        if ends_at:
            labels = [label for label, _ in trace.pieces]
            del trace.pieces[labels.index(ends_at[0]) + 1:]

    different = {ends_at[0]: ends_at[1]} if ends_at else DIFFERENT.get(name)
    if name == "sip_uri_match=1" and mode == "database-only":
        different = None  # There the database compares, with both.
    both(scenario, workers=1, presence=presence, modules=("presence_xml",), different=different)


def test_tables_of_other_names(both):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        trace.message("publish", alice.publish(body=pidf(alice.user)))
        watch = bob.subscribe(alice.uri)
        watch.wait(1)
        for table in ("documents", "dialogs", "decisions"):
            trace.note(table, len(server.rows(table)))

    def with_tables(server):
        database.create_sqlite(server.db_path)
        connection = sqlite3.connect(str(server.db_path))
        for old, new in (("presentity", "documents"), ("active_watchers", "dialogs"), ("watchers", "decisions")):
            connection.execute("alter table %s rename to %s" % (old, new))
            connection.execute("update version set table_name=? where table_name=?", (new, old))
        connection.commit()
        connection.close()

    names = dict(presentity_table="documents", active_watchers_table="dialogs", watchers_table="decisions",
                 subs_db_mode=1)
    both(scenario, workers=1, presence=names, modules=("presence_xml",), prepare=with_tables,
         force_active=False, extra_params='modparam("presence_xml", "integrated_xcap_server", 1)\n')


@pytest.mark.parametrize("remove", [0, 1])
def test_a_watcher_that_does_not_answer(both, remove):
    """timeout_rm_subs: a NOTIFY without an answer ends the subscription, or does not."""

    def scenario(server, phone, trace):
        bob = phone("bob")
        watch = bob.subscribe("sip:alice@example.org")
        watch.wait(1)
        bob.answer = None
        watch.refresh()
        bob.quiet(3.5)
        trace.note("rows", len(server.rows("active_watchers")))
        trace.note("refresh", watch.refresh().code)

    timers = 'modparam("tm", "fr_timer", 2000)\nmodparam("tm", "fr_inv_timer", 2000)\n'
    both(scenario, workers=1, presence=dict(subs_db_mode=1, timeout_rm_subs=remove), modules=("presence_xml",),
         extra_params=timers)


@pytest.mark.parametrize("force", [0, 1])
def test_a_publication_that_runs_out(both, force):
    """force_delete: the row goes, and the watchers are not notified."""

    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        watch = bob.subscribe(alice.uri)
        watch.wait(1)
        trace.message("publish", alice.publish(body=pidf(alice.user), expires=1))
        bob.quiet(5)
        trace.messages("NOTIFY", watch.notifies)
        trace.rows("presentity", server, "presentity")

    both(scenario, workers=1, presence=dict(subs_db_mode=1, clean_period=1, force_delete=force),
         modules=("presence_xml",))


@pytest.mark.parametrize("event", ["presence", "dialog", "message-summary"])
@pytest.mark.parametrize("mode", ["memory", "database-only"])
def test_no_first_notify_without_a_body(both, event, mode):
    def scenario(server, phone, trace):
        watch = phone("bob").subscribe("sip:alice@example.org", event=event)
        watch.client.quiet(0.5)
        trace.messages("NOTIFY", watch.notifies)

    both(scenario, workers=1, presence=dict(MODES[mode]["presence"], send_fast_notify=0))


@pytest.mark.parametrize("refreshes", [0, 2])
@pytest.mark.parametrize("event", ["presence", "dialog"])
@pytest.mark.parametrize("mode", [*MODES, "write-back"])
def test_a_notify_that_is_left_out_has_no_number(both, event, mode, refreshes):
    """In a row (database-only) it has one, with stock, too; the watcher sees no gap, for it has seen no number yet."""

    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        watch = bob.subscribe(alice.uri, event=event)
        bob.quiet(0.3)
        for _ in range(refreshes):
            watch.refresh()
            bob.quiet(0.3)
        for state in ("early", "confirmed"):
            if event == "dialog":
                body = dialog_info(state, alice.user, dialog_id=state)
                alice.publish(body=body, event=event, ctype="application/dialog-info+xml")
            else:
                alice.publish(body=pidf(alice.user, note=state, tuple_id=state))
            bob.quiet(0.4)
        versions = [re.findall('version="([0-9]+)"', notify.text) for notify in watch.notifies]
        trace.note("numbers", list(zip([notify.cseq for notify in watch.notifies], versions)))
        assert watch.notifies

    settings = MODES[mode]["presence"] if mode in MODES else dict(subs_db_mode=2, publ_cache=1)
    both(scenario, workers=1, presence=dict(settings, send_fast_notify=0))


@pytest.mark.parametrize("by", ["priority", "received_time desc", "etag desc"])
@pytest.mark.parametrize("cache", [0, 1])
def test_documents_in_the_order_of_a_column(both, by, cache):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        etag = {}
        watch = bob.subscribe(alice.uri)
        for name in "abc":
            etag[name] = alice.publish(body=pidf(alice.user, tuple_id=name)).get("SIP-ETag")
            bob.quiet(1.1)
        alice.publish(body=pidf(alice.user, tuple_id="a", note="changed"), etag=etag["a"])
        bob.quiet(0.2)
        alice.publish(etag=etag["b"], expires=0)
        bob.quiet(0.2)
        trace.messages("NOTIFY", watch.notifies)

    values = dict(retrieve_order=1, retrieve_order_by=by, subs_db_mode=1, publ_cache=cache)
    both(scenario, workers=1, presence=values, modules=("presence_xml",))


@pytest.mark.parametrize("mode", ["write-through", "database-only"])
def test_what_the_script_says_of_a_request(both, mode):
    """xavp_cfg: the priority of a document, and the end of a subscription whose NOTIFY was answered badly."""
    publish = 'if ($hdr(X-P) != $null) { $xavp(pres=>priority) = $(hdr(X-P){s.int}); } handle_publish()'
    replies = ('event_route[presence:notify-reply] { if ($notify_reply($rs) == 486) { $xavp(pres=>delete_subscription) '
               '= 1; } }\n')

    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        watch = bob.subscribe(alice.uri)
        watch.wait(1)
        first = alice.publish(body=pidf(alice.user, tuple_id="a"), extra=["X-P: 9"])
        bob.quiet(0.2)
        alice.publish(body=pidf(alice.user, tuple_id="b"), extra=["X-P: 3"])
        bob.quiet(0.2)
        alice.publish(body=pidf(alice.user, tuple_id="c"))
        bob.quiet(0.2)
        alice.publish(body=pidf(alice.user, tuple_id="a"), etag=first.get("SIP-ETag"), extra=["X-P: 1"])
        bob.quiet(0.2)
        trace.messages("NOTIFY", watch.notifies)
        trace.note("priorities", [row["priority"] // 1000000 if row["priority"] > 1000000 else row["priority"]
                                  for row in server.rows("presentity")])
        bob.answer = 486
        watch.refresh()
        bob.quiet(0.3)
        trace.note("rows", len(server.rows("active_watchers")))
        trace.note("gone", watch.refresh().code)

    presence = dict(MODES[mode]["presence"], xavp_cfg="pres", retrieve_order=1)
    both(scenario, workers=1, presence=presence, modules=("presence_xml",), publish=publish, more_route=replies)
