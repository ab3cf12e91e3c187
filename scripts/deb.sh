#!/bin/sh
# Builds a Debian package for the server that is installed (or named by KAMAILIO_BIN): our modules in a folder of their
# own, beside the stock ones. MAINTAINER names who answers for it.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
command -v dpkg-deb >/dev/null || fail "no dpkg-deb: packages are built on Debian, where apt-get install dpkg brings it"
need readelf binutils
need "${STRIP:-strip}" binutils
need_to_build
note_facts
host_version=$(fact version)
binary=$(fact binary)
package_version=$(host package_version)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)+kamailio$package_version
architecture=$(dpkg --print-architecture)
triplet=$("${CC:-cc}" -print-multiarch)
name=kamailio-presence
out=target/deb
root=$out/root

# The server's own package, at exactly its version; one that no package owns is not named.
owner=$(dpkg-query -S "$(readlink -f "$binary")" 2>/dev/null | cut -d: -f1) || owner=
depends=
if [ -n "$owner" ]; then
	depends="$owner (>= $package_version), $owner (<< $(host next_version)), "
fi

# The same sources make the same package, byte by byte: paths and times of this machine stay out of it.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date -r Cargo.toml +%s)}
registry=${CARGO_HOME:-$HOME/.cargo}
RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$(pwd)=/build --remap-path-prefix=$registry=/cargo"
CFLAGS="${CFLAGS:-} -ffile-prefix-map=$(pwd)=/build -ffile-prefix-map=$(fact headers)=/kamailio"
export SOURCE_DATE_EPOCH RUSTFLAGS CFLAGS
MODULES_OUT=$out/modules CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$(pwd)/$out/build} scripts/build.sh >&2

rm -rf "$root"
MODULES_OUT=$out/modules DIVERT=1 scripts/stage.sh "$root"
doc=$root/usr/share/doc/$name
mkdir -p "$root/DEBIAN" "$root/usr/share/lintian/overrides"
python3 scripts/licences.py >"$doc/copyright"
install -m 0644 packaging/debian/kamailio-presence.lintian-overrides "$root/usr/share/lintian/overrides/$name"
sed '/^#DEBHELPER#$/d' packaging/debian/prerm >"$root/DEBIAN/prerm"
chmod 0755 "$root/DEBIAN/prerm"
maintainer=${MAINTAINER:-$(sed -n 's/^Maintainer: //p' packaging/debian/control)}
# A native package: the changelog is Debian's, ours stays a document.
gzip -dc "$doc/changelog.gz" >"$doc/CHANGELOG.md"
sed -i 's|(changelog\.gz)|(CHANGELOG.md)|' "$doc"/*.md
{
	printf '%s (%s) unstable; urgency=medium\n\n  * Built for Kamailio %s; what has changed is in CHANGELOG.md.\n\n' \
		"$name" "$version" "$host_version"
	printf ' -- %s  %s\n' "$maintainer" "$(LC_ALL=C date -R -u -d "@$SOURCE_DATE_EPOCH")"
} | gzip -9n >"$doc/changelog.gz"

# Debian names the package of libxml2 by its version from forky on.
xml=$(readelf -d "$out/modules/libkamailio_presence.so" | sed -n 's/.*NEEDED.*\[\(libxml2[^]]*\)\].*/\1/p')
xml_package=$(dpkg-query -S "*/$xml" | cut -d: -f1 | head -n 1)
[ -n "$xml_package" ] || fail "no package has $xml: install libxml2-dev"

size=$(du -sk --apparent-size "$root" | cut -f1)
cat >"$root/DEBIAN/control" <<EOF
Package: $name
Version: $version
Architecture: $architecture
Maintainer: $maintainer
Installed-Size: $size
Depends: ${depends}libc6, libgcc-s1, $xml_package
Recommends: kamailio-presence-modules, kamailio-sqlite-modules, sqlite3
Suggests: kamailio-websocket-modules, baresip-core, curl
Section: net
Priority: optional
Description: SIP presence server and presence user agent for Kamailio $host_version
 presence.so and pua.so, loaded in place of the stock modules of the same
 names: one mpath line in kamailio.cfg chooses them, which has
 /usr/lib/$triplet/$name/modules/ in front.
 .
 The modules are those of one version of Kamailio: another version needs
 another package.
EOF
(cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
find "$root" -print0 | xargs -0 touch -h -d "@$SOURCE_DATE_EPOCH"
package=$out/${name}_${version}_$architecture.deb
dpkg-deb --root-owner-group -Zxz --build "$root" "$package" >/dev/null
say "$package"
