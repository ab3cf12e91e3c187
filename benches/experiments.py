"""The experiments: each runs stock and ours in turns and returns rows of (what, unit, stock, ours)."""
import contextlib
import sqlite3
import statistics
import time

from kit import database
from kit.kamailio import free_port
from rig import FAST_MEMORY, MEMORY, Counted, Rig

SIDES = ("stock", "ours")


def row(what, unit, found, better="less", note=""):
    """`found` maps a side to its values, one for each run, in the order of their size; none says that it could not do
    it. What counts is the median; the least and the greatest are kept beside it."""
    return {"what": what, "unit": unit, "better": better, "note": note,
            **{side: statistics.median(found[side]) if found[side] else None for side in SIDES},
            "spread": {side: [found[side][0], found[side][-1]] if found[side] else None for side in SIDES}}


def taken(runs, measure):
    """Several runs of each side, taken in turns; `measure(side)` returns values by name, None for what could not be
    done. Returns for each name the values of each side, sorted."""
    seen = {side: [] for side in SIDES}
    for _ in range(runs):
        for side in SIDES:
            seen[side].append(measure(side))
    return {name: {side: [] if any(one[name] is None for one in seen[side])
                   else sorted(one[name] for one in seen[side])
                   for side in SIDES} for name in seen["ours"][0]}


def instructions(quick, runs):
    """Instructions of one worker for each request, NOTIFYs and their answers included (thousands, -x fm -X fm)"""
    n = 30 if quick else 100

    def measure(presence, package):
        def of(side):
            with Counted(side, presence) as rig:
                about = dict(count=n, presentities=n, window=1, package=package)
                rig.do("publish", **about)
                rig.do("subscribe", **about)
                found = {"PUBLISH modify, one watcher": rig.count("modify", **about)}
                found["SUBSCRIBE refresh"] = rig.count("refresh", **about)
                found["SUBSCRIBE initial"] = rig.count("subscribe", **dict(about, **{"from": n}))
                found["SUBSCRIBE expires=0"] = rig.count("unsubscribe", **dict(about, **{"from": n}))
                found["PUBLISH modify, nobody watches"] = nobody(rig, n, package)
                found["each NOTIFY of a fan-out to 50"] = fan(rig, n, package)
            return {name: value / 1000 for name, value in found.items()}
        return taken(runs, of)

    def nobody(rig, n, package):
        # Presentities n to 2n - 1 have no watchers.
        about = {"from": n, "count": n, "presentities": 2 * n, "window": 1, "package": package}
        rig.do("publish", **about)
        return rig.count("modify", **about)

    def fan(rig, n, package):
        # Fifty watchers of presentity 0, then five changes.
        rig.do("subscribe", **{"from": 2 * n, "count": 50, "presentities": 1, "package": package})
        before = rig.instructions()
        figures = rig.do("modify", count=5, presentities=1, lockstep=True, window=1, package=package)
        return (rig.instructions() - before) / max(figures["notifies"], 1)

    rows = []
    for title, presence, package in (("memory", MEMORY, "presence"), ("memory, dialog", MEMORY, "dialog"),
                                     ("SQLite, defaults", {}, "presence")):
        rows += [row("%s: %s" % (title, name), "thousand", found) for name, found in measure(presence, package).items()]
    return rows


# A request, or a document on its way to a watcher, may take this long in 95 of 100 cases.
BOUND_MS = 100
# What a server may be run with: memory managers, and workers for the one core it has.
SETTINGS = [(manager, workers) for manager in ("fm", "qm") for workers in (1, 4)]


def mix(quick, runs):
    """The highest rate of a mix (50 % refreshes, 40 % changes with 5 watchers each, 5 % new watchers, 5 % that leave)
    at which 95 of 100 requests are answered, and 95 of 100 watchers notified, within 100 ms; the server has one core,
    stock and ours their best memory manager and number of workers, "-x fm" or "-x qm" """
    rows = []
    modes = (("memory", MEMORY), ("SQLite, defaults", {}))
    for title, presence in modes[:1] if quick else modes:
        settings = SETTINGS[:1] if quick else SETTINGS
        # What suits a side best, found roughly first.
        chosen = {side: max(settings, key=lambda one: highest_rate(side, presence, one, 1.35)["rate"])
                  if len(settings) > 1 else settings[0] for side in SIDES}
        found = taken(runs, lambda side: highest_rate(side, presence, chosen[side], 1.06))
        note = "; ".join("%s: -x %s, %d worker%s" % (side, manager, workers, "" if workers == 1 else "s")
                         for side, (manager, workers) in chosen.items())
        rows += [row(title + ": requests", "/s", found["rate"], "more", note),
                 row(title + ": NOTIFYs with them", "/s", found["notifies"], "more", note)]
    return rows


def highest_rate(side, presence, settings, step, start=250.0):
    """Doubles the rate while the mix is carried, then halves what is between the last that was and the first that was
    not until they are apart by `step`. Returns what was carried."""
    carried, refused, rate = {"rate": 0.0, "notifies": 0.0}, None, start
    while refused is None or refused / max(carried["rate"], 1.0) > step:
        with crowd(side, presence, settings) as rig:
            while True:
                figures = rig.do("mix", rate=rate, seconds=3, presentities=1000)
                if not within_bounds(figures):
                    refused = rate
                    break
                carried = {"rate": rate, "notifies": figures["notifies"] / figures["seconds"]}
                rate = rate * 2 if refused is None else (rate + refused) / 2
                if refused is not None and refused / carried["rate"] <= step:
                    return carried
        if carried["rate"] == 0.0 and refused < start / 8:
            break
        rate = (carried["rate"] + refused) / 2
    return carried


@contextlib.contextmanager
def crowd(side, presence, settings):
    """1,000 presentities with five watchers each."""
    manager, workers = settings
    # What has arrived has room to wait: stock's own parameter for it.
    with Rig(side, presence, workers=workers, shm=2048, apart=True, options=("-x", manager, "-X", manager),
             before="maxbuffer=4194304\n") as rig:
        rig.do("publish", count=1000, presentities=1000, window=4)
        subscribed = rig.do("subscribe", count=5000, presentities=1000, window=4)
        if subscribed["done"] < 5000:
            raise RuntimeError("only %d of 5,000 are subscribed" % subscribed["done"])
        yield rig


def within_bounds(figures):
    """Whether all was answered with 200, all watchers know the newest document, and both in time."""
    all_served = (figures["sent"] == figures["count"]
                  and figures["unanswered"] == figures["behind"] == figures["refused"] == 0)
    return all_served and figures["latency"]["p95"] <= BOUND_MS and figures["notified"]["p95"] <= BOUND_MS


def fanout(quick, runs):
    """CPU time for each NOTIFY of a fan-out, and NOTIFYs that had to be sent again (one worker, default memory)"""
    rows = []
    for watchers, changes, workers in ((100, 20, 1), (1000, 5 if quick else 20, 1), (5000, 2 if quick else 5, 2)):
        def of(side):
            with Rig(side, MEMORY, workers=workers, shm=256) as rig:
                rig.do("publish")
                rig.do("subscribe", count=watchers, window=32)
                figures = rig.do("modify", count=changes, lockstep=True, window=1, timeout=20)
                notifies = max(figures["notifies"], 1)
                return {"cpu": figures["cpu"] / notifies * 1e6, "again": figures["notified_again"],
                        "last": figures["notified"]["max"], "behind": figures["behind"]}
        found = taken(runs, of)
        rows += [row("%d watchers: CPU per NOTIFY" % watchers, "µs", found["cpu"]),
                 row("%d watchers: the last one is notified after" % watchers, "ms", found["last"]),
                 row("%d watchers: NOTIFYs sent again" % watchers, "", found["again"]),
                 row("%d watchers: watchers not notified" % watchers, "", found["behind"])]
    return rows


def storm(quick, runs):
    """20 PUBLISHes in a row, each sent as soon as the last is answered, while 1,000 watch (one worker, default
    memory)"""
    def of(side):
        with Rig(side, MEMORY, shm=256) as rig:
            rig.do("publish")
            rig.do("subscribe", count=1000, window=32)
            figures = rig.do("modify", count=20, window=1)
            return {"cpu": figures["cpu"] * 1000, "again": figures["notified_again"],
                    "lost": 20 - figures["done"], "last": figures["whole_seconds"]}
    found = taken(runs, of)
    return [row("CPU time", "ms", found["cpu"]), row("NOTIFYs sent again", "", found["again"]),
            row("PUBLISHes not answered with 200", "", found["lost"]),
            row("answered, and the newest state known to all, after", "s", found["last"])]


def growth(quick, runs):
    """CPU time of a request while many subscriptions are in the table (memory only, default table sizes)"""
    rows = []
    for subscriptions in (10_000, 50_000 if quick else 200_000):
        def of(side):
            with Rig(side, MEMORY, shm=1024) as rig:
                rig.do("publish", count=1000, presentities=1000)
                rig.do("subscribe", count=subscriptions, presentities=subscriptions // 2, window=64)
                time.sleep(6)  # tm frees the transactions
                refresh = rig.do("refresh", count=5000, window=8)
                modify = rig.do("modify", count=1000, presentities=1000, window=8)
                return {"refresh": refresh["cpu"] / refresh["done"] * 1e6,
                        "modify": modify["cpu"] / modify["done"] * 1e6}
        found = taken(runs, of)
        rows += [row("%d subscriptions: SUBSCRIBE refresh" % subscriptions, "µs", found["refresh"]),
                 row("%d subscriptions: PUBLISH, two watchers" % subscriptions, "µs", found["modify"])]
    return rows


def waiting(quick, runs):
    """How long OPTIONS waits while the server has much to do (two workers, 300 a second)"""
    rows = []

    def probed(side, prepare, work, **settings):
        with Rig(side, workers=2, shm=256, **settings) as rig:
            prepare(rig)
            rig.do("probe", rate=300)
            work(rig)
            summary = rig.do("probe", rate=0)
        return {"p99": summary["p99"], "max": summary["max"]}

    def both(title, prepare, work, **settings):
        found = taken(runs, lambda side: probed(side, prepare, work, **settings))
        rows.append(row(title + ": p99", "ms", found["p99"]))
        rows.append(row(title + ": longest", "ms", found["max"]))

    def watch(rig, count, presentities, **more):
        rig.do("publish", count=presentities, presentities=presentities)
        rig.do("subscribe", count=count, presentities=presentities, window=64, **more)

    both("nothing else", lambda rig: None, lambda rig: rig.do("listen", seconds=5), presence=MEMORY)
    both("NOTIFYs to 5,000 watchers", lambda rig: watch(rig, 5000, 1),
         lambda rig: rig.do("modify", count=3, lockstep=True, window=1), presence=MEMORY)
    ends = 5_000 if quick else 20_000
    both("{:,} subscriptions run out".format(ends), lambda rig: watch(rig, ends, 1000, expires=20),
         lambda rig: rig.do("listen", seconds=30), presence=dict(MEMORY, clean_period=5))
    dirty = 10_000 if quick else 50_000
    period = 15 if quick else 45
    both("{:,} rows are written to SQLite".format(dirty), lambda rig: watch(rig, dirty, 1000),
         lambda rig: rig.do("listen", seconds=period), presence={"db_update_period": period})
    return rows


def sqlite(quick, runs):
    """Requests a second with the default modes on SQLite, as fast as they are answered"""
    n = 1000 if quick else 4000
    rows = []
    for workers in (1, 8):
        def of(side):
            with Rig(side, workers=workers, shm=256) as rig:
                subscribe = rig.do("subscribe", count=n, presentities=100, window=64)
                publish = rig.do("publish", count=n, presentities=n, window=64)
                refused = 2 * n - subscribe["done"] - publish["done"]
                return {"subscribe": subscribe["rate"], "publish": publish["rate"], "refused": refused}
        found = taken(runs, of)
        name = "%d worker%s" % (workers, "" if workers == 1 else "s")
        rows += [row(name + ": SUBSCRIBE initial", "/s", found["subscribe"], "more"),
                 row(name + ": PUBLISH initial", "/s", found["publish"], "more"),
                 row(name + ": refused or lost", "", found["refused"])]
    return rows


def restart(quick, runs):
    """Seconds from the start of the server until it answers, with subscriptions in the table (8 MB of private
    memory)"""
    rows = []
    for subscriptions in (4_000, 50_000 if quick else 200_000):
        def of(side):
            rig = Rig(side, shm=1024)
            try:
                database.create_sqlite(rig.server.db_path)
                fill(rig.server.db_path, subscriptions)
                began = time.monotonic()
                try:
                    rig.server.start(timeout=60)
                except RuntimeError:
                    return {"start": None}
                return {"start": time.monotonic() - began}
            finally:
                rig.server.remove()
        rows.append(row("%d subscriptions" % subscriptions, "s", taken(runs, of)["start"]))
    return rows


def fill(path, count):
    """Rows of live subscriptions, as a server leaves them."""
    ends, port = int(time.time()) + 7200, free_port()
    columns = ("presentity_uri watcher_username watcher_domain to_user to_domain event event_id to_tag from_tag callid "
               "local_cseq remote_cseq contact record_route expires status reason version socket_info local_contact "
               "from_user from_domain updated updated_winfo flags user_agent").split()
    rows = (("sip:p%d@bench.invalid" % (i // 2), "w%d" % i, "bench.invalid", "p%d" % (i // 2), "bench.invalid",
             "presence",
             "", "t%d" % i, "f%d" % i, "c%d-bench" % i, 1, 1, "sip:w%d@127.0.0.1:%d" % (i, port), "", ends, 1, "", 0,
             "udp:127.0.0.1:%d" % port, "sip:127.0.0.1:%d" % port, "w%d" % i, "bench.invalid", -1, -1, 0, "bench")
            for i in range(count))
    with sqlite3.connect(str(path)) as connection:
        connection.execute("pragma synchronous=off")
        connection.executemany("insert into active_watchers (%s) values (%s)"
                               % (",".join(columns), ",".join("?" * len(columns))),
                               rows)
    connection.close()


def size(quick, runs):
    """Bytes of shared memory for each subscription and each publication (its body of about 600 bytes included)"""
    n = 5000 if quick else 20_000

    def of(side):
        with Rig(side, MEMORY, shm=512, options=("-x", "fm", "-X", "fm")) as rig:
            rig.do("subscribe", count=1000, presentities=500, window=32)
            rig.do("publish", count=500, presentities=500)
            empty = rig.settled_memory()
            rig.do("subscribe", **{"from": 1000, "count": n, "presentities": n // 2, "window": 32})
            subscribed = rig.settled_memory()
            rig.do("publish", **{"from": 500, "count": n // 2 - 500, "presentities": n // 2, "window": 8})
            published = rig.settled_memory()
        return {"subscription": (subscribed - empty) / n, "publication": (published - subscribed) / (n // 2 - 500)}

    found = taken(runs, of)
    return [row("a subscription", "bytes", found["subscription"]),
            row("a publication", "bytes", found["publication"])]


def capacity(quick, runs):
    """What one core carries (memory only, default memory manager): requests a second of the server's CPU time"""
    n = 2000 if quick else 10_000

    def of(side):
        with Rig(side, MEMORY, workers=2, shm=512) as rig:
            rig.do("publish", count=n // 2, presentities=n // 2, window=16)
            initial = rig.do("subscribe", count=n, presentities=n // 2, window=16)
            refresh = rig.do("refresh", count=n, window=16)
            modify = rig.do("modify", count=n // 2, presentities=n // 2, window=16)
            rig.do("subscribe", **{"from": n, "count": 500, "presentities": 1, "window": 16})
            fan = rig.do("modify", count=10, presentities=1, lockstep=True, window=1)
        rate = lambda figures, count: count / figures["cpu"]
        return {"initial": rate(initial, n), "refresh": rate(refresh, n), "modify": rate(modify, n // 2),
                "notify": rate(fan, fan["notifies"])}

    found = taken(runs, of)
    return [row("SUBSCRIBE initial with its NOTIFY", "/s", found["initial"], "more"),
            row("SUBSCRIBE refresh with its NOTIFY", "/s", found["refresh"], "more"),
            row("PUBLISH with two watchers", "/s", found["modify"], "more"),
            row("NOTIFYs of fan-outs", "/s", found["notify"], "more"),
            row("subscriptions refreshed every 10 minutes", "",
                {side: [rate * 600 for rate in found["refresh"][side]] for side in SIDES},
                "more")]


ALL = {one.__name__: one for one in (mix, instructions, fanout, storm, growth, waiting, sqlite, restart, size,
                                     capacity)}
