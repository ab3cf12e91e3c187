"""A bit of everything on one server: what `make memcheck` runs under valgrind. Quick otherwise."""
import pytest

from conftest import MODES
from kit.sip import dialog_info, pidf
from test_pua import parameters


@pytest.mark.parametrize("mode", MODES)
def test_a_bit_of_everything(ours, phones, mode):
    server = ours(workers=1, modules=("presence_xml", "presence_dialoginfo", "presence_mwi", "pua"), **MODES[mode],
                  extra_params=parameters(db_url="@DB@"))
    alice, bob, carol = (phones(server, user) for user in ("alice", "bob", "carol"))
    dialog = dict(event="dialog", ctype="application/dialog-info+xml")
    tags = [alice.publish(body=pidf()).get("SIP-ETag"),
            alice.publish(body=dialog_info("early"), **dialog).get("SIP-ETag")]
    watches = [bob.subscribe(alice.uri), bob.subscribe(alice.uri, event="dialog"), carol.subscribe(alice.uri),
               alice.subscribe(alice.uri, event="presence.winfo")]
    for watch in watches:
        assert watch.reply.code == 200 and watch.wait(1, timeout=10)
    tags[0] = alice.publish(body=pidf(basic="closed", note="&lt;&amp;"), etag=tags[0]).get("SIP-ETag")
    tags[1] = alice.publish(body=dialog_info("confirmed"), etag=tags[1], **dialog).get("SIP-ETag")
    assert alice.publish(body="<a", etag=tags[0]).code == 415
    assert alice.publish(body=pidf(), etag="a.1.2.3").code == 412
    assert bob.subscribe(alice.uri, event="nothing").reply.code == 489
    for words in (("presence.subscriptions",), ("presence.explain", bob.uri, alice.uri, "presence"),
                  ("presence.busiest",), ("presence.config",),
                  ("presence.presentity_list", "full"), ("presence.watcher_list", alice.uri), ("presence.cleanup",),
                  ("pua.list",), ("pua.config",),
                  ("presence.refreshWatchers", alice.uri, "presence", 1), ("stats.get_statistics", "presence:")):
        server.rpc(*words)
    assert all(watch.refresh().code == 200 for watch in watches)
    assert "ended: 1" in server.rpc("presence.subscription_end", carol.uri, alice.uri, "presence")
    for event, tag in zip(("presence", "dialog"), tags):
        assert alice.publish(etag=tag, expires=0, event=event).code == 200
    assert all(watch.unsubscribe().code == 200 for watch in watches if watch.client is not carol)
    bob.quiet(0.3)
    server.stop()
