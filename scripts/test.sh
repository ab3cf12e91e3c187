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
say "modules"
scripts/build.sh
say "the real Kamailio"
unset PYTHONPATH
cd tests
for python in /usr/bin/python3 python3; do
	! "$python" -c 'import pytest, xdist' 2>/dev/null || exec "$python" -m pytest -v -p no:cacheprovider --tb=short --durations=8 \
		-n "${JOBS:-2}" --dist loadfile ${SUITE:+--suite "$SUITE"} ${ONLY:-.}
done
fail "no python3 with pytest: run make setup"
