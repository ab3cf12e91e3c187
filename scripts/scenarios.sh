#!/bin/sh
# The real Kamailio on loopback: ONLY names test files, SUITE one of the suites (stuck-lamp, crash, cluster ...), JOBS
# is how many run beside each other. Up to AGAIN scenarios (5; 0: none) that fail beside others run once more, alone:
# what waits for a busy machine passes then and is named in a warning, what is broken fails again.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
say "modules"
scripts/build.sh
say "the real Kamailio"
unset PYTHONPATH
cd tests
python=
for each in /usr/bin/python3 python3; do
	[ -n "$python" ] || ! "$each" -c 'import pytest, xdist' 2>/dev/null || python=$each
done
[ -n "$python" ] || fail "no python3 with pytest: run make setup-tests"
failures=$(mktemp)
trap 'rm -f "$failures"' EXIT
status=0
scenarios() { "$python" -m pytest -v -p no:cacheprovider --tb=short --durations=8 "$@"; }
scenarios -n "${JOBS:-4}" --dist loadfile --failures "$failures" ${SUITE:+--suite "$SUITE"} ${ONLY:-.} || status=$?
count=$(wc -l <"$failures")
# 1: tests have failed; everything else is another fault.
if [ "$status" != 1 ] || [ "$count" -eq 0 ] || [ "$count" -gt "${AGAIN:-5}" ]; then exit "$status"; fi
say "once more, alone: $(tr '\n' ' ' <"$failures")"
scenarios --again "$failures" ${ONLY:-.}
say "warning: failed beside others and passed alone: $(tr '\n' ' ' <"$failures")"
