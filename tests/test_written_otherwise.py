"""Documents that say the same in other characters: with references, CDATA, comments and line breaks (XML 1.0 2.7,
3.3.3, 4.6). What counts is what they say."""
import pytest

from conftest import MODES
from kit.sip import pidf
from test_authorization import put, rules
from test_composition import DIALOG, EVERYWHERE, dialogs, seen

# A dialog id, and the ways to write it.
WAYS = ["a&amp;b c", "a&#38;b c", "a&#x26;b\tc", "a&amp;b\r\nc"]


@pytest.mark.parametrize("mode", EVERYWHERE)
def test_one_dialog_written_in_several_ways_is_shown_once(both, mode):
    def scenario(server, phone, trace):
        for number, (first, then) in enumerate(zip(WAYS, WAYS[1:] + WAYS[:1])):
            alice, bob = phone("alice%d" % number), phone("bob%d" % number)
            alice.publish(body=dialogs((first, "early")), **DIALOG)
            alice.publish(body=dialogs((then, "terminated")), **DIALOG)
            notify = bob.subscribe(alice.uri, event="dialog").wait(1)[0]
            assert list(seen(notify).values()) == ["terminated"], notify.text
            trace.message("shown", notify)

    both(scenario, workers=1, **MODES[mode])


@pytest.mark.parametrize("mode", EVERYWHERE)
def test_one_tuple_written_in_two_ways_is_shown_once(both, mode):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        alice.publish(body=pidf(alice.user, tuple_id="a&amp;b", note="old"))
        alice.publish(body=pidf(alice.user, tuple_id="a&#38;b", note="new"))
        notify = bob.subscribe(alice.uri).wait(1)[0]
        trace.message("shown", notify)

    newest = {"shown": ("stock shows the older one", lambda text: text.count("<tuple ") == 1 and "new" in text)}
    both(scenario, workers=1, **MODES[mode], different=newest if mode == "memory" else {})


def test_a_sphere_is_what_it_says(both):
    ways = ["work", "<![CDATA[work]]>", "w&#111;rk", "w<!-- c -->ork", " <![CDATA[wo]]>rk ", "w&#x6f;<?x?>rk"]

    def scenario(server, phone, trace):
        for number, way in enumerate(ways):
            alice, bob = phone("alice%d" % number), phone("bob%d" % number)
            document = rules(**{bob.user: "block"})
            put(server, alice.user, document.replace("</cr:identity>", "</cr:identity><cr:sphere>work</cr:sphere>"))
            alice.publish(body=pidf(alice.user, note="secret", extra=(
                '<dm:person xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model" '
                'xmlns:r="urn:ietf:params:xml:ns:pidf:rpid" id="p1"><r:sphere>%s</r:sphere></dm:person>' % way)))
            watch = bob.subscribe(alice.uri)
            trace.message("%s: answer" % way, watch.reply)
            trace.message("%s: shown" % way, watch.wait(1)[0])

    both(scenario, workers=1, presence=dict(subs_db_mode=1, publ_cache=1, enable_sphere_check=1), force_active=False,
         extra_params='modparam("presence_xml", "integrated_xcap_server", 1)\n')
