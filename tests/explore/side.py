"""One side of a life: a server, its phones, what they have agreed on, and what was observed at each step."""

import math
import re
import shutil
import signal
import time

from . import config as configs
from . import backends, documents, pair, requests, rows, xcap
from .agent_steps import AgentSteps
from .names import Names, Span
from .phones import DOMAIN, Network

HIDDEN = ("via", "call-id", "server", "user-agent", "max-forwards", "cseq", "content-length", "date")
BAD = re.compile(r"\b(?:ERROR|CRITICAL|ALERT|BUG|EMERG(?:ENCY)?): ")


# What the columns hold of what a step may lengthen, in characters.
ROOM = {"contact": 220, "call_id": 255, "agent": 255, "from_tag": 64}
# The kernel's coarse clock, which servers read, is so many seconds behind at most.
COARSE = 0.02


def named(step):
    """The user whom a step is about."""
    found = re.match(r"sips?:([^@:]+)[^@]*@", step.get("ruri", ""))
    return found[1] if found else step.get("to", step.get("who"))


def named_event(step):
    """The event package of a PUBLISH: where it has several Event headers the first counts."""
    headers = step.get("headers")
    written = headers.get("Event", step["event"]) if isinstance(headers, dict) else step["event"]
    written = written[0] if isinstance(written, list) and written else written
    if written == "dialog;sla" or not isinstance(written, str):
        return written
    return re.match(r"[^;\s\x00]*", written.lstrip())[0]


def is_beyond(step, driver):
    """A string of a SUBSCRIBE fits no column: it is too long, or MariaDB's columns (utf8mb3) lack its letters."""
    if any(isinstance(step.get(name), int) and step[name] > room for name, room in ROOM.items()):
        return True
    headers, event_id = step.get("headers", {}), step.get("event_more", "").partition("id=")[2]
    names = "%s@%s@%s" % (step.get("from"), step.get("ruri"), headers.get("From"))
    if max(map(len, [event_id] + re.split("[<>@:]", names))) > 64:
        return True
    written = names + "".join(str(headers.get(name)) for name in ("To", "Contact"))
    return driver == "mysql" and any(ord(letter) > 0xFFFF for letter in written)


class Dialog:
    """The watcher's view of a subscription."""

    def __init__(self, key, who, to, event):
        self.key, self.who, self.to, self.event = key, who, to, event
        self.call_id, self.from_tag = "call-%s" % key, "from-%s" % key
        self.to_tag = self.target = None
        self.cseq = 0
        self.about = event  # the package that the first request names
        self.at = 0  # the server that it is with: the first, or its peer
        self.granted = None  # (send, receive) of the last 2xx, wall clock in seconds
        self.ends = 0.0  # when it runs out if nothing refreshes it
        self.own, self.headers = {}, {}
        self.beyond = False  # a string of it fits no column: a server database loses it at a restart
        self.over = False
        self.unsure = False  # a kill may have lost it


class Step:
    """What was observed at one step: replies, NOTIFYs by dialog, lines of the script, errors, rows, an RPC's answer."""

    def __init__(self, number, step):
        self.number, self.step = number, step
        self.started = time.time()
        self.took = 0.0
        self.reply = None  # (code, headers) or None
        self.notifies = {}  # dialog key -> list of (headers, body)
        self.raw = []  # (dialog, Message) in order of arrival
        self.script, self.errors = [], []
        self.rows, self.answer = {}, None
        self.codes = set()  # of all replies: a request may be answered twice
        self.skipped = False


class Side(AgentSteps):
    def __init__(self, which, config, backend, quiet):
        self.which, self.config, self.backend = which, config, backend
        self.names = Names()
        self.server, self.peer = configs.make(which, config, backend.url(which)), None
        if config.get("pair"):
            self.peer = configs.make(which, config, "sqlite", self.server)
        self.network = Network(self)
        self.quiet = quiet + (1.4 if config["notifiers"] else 0.0) + (0.05 if config["transport"] != "udp" else 0.0)
        self.quiet += 0.1 if config.get("agent") or config.get("pair") else 0.0
        self.dialogs, self.etags, self.granted, self.calls = {}, {}, {}, {}
        self.steps = []
        self.refusing = set()  # tables that are away
        self.dead = None  # why there is nothing more to see
        self.started = False
        self._log_at = {}
        self._notifies_at = self._replies_at = 0
        self.stop_seconds, self.stop_code = 0.0, 0

    # -- the server ----------------------------------------------------------------------------------------------

    def start(self):
        self.backend.clean(self.which)
        self._start_server()
        if self.peer:
            self.peer.start()
            pair.join(self.server, self.peer)
            self.memory_at_start = self.memory()
            self.names.learn("%s:%d" % (pair.ADDRESS, self.peer.port), "PEER")
        self.started = True
        self.names.learn("127.0.0.1:%d" % self.server.port, "SERVER")
        self.names.learn("[::1]:%d" % self.server.port, "SERVER")
        if hasattr(self.server, "tls_port"):
            self.names.learn("127.0.0.1:%d" % self.server.tls_port, "SERVER(tls)")
        for user in ("alice", "bob", "carol", "dave"):
            self.network.add(user, self.config["transport"] if user != "alice" else "udp")

    def _start_server(self):
        """Starts the server; the host loses a SIGTERM that comes before its ctl process listens. Processes of the last
        one may hold their sockets for a moment on a busy machine."""
        for left in (2, 1, 0):
            try:
                self.server.start()
                break
            except RuntimeError as error:
                if not left or "Address already in use" not in str(error):
                    raise
                time.sleep(2)
        self.memory_at_start = self.memory()

    def memory(self):
        """Shared memory in use, in bytes; None when the server does not say."""
        found = re.search(r"\bused: (\d+)", self.server.rpc("core.shmmem"))
        return int(found[1]) if found else None

    def barrier(self):
        """Waits until the workers have done what was sent to them before."""
        for _ in range(20):
            if self.server.answers() or not self.server.alive():
                return

    def stop(self, sig=signal.SIGTERM):
        before = time.monotonic()
        self.stop_code = self.server.stop(sig)
        self.stop_seconds = time.monotonic() - before

    def close(self):
        self.network.close()
        for server in filter(None, (self.server, self.peer)):
            server.stop()
            shutil.rmtree(server.folder, ignore_errors=True)

    # -- steps ---------------------------------------------------------------------------------------------------

    def run(self, number, step):
        """Runs one step and keeps what was observed."""
        seen = Step(number, step)
        self.steps.append(seen)
        if self.dead:
            seen.skipped = True
            return
        getattr(self, "_" + step["do"])(seen, step)
        seen.took = time.time() - seen.started
        if not seen.skipped and self.server.process is not None:
            self.network.settle(self.quiet)
        self._collect(seen)
        if self.server.process is None or not self.server.alive():
            self.dead = self.dead or "the server is gone"

    def _phone(self, user, at=0):
        """The phone of a user, which speaks to the first server, or to its peer."""
        phone = self.network.phones[user]
        phone.server = self.peer if at and self.peer else self.server
        return phone

    def _subscribe(self, seen, step):
        dialog = self.dialogs.get(step["dialog"])
        if dialog and dialog.to_tag and not dialog.over and not step.get("again"):
            seen.skipped = True
            return
        if step.get("again") and dialog and (dialog.over or dialog.cseq != 1):
            seen.skipped = True
            return
        if not dialog or not step.get("again"):
            dialog = self._new_dialog(seen, step)
            dialog.cseq += 1
        tag, target = dialog.to_tag, dialog.target
        if step.get("again"):
            # The same request once more when its transaction is gone: with a branch of its own, or a copy.
            dialog.to_tag = dialog.target = None
            time.sleep(1.2)
        is_copy = not tag or step.get("again") == "copy"
        self._send_subscribe(
            seen, step if is_copy else dict(step, branch="again-%d" % seen.number), dialog, dialog.event
        )
        if tag and step.get("again"):
            dialog.to_tag, dialog.target = tag, target

    def _new_dialog(self, seen, step):
        old = self.dialogs.pop(step["dialog"], None)
        if old:
            self.dialogs["%s of step %d" % (old.key, seen.number)] = old
            old.over = True
        dialog = self.dialogs[step["dialog"]] = Dialog(step["dialog"], step["who"], named(step), step["event"])
        # The watcher goes on under the name and the URI that opened the dialog.
        dialog.at = step.get("at", 0)
        written = named_event(step)
        dialog.about = written if isinstance(written, str) else step["event"]
        dialog.own = {name: step[name] for name in ("from", "ruri") if name in step}
        dialog.headers = {name: value for name, value in step.get("headers", {}).items() if name in ("From", "To")}
        dialog.call_id += "-%d" % seen.number
        dialog.from_tag += "-%d" % seen.number
        if step.get("from_tag"):
            tag = step["from_tag"]
            dialog.from_tag = requests.long_value(tag, seen.number, "f") if isinstance(tag, int) else tag
        if step.get("call_id"):
            dialog.call_id = requests.long_value(step["call_id"], seen.number, "i")
        return dialog

    def _refresh(self, seen, step):
        dialog = self.dialogs.get(step["dialog"])
        if not dialog or not dialog.to_tag:
            seen.skipped = True
            return
        dialog.cseq += step.get("cseq_step", 1)
        if step.get("cseq_step", 1) < 1:
            # Another request, not a copy of the last one.
            step = dict(step, branch="odd-%d" % seen.number)
        tag, event = dialog.to_tag, step.get("event", dialog.event)
        if step.get("tag") == "wrong":
            dialog.to_tag = "wrong-tag"
        try:
            self._send_subscribe(seen, step, dialog, event)
        finally:
            dialog.to_tag = tag
        if step.get("cseq_step", 1) < 1:
            dialog.cseq += 1 - step["cseq_step"]

    def _send_subscribe(self, seen, step, dialog, event):
        phone = self._phone(dialog.who, dialog.at)
        expires = step.get("expires")
        step = dict(dialog.own, **step)
        if dialog.target:
            step.pop("ruri", None)
        step["headers"] = dict(dialog.headers, **step.get("headers", {}))
        data = requests.subscribe(phone, dialog, step, seen.number, expires, event, phone.transport)
        sent = time.time()
        reply = self.network.request(phone, data, dialog.call_id, dialog.cseq, again=step.get("twice"))
        self._reply(seen, reply)
        if reply is None or reply.message.code // 100 != 2:
            return
        dialog.beyond = dialog.beyond or is_beyond(step, self.backend.name)
        dialog.to_tag = dialog.to_tag or reply.message.tag("To")
        self.names.learn(dialog.to_tag, "TAG(%s)" % dialog.key)
        dialog.granted = (math.floor(sent - COARSE), math.floor(reply.at))
        granted = int(re.sub(r"\D", "", reply.message.get("Expires", "0")) or 0)
        dialog.ends = sent + granted
        dialog.over = granted == 0
        dialog.unsure = False
        contact = reply.message.get("Contact")
        if contact and "<" in contact:
            dialog.target = contact.split("<", 1)[1].split(">", 1)[0]

    def _publish(self, seen, step):
        phone = self._phone(step["who"], step.get("at"))
        event = step["event"]
        slot = (step["who"], step["slot"], event)
        etag = self.etags.get(slot)
        if step["op"] in ("refresh", "modify", "remove") and not etag:
            seen.skipped = True
            return
        if step["op"] == "initial":
            etag = None
        if step["op"] == "foreign":
            etag = step.get("etag", "a.1.2.3.4")
        body = b""
        if step["op"] in ("initial", "modify", "foreign") or step.get("body"):
            what, kind = step.get("as_event", event), step.get("kind", "open")
            body = documents.document(what, kind, step["who"], seen.number, step["slot"])
        step = dict(step, expires=0) if step["op"] == "remove" else step
        ctype = step.get("ctype", documents.TYPES[step.get("as_event", event)])
        data, call_id = requests.publish(phone, step, seen.number, body, ctype, etag, phone.transport)
        sent = time.time()
        reply = self.network.request(phone, data, call_id, 1, again=step.get("twice"))
        if reply is not None and reply.message.code // 100 == 2:
            new = reply.message.get("SIP-ETag")
            if step["op"] == "remove":
                self.etags.pop(slot, None)
            else:
                self.etags[slot] = new
            self.names.learn(new, "ETAG(%d)" % seen.number)
            self.granted[new] = (math.floor(sent - COARSE), math.floor(reply.at))
        self._reply(seen, reply)

    def _answers(self, seen, step):
        phone = self._phone(step["who"])
        phone.code, phone.delay, phone.more = step["code"], step.get("delay", 0.0), list(step.get("headers", ()))

    def _rpc(self, seen, step):
        answer = self.server.rpc(*step["words"])
        seen.answer = self.names.plain(answer)

    def _rules(self, seen, step):
        rules = self.backend.outside and self.config["rules"]
        if not rules or "presence_xml" not in self.config["packages"]:
            seen.skipped = True
            return
        uri, document = "/pres-rules/users/%s/index" % step["who"], documents.rules(step["watchers"])
        if "kind" in step:
            document = documents.odd_rules(step["kind"], step["watchers"])
        if "xcap" in self.refusing:
            seen.skipped = True
            return
        if self.config.get("xcap"):
            seen.answer = xcap.put(self.server, step["who"], document)
            return
        self.backend.put_document(self.which, self.server, step["who"], backends.RULES, uri, document)
        seen.answer = self.server.rpc("presence.updateWatchers", "sip:%s@%s" % (step["who"], DOMAIN), "presence")

    def _hard_state(self, seen, step):
        """A document that somebody has put on the XCAP server for a user (RFC 4827), and that does not expire."""
        rules = self.backend.outside and self.config["rules"] and "xcap" not in self.refusing
        if not rules or "presence_xml" not in self.config["packages"]:
            seen.skipped = True
            return
        user, uri = step["who"], "sip:%s@%s" % (step["who"], DOMAIN)
        path, document = "/pidf-manipulation/users/%s/%s" % (uri, step["file"]), None
        if step["kind"] != "none":
            document = documents.document("presence", step["kind"], user, seen.number, step["file"]).decode()
        self.backend.put_document(self.which, self.server, user, backends.MANIPULATION, path, document)
        seen.answer = self.server.rpc("presence.refreshWatchers", uri, "presence", 2, path, step["file"])

    def _wait(self, seen, step):
        end = time.monotonic() + step["seconds"]
        while time.monotonic() < end:
            self.network.pump(end - time.monotonic())

    def _row(self, seen, step):
        if self.refusing:
            seen.skipped = True
            return
        self.backend.execute(self.which, self.server, step["sql"])

    def _refuse(self, seen, step):
        """The database refuses a table, until it is asked for again."""
        table = step["table"]
        names = (table, "hidden_" + table) if table not in self.refusing else ("hidden_" + table, table)
        self.refusing ^= {table}
        self.backend.execute(self.which, self.server, "alter table %s rename to %s" % names)

    def obey(self):
        """The database takes everything again."""
        for table in sorted(self.refusing):
            self._refuse(None, dict(table=table))

    def _restart(self, seen, step):
        self.obey()
        self.stop(signal.SIGKILL if step["how"] == "kill" else signal.SIGTERM)
        if step["how"] != "kill":
            seen.rows = rows.all_tables(self)
        try:
            self._start_server()
        except RuntimeError as error:
            self.dead = "does not start: %s" % str(error)[-600:]
            return
        self.network.reconnect()
        self._forget(step["how"])

    def _forget(self, how):
        """What the server may no longer know after a restart."""
        for dialog in self.dialogs.values():
            is_late = self.config["mode"] == 2 or self.backend.name == "text"
            # A NOTIFY that finds no connection ends a subscription.
            gone = self.config["transport"] != "udp"
            if self.config["mode"] == 0 or (how == "kill" and is_late) or dialog.beyond or gone:
                dialog.unsure = True

    # -- what was observed ---------------------------------------------------------------------------------------

    def _reply(self, seen, reply):
        if reply is not None:
            headers = self._headers(reply.message)
            if seen.step["do"] == "publish":
                headers = [(name, "new" if name == "sip-etag" else value) for name, value in headers]
            seen.reply = (reply.message.start.split(" ", 1)[1], headers)

    def _headers(self, message, dialog=None, at=0.0, started=0.0):
        found = []
        for name, value in message.headers:
            name = name.lower()
            if name in HIDDEN:
                continue
            value = self.names.plain(re.sub(r";tag=[^;>]*", "", value) if name in ("from", "to") else value)
            if name == "subscription-state" and dialog is not None and dialog.granted and "expires=" in value:
                state, number = re.match(r"(.*expires=)(\d+)", value).groups()
                value = (state, Span.granted(int(number), dialog.granted, started, at))
            if name == "allow-events":
                value = ", ".join(sorted(value.split(", ")))
            found.append((name, value))
        return sorted(found, key=lambda item: item[0])

    def _collect(self, seen):
        for notify in self.network.notifies[self._notifies_at :]:
            message = notify.message
            dialog = next((d for d in self.dialogs.values() if d.call_id == message.get("Call-ID")), None)
            key = dialog.key if dialog else "unknown %s" % message.get("Call-ID")
            self.names.learn(message.tag("From"), "TAG(%s)" % key)
            headers = [("start", self.names.plain(message.start))]
            headers += self._headers(message, dialog, notify.at, seen.started)
            body = self.names.plain(message.body.decode("utf-8", "backslashreplace"))
            seen.notifies.setdefault(key, []).append((headers, body))
            seen.raw.append((dialog, message))
            if dialog and message.get("Subscription-State", "").startswith("terminated"):
                dialog.over = True
        self._notifies_at = len(self.network.notifies)
        seen.codes = {reply.message.code for reply in self.network.replies[self._replies_at :]} - {100}
        self._replies_at = len(self.network.replies)
        if not seen.skipped and not seen.rows and not self.refusing and self.backend.outside:
            seen.rows = rows.written_through(self)
        self._read_log(seen)

    def _read_log(self, seen):
        for server in filter(None, (self.server, self.peer)):
            log = server.log()
            new, self._log_at[server] = log[self._log_at.get(server, 0) :], len(log)
            if "exited by a signal" in new:
                # The others end a moment later.
                self.dead = self.dead or "a process has died"
            for line in new.splitlines():
                if "SEEN local KDMQ " in line:
                    continue
                if "SEEN " in line:
                    seen.script.append(self.names.plain(line.split("SEEN ", 1)[1]))
                elif BAD.search(line):
                    seen.errors.append(line)
        seen.script.sort()

    def restarted_before(self, number):
        return any(seen.step["do"] == "restart" and not seen.skipped for seen in self.steps[:number])

    def log(self):
        return self.server.log()
