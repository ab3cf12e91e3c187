"""Runs one life on both sides, step by step in the same moments."""

import threading
import time

from . import rows
from .side import Side

# Silence after which a step is over, in seconds; the second try of a failure takes longer.
QUICK, PATIENT = 0.03, 0.35


def _run_side(side, steps, gate, failures):
    try:
        side.start()
    except RuntimeError as error:
        side.dead = "does not start: %s" % str(error)[-1500:]
    try:
        for number, step in enumerate(steps):
            gate.wait(120)
            side.run(number, step)
        gate.wait(120)
        _end(side)
    except threading.BrokenBarrierError:
        side.dead = side.dead or "the other side failed"
    except Exception as error:
        failures.append(error)
        gate.abort()


def _end(side):
    """The end of each life: memory, an orderly stop, the tables."""
    side.last_rows, side.grown = {}, None
    side.lived = side.dead is None
    side.living = [
        dialog
        for dialog in side.dialogs.values()
        if dialog.to_tag
        and not (dialog.over or dialog.unsure or dialog.beyond or dialog.at)
        and dialog.ends > time.time() + 3
    ]
    side.obey()
    if side.lived:
        now = side.memory()
        side.grown = None if None in (now, side.memory_at_start) else now - side.memory_at_start
        side.stop()
        side.last_rows = rows.all_tables(side)
        side._read_log(side.end)


def run(life, backend, quiet=QUICK):
    """Both sides of a life: (stock, ours). The caller closes them."""
    from .side import Step

    sides = [Side(which, life["config"], backend, quiet) for which in ("stock", "ours")]
    for side in sides:
        side.end = Step(len(life["steps"]), {"do": "end"})
    gate, failures = threading.Barrier(2), []
    threads = [threading.Thread(target=_run_side, args=(side, life["steps"], gate, failures)) for side in sides]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if all(side.dead and side.dead.startswith("does not start") and not side.started for side in sides):
        failures.append(RuntimeError("a configuration that no server takes: %s" % sides[0].dead))
    if failures:
        for side in sides:
            side.close()
        raise failures[0]
    return sides
