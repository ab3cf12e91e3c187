#!/bin/sh
# Everything: formatter, lints, unit tests, then the real Kamailio on loopback. ONLY names test files, SUITE one of the suites
# T1 to T15, where not all are wanted; JOBS is how many run beside each other.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
scripts/setup.sh tests
optional() { # name, command...
	name=$1; shift
	if "$@" --version >/dev/null 2>&1; then return 0; fi
	[ -z "${REQUIRE_LINTS:-}" ] || fail "$name is not installed"
	say "$name is not installed: skipped"
	return 1
}
say "formatter"
! optional rustfmt cargo fmt || cargo fmt --check
say "lints"
! optional clippy cargo clippy || cargo clippy --release --quiet --all-targets -- -D warnings
say "unit tests"
cargo test --release --quiet
[ -n "${ONLY:-}${SUITE:-}" ] || scripts/fuzz.sh 3
cargo test --release --quiet --locked --manifest-path benches/load/Cargo.toml --target-dir target/bench
scripts/bench.sh generator
exec scripts/scenarios.sh
