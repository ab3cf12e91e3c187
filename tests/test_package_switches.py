"""The switches of the packages' modules: what they do not register is no package here either; on stock and on ours."""
import pytest

from conftest import MODES
from kit.sip import dialog_info, pidf

XML = ("disable_presence", "disable_winfo", "disable_xcapdiff", "passive_mode", "force_dummy_presence",
       "force_presence_single_body")
DIALOGS = ("force_single_dialog", "force_dummy_dialog")
EVENTS = ("presence", "presence.winfo", "xcap-diff", "dialog", "dialog.winfo")


def kills_stock(event, switch, mode):
    """SUBSCRIBE ends stock with SIGSEGV: watchers of subscriptions in memory, and those of a package that is not
    there."""
    return event.endswith(".winfo") and (mode == "memory" or event == "presence.winfo" and switch == "disable_presence")


@pytest.mark.parametrize("mode", ["memory", "write-through", "database-only"])
@pytest.mark.parametrize("switch", XML + DIALOGS)
def test_a_switch_of_a_packages_module(both, switch, mode):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        watches = {}
        for event in EVENTS:
            if kills_stock(event, switch, mode):
                continue
            watch = watches[event] = bob.subscribe(alice.uri, event=event)
            trace.message("SUBSCRIBE " + event, watch.reply)
            if watch.reply.code == 200:
                watch.wait(1)
        for note in ("one", "two"):
            trace.message("PUBLISH presence " + note, alice.publish(body=pidf(note=note, tuple_id=note)))
            reply = alice.publish(event="dialog", body=dialog_info("confirmed", dialog_id=note),
                                  ctype="application/dialog-info+xml")
            trace.message("PUBLISH dialog " + note, reply)
            # The order of two publications of one second is nobody's promise.
            bob.quiet(1.1)
        for event, watch in watches.items():
            trace.messages("NOTIFY " + event, watch.notifies)
            watch.unsubscribe()
            trace.message("the end of " + event, watch.reply)

    module = "presence_xml" if switch in XML else "presence_dialoginfo"
    both(scenario, workers=1, modules=("presence_xml", "presence_dialoginfo"),
         extra_params='modparam("%s", "%s", 1)\n' % (module, switch), **MODES[mode])


@pytest.mark.parametrize("mode", ["memory", "write-through", "database-only"])
def test_watchers_of_a_package_that_is_not_there(ours, phones, mode):
    """Nobody can watch, so the list is empty, whatever is asked of it."""
    server = ours(modules=("presence_xml", "presence_dialoginfo"),
                  extra_params='modparam("presence_xml", "disable_presence", 1)\n', **MODES[mode])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    watch = bob.subscribe(alice.uri, event="presence.winfo")
    assert watch.reply.code == 200
    assert bob.subscribe(alice.uri).reply.code == 489
    for number, again in enumerate((watch.refresh, watch.unsubscribe), 2):
        assert again().code == 200
        assert "<watcher " not in watch.wait(number)[-1].text
    assert server.alive() and len(watch.notifies) == 3
