-- A presence server's routes in Lua: every function of the module.

-- Who is asking: the identity that a proxy before us has proved, else From.
local function identity(header)
	return KSR.pv.get("$hdr(" .. header .. ")")
end

local function publish()
	local sender = identity("Sender")
	if sender then
		return KSR.presence.handle_publish_uri(sender)
	end
	return KSR.presence.handle_publish()
end

local function subscribe()
	local watcher = identity("P-Asserted-Identity")
	if watcher then
		return KSR.presence.handle_subscribe_uri(watcher)
	end
	return KSR.presence.handle_subscribe()
end

-- What the other functions say of the presentity in the request URI: subscribers? watchers told of the documents, of a file,
-- judged again? may the user in From watch it?
local function report(uri, watcher)
	return table.concat({
		KSR.presence.pres_has_subscribers(uri, "presence"),
		KSR.presence.pres_refresh_watchers(uri, "presence", 1),
		KSR.presence.pres_refresh_watchers_file(uri, "presence", 1, "x", "y"),
		KSR.presence.pres_update_watchers(uri, "presence"),
		KSR.presence.pres_auth_status(watcher, uri),
	}, " ")
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
	if KSR.is_method("MESSAGE") then
		KSR.sl.sl_send_reply(299, report(KSR.pv.get("$ru"), KSR.pv.get("$fu")))
		return 1
	end
	if not (KSR.is_method("PUBLISH") or KSR.is_method("SUBSCRIBE")) then
		KSR.sl.sl_send_reply(405, "Method Not Allowed")
		return 1
	end
	if KSR.tm.t_newtran() < 0 then
		KSR.sl.sl_reply_error()
		return 1
	end
	if KSR.is_method("PUBLISH") then publish() else subscribe() end
	KSR.tm.t_release()
	return 1
end

-- presence:notify-reply: a NOTIFY was answered, or never.
function ksr_presence_event(name)
	KSR.notice("EVENT " .. name .. " " .. tostring(KSR.pv.get("$subs(uri)")) .. " " .. tostring(KSR.pv.get("$notify_reply($rs)")) .. "\n")
	return 1
end
