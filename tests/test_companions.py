"""Stock's event packages and XCAP server on our presence server: their job over SIP and HTTP, on stock and on ours."""
import urllib.error
import urllib.request

import pytest

from conftest import MODES
from kit.sip import pidf
from test_authorization import rules

CONFERENCE = ('<?xml version="1.0"?>\n<conference-info xmlns="urn:ietf:params:xml:ns:conference-info" '
              'entity="sip:%s@example.org" '
              'state="full" version="%d"><users><user entity="sip:bob@example.org" state="full"><endpoint '
              'entity="sip:bob@host">'
              '<status>%s</status></endpoint></user></users></conference-info>\n')
PROFILE = '<?xml version="1.0"?>\n<profile><name>%s</name></profile>\n'
REGINFO = ('<?xml version="1.0"?>\n<reginfo xmlns="urn:ietf:params:xml:ns:reginfo" version="%d" '
           'state="full"><registration '
           'aor="sip:%s@example.org" id="a7" state="%s"><contact id="76" state="active" '
           'event="registered"><uri>sip:x@192.0.2.1</uri>'
           '</contact></registration></reginfo>\n')
MESSAGES = "Messages-Waiting: %s\r\nMessage-Account: sip:%s@example.org\r\nVoice-Message: %d/0 (0/0)\r\n"

PACKAGES = {
    "conference": ("presence_conference", "application/conference-info+xml", lambda user,
                   n: CONFERENCE % (user, n, "connected")),
    "ua-profile": ("presence_profile", "application/simservs+xml", lambda user, n: PROFILE % n),
    "reg": ("presence_reginfo", "application/reginfo+xml", lambda user, n: REGINFO % (n, user, "active")),
    "message-summary": ("presence_mwi", "application/simple-message-summary",
                        lambda user, n: MESSAGES % ("yes" if n else "no", user, n)),
    "dialog": ("presence_dialoginfo", "application/dialog-info+xml", None),
}


@pytest.mark.parametrize("mode", ["memory", "write-through", "database-only"])
@pytest.mark.parametrize("event", ["conference", "ua-profile", "reg", "message-summary"])
def test_life_of_a_package(both, event, mode):
    """A document is published, changed, refreshed and removed while one watcher is there and another comes later."""
    module, kind, body = PACKAGES[event]

    def scenario(server, phone, trace):
        alice, bob, carol = phone("alice"), phone("bob"), phone("carol")
        watch = bob.subscribe(alice.uri, event=event)
        trace.message("subscribe", watch.reply)
        watch.wait(1)
        reply = alice.publish(body=body(alice.user, 1), event=event, ctype=kind)
        trace.message("publish", reply)
        watch.wait(2)
        reply = alice.publish(body=body(alice.user, 2), event=event, ctype=kind, etag=reply.get("SIP-ETag"))
        trace.message("modify", reply)
        watch.wait(3)
        late = carol.subscribe(alice.uri, event=event)
        late.wait(1)
        trace.messages("late", late.notifies)
        watch.refresh()
        watch.wait(4)
        trace.message("end", alice.publish(event=event, etag=reply.get("SIP-ETag"), expires=0))
        bob.quiet(0.3)
        watch.unsubscribe()
        bob.quiet(0.3)
        trace.messages("NOTIFY", watch.notifies)
        if mode != "memory":
            trace.rows("presentity", server, "presentity")

    options = dict(MODES[mode], modules=("presence_xml", module))
    both(scenario, workers=1, **options)


@pytest.mark.parametrize("body", ["Messages-Waiting: maybe\r\n", "nonsense", "Voice-Message: 1/0\r\n"])
def test_a_voicemail_document_that_is_none(both, body):
    def scenario(server, phone, trace):
        alice = phone("alice")
        trace.message("publish",
                      alice.publish(body=body, event="message-summary", ctype="application/simple-message-summary"))

    is_refused = ("the phone's fault", lambda text: text.startswith("SIP/2.0 400 Bad request"))
    both(scenario, different={"publish": is_refused}, workers=1, **MODES["write-through"])


XCAP = """
loadmodule "xhttp.so"
loadmodule "xcap_server.so"
modparam("xcap_server", "db_url", "@DB@")
modparam("presence_xml", "integrated_xcap_server", 1)
modparam("presence_xml", "db_url", "@DB@")
event_route[xhttp:request] {
    $xcapuri(u=>data) = $hu;
    $var(uri) = $xcapuri(u=>xuid);
    if ($rm == "PUT") { xcaps_put("$var(uri)", "$hu", "$rb"); }
    else if ($rm == "GET") { xcaps_get("$var(uri)", "$hu"); exit; }
    else if ($rm == "DELETE") { xcaps_del("$var(uri)", "$hu"); }
    pres_update_watchers("$var(uri)", "presence");
    pres_refresh_watchers("$var(uri)", "presence", 1);
    exit;
}
"""


def http(server, method, path, body=None):
    request = urllib.request.Request("http://127.0.0.1:%d%s" % (server.port, path), body and body.encode(),
                                     method=method,
                                     headers={"Content-Type": "application/auth-policy+xml",
                                              "Content-Length": str(len(body or ""))})
    try:
        with urllib.request.urlopen(request, timeout=5) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


@pytest.mark.parametrize("mode", ["write-through", "defaults"])
def test_rules_change_by_http(both, mode):
    """A phone writes its rules with XCAP: its watchers come to life, lose their right, and get it again."""

    def scenario(server, phone, trace):
        alice, ann, ben = phone("alice"), phone("ann"), phone("ben")
        path = "/xcap-root/pres-rules/users/sip:%s@example.org/index" % alice.user
        trace.note("put", http(server, "PUT", path, rules(**{ann.user: "allow", ben.user: "confirm"}))[0])
        trace.note("publish", alice.publish(body=pidf(alice.user, note="secret")).code)
        winfo = alice.subscribe(alice.uri, event="presence.winfo")
        first, second = ann.subscribe(alice.uri), ben.subscribe(alice.uri)
        first.wait(1), second.wait(1)
        trace.note("get", http(server, "GET", path)[0])
        for step, decided in enumerate([dict(ann="allow", ben="allow"), dict(ann="polite-block", ben="allow"),
                                        dict(ann="allow", ben="allow")]):
            document = rules(**{phone_of.user: decided[name] for name, phone_of in (("ann", ann), ("ben", ben))})
            trace.note("put %d" % step, http(server, "PUT", path, document)[0])
            ann.quiet(0.4), ben.quiet(0.4)
            for name, watch in (("ann", first), ("ben", second)):
                last = watch.notifies[-1]
                trace.note("%s %d" % (name, step),
                           (last.get("Subscription-State").split(";")[0], "secret" in last.text))
        trace.rows("watchers", server, "watchers")
        winfo.wait(1)

    both(scenario, workers=1, modules=("presence_xml",), force_active=False, tcp=True, extra_params=XCAP,
         presence=MODES[mode]["presence"])
