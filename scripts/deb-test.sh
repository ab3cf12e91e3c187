#!/bin/sh
# Builds the package twice in different places, installs it, serves with it, starts its examples, diverts the stock
# files and brings them back, purges it. It changes the machine it runs on: meant for a tree of scripts/hosts.sh
# (SUITES="bookworm trixie" make test-deb).
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
[ "$(id -u)" = 0 ] || fail "packages are installed by root"
name=kamailio-presence
modules=/usr/lib/$(gcc -print-multiarch)/$name/modules
stock=/usr/lib/$(gcc -print-multiarch)/kamailio/modules

dpkg --purge "$name" >/dev/null 2>&1 || true
# What a test that failed has left behind.
rm -rf "/usr/share/doc/$name" "$modules"
say "two builds, one package"
export SOURCE_DATE_EPOCH=1700000000
# Another version's package may lie there.
rm -f target/deb/${name}_*.deb
scripts/deb.sh
package=$(ls target/deb/${name}_*.deb)
elsewhere=$(mktemp -d)
trap 'rm -rf "$elsewhere"' EXIT
tar -cf - --exclude=./target . | tar -xf - -C "$elsewhere"
mkdir -p "$elsewhere/target"
ln -s "$(pwd)/target/host" "$elsewhere/target/host"
(cd "$elsewhere" && scripts/deb.sh)
cmp "$package" "$elsewhere"/target/deb/${name}_*.deb || fail "two builds of the same sources differ"

say "lintian"
command -v lintian >/dev/null ||
	apt-get install -y -qq --no-install-recommends lintian >/dev/null 2>&1 || fail "lintian cannot be installed"
lintian --allow-root --fail-on error,warning "$package" || fail "lintian finds fault with $package"

say "install, serve, divert, purge"
before=$(md5sum "$stock/presence.so" "$stock/pua.so")
dpkg -i "$package" >/dev/null

# An upgrade of the stock modules renews the stock file and leaves ours in its place.
survive_upgrade() {
	apt-get install -y -qq --reinstall --no-install-recommends kamailio-presence-modules >/dev/null 2>&1 ||
		fail "kamailio-presence-modules cannot be installed again"
	grep -q libkamailio_presence "$stock/presence.so" || fail "an upgrade of the stock modules replaced ours"
	[ -f "$stock/presence.so.stock" ] || fail "the new stock file is not beside ours"
}

# Every example of the package, as a user starts it, until it answers; the one for a database server says what it needs.
start_examples() {
	states=$(mktemp -d)
	export XDG_STATE_HOME="$states" NODES="sip:127.0.0.1:5999" PORT=5098 HTTP_PORT=8098 INTERNAL_PORT=5097
	for example in $(kamailio-presence-example | tail -n +2); do
		if [ "$example" = shared-postgresql ]; then
			kamailio-presence-example "$example" 2>&1 | grep -q "needs a PostgreSQL" ||
				fail "$example does not say what it needs"
			continue
		fi
		kamailio-presence-example "$example" >"$states/log" 2>&1 &
		server=$! state=$states/kamailio-presence/$(basename "$example")-127.0.0.1-$PORT answers=
		for _ in $(seq 100); do
			kill -0 "$server" 2>/dev/null || break
			if kamcmd -s "unix:$state/ctl" core.uptime >/dev/null 2>&1; then answers=1 && break; fi
			sleep 0.2
		done
		[ -n "$answers" ] || fail "the packaged example $example does not answer: $(tail -n 3 "$states/log")"
		case $example in
		edge-by-presentity) ;;
		*)
			kamcmd -s "unix:$state/ctl" presence.version | grep -q kamailio ||
				fail "$example does not run this package's module"
			;;
		esac
		kill "$server"
		wait "$server" || true
		say "the example $example answers"
	done
	rm -rf "$states"
	unset XDG_STATE_HOME NODES PORT HTTP_PORT INTERNAL_PORT
}

serve() { (cd tests && PRESENCE_MODULES=$1 python3 -m pytest -q -p no:cacheprovider "$2"); }
serve "$modules" "test_publish.py::test_life_of_a_publication[write-through]"
start_examples
kamailio-presence-divert on
survive_upgrade
serve "$stock" test_startup.py::test_it_is_really_ours
kamailio-presence-divert status | grep -q "presence.so is ours" || fail "the stock files were not diverted"
dpkg --purge "$name" >/dev/null
[ "$before" = "$(md5sum "$stock/presence.so" "$stock/pua.so")" ] || fail "the stock modules are not what they were"
[ ! -e "$modules" ] && [ ! -e "/usr/share/doc/$name" ] || fail "the package left files behind"
[ -z "$(dpkg-divert --list "*/presence.so")" ] || fail "the package left a diversion behind"

say "no place beside another version"
depends=$(dpkg-deb -f "$package" Depends)
host_version=$(python3 scripts/kamailio_host.py get version | tr - '~')
case $depends in
*"kamailio (>= $host_version), kamailio (<< "*) ;;
*) fail "the package depends on $depends, not on $host_version alone" ;;
esac
case $(dpkg-deb -f "$package" Version) in
*"+kamailio$host_version") ;;
*) fail "the package does not name $host_version in its version" ;;
esac
other=$(mktemp -d)
dpkg-deb -R "$package" "$other/root"
sed -i "s/^Depends: .*/Depends: kamailio (>= 99), kamailio (<< 99.1~)/" "$other/root/DEBIAN/control"
dpkg-deb --root-owner-group -b "$other/root" "$other/other.deb" >/dev/null
! apt-get install -y -qq "$other/other.deb" >/dev/null 2>&1 || fail "a package for another Kamailio was installed"
rm -rf "$other"

say "make install, an upgrade of the stock modules, make uninstall"
mkdir -p target/modules
cp target/deb/modules/*.so target/modules/
scripts/install.sh install
survive_upgrade
scripts/install.sh uninstall
[ "$before" = "$(md5sum "$stock/presence.so" "$stock/pua.so")" ] || fail "the stock modules are not what they were"
[ -z "$(dpkg-divert --list "*/presence.so")" ] || fail "make uninstall left a diversion behind"
say "the package is fine: $package"
