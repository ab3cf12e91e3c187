"""`python3 -m explore`: explores for a while, or replays one life."""

import argparse
import json
import pathlib
import sys
import time

from . import backends, config, explorer, generate


def main():
    parser = argparse.ArgumentParser(prog="explore", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=None, help="the first seed; each round takes the next one")
    parser.add_argument("--mode", type=int, choices=(0, 1, 2, 3), default=None, help="subs_db_mode; all by default")
    parser.add_argument("--driver", choices=sorted(backends.DRIVERS), default=None)
    parser.add_argument(
        "--replay", type=pathlib.Path, default=None, help="a scenario file: run it once and show what differs"
    )
    parser.add_argument("--keep", type=pathlib.Path, default=None, help="folder for the failures that are found")
    parser.add_argument("--part", choices=sorted(generate.PARTS), help="lives that have this in them, and no others")
    parser.add_argument("--length", type=int, default=12, help="steps of a life, at most")
    parser.add_argument("--as-found", action="store_true", help="do not reduce failures: quicker where there are many")
    parser.add_argument("--sweep", action="store_true", help="each odd value once, in short lives")
    parser.add_argument(
        "--ignore", default=None, help="a pattern of findings that are known: they end a life and are not reported"
    )
    options = parser.parse_args()
    life = json.loads(options.replay.read_text()) if options.replay else {}
    driver = options.driver or life.get("driver", "sqlite")
    backend = backends.DRIVERS[driver]()
    try:
        if options.replay:
            return explorer.replay(life, backend)
        seed = options.seed if options.seed is not None else int(time.time())
        run = explorer.Explorer(
            backend,
            options.keep,
            mode=options.mode,
            length=options.length,
            reduce=not options.as_found,
            ignore=options.ignore,
            part=options.part,
        )
        (run.sweep if options.sweep else run.explore)(options.seconds, seed)
        run.report()
        return 1 if run.failures else 0
    finally:
        backend.close()
        config.forget_templates()


if __name__ == "__main__":
    sys.exit(main())
