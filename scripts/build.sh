#!/bin/sh
# Builds the Rust library and the two thin C modules beside it into target/modules, and has the server load them.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
features=${FEATURES:-}
out=${MODULES_OUT:-target/modules}
cargo_target=${CARGO_TARGET_DIR:-target}
need_to_build
note_facts
say "building for $(fact full_version), $(fact binary)"
$(cargo_command) build --release ${CARGO_BUILD_TARGET:+--target "$CARGO_BUILD_TARGET"} \
	${features:+--features "$features"}
built=$cargo_target/${CARGO_BUILD_TARGET:+$CARGO_BUILD_TARGET/}release
generated=$(ls -t "$built"/build/kamailio-presence-*/out/kamailio_presence.h | head -n 1)
if [ "${1:-}" = header ]; then
	cp "$generated" include/kamailio_presence.h
elif ! cmp -s "$generated" include/kamailio_presence.h; then
	fail "include/kamailio_presence.h is not what cbindgen writes: run make header"
fi
# Two builds at the same time each put whole files into place.
part=$out/.build.$$
trap 'rm -rf "$part"' EXIT
mkdir -p "$part"
cp "$built/libkamailio_presence.so" "$part/" && mv "$part/libkamailio_presence.so" "$out/"
headers=$(fact headers)
flags=$(host flags)
# -Bsymbolic: each module means its own tables, also where a module that was loaded before makes names of its own global
# (app_lua).
for module in presence pua; do
	eval "set -- $flags"
	# shellcheck disable=SC2086,SC2046
	${CC:-cc} ${CFLAGS:-} -shared -fPIC -O2 -g -Wall -Werror -Wno-unused-function -DMOD_NAME="\"$module\"" \
		-DMOD_NAMEID="$module" \
		-DKR_COMMIT="\"$(commit)\"" "$@" \
		$(pkg-config --cflags libxml-2.0) -Iinclude -isystem "$headers" "kamailio-glue/${module}_mod.c" \
		-o "$part/$module.so" \
		-L"$out" -lkamailio_presence -Wl,--no-as-needed -lc -Wl,-rpath,'$ORIGIN' -Wl,-Bsymbolic \
		-Wl,--version-script=kamailio-glue/exports.map
	mv "$part/$module.so" "$out/"
done
say "loading them in $(fact binary)"
python3 scripts/kamailio_host.py check-load "$out"
say "modules are in $out"
