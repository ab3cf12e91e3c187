#!/bin/sh
# Starts Kamailio with our modules and the example configuration, and shows a publication reach a watcher.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
PYTHONPATH=tests exec python3 scripts/show.py
