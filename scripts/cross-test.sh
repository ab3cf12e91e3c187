#!/bin/sh
# cross-test.sh: builds for aarch64 with Debian's cross compiler; a server of that architecture loads the modules under
# qemu-user and serves. It adds an architecture to the machine it runs on: meant for a tree of scripts/hosts.sh
# (make test-aarch64).
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
[ "$(id -u)" = 0 ] || fail "packages are installed by root"
scripts/setup.sh
arm=/srv/arm
target=aarch64-unknown-linux-gnu
server_packages="kamailio:arm64 kamailio-presence-modules:arm64 kamailio-sqlite-modules:arm64"

# The libraries that these packages name, without the packages: those of this machine are in their place.
libraries() {
	# shellcheck disable=SC2086
	apt-cache depends --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances \
		$server_packages | sed -n 's/^ *Depends: \(lib[^ <]*\)$/\1/p' | sort -u
}

say "the architecture arm64: compiler, libraries, emulator, server"
dpkg --add-architecture arm64
apt-get update -qq
rust=$(dpkg-query -S "$(readlink -f "$(command -v rustc)")" | cut -d: -f1)
# shellcheck disable=SC2046
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gcc-aarch64-linux-gnu qemu-user \
	"lib$(echo "$rust" | sed 's/rustc/std-rust/')-dev:arm64" libxml2-dev:arm64 libc6-dev:arm64 $(libraries) >/dev/null
rm -rf "$arm"
mkdir -p "$arm"
# shellcheck disable=SC2086
(cd "$arm" && apt-get download -qq $server_packages && for package in *.deb; do dpkg -x "$package" .; done)
server=$arm/usr/sbin/kamailio-emulated
printf '#!/bin/sh\nexec qemu-aarch64 -L / %s/usr/sbin/kamailio "$@"\n' "$arm" >"$server"
chmod +x "$server"

modules=$(pwd)/target/modules-aarch64
mkdir -p "$modules"
export CARGO_BUILD_TARGET="$target" CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
	CC=aarch64-linux-gnu-gcc STRIP=aarch64-linux-gnu-strip PKG_CONFIG_PATH=/usr/lib/aarch64-linux-gnu/pkgconfig \
	KAMAILIO_BIN="$server" MODULES_OUT="$modules"
scripts/build.sh
readelf -h "$modules/presence.so" | grep -q 'Machine: *AArch64' || fail "these modules are not for aarch64"
say "serving under qemu-aarch64"
ONCE=1 PORT="${PORT:-5096}" PRESENCE_MODULES="$modules" scripts/run.sh
