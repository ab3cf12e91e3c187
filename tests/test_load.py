"""Commands while the server works, and memory after a flood of everything."""
import random
import re
import threading
import time

import pytest

from conftest import MODES, SOAK
from kit.sip import Client, dialog_info, pidf
from rig import FAST_MEMORY, MEMORY, Rig

COMMANDS = [
    ("presence.subscriptions", "limit=40"), ("presence.subscriptions", "event=dialog", "status=active"),
    ("presence.busiest", 10),
    ("presence.failing", 10), ("presence.explain", "sip:w0@example.org", "sip:u1@example.org", "presence"),
    ("presence.presentity_list",),
    ("presence.watcher_list", "sip:u1@example.org"),
    ("presence.refreshWatchers", "sip:u1@example.org", "presence", 1), ("presence.cleanup",),
    ("presence.config",), ("pkg.stats",), ("stats.get_statistics", "presence:"),
]


# What only some modes have.
MORE = {"memory": [("presence.presentity_show", "sip:u1@example.org", "full")],
        "defaults": [("presence.publish_cache_sync",)], "write-through": [("presence.publish_cache_sync",)]}


@pytest.mark.suite("commands")
@pytest.mark.parametrize("mode", MODES)
def test_commands_under_load(ours, mode, figure):
    """Every command again and again beside PUBLISHes and refreshes: each is answered, no request is refused or waits
    for one."""
    server = ours(workers=4, shm=512, **MODES[mode])
    crowd = [Client(server, "w%d" % n) for n in range(3)]
    watches = [client.subscribe("sip:u%d@example.org" % (n % 20)) for client in crowd
               for n in range(200 if mode != "database-only" else 60)]
    for client in crowd:
        client.quiet(0.3)
    stop, refused, waits, etags = threading.Event(), [], [], {}
    first = Client(server, "first")
    for n in range(20):
        etags["sip:u%d@example.org" % n] = first.publish("sip:u%d@example.org" % n,
                                                         body=pidf("u%d" % n)).get("SIP-ETag")
    first.close()

    def publish(part):
        phone = Client(server, "p%d" % part)
        while not stop.is_set():
            # Each presentity has one publisher.
            user = "sip:u%d@example.org" % (random.randrange(10) * 2 + part)
            began = time.monotonic()
            reply = phone.publish(user, body=pidf(user[4:user.index("@")]), etag=etags[user])
            waits.append(time.monotonic() - began)
            if reply is None or reply.code != 200:
                refused.append((user, reply))
                return
            etags[user] = reply.get("SIP-ETag")
            time.sleep(0.01)
        phone.close()

    def refresh(client, mine):
        while not stop.is_set():
            watch = random.choice(mine)
            reply = watch.refresh()
            if reply is None or reply.code != 200:
                refused.append((watch.to, reply))
                return
            client.quiet(0.02)

    threads = [threading.Thread(target=publish, args=(part,)) for part in range(2)]
    threads += [threading.Thread(target=refresh, args=(client, [w for w in watches if w.client is client]))
                for client in crowd]
    [thread.start() for thread in threads]
    times, until = [], time.monotonic() + (60 if SOAK else 4)
    while time.monotonic() < until:
        for words in COMMANDS + MORE.get(mode, []):
            began = time.monotonic()
            answer = server.rpc(*words)
            times.append(time.monotonic() - began)
            assert "error" not in answer.lower() or "db_errors" in answer, "%s: %s" % (words, answer)
    stop.set()
    [thread.join() for thread in threads]
    assert not refused, refused[:3]
    times.sort(), waits.sort()
    figure("%s: %d commands, p99 %.0f ms; %d PUBLISHes meanwhile, p99 %.0f ms" % (
        mode, len(times), times[len(times) * 99 // 100] * 1000, len(waits), waits[len(waits) * 99 // 100] * 1000))
    [client.close() for client in crowd]


def memory(server):
    """Bytes in use: shared, and private of each process by its number."""
    shared = int(re.search(r"\bused: (\d+)", server.rpc("core.shmmem")).group(1))
    private = {int(n): int(used)
               for n, used in re.findall(r"pid: (\d+)\b.*?\bused: (\d+)", server.rpc("pkg.stats"), re.S)}
    return shared, private


@pytest.mark.suite("memory")
@pytest.mark.parametrize("mode", ["memory", "defaults"])
def test_memory_comes_back(ours, mode, figure):
    """Mixed messages, then everything is removed: shared and private memory are where they were."""
    # What tm keeps of each transaction for some seconds needs the room.
    server, total = ours(workers=4, shm=2048, **MODES[mode]), 1_000_000 if SOAK else 12_000
    users, parts = 40, 4

    def flood(part, count):
        phone, generator = Client(server, "f%d" % part), random.Random(part)
        etags, watches = {}, {}
        for _ in range(count):
            user = "sip:u%d-%d@example.org" % (part, generator.randrange(users))
            event = generator.choice(("presence", "dialog", "message-summary"))
            what, key = generator.randrange(7), (user, event)
            if what < 3:
                body, ctype = {"presence": (pidf(note="x" * generator.randrange(900)), "application/pidf+xml"),
                               "dialog": (dialog_info("confirmed", dialog_id="d%d" % generator.randrange(3)),
                                          "application/dialog-info+xml"),
                               "message-summary": ("Messages-Waiting: yes\r\n",
                                                   "application/simple-message-summary")}[event]
                tag = "a.1.1.1.1" if generator.randrange(20) == 0 else etags.get(key)
                reply = phone.publish(user, body=body, etag=tag, event=event, ctype=ctype)
                if reply is not None and reply.code == 200:
                    if not tag and key in etags:
                        phone.publish(user, etag=etags[key], expires=0, event=event)
                    etags[key] = reply.get("SIP-ETag")
            elif what == 3 and key in etags:
                phone.publish(user, etag=etags.pop(key), expires=0, event=event)
            elif what < 6:
                if key in watches:
                    watches[key].refresh()
                else:
                    watches[key] = phone.subscribe(user, event=event)
            elif key in watches:
                watches.pop(key).unsubscribe()
            phone.notifies.clear(), phone.trace.clear(), phone.replies.clear(), phone._seen_branches.clear()
        for (user, event), etag in etags.items():
            phone.publish(user, etag=etag, expires=0, event=event)
        for watch in watches.values():
            watch.unsubscribe()
        phone.quiet(0.5)
        phone.close()

    def run(count):
        threads = [threading.Thread(target=flood, args=(part, count // parts)) for part in range(parts)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        # tm lets go of its transactions after five seconds, write-back of its rows when it has written them.
        time.sleep(7)
        server.rpc("presence.cleanup")
        time.sleep(0.5)
        assert server.rpc("presence.subscriptions").count("callid") == 0
        assert server.rpc("presence.presentity_list").count("etag") == 0

    run(6000)
    shared, private = memory(server)
    began = time.monotonic()
    run(total)
    shared_after, private_after = memory(server)
    grown = {pid: private_after[pid] - used for pid, used in private.items()}
    # Tables keep the room that chance has once asked of them: some kilobytes more after a million messages, not more
    # with each.
    assert shared_after - shared < 20_000 + total // 20, "%d bytes of shared memory are lost" % (shared_after - shared)
    assert private and max(grown.values()) < 20_000, "private memory is lost: %s" % grown
    figure("%s: %d messages in %.0f s, all removed: shared memory %+d bytes, private at most %+d bytes" % (
        mode, total, time.monotonic() - began, shared_after - shared, max(grown.values())))


@pytest.mark.suite("memory")
def test_what_nobody_watches_leaves_nothing(figure):
    """Presentities that come and go without a watcher: a busy server sees many of them once and never again."""
    with Rig("ours", MEMORY, options=FAST_MEMORY) as rig:
        def come_and_go(first):
            about = {"from": first, "count": 1000, "presentities": first + 1000}
            assert rig.do("publish", **about)["done"] == rig.do("remove", **about)["done"] == 1000
            time.sleep(7)  # tm lets go of its transactions
            return rig.shared_memory()

        before = come_and_go(0)
        left = come_and_go(1000) - before
    assert left < 20_000, "%d bytes are left of 1,000 publications" % left
    figure("1,000 publications that nobody watched came and went: %d bytes are left" % left)
