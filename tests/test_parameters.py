"""Each parameter with a value other than its default: the same life on stock and on ours, over the wire and in the tables."""
import sqlite3

import pytest

from conftest import MODES
from kit import database
from kit.kamailio import Kamailio
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
    dict(send_fast_notify=0),
    dict(fetch_rows=1),
    dict(db_table_lock_type=0),
    dict(subs_htable_size=2, pres_htable_size=2),
    dict(subs_remove_match=1),
    dict(retrieve_order=1),
    dict(retrieve_order=1, retrieve_order_by="received_time desc"),
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

# Where stock is wrong, and what ours does: parameter -> label -> (why, check of ours).
BRIEF = ("RFC 3903 6: 423 with Min-Expires", lambda text: text.startswith("SIP/2.0 423"))


def name_of(value):
    return "-".join("%s=%s" % pair for pair in value.items())


def life(server, phone, trace):
    """Two documents and two watchers, one of them with capitals in the URI; refreshes, a late one, an end by Expires 0."""
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


@pytest.mark.parametrize("mode", ["memory", "write-through", "defaults", "database-only"])
@pytest.mark.parametrize("values", PARAMETERS, ids=name_of)
def test_life_with(both, values, mode):
    presence = dict(MODES[mode]["presence"], **values)
    both(life, workers=1, presence=presence, modules=("presence_xml",))
