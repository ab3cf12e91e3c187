"""The nine KEMI exports, from Lua."""
from conftest import MODES
from kit.sip import pidf

SCRIPT = """
function ksr_request_route()
    if KSR.is_method("OPTIONS") then KSR.sl.sl_send_reply(200, "OK"); return 1; end
    if KSR.is_method("MESSAGE") then
        local uri = KSR.pv.get("$ru");
        local answers = {
            KSR.presence.pres_has_subscribers(uri, "presence"),
            KSR.presence.pres_refresh_watchers(uri, "presence", 1),
            KSR.presence.pres_refresh_watchers_file(uri, "presence", 1, "x", "y"),
            KSR.presence.pres_update_watchers(uri, "presence"),
            KSR.presence.pres_auth_status("sip:bob@example.org", uri),
        };
        KSR.sl.sl_send_reply(299, table.concat(answers, " "));
        return 1;
    end
    KSR.tm.t_newtran();
    if KSR.is_method("PUBLISH") then
        if KSR.pv.is_null("$hdr(Sender)") then KSR.presence.handle_publish(); else KSR.presence.handle_publish_uri(KSR.pv.get("$hdr(Sender)")); end
    elseif KSR.pv.is_null("$hdr(P-Asserted-Identity)") then KSR.presence.handle_subscribe();
    else KSR.presence.handle_subscribe_uri(KSR.pv.get("$hdr(P-Asserted-Identity)")); end
    KSR.tm.t_release();
    return 1;
end
function ksr_presence_event(name)
    KSR.notice("EVENT " .. name .. " " .. tostring(KSR.pv.get("$subs(uri)")) .. " " .. tostring(KSR.pv.get("$notify_reply($rs)")) .. "\\n");
    return 1;
end
"""


def test_from_lua(both, tmp_path):
    script = tmp_path / "route.lua"
    script.write_text(SCRIPT)

    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        watch = bob.subscribe(alice.uri, extra=["P-Asserted-Identity: sip:robert@example.org"])
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

    both(scenario, workers=1, modules=("presence_xml", "app_lua"), route='cfgengine "lua"\n', before="",
         extra_params='modparam("app_lua", "load", "%s")\nmodparam("app_lua", "reload", 0)\n'
                      'kemi.event_route_callback = "ksr_presence_event"\n' % script, **MODES["write-through"])
