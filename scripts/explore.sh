#!/bin/sh
# explore.sh SECONDS SEED MODE DRIVER REPLAY SWEEP: explores on both processors with seeds far from each other, or
# replays one life; with a SWEEP each odd value has a short life of its own.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
seconds=$1 seed=$2 mode=$3 driver=$4 replay=$5 sweep=$6
unset PYTHONPATH
[ -z "$replay" ] || replay=$(realpath "$replay")
found=$(pwd)/target/explore
cd tests
for python in /usr/bin/python3 python3; do ! "$python" -c 'import hypothesis' 2>/dev/null || break; done
[ -z "$replay" ] || exec "$python" -m explore --replay "$replay" ${driver:+--driver "$driver"}
seed=${seed:-$(date +%s)}
say "exploring for $seconds seconds from seed $seed; failures are kept in $found"
status=0 pids=
trap 'for pid in $pids; do kill "$pid" 2>/dev/null || true; done' INT TERM
for number in $(seq "${JOBS:-2}"); do
	PYTEST_XDIST_WORKER=gw$number "$python" -m explore --seconds "$seconds" --seed $((seed + number * 1000000)) --keep \
		"$found" \
		${mode:+--mode "$mode"} ${driver:+--driver "$driver"} ${sweep:+--sweep} &
	pids="$pids $!"
done
for pid in $pids; do wait "$pid" || status=1; done
exit $status
