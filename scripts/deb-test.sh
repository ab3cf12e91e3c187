#!/bin/sh
# Builds the package twice in different places, installs it, serves with it, diverts the stock files and brings them back, purges it.
# It changes the machine it runs on: meant for a tree of scripts/hosts.sh (SUITES="bookworm trixie" make test-deb).
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
[ "$(id -u)" = 0 ] || fail "packages are installed by root"
name=kamailio-presence
modules=/usr/lib/$(gcc -print-multiarch)/$name/modules
stock=/usr/lib/$(gcc -print-multiarch)/kamailio/modules

dpkg --purge "$name" >/dev/null 2>&1 || true
say "two builds, one package"
export SOURCE_DATE_EPOCH=1700000000
scripts/deb.sh
package=$(ls target/deb/${name}_*.deb)
elsewhere=$(mktemp -d)
trap 'rm -rf "$elsewhere"' EXIT
tar -cf - --exclude=./target . | tar -xf - -C "$elsewhere"
mkdir -p "$elsewhere/target"
ln -s "$(pwd)/target/host" "$elsewhere/target/host"
(cd "$elsewhere" && scripts/deb.sh)
cmp "$package" "$elsewhere"/target/deb/${name}_*.deb || fail "two builds of the same sources differ"

say "install, serve, divert, purge"
before=$(md5sum "$stock/presence.so" "$stock/pua.so")
dpkg -i "$package" >/dev/null
serve() { (cd tests && PRESENCE_MODULES=$1 python3 -m pytest -q -p no:cacheprovider "$2"); }
serve "$modules" "test_publish.py::test_life_of_a_publication[write-through]"
kamailio-presence-divert on
serve "$stock" test_startup.py::test_it_is_really_ours
kamailio-presence-divert status | grep -q "presence.so is ours" || fail "the stock files were not diverted"
dpkg --purge "$name" >/dev/null
[ "$before" = "$(md5sum "$stock/presence.so" "$stock/pua.so")" ] || fail "the stock modules are not what they were"
[ ! -e "$modules" ] && [ ! -e "/usr/share/doc/$name" ] || fail "the package left files behind"
[ -z "$(dpkg-divert --list "*/presence.so")" ] || fail "the package left a diversion behind"

say "make install, an upgrade of the stock modules, make uninstall"
scripts/build.sh
scripts/install.sh install
apt-get install -y -qq --reinstall --no-install-recommends kamailio-presence-modules >/dev/null 2>&1
grep -q libkamailio_presence "$stock/presence.so" || fail "an upgrade of the stock modules replaced ours"
[ -f "$stock/presence.so.stock" ] || fail "the new stock file is not beside ours"
scripts/install.sh uninstall
[ "$before" = "$(md5sum "$stock/presence.so" "$stock/pua.so")" ] || fail "the stock modules are not what they were"
[ -z "$(dpkg-divert --list "*/presence.so")" ] || fail "make uninstall left a diversion behind"
say "the package is fine: $package"
