"""A presence server's routes in Python: every function of the module. Users prove who they are with a password; servers
in trusted.list have asked them already."""
import os
import re

import KSR

DOMAIN = os.environ.get("DOMAIN", "example.org")
USERS = "subscriber"


def identity():
    """Who is asking: the URI, and whether a trusted server says so. Without one the request has been answered."""
    if KSR.permissions.allow_source_address(1) > 0:
        # $ai is the URI in P-Asserted-Identity, with or without a name and angle brackets.
        uri = KSR.pv.get("$ai") or KSR.pv.get("$fu")
        if not re.match("(?i)sips?:[^@]+@.", uri):
            KSR.sl.sl_send_reply(403, "No identity")
            return None, True
        return uri, True
    if KSR.auth_db.auth_check(DOMAIN, USERS, 0) <= 0:
        KSR.auth.auth_challenge(DOMAIN, 0)
        return None, False
    if KSR.pv.get("$au") != KSR.pv.get("$fU"):
        KSR.sl.sl_send_reply(403, "Not your name")
        return None, False
    return "sip:%s@%s" % (KSR.pv.get("$au"), DOMAIN), False


def is_allowed(trusted):
    """Users speak for themselves, trusted servers for everybody."""
    if trusted or (KSR.pv.get("$rU") == KSR.pv.get("$au") and KSR.pv.get("$rd") == KSR.pv.get("$ar")):
        return True
    KSR.sl.sl_send_reply(403, "Not your presence")
    return False


def publish(trusted):
    """The watcher at the Sender of a trusted server is not notified of what it has published itself."""
    sender = trusted and KSR.pv.get("$(hdr(Sender){nameaddr.uri})")
    return KSR.presence.handle_publish_uri(sender) if sender else KSR.presence.handle_publish()


def report(uri, watcher):
    """What the other functions say of a presentity: subscribers? watchers notified of the documents, of a file, judged
    again? may the user watch it?"""
    return " ".join(str(int(answer)) for answer in (
        KSR.presence.pres_has_subscribers(uri, "presence"),
        KSR.presence.pres_refresh_watchers(uri, "presence", 1),
        KSR.presence.pres_refresh_watchers_file(uri, "presence", 1, "x", "y"),
        KSR.presence.pres_update_watchers(uri, "presence"),
        KSR.presence.pres_auth_status(watcher, uri),
    ))


def asks_for_watchers():
    """Who watches a user (presence.winfo) is for that user to know."""
    return (KSR.pv.get("$hdr(Event)") or "").split(";")[0].strip().lower().endswith(".winfo")


def serve(user, trusted):
    if KSR.tm.t_newtran() < 0:
        KSR.sl.sl_reply_error()
        return
    if KSR.is_method("PUBLISH"):
        publish(trusted)
    elif asks_for_watchers() and "sip:%s@%s" % (KSR.pv.get("$rU"), KSR.pv.get("$rd")) != user:
        KSR.tm.t_reply(403, "Not your watchers")
    else:
        KSR.presence.handle_subscribe_uri(user)
    KSR.tm.t_release()


def mod_init():
    return kamailio()


class kamailio:
    def child_init(self, rank):
        return 0

    def ksr_request_route(self, msg):
        if KSR.maxfwd.process_maxfwd(10) < 0:
            KSR.sl.sl_send_reply(483, "Too Many Hops")
            return 1
        if KSR.is_method("OPTIONS"):
            KSR.sl.sl_send_reply(200, "OK")
            return 1
        if not (KSR.is_method("PUBLISH") or KSR.is_method("SUBSCRIBE") or KSR.is_method("MESSAGE")):
            KSR.sl.sl_send_reply(405, "Method Not Allowed")
            return 1
        user, trusted = identity()
        if not user:
            return 1
        if KSR.is_method("SUBSCRIBE"):
            serve(user, trusted)
        elif is_allowed(trusted):
            if KSR.is_method("MESSAGE"):
                KSR.sl.sl_send_reply(299, report(KSR.pv.get("$ru"), user))
            else:
                serve(user, trusted)
        return 1

    def ksr_presence_event(self, msg, name):
        """Events of the core and of other modules. Kamailio does not call it for presence:notify-reply."""
        KSR.notice("EVENT %s %s %s\n" % (name, KSR.pv.get("$subs(uri)"), KSR.pv.get("$notify_reply($rs)")))
        return 1
