"""The nine KEMI exports, from the examples in Lua, Python and JavaScript."""
import pytest

from conftest import MODES
from kit.kamailio import ROOT
from kit.sip import pidf

LANGUAGES = {"lua": ("app_lua", "lua", 'modparam("app_lua", "reload", 0)\n'), "py": ("app_python3", "python", ""),
             "js": ("app_jsdt", "jsdt", "")}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_function(both, language, tmp_path):
    module, engine, more = LANGUAGES[language]
    # The phones here are behind a server that the script believes: stock and ours get the same identities.
    trusted = tmp_path / "trusted.list"
    trusted.write_text("1 127.0.0.1 32\n")
    more += 'modparam("permissions", "address_file", "%s")\nmodparam("auth_db", "db_url", "@DB@")\n' % trusted
    script = ROOT / "examples" / "kemi" / ("presence." + language)

    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        watch = bob.subscribe(alice.uri, extra=["P-Asserted-Identity: \"Robert\" <sip:robert@example.org>"])
        trace.message("subscribe", watch.reply)
        watch.wait(1)
        bob.quiet(0.2)
        reply = alice.publish(body=pidf(alice.user), extra=["Sender: sip:nobody@127.0.0.1"])
        trace.message("publish", reply)
        watch.wait(2)
        trace.rows("watchers", server, "watchers")
        trace.note("answers", alice.reply_to(alice.request("MESSAGE", alice.uri)).reason)
        bob.quiet(0.5)
        trace.messages("NOTIFY", watch.notifies)
        trace.note("events", [line.split("EVENT", 1)[1] for line in server.log().split("\n") if "EVENT" in line])
        assert "EVENT presence:" not in server.log(), "the event callback is not called for presence:notify-reply"

    both(scenario, workers=1, modules=("presence_xml", "auth", "auth_db", "permissions", module),
         route='cfgengine "%s"\n' % engine, before="",
         extra_params='modparam("%s", "load", "%s")\n%s'
                      'kemi.event_route_callback = "ksr_presence_event"\n' % (module, script, more),
         **MODES["write-through"])
