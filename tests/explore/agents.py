"""The users of pua in a life: registrations, calls, commands and JSON, published to the server's own presence."""

import json

from kit.sip import CRLF, dialog_info, pidf

DOMAIN = "example.org"
# Modules that publish through pua (pua_json through presence alone), and those that each needs before it.
USERS = {
    "pua_usrloc": ("usrloc", "registrar"),
    "pua_reginfo": ("usrloc", "registrar"),
    "pua_dialoginfo": ("dialog",),
    "pua_rpc": (),
    "pua_json": ("json",),
}
PACKAGES = ["presence_xml", "presence_dialoginfo", "presence_mwi", "presence_reginfo"]
# What each may be given beside the usual.
PARAMS = {
    "pua": {
        "db_mode": 2,
        "min_expires": 60,
        "default_expires": 600,
        "update_period": 6,
        "dlginfo_increase_version": 1,
        "reginfo_increase_version": 1,
        "check_remote_contact": 0,
    },
    "pua_usrloc": {"entity_prefix": "pres"},
    "pua_dialoginfo": {
        "include_callid": 0,
        "include_localremote": 0,
        "include_tags": 0,
        "include_req_uri": 1,
        "caller_confirmed": 1,
        "callee_trying": 1,
        "override_lifetime": 120,
        "publish_dialog_req_within": 0,
    },
    "pua_json": {"pua_include_entity": 0},
}
NEEDED = {
    "pua": {"db_url": "@DB@", "outbound_proxy": "sip:127.0.0.1:@PORT@"},
    "pua_usrloc": {"default_domain": DOMAIN},
    "pua_reginfo": {
        "default_domain": DOMAIN,
        "server_address": "sip:reginfo@example.org",
        "outbound_proxy": "sip:127.0.0.1:@PORT@",
    },
    "dialog": {"db_mode": 0},
}

OTHERS = 'if (!is_method("PUBLISH|SUBSCRIBE")) { sl_send_reply("404", "Not here"); exit; }'
ASKED = """
    if ($sp == %(port)d && is_method("PUBLISH|SUBSCRIBE"))
        xlog("L_NOTICE", "SEEN asked $rm $rU e=[$hdr(Event)] x=[$hdr(Expires)] m=[$hdr(SIP-If-Match)] t=[$cT]\\n");
    if (!is_method("PUBLISH|SUBSCRIBE")) { route(AGENT); exit; }
"""
NOTIFY = """
    if (is_method("NOTIFY")) {
        pua_update_contact();
        xlog("L_NOTICE", "SEEN notified $retcode e=[$hdr(Event)] s=[$hdr(Subscription-State)]\\n");
        sl_send_reply("200", "OK");
        exit;
    }
"""
REGISTER = '    if (is_method("REGISTER")) { %s if (!save("location")) sl_reply_error(); exit; }\n'
JSON = """
    if (is_method("MESSAGE")) {
        pua_json_publish("$rb");
        xlog("L_NOTICE", "SEEN json $retcode\\n");
        sl_send_reply("200", "OK");
        exit;
    }
"""
CALLS = """
    if (is_method("INVITE|ACK|BYE|CANCEL")) {
        if (is_method("CANCEL")) { if (t_check_trans()) t_relay(); exit; }
        if (has_totag()) {
            if (!loose_route()) { if (is_method("ACK")) t_check_trans(); else sl_send_reply("404", "No"); exit; }
            t_relay();
            exit;
        }
        record_route();
        dlg_manage();
        t_relay();
        exit;
    }
"""


def add(server, config):
    """Makes a server, which is not started yet, one of users of pua."""
    users, given = config["agent"]["users"], config["agent"]["params"]
    server.http = True
    if not any(one.startswith("tcp:") for one in server.listen):
        server.listen.append("tcp:127.0.0.1:%d" % server.port)
    server.modules += [one for user in users for one in USERS[user]] + ["pua"] + users
    for module in ["pua", "dialog"] + users:
        if module == "pua" or module in server.modules:
            for name, value in dict(NEEDED.get(module, {}), **given.get(module, {})).items():
                text = '"%s"' % value if isinstance(value, str) else value
                server.extra_params += 'modparam("%s", "%s", %s)\n' % (module, name, text)
    server.extra_params += 'modparam("jsonrpcs", "transport", 1)\n'
    script = NOTIFY
    if "registrar" in server.modules:
        script += REGISTER % ("pua_set_publish();" if "pua_usrloc" in users else "")
    script += JSON * ("pua_json" in users) + CALLS * ("pua_dialoginfo" in users)
    server.route = server.route.replace(OTHERS, ASKED % dict(port=server.port))
    server.route += 'route[AGENT] {\n%s    sl_send_reply("404", "Not here");\n    exit;\n}\n' % script
    server.before += 'alias="%s"\n' % DOMAIN


def register(phone, step, number, cseq):
    """The bytes of a REGISTER, and its Call-ID."""
    call_id, uri = "register-%s" % step["who"], "sip:%s@%s" % (step["who"], DOMAIN)
    contact = phone.contact.replace("<sip:", "<sip:line%d-" % step["line"]) if step.get("line") else phone.contact
    contact = "*" if step["expires"] == "*" else contact
    lines = [
        "REGISTER sip:%s SIP/2.0" % DOMAIN,
        "Via: SIP/2.0/%s 127.0.0.1:%d;branch=z9hG4bKregister-%d" % (phone.transport.upper(), phone.port, number),
        "From: <%s>;tag=r%d" % (uri, number),
        "To: <%s>" % uri,
        "Call-ID: %s" % call_id,
        "CSeq: %d REGISTER" % cseq,
        "Contact: %s" % contact,
        "Expires: %s" % (0 if step["expires"] == "*" else step["expires"]),
        "Max-Forwards: 70",
    ]
    if step.get("agent"):
        lines.append("User-Agent: %s" % step["agent"])
    return (CRLF.join(lines + ["Content-Length: 0"]) + CRLF + CRLF).encode(), call_id


class Call:
    """The caller's side of a call through the server."""

    def __init__(self, caller, callee, number):
        self.caller, self.callee, self.number = caller, callee, number
        self.call_id, self.cseq, self.to_tag, self.routes, self.target = "invite-%d" % number, 0, None, [], None
        self.answered = self.over = False

    def request(self, method):
        """The bytes of a request of the dialog."""
        if method not in ("ACK", "CANCEL"):
            self.cseq += 1
        to, at = "sip:%s@%s" % (self.callee.user, DOMAIN), "sip:%s@127.0.0.1:%d" % (self.callee.user, self.callee.port)
        branch = "%s-%d%s" % (self.call_id, self.cseq, "-ack" if method == "ACK" else "")
        lines = [
            "%s %s SIP/2.0" % (method, self.target or at),
            "Via: SIP/2.0/UDP 127.0.0.1:%d;branch=z9hG4bK%s" % (self.caller.port, branch),
            "From: <%s>;tag=caller-%d" % (self.caller.uri, self.number),
            "To: <%s>%s" % (to, ";tag=%s" % self.to_tag if self.to_tag else ""),
            "Call-ID: %s" % self.call_id,
            "CSeq: %d %s" % (self.cseq, method),
            "Contact: %s" % self.caller.contact,
            "Max-Forwards: 70",
        ] + ["Route: %s" % route for route in self.routes]
        return (CRLF.join(lines + ["Content-Length: 0"]) + CRLF + CRLF).encode()

    def accept(self, reply):
        """A final reply to the INVITE has come."""
        self.answered = reply is not None and reply.code == 200
        self.over = not self.answered
        if self.answered:
            self.to_tag, self.routes = reply.tag("To"), list(reversed(reply.all("Record-Route")))
            self.target = reply.get("Contact").strip("<>")


def message(phone, step, number):
    """The bytes of a MESSAGE with JSON for pua_json, and its Call-ID."""
    call_id, uri = "json-%d" % number, "sip:%s@%s" % (step["who"], DOMAIN)
    body = json.dumps(document(step, uri)).encode() if step.get("kind") != "broken" else b'{"Event-Name": '
    lines = [
        "MESSAGE %s SIP/2.0" % uri,
        "Via: SIP/2.0/%s 127.0.0.1:%d;branch=z9hG4bK%s" % (phone.transport.upper(), phone.port, call_id),
        "From: <%s>;tag=j%d" % (uri, number),
        "To: <%s>" % uri,
        "Call-ID: %s" % call_id,
        "CSeq: 1 MESSAGE",
        "Max-Forwards: 70",
        "Content-Type: application/json",
        "Content-Length: %d" % len(body),
    ]
    return (CRLF.join(lines) + CRLF + CRLF).encode() + body, call_id


def document(step, uri):
    """What Kazoo tells of a user."""
    common = {
        "Event-Name": "update",
        "Event-Package": step["event"],
        "From": uri,
        "From-User": step["who"],
        "From-Realm": DOMAIN,
        "Call-ID": "kazoo-%s" % step["slot"],
        "Expires": step["expires"],
    }
    if step["event"] == "message-summary":
        return dict(common, **{
            "Messages-Waiting": "no" if step["state"] == "terminated" else "yes", "Messages-New": "1",
            "Messages-Saved": "0", "Messages-Urgent": "0", "Messages-Urgent-Saved": "0", "Message-Account": uri,
            "MWI-Voice-Message": "1/0 (0/0)",
        })
    to = "sip:bob@%s" % DOMAIN
    return dict(common, **{
        "To": to, "To-User": "bob", "To-Realm": DOMAIN, "State": step["state"], "Direction": "initiator",
        "From-Tag": "one", "To-Tag": "two",
    })


def command(step, server):
    """The words of a command."""
    if step["name"] == "pua.cleanup":
        return []
    uri = "sip:%s@%s" % (step["who"], DOMAIN)
    if step["name"] == "pua.subscribe":
        return [uri, "sip:agent@127.0.0.1:%d" % server.port, step["event"], step["expires"]]
    if step["event"] == "dialog":
        body = dialog_info("terminated" if step.get("kind") == "closed" else "confirmed", step["who"], dialog_id="c")
        ctype = "application/dialog-info+xml"
    else:
        body = pidf(step["who"], note=step.get("kind", "open"), basic=step.get("kind", "open"), tuple_id="c")
        ctype = "application/pidf+xml"
    has_body = step.get("kind") != "none" and step["expires"] != 0
    headers = step.get("extra", ".")
    words = [uri, str(step["expires"]), step["event"], ctype if has_body else ".", step["ident"], ".", ".", headers]
    return words + ([body] if has_body else [])


# The steps that make users of pua publish.
STEPS = ("register", "call", "hangup", "json", "command")


def subjects(step):
    """What a step may publish about: (presentity, event)."""
    if step["do"] == "register":
        return [(step["who"], event) for event in ("presence", "reg")]
    if step["do"] == "call":
        return [(step[name], "dialog") for name in ("who", "to")]
    return [(step["who"], step["event"])] if "event" in step else []
