-- A presence server's routes in Lua: every function of the module. Users prove who they are with a password; servers in
-- trusted.list have asked them already.

local DOMAIN = os.getenv("DOMAIN") or "example.org"
local USERS = "subscriber"

-- Who is asking: the URI, and whether a trusted server says so. Without an identity the request has been answered.
local function identity()
	if KSR.permissions.allow_source_address(1) > 0 then
		-- $ai is the URI in P-Asserted-Identity, with or without a name and angle brackets.
		local uri = KSR.pv.get("$ai") or KSR.pv.get("$fu")
		if not uri:match("^[Ss][Ii][Pp][Ss]?:[^@]+@.") then
			KSR.sl.sl_send_reply(403, "No identity")
			return nil, true
		end
		return uri, true
	end
	if KSR.auth_db.auth_check(DOMAIN, USERS, 0) <= 0 then
		KSR.auth.auth_challenge(DOMAIN, 0)
		return nil, false
	end
	if KSR.pv.get("$au") ~= KSR.pv.get("$fU") then
		KSR.sl.sl_send_reply(403, "Not your name")
		return nil, false
	end
	return "sip:" .. KSR.pv.get("$au") .. "@" .. DOMAIN, false
end

-- Users speak for themselves, trusted servers for everybody.
local function is_allowed(trusted)
	if trusted or (KSR.pv.get("$rU") == KSR.pv.get("$au") and KSR.pv.get("$rd") == KSR.pv.get("$ar")) then
		return true
	end
	KSR.sl.sl_send_reply(403, "Not your presence")
	return false
end

-- The watcher at the Sender of a trusted server is not notified of what it has published itself.
local function publish(trusted)
	local sender = trusted and KSR.pv.get("$(hdr(Sender){nameaddr.uri})")
	if sender and sender ~= "" then
		return KSR.presence.handle_publish_uri(sender)
	end
	return KSR.presence.handle_publish()
end

-- What the other functions say of a presentity: subscribers? watchers notified of the documents, of a file, judged
-- again? may the user watch it?
local function report(uri, watcher)
	return table.concat({
		KSR.presence.pres_has_subscribers(uri, "presence"),
		KSR.presence.pres_refresh_watchers(uri, "presence", 1),
		KSR.presence.pres_refresh_watchers_file(uri, "presence", 1, "x", "y"),
		KSR.presence.pres_update_watchers(uri, "presence"),
		KSR.presence.pres_auth_status(watcher, uri),
	}, " ")
end

-- Who watches a user (presence.winfo) is for that user to know.
local function asks_for_watchers()
	local event = (KSR.pv.get("$hdr(Event)") or ""):lower()
	return event:match("^[^;]*%.winfo%s*$") or event:match("^[^;]*%.winfo%s*;")
end

local function serve(user, trusted)
	if KSR.tm.t_newtran() < 0 then
		KSR.sl.sl_reply_error()
		return
	end
	if KSR.is_method("PUBLISH") then
		publish(trusted)
	elseif asks_for_watchers() and "sip:" .. (KSR.pv.get("$rU") or "") .. "@" .. KSR.pv.get("$rd") ~= user then
		KSR.tm.t_reply(403, "Not your watchers")
	else
		KSR.presence.handle_subscribe_uri(user)
	end
	KSR.tm.t_release()
end

function ksr_request_route()
	if KSR.maxfwd.process_maxfwd(10) < 0 then
		KSR.sl.sl_send_reply(483, "Too Many Hops")
		return 1
	end
	if KSR.is_method("OPTIONS") then
		KSR.sl.sl_send_reply(200, "OK")
		return 1
	end
	if not (KSR.is_method("PUBLISH") or KSR.is_method("SUBSCRIBE") or KSR.is_method("MESSAGE")) then
		KSR.sl.sl_send_reply(405, "Method Not Allowed")
		return 1
	end
	local user, trusted = identity()
	if not user then
		return 1
	end
	if KSR.is_method("SUBSCRIBE") then
		serve(user, trusted)
	elseif is_allowed(trusted) then
		if KSR.is_method("MESSAGE") then
			KSR.sl.sl_send_reply(299, report(KSR.pv.get("$ru"), user))
		else
			serve(user, trusted)
		end
	end
	return 1
end

-- Events of the core and of other modules. Kamailio does not call it for presence:notify-reply.
function ksr_presence_event(name)
	local watched, answer = KSR.pv.get("$subs(uri)"), KSR.pv.get("$notify_reply($rs)")
	KSR.notice("EVENT " .. name .. " " .. tostring(watched) .. " " .. tostring(answer) .. "\n")
	return 1
end
