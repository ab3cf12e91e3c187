#!/bin/sh
# Everything: formatter, lints, unit tests, then the real Kamailio on loopback. ONLY names test files, SUITE one of the
# suites (stuck-lamp, crash, cluster ...), where not all are wanted; JOBS is how many run beside each other.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
scripts/setup.sh tests
scripts/lint.sh
say "unit tests"
cargo test --release --quiet
scripts/core.sh
[ -n "${ONLY:-}${SUITE:-}" ] || scripts/fuzz.sh 3
cargo test --release --quiet --locked --manifest-path benches/load/Cargo.toml --target-dir target/bench
scripts/bench.sh generator
exec scripts/scenarios.sh
