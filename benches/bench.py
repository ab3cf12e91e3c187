#!/usr/bin/python3
"""Measures stock's modules and ours beside each other, in runs that take turns, and writes a table and a plot.

  bench.py [--quick] [--runs N] [--out FOLDER] [EXPERIMENT ...]

Everything happens on loopback, in temporary folders, against the installed Kamailio. CPU times are those of all the
server's processes (/proc/PID/schedstat); instructions are counted by callgrind in the one worker that handles the
requests.
"""
import argparse
import json
import pathlib
import platform
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

import experiments  # noqa: E402
import plot  # noqa: E402
import report  # noqa: E402


def machine():
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
                 "?")
    cores = sum(1 for line in open("/proc/cpuinfo") if line.startswith("processor"))
    version = subprocess.run(["kamailio", "-v"], capture_output=True, text=True).stdout.splitlines()[0]
    return {"cpu": model, "cores": cores, "system": platform.platform(), "kamailio": version}


def build():
    """The commit that is measured, and the day."""
    said = subprocess.run(["git", "-C", str(HERE.parent), "show", "-s", "--format=%h"], capture_output=True, text=True)
    commit = "commit %s, " % said.stdout.strip() if said.returncode == 0 else ""
    return commit + time.strftime("%Y-%m-%d")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", nargs="*", choices=[[], *experiments.ALL], help=", ".join(experiments.ALL))
    parser.add_argument("--quick", action="store_true", help="smaller numbers, a few minutes")
    parser.add_argument("--runs", type=int, default=0, help="runs of each side; the median counts (default 3, quick 1)")
    parser.add_argument("--out", default=str(HERE.parent / "target" / "bench"), help="where results go")
    options = parser.parse_args()
    runs = options.runs or (1 if options.quick else 3)
    out = pathlib.Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    results["machine"] = machine()
    for name in options.experiment or experiments.ALL:
        began = time.monotonic()
        print("== %s: %s" % (name, experiments.ALL[name].__doc__.split("\n")[0]), flush=True)
        results[name] = {"quick": options.quick, "runs": runs, "build": build(),
                         "rows": experiments.ALL[name](options.quick, runs)}
        for row in results[name]["rows"]:
            print("   " + report.line(row), flush=True)
        print("   (%.0f s)" % (time.monotonic() - began), flush=True)
        path.write_text(json.dumps(results, indent=1))
    (out / "results.md").write_text(report.markdown(results))
    drawn = plot.svg(results)
    if drawn:
        (out / "benchmark.svg").write_text(drawn)
    print("tables: %s%s" % (out / "results.md", ", plot: %s" % (out / "benchmark.svg") if drawn else ""))


if __name__ == "__main__":
    main()
