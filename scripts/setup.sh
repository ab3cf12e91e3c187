#!/bin/sh
# Installs what is missing: system packages, a Rust compiler, and the source of exactly the Kamailio that is installed.
# `setup.sh tests` adds what the tests need: other databases, a browser, a SIP tester; `setup.sh scenarios` what most
# scenarios get along with; `setup.sh lint` the formatter and lints of Debian's compiler; `setup.sh bench` what the
# benchmark needs, `setup.sh docs` what makes the site, `setup.sh example NAME` what that example loads, `setup.sh
# phone` a softphone. Safe to run again: a second run changes nothing.
# Where a server is named (KAMAILIO_BIN), or the kamailio in PATH is no package's, no kamailio is installed; the source
# of one that is no package's is the user's (KAMAILIO_SRC).
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

SIPJS=0.21.2
CARGO_DENY=0.18.3

server_packages="kamailio kamailio-presence-modules kamailio-sqlite-modules kamailio-extra-modules
	kamailio-utils-modules kamailio-json-modules"
packages="gcc libc6-dev make pkg-config libclang-dev libxml2-dev dpkg-dev xz-utils ca-certificates binutils python3
	sqlite3"
# What only the tests need: `setup.sh tests`.
server_test_packages="kamailio-postgres-modules kamailio-mysql-modules kamailio-redis-modules kamailio-xml-modules
	kamailio-lua-modules kamailio-python3-modules kamailio-xmpp-modules kamailio-websocket-modules
	kamailio-tls-modules"
test_packages="python3-pytest python3-pytest-xdist python3-hypothesis postgresql mariadb-server mariadb-client
	redis-server sip-tester libxml2-utils chromium g++ valgrind baresip-core curl shellcheck python3-pyflakes openssl rpm
	iproute2"
case ${1:-} in
tests) packages="$packages $test_packages" server_packages="$server_packages $server_test_packages" ;;
scenarios)
	packages="$packages python3-pytest python3-pytest-xdist python3-hypothesis mariadb-server mariadb-client openssl"
	server_packages="$server_packages $server_test_packages"
	;;
esac
# The packages of the modules that an example loads, and of the commands beside it.
example_packages() {
	[ -n "$1" ] || return 0
	config=$(cat "examples/$1.cfg" "examples/$1/kamailio.cfg" 2>/dev/null) || true
	loads() { case $config in *"loadmodule \"$1.so\""*) true ;; *) false ;; esac; }
	! loads app_lua || server_packages="$server_packages kamailio-lua-modules"
	! loads app_python3 || server_packages="$server_packages kamailio-python3-modules"
	! loads db_postgres || server_packages="$server_packages kamailio-postgres-modules"
	! loads websocket || server_packages="$server_packages kamailio-websocket-modules"
	! loads pua_rpc || packages="$packages curl"
	[ "${TLS:-0}" != 1 ] || server_packages="$server_packages kamailio-tls-modules" packages="$packages openssl"
}
case ${1:-} in
example) example_packages "${2:-}" ;;
phone) packages="$packages baresip-core" ;;
esac
[ "${1:-}" != docs ] || packages="$packages mkdocs"
[ "${1:-}" != bench ] || packages="$packages valgrind"

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
		fail "packages are missing and this is neither root nor a machine with sudo: run as root: $*"
	fi
}

# The package that the server belongs to, Debian's or the project's own.
owner() { dpkg-query -S "$(readlink -f "$1")" 2>/dev/null | cut -d: -f1; }

# Whether the server is such a package, or is to become it. One that is named is there already.
wants_packages() {
	[ -z "${KAMAILIO_BIN:-}" ] || return 1
	binary=$(command -v kamailio) || return 0
	[ -n "$(owner "$binary")" ]
}

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

missing_packages() { for package in $packages; do installed "$package" || printf '%s ' "$package"; done; }

# Where there is no dpkg, the tools are looked for by their own names.
missing_tools() {
	for tool in ${CC:-cc} make pkg-config python3; do command -v "$tool" >/dev/null || printf '%s ' "$tool"; done
	! command -v pkg-config >/dev/null || pkg-config --exists libxml-2.0 || printf 'libxml2-headers '
}

install_packages() {
	[ $# -gt 0 ] || return 0
	command -v apt-get >/dev/null || fail "these are missing, and there is no apt-get to install them: $*"
	say "installing packages: $*"
	installed kamailio || is_new=1
	as_root apt-get update -qq
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
	# Debian starts the server that it has just installed: with its own configuration, on the port of the examples.
	[ -z "${is_new:-}" ] || ! installed kamailio || [ ! -d /run/systemd/system ] || {
		say "stopping and disabling kamailio.service, which the package has started (systemctl enable --now kamailio)"
		as_root systemctl disable --now kamailio >/dev/null 2>&1 || true
	}
}

install_rust() {
	rust_is_new_enough && return 0
	say "no Rust 1.$MINIMUM_RUST or newer: installing Debian's"
	candidate=$(apt-cache policy rustc 2>/dev/null | sed -n 's/^ *Candidate: 1\.\([0-9]*\)\..*/\1/p')
	if [ "${candidate:-0}" -ge "$MINIMUM_RUST" ]; then suffix=; else suffix=-web; fi
	install_packages "rustc$suffix" "cargo$suffix"
	rust_is_new_enough ||
		fail "Rust is still older than 1.$MINIMUM_RUST: install a newer rustc and cargo (found: $(rustc --version 2>&1))"
}

# The formatter and the lints that belong to Debian's compiler; another compiler comes with its own.
install_lints() {
	case $(owner "$(command -v rustc)") in
	rustc) lints="rustfmt rust-clippy" ;;
	rustc-web) lints="rustfmt-web rust-web-clippy" ;;
	*) return 0 ;;
	esac
	missing=$(packages=$lints; missing_packages)
	# shellcheck disable=SC2086
	(install_packages $missing) || say "these cannot be installed, and what they check is passed over: $missing"
}

# Debian has no package of it, and it takes minutes to build: only where every lint is required.
provide_cargo_deny() {
	[ -n "${REQUIRE_LINTS:-}" ] || return 0
	! cargo deny --version >/dev/null 2>&1 || return 0
	tools=$(cargo_tools)
	! "$tools/bin/cargo-deny" --version 2>/dev/null | grep -qx "cargo-deny $CARGO_DENY" || return 0
	say "building cargo-deny $CARGO_DENY into $tools (some minutes)"
	mkdir -p target/tools
	CARGO_TARGET_DIR=target/tools/cargo-deny "$(cargo_command)" install --quiet --locked --force --no-default-features \
		--version "$CARGO_DENY" --root "$tools" cargo-deny >target/tools/cargo-deny.log 2>&1 ||
		fail "cannot build cargo-deny $CARGO_DENY: $(tail -n 1 target/tools/cargo-deny.log)"
	rm -rf target/tools/cargo-deny
}

# deb-src lines for what the machine's own package lists name, in a private folder that leaves the system's lists alone.
source_lists() {
	apt-get indextargets --format '$(REPO_URI)|$(CODENAME)|$(COMPONENT)|$(SIGNED_BY)|$(TRUSTED)' 'Created-By: Packages' |
		sort -u | while IFS='|' read -r uri codename component signed trusted; do
			case $uri in *debian*) ;; *) apt-cache policy kamailio | grep -qF "${uri%/}" || continue ;; esac
			case $signed in /*) option="[signed-by=$signed] " ;; *) option= ;; esac
			# A repository on this machine may do without a signature.
			case $trusted$uri in yesfile:* | yescopy:*) option="[trusted=yes] " ;; esac
			printf 'deb-src %s%s %s %s\n' "$option" "$uri" "$codename" "$component"
		done
}

fetch_source() {
	version=$1
	folder=$(pwd)/target/host/apt
	mkdir -p "$folder/lists/partial"
	source_lists > "$folder/sources.list"
	apt="-o Dir::Etc::sourcelist=$folder/sources.list
		-o Dir::Etc::sourceparts=/dev/null -o Dir::State::Lists=$folder/lists"
	apt="$apt -o APT::Sandbox::User=root"
	say "fetching the source of kamailio $version"
	# shellcheck disable=SC2086
	apt-get $apt update -qq ||
		fail "cannot read the package lists: is the network there? KAMAILIO_SRC=DIR uses a source you have"
	# A detached upstream signature that a mirror lacks is no reason to stop: apt has checked the hashes.
	# shellcheck disable=SC2086
	(cd target/host && apt-get $apt source --download-only -qq "kamailio=$version" >apt.log 2>&1) || true
	description=$(ls target/host/kamailio_*.dsc 2>/dev/null | head -n 1)
	[ -n "$description" ] ||
		fail "no source package kamailio $version to be had ($(grep -m 1 "^E:" target/host/apt.log 2>/dev/null)):" \
			"KAMAILIO_SRC=DIR uses a source you have"
	if [ -z "$(ls target/host/*.asc 2>/dev/null)" ]; then sed -i '/\.asc$/d' "$description"; fi
	rm -rf "target/host/kamailio-$version"
	dpkg-source --no-check -x "$description" "target/host/kamailio-$version" >>target/host/apt.log 2>&1 ||
		fail "cannot unpack the source of kamailio $version: $(tail -n 1 target/host/apt.log)"
	rm -f target/host/kamailio_*
}

provide_source() {
	if [ -z "${KAMAILIO_SRC:-}" ]; then
		binary=$(kamailio_binary) || exit 1
		package=$(owner "$binary")
		[ -n "$package" ] || fail "$binary is no package's: set KAMAILIO_SRC to the source it was built from"
		version=$(dpkg-query -W -f '${source:Version}' "$package")
		mkdir -p target/host
		[ -f "target/host/kamailio-$version/src/core/sr_module.h" ] || fetch_source "$version"
		[ "$(readlink target/host/current 2>/dev/null)" = "kamailio-$version" ] ||
			ln -sfn "kamailio-$version" target/host/current
	fi
	note_facts
}

# The SIP library for browsers that a test lights a lamp with.
provide_browser_phone() {
	[ ! -f target/tools/npm/node_modules/sip.js/package.json ] || return 0
	command -v npm >/dev/null || install_packages npm
	say "fetching sip.js for the tests"
	npm install --silent --no-save --no-audit --no-fund --prefix target/tools/npm "sip.js@$SIPJS" \
		>target/tools/npm.log 2>&1 ||
		fail "cannot fetch sip.js: $(tail -n 1 target/tools/npm.log)"
}

# Programs that tests start themselves, unpacked beside the build: installing their packages would start services. From
# Debian 13 on, promtool has a package of its own.
provide_tools() {
	tools=target/tools/usr/bin
	[ ! -x $tools/prometheus ] || [ ! -x $tools/promtool ] || return 0
	command -v apt-get >/dev/null || return 0
	say "fetching prometheus for the tests"
	mkdir -p target/tools
	unpack_tool prometheus || { as_root apt-get update -qq && unpack_tool prometheus; } ||
		fail "cannot fetch the package prometheus: is the network there?"
	[ -x $tools/promtool ] || unpack_tool promtool || fail "cannot fetch the package promtool: is the network there?"
}

unpack_tool() {
	(cd target/tools && apt-get download -qq "$1" 2>/dev/null && dpkg -x "$1"_*.deb . && rm -f "$1"_*.deb)
}

! wants_packages || packages="$server_packages $packages"
if command -v dpkg-query >/dev/null; then missing=$(missing_packages); else missing=$(missing_tools); fi
# Two terminals may set up at the same moment; apt-get would refuse the second one.
if [ -n "$missing" ] && command -v flock >/dev/null; then
	mkdir -p target
	exec 9>target/.setup
	flock -n 9 || { say "waiting for another set-up"; flock 9; }
	missing=$(if command -v dpkg-query >/dev/null; then missing_packages; else missing_tools; fi)
fi
# A service that a package starts does not keep the lock.
# shellcheck disable=SC2086
install_packages $missing 9>&-
exec 9>&-
install_rust
case ${1:-} in tests | lint) install_lints && provide_cargo_deny ;; esac
provide_source
[ "${1:-}" != tests ] || { provide_tools; mkdir -p target/tools; provide_browser_phone; }
