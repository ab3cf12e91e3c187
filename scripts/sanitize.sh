#!/bin/sh
# The unit tests, with the host's fake memory, under AddressSanitizer: reads and writes out of bounds, use after free,
# leaks. Needs a compiler that brings the sanitizer's run-time library (rustup's do).
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
host=$(rustc -vV | sed -n 's/^host: //p')
say "unit tests under AddressSanitizer"
RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address ASAN_OPTIONS=detect_leaks=1 cargo test --lib --quiet --target "$host" \
	--target-dir target/asan
