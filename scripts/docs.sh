#!/bin/sh
# Writes the reference pages in docs from the tables in src (the tests compare the two), checks the links of all
# documents, and makes the site of them where mkdocs is installed.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
say "writing docs/presence.md and docs/pua.md"
WRITE_REFERENCE=1 $(cargo_command) test --release --quiet --lib reference_pages
python3 scripts/site.py
if command -v mkdocs >/dev/null; then
	mkdocs build --quiet
	say "the site is in target/site"
else
	say "mkdocs is not installed: no site (make setup-docs installs it)"
fi
