#!/bin/sh
# Checks PORT before anything is built for it.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
port=${PORT:-5060}
case $port in *[!0-9]* | 0*) wrong=1 ;; *) wrong= ;; esac
if [ -n "$wrong" ] || [ "${#port}" -gt 5 ] || [ "$port" -lt 1 ] || [ "$port" -gt 65535 ]; then
	fail "PORT=$port is no port: choose a number from 1 to 65535, as in PORT=5080 make run"
fi
