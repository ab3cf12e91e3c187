#!/bin/sh
# Builds the Rust library and the two thin C modules beside it into target/modules.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
source=$(host_source)
features=${FEATURES:-}
out=${MODULES_OUT:-target/modules}
cargo_target=${CARGO_TARGET_DIR:-target}
say "building against Kamailio $(host_source_version "$source")"
check_host_flags "$source"
$(cargo_command) build --release --quiet ${features:+--features "$features"}
generated=$(ls -t "$cargo_target"/release/build/kamailio-presence-*/out/kamailio_presence.h | head -n 1)
if [ "${1:-}" = header ]; then
	cp "$generated" include/kamailio_presence.h
elif ! cmp -s "$generated" include/kamailio_presence.h; then
	fail "include/kamailio_presence.h is not what cbindgen writes: run make header"
fi
mkdir -p "$out"
cp "$cargo_target/release/libkamailio_presence.so" "$out/.new" && mv "$out/.new" "$out/libkamailio_presence.so"
for module in presence pua; do
	[ -f "kamailio-glue/${module}_mod.c" ] || continue
	eval "set -- $(host_cflags "$source")"
	# shellcheck disable=SC2086
	${CC:-cc} ${CFLAGS:-} -shared -fPIC -O2 -g -Wall -Werror -Wno-unused-function -DMOD_NAME="\"$module\"" -DMOD_NAMEID="$module" "$@" \
		$(pkg-config --cflags libxml-2.0) -Iinclude -isystem "$source/src" "kamailio-glue/${module}_mod.c" -o "$out/$module.so" \
		-L"$out" -lkamailio_presence -Wl,-rpath,'$ORIGIN' -Wl,--version-script=kamailio-glue/exports.map
done
say "modules are in $out"
