#!/bin/sh
# The unit tests of the pure core and of what handles shared memory by hand, interpreted by miri: aliasing,
# uninitialised memory, out-of-bounds accesses, leaks. Needs a nightly toolchain with miri; FILTER="host::slab" runs a
# part.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
cargo +nightly miri --version >/dev/null 2>&1 ||
	fail "miri is not installed: rustup toolchain install nightly --profile minimal --component miri --component rust-src"
host="host::bytes host::pkg host::lock host::shm host::slab host::shared_bytes"
filter=${FILTER:-"$host sip:: cluster:: presence:: pua::"}
say "unit tests under miri: $filter"
# shellcheck disable=SC2086
MIRIFLAGS="-Zmiri-disable-isolation" PROPTEST_CASES=4 \
	cargo +nightly miri test --target-dir target/miri --lib --quiet -- $filter
