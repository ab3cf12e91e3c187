#!/bin/sh
# The tests of the handlers on ports in memory: publish, subscribe, notifier, expiry, refresh, replication, and those of
# the user agent. There are at least LEAST of them. The time they take is that of the processor, so that what else the
# machine does makes no difference; SECONDS_ALLOWED bounds it.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
LEAST=150
SECONDS_ALLOWED=${SECONDS_ALLOWED:-5}
cargo test --release --quiet --lib --no-run
log=target/core-tests.log
# In a shell of its own, whose children are these tests alone; not in a pipe, whose part of it has no children.
(
	cargo test --release --quiet --lib -- \
		presence::testing:: agent::scenarios:: agent::interleavings:: >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
	times >target/core-times
) || fail "a test of the handlers fails"
took=$(awk 'NR == 2 { split($1 "m" $2, t, /[ms]+/); print t[1] * 60 + t[2] + t[3] * 60 + t[4] }' target/core-times)
count=$(sed -n 's/^test result: ok\. \([0-9]*\) passed.*/\1/p' "$log")
say "the handlers on ports in memory: $count cases, $took s of a processor"
[ "${count:-0}" -ge $LEAST ] || fail "only ${count:-0} cases, at least $LEAST are wanted"
awk -v took="$took" -v allowed="$SECONDS_ALLOWED" 'BEGIN { exit !(took + 0 > 0 && took + 0 <= allowed + 0) }' ||
	fail "the cases take $took s, $SECONDS_ALLOWED s are allowed"
