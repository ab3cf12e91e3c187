"""Steps in which users of pua publish: registrations, calls, commands, JSON."""

import json
import urllib.error

from . import agents


class AgentSteps:
    """Part of a Side."""

    def _without(self, seen, user):
        """Whether a step finds no such user of pua."""
        agent = self.config.get("agent")
        seen.skipped = not agent or bool(user) and user not in agent["users"]
        return seen.skipped

    def _register(self, seen, step):
        if self._without(seen, None) or not {"pua_usrloc", "pua_reginfo"} & set(self.config["agent"]["users"]):
            seen.skipped = True
            return
        phone = self._phone(step["who"])
        cseq = sum(one.step["do"] == "register" and one.step["who"] == step["who"] for one in self.steps)
        data, call_id = agents.register(phone, step, seen.number, cseq)
        self._reply(seen, self.network.request(phone, data, call_id, cseq))

    def _call(self, seen, step):
        if self._without(seen, "pua_dialoginfo") or step["who"] == step["to"]:
            seen.skipped = True
            return
        caller, callee = self._phone(step["who"]), self._phone(step["to"])
        callee.call = step["answer"]
        call = self.calls[step["call"]] = agents.Call(caller, callee, seen.number)
        for name in ("caller-%d" % seen.number, "callee-%s" % callee.user):
            self.names.learn(name, name)
        data = call.request("INVITE")
        reply = self.network.request(caller, data, call.call_id, call.cseq, 5.0 if step["answer"] else 0.5)
        self._reply(seen, reply)
        if step["answer"]:
            call.accept(reply and reply.message)
            if call.answered:
                caller.send(call.request("ACK"))

    def _hangup(self, seen, step):
        call = self.calls.get(step["call"])
        if self._without(seen, "pua_dialoginfo") or not call or call.over:
            seen.skipped = True
            return
        call.over = True
        method = "BYE" if call.answered else "CANCEL"
        self._reply(seen, self.network.request(call.caller, call.request(method), call.call_id, call.cseq, 2.0))

    def _json(self, seen, step):
        if self._without(seen, "pua_json"):
            return
        phone = self._phone(step["who"])
        data, call_id = agents.message(phone, step, seen.number)
        self._reply(seen, self.network.request(phone, data, call_id, 1))

    def _command(self, seen, step):
        if self._without(seen, "pua_rpc"):
            return
        try:
            answer = self.server.json_rpc(step["name"], *agents.command(step, self.server), timeout=2.0)
        except (TimeoutError, urllib.error.URLError, json.JSONDecodeError, OSError) as error:
            answer = "none: %s" % type(error).__name__
        seen.answer = self.names.plain(json.dumps(answer, sort_keys=True))
