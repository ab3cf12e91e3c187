#!/bin/sh
# Builds a Debian package for the installed Kamailio: our modules in a folder of their own, beside the stock ones.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
command -v dpkg-deb >/dev/null || fail "no dpkg-deb: packages are built on Debian"
source=$(host_source)
host=$(host_source_version "$source")
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)+kamailio$host
architecture=$(dpkg --print-architecture)
triplet=$(gcc -print-multiarch)
name=kamailio-presence
out=target/deb
root=$out/root

# The same sources make the same package, byte by byte: paths and times of this machine stay out of it.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date -r Cargo.toml +%s)}
registry=${CARGO_HOME:-$HOME/.cargo}
RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$(pwd)=/build --remap-path-prefix=$registry=/cargo"
CFLAGS="${CFLAGS:-} -ffile-prefix-map=$(pwd)=/build -ffile-prefix-map=$source=/kamailio"
export SOURCE_DATE_EPOCH RUSTFLAGS CFLAGS
MODULES_OUT=$out/modules CARGO_TARGET_DIR=$(pwd)/$out/build scripts/build.sh >&2

rm -rf "$root"
modules=$root/usr/lib/$triplet/$name/modules
doc=$root/usr/share/doc/$name
mkdir -p "$modules" "$doc" "$root/usr/sbin" "$root/DEBIAN"
for file in "$out"/modules/*.so; do
	install -m 0644 "$file" "$modules/"
	strip --strip-unneeded "$modules/$(basename "$file")"
done
install -m 0755 packaging/kamailio-presence-divert "$root/usr/sbin/"
sed -i "s|@MODULES@|/usr/lib/$triplet/$name/modules|; s|@STOCK@|/usr/lib/$triplet/kamailio/modules|" "$root/usr/sbin/kamailio-presence-divert"
cp -r README.md COMPAT.md docs examples "$doc/"
find "$doc/examples" -type f -exec sed -i "s|/usr/lib/x86_64-linux-gnu/|/usr/lib/$triplet/|g" {} +
install -D -m 0755 scripts/example.sh "$root/usr/bin/kamailio-presence-example"
install -D -m 0755 scripts/database.sh "$root/usr/bin/kamailio-presence-database"
gzip -9nc CHANGELOG.md >"$doc/changelog.gz"
python3 scripts/licences.py >"$doc/copyright"
install -m 0755 packaging/prerm "$root/DEBIAN/prerm"

size=$(du -sk --apparent-size "$root" | cut -f1)
cat >"$root/DEBIAN/control" <<EOF
Package: $name
Version: $version
Architecture: $architecture
Maintainer: The kamailio-presence authors <noreply@localhost>
Installed-Size: $size
Depends: kamailio (>= $host), kamailio (<< $host.99), libc6, libgcc-s1, libxml2
Suggests: kamailio-presence-modules
Section: net
Priority: optional
Description: SIP presence server and presence user agent for Kamailio
 presence.so and pua.so, loaded in place of the stock modules of the same
 names: one line in kamailio.cfg chooses them,
 mpath="/usr/lib/$triplet/$name/modules/:/usr/lib/$triplet/kamailio/modules/"
EOF
(cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
find "$root" -print0 | xargs -0 touch -h -d "@$SOURCE_DATE_EPOCH"
find "$root" -type d -exec chmod 0755 {} +
package=$out/${name}_${version}_$architecture.deb
dpkg-deb --root-owner-group -Zxz --build "$root" "$package" >/dev/null
say "$package"
