#!/bin/sh
# install.sh install|uninstall: our modules into the server's own folder, in the place of the stock ones, which are kept
# as *.stock. Where the stock files are a Debian package's, dpkg diverts them: an upgrade of that package then renews
# *.stock and leaves ours in place. DESTDIR stages the files elsewhere, MODULES_DIR names another folder.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
MODULES_DIR=${MODULES_DIR:-$(host modules)} || exit 1
server=$(host full_version) || exit 1
target=${DESTDIR:-}$MODULES_DIR

ours() { [ -f "$1" ] && grep -qaF libkamailio_presence "$1"; }
of_server() { grep -qaF "$server" "$1"; }
version_of() { grep -aoE 'kamailio [0-9][^ ]* \([^)]*\)' "$1" | head -n 1; }

# Only a running system has diversions; a staged tree has none.
packaged() { [ -z "${DESTDIR:-}" ] && command -v dpkg-divert >/dev/null && dpkg-query -S "$target/$1" >/dev/null 2>&1; }
diverted() { dpkg-divert --listpackage "$target/$1" 2>/dev/null; }

check_versions() {
	for name in tm.so presence.so pua.so; do
		file=$target/$name
		if [ -f "$file" ] && ! ours "$file" && ! of_server "$file"; then
			fail "$target has the modules of $(version_of "$file"), $(host binary) is $server:" \
				"name that server's folder with MODULES_DIR=... or the other server with KAMAILIO_BIN=..."
		fi
	done
	for name in presence.so pua.so; do
		of_server "target/modules/$name" ||
			fail "target/modules/$name was built for $(version_of "target/modules/$name"), $(host binary) is $server:" \
				"run make build"
	done
}

# The stock file goes out of the way, in whatever way its owner understands.
set_aside() {
	name=$1
	if packaged "$name"; then
		case $(diverted "$name") in
		LOCAL) ;;
		'')
			if ours "$target/$name"; then
				dpkg-divert --local --divert "$target/$name.stock" --no-rename "$target/$name" >/dev/null
			else
				rm -f "$target/$name.stock"
				dpkg-divert --local --divert "$target/$name.stock" --rename "$target/$name" >/dev/null
			fi
			;;
		*) fail "the package $(diverted "$name") has diverted $target/$name: run kamailio-presence-divert off first" ;;
		esac
	elif [ -f "$target/$name" ] && ! ours "$target/$name"; then
		mv -f "$target/$name" "$target/$name.stock"
	fi
}

put() {
	check_versions
	mkdir -p "$target"
	for name in presence.so pua.so; do set_aside "$name"; done
	for file in target/modules/*.so; do
		name=$(basename "$file")
		install -m 0644 "$file" "$target/.$name.new"
		! command -v "${STRIP:-strip}" >/dev/null || "${STRIP:-strip}" --strip-unneeded "$target/.$name.new"
		mv -f "$target/.$name.new" "$target/$name"
		say "$target/$name"
	done
}

# The file that comes back belongs to the server that is installed now, or none does.
bring_back() {
	name=$1
	if packaged "$name" && [ "$(diverted "$name")" = LOCAL ]; then
		! ours "$target/$name" || rm -f "$target/$name"
		dpkg-divert --local --rename --remove "$target/$name" >/dev/null
		if [ -f "$target/$name" ] && ! of_server "$target/$name"; then
			fail "$target/$name is of $(version_of "$target/$name"), $(host binary) is $server:" \
				"apt-get install --reinstall $(dpkg-query -S "$target/$name" | cut -d: -f1)"
		fi
	elif ours "$target/$name"; then
		if [ ! -f "$target/$name.stock" ]; then
			rm -f "$target/$name"
		elif of_server "$target/$name.stock"; then
			mv -f "$target/$name.stock" "$target/$name"
		else
			rm -f "$target/$name"
			say "$target/$name.stock is of $(version_of "$target/$name.stock"), $(host binary) is $server:" \
				"install that server's own $name again"
			return 0
		fi
	else
		# The server's own file came back by itself, with an upgrade; what was kept is of the server before.
		rm -f "$target/$name.stock"
	fi
	[ ! -f "$target/$name" ] || say "$target/$name is stock, of $(version_of "$target/$name")"
}

remove() {
	for name in presence.so pua.so; do bring_back "$name"; done
	ours "$target/presence.so" || ours "$target/pua.so" || rm -f "$target/libkamailio_presence.so"
}

case ${1:-} in
install) put ;;
uninstall) remove ;;
*) fail "use: install.sh install|uninstall" ;;
esac
