#!/bin/sh
# Builds an RPM for the server that is installed (or named by KAMAILIO_BIN), in target/rpm. Works on Debian, too
# (package rpm).
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
command -v rpmbuild >/dev/null || fail "no rpmbuild: install rpm-build (on Debian, run apt-get install rpm)"
need "${STRIP:-strip}" binutils
need_to_build
note_facts
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
top=$(pwd)/target/rpm
mkdir -p "$top/SOURCES"
source_files |
	tar --null --files-from=- --transform "s|^|kamailio-presence-$version/|" \
		-czf "$top/SOURCES/kamailio-presence-$version.tar.gz"
# rpmbuild works in a folder of its own.
headers=$(readlink -f "${KAMAILIO_SRC:-target/host/current}")
KAMAILIO_BIN=$(fact binary) KAMAILIO_SRC=$headers CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$(pwd)/target} \
	rpmbuild -bb --quiet --define "_topdir $top" \
	--define "our_version $version" --define "kamailio_version $(host package_version)" \
	--define "kamailio_requires $(host rpm_requires)" \
	packaging/kamailio-presence.spec >"$top/log" 2>&1 ||
	fail "rpmbuild failed: $(tail -n 3 "$top/log" | tr '\n' ' ') (target/rpm/log)"
say "$(find "$top/RPMS" -name "kamailio-presence-$version-*.rpm" | head -n 1)"
