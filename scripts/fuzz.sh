#!/bin/sh
# fuzz.sh [seconds a target]: coverage-guided fuzzing of what reads what others wrote (libFuzzer; no other compiler is
# needed). New inputs go to target/fuzz/corpus; the small corpus in fuzz/corpus is where it starts. A crash ends it and
# names its input.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
seconds=${1:-600}
# A short run, as in `make test`, begins with the same seed each time; a long one (0) with any.
seed=0
[ "$seconds" -gt 10 ] || seed=1
flags="-C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4
	-C llvm-args=-sanitizer-coverage-inline-8bit-counters
	-C llvm-args=-sanitizer-coverage-pc-table -C llvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing
	-C codegen-units=1"
say "building the fuzz targets"
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS=$(echo $flags) cargo build --release --quiet --locked --manifest-path fuzz/Cargo.toml \
	--target-dir target/fuzz --target "$host"
for target in headers documents nodes strings; do
	mkdir -p "target/fuzz/corpus/$target"
	say "fuzzing $target for $seconds s"
	"target/fuzz/$host/release/$target" -max_total_time="$seconds" -seed="$seed" -timeout=5 -max_len=4096 \
		-print_final_stats=1 -verbosity=0 \
		-artifact_prefix=target/fuzz/ ${DICT:-} "target/fuzz/corpus/$target" \
		"fuzz/corpus/$target" 2>target/fuzz/$target.log ||
		fail "$target: $(tail -n 30 target/fuzz/$target.log)"
	sed -n 's/^stat::\(number_of_executed_units\|average_exec_per_sec\): */    \1 /p' "target/fuzz/$target.log"
done
