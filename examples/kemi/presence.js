// A presence server's routes in JavaScript: every function of the module.

// Who is asking: the identity that a proxy before us has proved, else From.
function identity(header) {
	return KSR.pv.get("$hdr(" + header + ")");
}

function publish() {
	var sender = identity("Sender");
	return sender ? KSR.presence.handle_publish_uri(sender) : KSR.presence.handle_publish();
}

function subscribe() {
	var watcher = identity("P-Asserted-Identity");
	return watcher ? KSR.presence.handle_subscribe_uri(watcher) : KSR.presence.handle_subscribe();
}

// What the other functions say of a presentity: subscribers? watchers told of the documents, of a file, judged again?
// may this user watch it?
function report(uri, watcher) {
	return [
		KSR.presence.pres_has_subscribers(uri, "presence"),
		KSR.presence.pres_refresh_watchers(uri, "presence", 1),
		KSR.presence.pres_refresh_watchers_file(uri, "presence", 1, "x", "y"),
		KSR.presence.pres_update_watchers(uri, "presence"),
		KSR.presence.pres_auth_status(watcher, uri),
	].map(Number).join(" ");
}

function ksr_request_route() {
	if (KSR.maxfwd.process_maxfwd(10) < 0) {
		KSR.sl.sl_send_reply(483, "Too Many Hops");
		return;
	}
	if (KSR.is_OPTIONS()) {
		KSR.sl.sl_send_reply(200, "OK");
		return;
	}
	if (KSR.is_method("MESSAGE")) {
		KSR.sl.sl_send_reply(299, report(KSR.pv.get("$ru"), KSR.pv.get("$fu")));
		return;
	}
	if (!(KSR.is_PUBLISH() || KSR.is_SUBSCRIBE())) {
		KSR.sl.sl_send_reply(405, "Method Not Allowed");
		return;
	}
	if (KSR.tm.t_newtran() < 0) {
		KSR.sl.sl_reply_error();
		return;
	}
	if (KSR.is_PUBLISH()) {
		publish();
	} else {
		subscribe();
	}
	KSR.tm.t_release();
}

// presence:notify-reply: a NOTIFY was answered, or never.
function ksr_presence_event(name) {
	KSR.notice("EVENT " + name + " " + KSR.pv.get("$subs(uri)") + " " + KSR.pv.get("$notify_reply($rs)") + "\n");
}
