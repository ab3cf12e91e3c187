#!/bin/sh
# Stock's modules and ours beside each other: a table and a plot in target/bench. QUICK=1 takes minutes instead of an
# hour, ONLY names experiments, PUBLISH_RESULTS=1 puts the plot into docs/. `bench.sh generator` only builds the load
# generator.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
say "the load generator"
cargo build --release --quiet --locked --manifest-path benches/load/Cargo.toml --target-dir target/bench
[ "${1:-}" != generator ] || exit 0
say "stock and ours in turns"
# shellcheck disable=SC2086
/usr/bin/python3 benches/bench.py ${QUICK:+--quick} ${RUNS:+--runs "$RUNS"} ${ONLY:-}
[ -z "${PUBLISH_RESULTS:-}" ] || cp target/bench/benchmark.svg docs/benchmark.svg
