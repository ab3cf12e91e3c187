#!/bin/sh
# install.sh install|uninstall: our modules into the host's folder, the stock ones kept beside them as *.stock.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
if [ -z "${MODULES_DIR:-}" ]; then
	for dir in /usr/lib/*/kamailio/modules /usr/lib/kamailio/modules /usr/local/lib64/kamailio/modules; do
		if [ -d "${DESTDIR:-}$dir" ] || [ -d "$dir" ]; then MODULES_DIR=$dir; break; fi
	done
fi
[ -n "${MODULES_DIR:-}" ] || fail "no Kamailio module folder found: name it with MODULES_DIR=..."
target=${DESTDIR:-}$MODULES_DIR

put() {
	mkdir -p "$target"
	for file in target/modules/*.so; do
		name=$(basename "$file")
		if [ -f "$target/$name" ] && [ ! -f "$target/$name.stock" ] && [ "$name" != libkamailio_presence.so ] &&
			! grep -q libkamailio_presence "$target/$name"; then
			mv "$target/$name" "$target/$name.stock"
		fi
		install -m 0644 "$file" "$target/.$name.new" && mv -f "$target/.$name.new" "$target/$name"
		say "$target/$name"
	done
}

remove() {
	for name in presence.so pua.so; do
		if [ -f "$target/$name" ] && grep -q libkamailio_presence "$target/$name"; then rm -f "$target/$name"; fi
		[ ! -f "$target/$name.stock" ] || { mv "$target/$name.stock" "$target/$name"; say "$target/$name is stock again"; }
	done
	rm -f "$target/libkamailio_presence.so"
}

case ${1:-} in
install) put ;;
uninstall) remove ;;
*) fail "use: install.sh install|uninstall" ;;
esac
