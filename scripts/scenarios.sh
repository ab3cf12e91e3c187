#!/bin/sh
# The real Kamailio on loopback: ONLY names test files, SUITE one of the suites (stuck-lamp, crash, cluster ...), JOBS
# is how many run beside each other.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
say "modules"
scripts/build.sh
say "the real Kamailio"
unset PYTHONPATH
cd tests
for python in /usr/bin/python3 python3; do
	! "$python" -c 'import pytest, xdist' 2>/dev/null ||
		exec "$python" -m pytest -v -p no:cacheprovider --tb=short --durations=8 \
		-n "${JOBS:-4}" --dist loadfile ${SUITE:+--suite "$SUITE"} ${ONLY:-.}
done
fail "no python3 with pytest: run make setup-tests"
