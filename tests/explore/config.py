"""The server of a life: its parameters, modules, and script."""

import pathlib
import shutil
import subprocess
import tempfile

from kit import database
from kit.kamailio import Kamailio, free_port

from . import agents, pair, xcap

PASSWORD = "Gehe1m-n0t-to-be-seen"
ATTRIBUTES = (
    "uri pres_uri to_user to_domain from_user from_domain watcher_username watcher_domain event event_id callid "
    "remote_cseq contact local_contact record_route expires status reason flags user_agent"
).split()
SHOW = " ".join("%s=[$subs(%s)]" % (name, name) for name in ATTRIBUTES)

PLAIN = """
request_route {
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    if (!is_method("PUBLISH|SUBSCRIBE")) { sl_send_reply("404", "Not here"); exit; }
    if (!t_newtran()) { sl_reply_error(); exit; }
    if (is_method("PUBLISH")) { handle_publish(); } else { handle_subscribe(); }
    t_release();
    exit;
}
"""

# What the script sees after each function and in each event route.
SEEN = """
request_route {
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    if (!is_method("PUBLISH|SUBSCRIBE")) { sl_send_reply("404", "Not here"); exit; }
    if (!t_newtran()) { sl_reply_error(); exit; }
    if (is_method("PUBLISH")) {
        handle_publish();
        xlog("L_NOTICE", "SEEN publish $retcode ci=$ci ru=$ru\\n");
    } else {
        setbflag(3);
        handle_subscribe();
        xlog("L_NOTICE", "SEEN subscribe $retcode ci=$ci %(show)s\\n");
    }
    t_release();
    exit;
}
event_route[tm:local-request] {
    xlog("L_NOTICE", "SEEN local $rm $ru ci=$ci cs=$cs fu=$fu tu=$tu "
         "state=$hdr(Subscription-State) event=$hdr(Event) %(show)s\\n");
}
event_route[presence:notify-reply] {
    xlog("L_NOTICE", "SEEN answer $notify_reply($rs) $notify_reply($rr) $rm $ru "
         "ci=$ci cs=$cs fu=$fu tu=$tu %(show)s\\n");
}
""" % dict(show=SHOW)

# TLS and WebSockets beside TCP, on ports of their own.
STREAMS = """
tcp_accept_no_cl=yes
event_route[xhttp:request] {
    set_reply_close();
    set_reply_no_connect();
    if ($hdr(Upgrade) =~ "websocket" && ws_handle_handshake()) { exit; }
    xhttp_reply("404", "Not Found", "", "");
}
"""

# Functions beside the usual two: what they answer, and whom they notify.
FUNCTIONS = """
request_route {
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    if (!is_method("PUBLISH|SUBSCRIBE")) { sl_send_reply("404", "Not here"); exit; }
    if (!t_newtran()) { sl_reply_error(); exit; }
    if ($rU != $null) {
        pres_auth_status("$fu", "sip:$rU@$rd");
        xlog("L_NOTICE", "SEEN status $retcode ci=$ci\n");
        pres_has_subscribers("sip:$rU@$rd", "presence");
        xlog("L_NOTICE", "SEEN watched $retcode ci=$ci\n");
    }
    if (is_method("PUBLISH")) {
        handle_publish();
        xlog("L_NOTICE", "SEEN publish $retcode ci=$ci\n");
        if ($hdr(Subject) =~ "again") {
            pres_refresh_watchers("sip:$rU@$rd", "presence", 1);
            xlog("L_NOTICE", "SEEN refreshed $retcode ci=$ci\n");
        }
        if ($hdr(Subject) =~ "rules") {
            pres_update_watchers("sip:$rU@$rd", "presence");
            xlog("L_NOTICE", "SEEN updated $retcode ci=$ci\n");
        }
    } else {
        handle_subscribe();
        xlog("L_NOTICE", "SEEN subscribe $retcode ci=$ci $subs(event)\n");
    }
    t_release();
    exit;
}
"""

# The script's variables for priorities and for watchers that are to be forgotten.
XAVP = """
request_route {
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    if (!is_method("PUBLISH|SUBSCRIBE")) { sl_send_reply("404", "Not here"); exit; }
    if (!t_newtran()) { sl_reply_error(); exit; }
    if (is_method("PUBLISH")) {
        $xavp(pcfg=>priority) = 100 + $(rb{s.len}) mod 7;
        handle_publish("$fu");
    } else {
        setbflag(5);
        handle_subscribe("$fu");
        xlog("L_NOTICE", "SEEN subscribe $retcode ci=$ci %(show)s\n");
    }
    t_release();
    exit;
}
event_route[presence:notify-reply] {
    if ($notify_reply($rs) == 500) { $xavp(pcfg=>delete_subscription) = 1; }
}
""" % dict(show=SHOW)

LUA = """
local function seen(name, result)
    KSR.info("SEEN " .. name .. " " .. tostring(result) .. " ci=" .. KSR.pv.gete("$ci") .. "\\n")
end
function ksr_request_route()
    if KSR.is_OPTIONS() then KSR.sl.sl_send_reply(200, "OK"); return 1 end
    if not (KSR.is_PUBLISH() or KSR.is_SUBSCRIBE()) then KSR.sl.sl_send_reply(404, "Not here"); return 1 end
    local new = KSR.tm.t_newtran()
    if new < 0 then KSR.sl.sl_reply_error() end
    if new <= 0 then return 1 end
    local uri, subject = "sip:" .. KSR.pv.gete("$rU") .. "@" .. KSR.pv.gete("$rd"), KSR.pv.gete("$hdr(Subject)")
    if KSR.pv.gete("$rU") ~= "" then
        seen("status", KSR.presence.pres_auth_status(KSR.pv.gete("$fu"), uri))
        seen("watched", KSR.presence.pres_has_subscribers(uri, "presence"))
    end
    if KSR.is_SUBSCRIBE() then
        seen("lua", KSR.presence.handle_subscribe())
    else
        seen("lua", KSR.presence.handle_publish())
        if subject:find("again") then seen("refreshed", KSR.presence.pres_refresh_watchers(uri, "presence", 1)) end
        if subject:find("rules") then seen("updated", KSR.presence.pres_update_watchers(uri, "presence")) end
    end
    KSR.tm.t_release()
    return 1
end
"""

# The same with the events of tm, of which modules tell a KEMI script by a function.
EVENTS = """
function ksr_tm_event(name)
    KSR.info("SEEN local " .. name .. " " .. KSR.pv.gete("$rm") .. " " .. KSR.pv.gete("$ru") .. " ci=" ..
        KSR.pv.gete("$ci") .. " cs=" .. KSR.pv.gete("$cs") .. " state=" .. KSR.pv.gete("$hdr(Subscription-State)") ..
        " event=" .. KSR.pv.gete("$subs(event)") .. " flags=" .. KSR.pv.gete("$subs(flags)") .. "\\n")
    return 1
end
"""

KEMI = 'cfgengine "lua"\n'
ROUTES = {"plain": PLAIN, "functions": FUNCTIONS, "seen": SEEN, "xavp": XAVP, "lua": KEMI, "lua-events": KEMI}
_templates = {}


def _sqlite_template():
    if "sqlite" not in _templates:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="explore-template-"))
        database.create_sqlite(folder / "kamailio.db")
        _templates["sqlite"] = folder
    return _templates["sqlite"] / "kamailio.db"


def forget_templates():
    for folder in _templates.values():
        shutil.rmtree(folder, ignore_errors=True)
    _templates.clear()


def make(which, config, url, first=None):
    """The server of one side, not started; `url` is "sqlite", "text", or the URL of a database server; `first`: the one
    that it is the peer of."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="explore-%s-" % which))
    if url == "sqlite":
        shutil.copy(str(_sqlite_template()), str(folder / "kamailio.db"))
    presence = dict(subs_db_mode=config["mode"], publ_cache=config["cache"])
    if config["mode"] == 3:
        presence["notifier_processes"] = config["notifiers"]
    if config["notifiers"]:
        presence.update(waitn_time=1, notifier_poll_rate=10)
    presence.update(config["params"])
    if which == "ours":
        presence.update(config.get("ours", {}))
    modules = list(config["packages"])
    # A process that dies is found at once, and not when its memory is in a file.
    extra = "disable_core_dump=yes\n"
    extra += 'modparam("tm", "fr_timer", 1000)\nmodparam("tm", "wt_timer", 1000)\n'
    if config["rules"] and "presence_xml" in config["packages"]:
        extra += 'modparam("presence_xml", "integrated_xcap_server", 1)\n'
    for module, params in config.get("companions", {}).items():
        extra += "".join('modparam("%s", "%s", %d)\n' % (module, name, value) for name, value in params.items())
    if config.get("sla"):
        extra += 'modparam("presence_xml", "disable_bla", 0)\n'
    if config["route"] == "xavp":
        presence["xavp_cfg"] = "pcfg"
    if config["route"] in ("lua", "lua-events"):
        has_events = config["route"] == "lua-events"
        (folder / "presence.lua").write_text(LUA + EVENTS * has_events)
        extra += 'modparam("tm", "event_callback", "ksr_tm_event")\n' * has_events
        modules.append("app_lua")
        extra += 'modparam("app_lua", "load", "%s")\n' % (folder / "presence.lua")
    server = Kamailio(
        which,
        presence=presence,
        modules=tuple(modules),
        extra_params=extra,
        workers=config["workers"],
        db=url,
        route=ROUTES[config["route"]],
        force_active=not config["rules"],
        tcp=config["transport"] != "udp",
        folder=folder,
    )
    if config.get("agent"):
        agents.add(server, config)
    if config.get("xcap"):
        xcap.add(server)
    if config.get("ip6"):
        server.listen += ["%s:[::1]:%d" % (one.split(":", 1)[0], server.port) for one in server.listen]
    if config.get("pair"):
        pair.add(server, first)
    if config["transport"] in ("ws", "wss"):
        server.modules += ["xhttp", "websocket"]
        server.more_route = STREAMS
    if config["transport"] in ("tls", "wss"):
        _with_tls(server)
    return server


def _certificate():
    """A key and a certificate, made once a run."""
    if "tls" not in _templates:
        folder = _templates["tls"] = pathlib.Path(tempfile.mkdtemp(prefix="explore-tls-"))
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
            + ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")],
            check=True,
            capture_output=True,
        )
    return _templates["tls"]


def _with_tls(server):
    folder = _certificate()
    server.tls_port = free_port()
    server.listen.append("tls:127.0.0.1:%d\nenable_tls=yes" % server.tls_port)
    server.modules.insert(0, "tls")
    server.before = "".join(
        'modparam("tls", "%s", "%s")\n' % item
        for item in (
            ("private_key", folder / "key.pem"),
            ("certificate", folder / "cert.pem"),
            ("tls_method", "TLSv1.2+"),
        )
    )
