// A presence server's routes in JavaScript: every function of the module. Users prove who they are with a password;
// servers in trusted.list have asked them already.

var USERS = "subscriber";

function domain() {
	return KSR.pv.get("$env(DOMAIN)") || "example.org";
}

// Who is asking: the URI, and whether a trusted server says so. Without an identity the request has been answered.
function identity() {
	if (KSR.permissions.allow_source_address(1) > 0) {
		// $ai is the URI in P-Asserted-Identity, with or without a name and angle brackets.
		var uri = KSR.pv.get("$ai") || KSR.pv.get("$fu");
		if (!/^sips?:[^@]+@./i.test(uri)) {
			KSR.sl.sl_send_reply(403, "No identity");
			return null;
		}
		return { uri: uri, trusted: true };
	}
	if (KSR.auth_db.auth_check(domain(), USERS, 0) <= 0) {
		KSR.auth.auth_challenge(domain(), 0);
		return null;
	}
	if (KSR.pv.get("$au") !== KSR.pv.get("$fU")) {
		KSR.sl.sl_send_reply(403, "Not your name");
		return null;
	}
	return { uri: "sip:" + KSR.pv.get("$au") + "@" + domain(), trusted: false };
}

// Users speak for themselves, trusted servers for everybody.
function isAllowed(user) {
	if (user.trusted || (KSR.pv.get("$rU") === KSR.pv.get("$au") && KSR.pv.get("$rd") === KSR.pv.get("$ar"))) {
		return true;
	}
	KSR.sl.sl_send_reply(403, "Not your presence");
	return false;
}

// The watcher at the Sender of a trusted server is not notified of what it has published itself.
function publish(user) {
	var sender = user.trusted && KSR.pv.get("$(hdr(Sender){nameaddr.uri})");
	return sender ? KSR.presence.handle_publish_uri(sender) : KSR.presence.handle_publish();
}

// What the other functions say of a presentity: subscribers? watchers notified of the documents, of a file, judged
// again? may the user watch it?
function report(uri, watcher) {
	return [
		KSR.presence.pres_has_subscribers(uri, "presence"),
		KSR.presence.pres_refresh_watchers(uri, "presence", 1),
		KSR.presence.pres_refresh_watchers_file(uri, "presence", 1, "x", "y"),
		KSR.presence.pres_update_watchers(uri, "presence"),
		KSR.presence.pres_auth_status(watcher, uri),
	].map(Number).join(" ");
}

// Who watches a user (presence.winfo) is for that user to know.
function asksForWatchers() {
	return /^[^;]*\.winfo\s*(;|$)/i.test(KSR.pv.get("$hdr(Event)") || "");
}

function serve(user) {
	if (KSR.tm.t_newtran() < 0) {
		KSR.sl.sl_reply_error();
		return;
	}
	if (KSR.is_PUBLISH()) {
		publish(user);
	} else if (asksForWatchers() && "sip:" + KSR.pv.get("$rU") + "@" + KSR.pv.get("$rd") != user.uri) {
		KSR.tm.t_reply(403, "Not your watchers");
	} else {
		KSR.presence.handle_subscribe_uri(user.uri);
	}
	KSR.tm.t_release();
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
	if (!(KSR.is_PUBLISH() || KSR.is_SUBSCRIBE() || KSR.is_method("MESSAGE"))) {
		KSR.sl.sl_send_reply(405, "Method Not Allowed");
		return;
	}
	var user = identity();
	if (!user) {
		return;
	}
	if (KSR.is_SUBSCRIBE()) {
		serve(user);
	} else if (isAllowed(user)) {
		if (KSR.is_method("MESSAGE")) {
			KSR.sl.sl_send_reply(299, report(KSR.pv.get("$ru"), user.uri));
		} else {
			serve(user);
		}
	}
}

// Events of the core and of other modules. Kamailio does not call it for presence:notify-reply.
function ksr_presence_event(name) {
	KSR.notice("EVENT " + name + " " + KSR.pv.get("$subs(uri)") + " " + KSR.pv.get("$notify_reply($rs)") + "\n");
}
