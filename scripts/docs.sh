#!/bin/sh
# Writes the reference pages in docs from the tables in src; the tests compare the two.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
say "writing docs/presence.md and docs/pua.md"
WRITE_REFERENCE=1 $(cargo_command) test --release --quiet --lib reference_pages
