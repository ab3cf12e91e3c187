"""A presence server's routes in Python: every function of the module."""
import KSR


def identity(header):
    """Who is asking: the identity that a proxy before us has proved, else From."""
    return KSR.pv.get("$hdr(%s)" % header)


def publish():
    sender = identity("Sender")
    return KSR.presence.handle_publish_uri(sender) if sender else KSR.presence.handle_publish()


def subscribe():
    watcher = identity("P-Asserted-Identity")
    return KSR.presence.handle_subscribe_uri(watcher) if watcher else KSR.presence.handle_subscribe()


def report(uri, watcher):
    """What the other functions say of a presentity: subscribers? watchers told of the documents, of a file, judged again?
    may this user watch it?"""
    return " ".join(str(int(answer)) for answer in (
        KSR.presence.pres_has_subscribers(uri, "presence"),
        KSR.presence.pres_refresh_watchers(uri, "presence", 1),
        KSR.presence.pres_refresh_watchers_file(uri, "presence", 1, "x", "y"),
        KSR.presence.pres_update_watchers(uri, "presence"),
        KSR.presence.pres_auth_status(watcher, uri),
    ))


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
        if KSR.is_method("MESSAGE"):
            KSR.sl.sl_send_reply(299, report(KSR.pv.get("$ru"), KSR.pv.get("$fu")))
            return 1
        if not (KSR.is_method("PUBLISH") or KSR.is_method("SUBSCRIBE")):
            KSR.sl.sl_send_reply(405, "Method Not Allowed")
            return 1
        if KSR.tm.t_newtran() < 0:
            KSR.sl.sl_reply_error()
            return 1
        if KSR.is_method("PUBLISH"):
            publish()
        else:
            subscribe()
        KSR.tm.t_release()
        return 1

    def ksr_presence_event(self, msg, name):
        """presence:notify-reply: a NOTIFY was answered, or never."""
        KSR.notice("EVENT %s %s %s\n" % (name, KSR.pv.get("$subs(uri)"), KSR.pv.get("$notify_reply($rs)")))
        return 1
