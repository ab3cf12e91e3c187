#!/bin/sh
# Makes the Debian source package in target/deb: the tree, packaging/debian as debian/, and the crates (cargo vendor),
# so that dpkg-buildpackage needs no network.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
need dpkg-buildpackage "dpkg-dev debhelper"
need perl perl
need_rust
need_python
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
name=kamailio-presence
tree=target/deb/$name-$version
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date -r Cargo.toml +%s)}
export SOURCE_DATE_EPOCH
date=$(LC_ALL=C date -R -u -d "@$SOURCE_DATE_EPOCH")
rm -rf "$tree" target/deb/${name}_"$version".*
mkdir -p "$tree"
source_files | tar --null --files-from=- -cf - | tar -xf - -C "$tree"
cp -r packaging/debian "$tree/debian"
python3 scripts/licences.py >"$tree/debian/copyright"
cat >"$tree/debian/changelog" <<EOF
$name ($version) unstable; urgency=medium

  * What has changed is in CHANGELOG.md.

 -- ${MAINTAINER:-$(sed -n 's/^Maintainer: //p' packaging/debian/control)}  $date
EOF
"$(cargo_command)" vendor --quiet --locked "$tree/vendor" >/dev/null
# Files that dpkg-source leaves out, that Debian's tools take for left-overs, and what others compiled: none is source.
# cargo is not to miss them.
left_out=$(perl -MDpkg::Source::Package -e 'print join "\n", Dpkg::Source::Package::get_default_tar_ignore_pattern()')
[ -n "$left_out" ] || fail "dpkg-source does not say which files it leaves out"
LEFT_OUT="$left_out" python3 - "$tree/vendor" <<'EOF'
import fnmatch, json, os, pathlib, sys
patterns = [name.removeprefix("*/") for name in os.environ["LEFT_OUT"].split()]
patterns += ["*.orig", "*.rej", "*.bak", "*.dll", "*.exe", "*.lib"]
for path in pathlib.Path(sys.argv[1]).glob("*/.cargo-checksum.json"):
    sums = json.loads(path.read_text())
    for name in [name for name in sums["files"]
                 if any(fnmatch.fnmatch(part, pattern) for part in name.split("/") for pattern in patterns)]:
        del sums["files"][name]
        (path.parent / name).unlink(missing_ok=True)
    path.write_text(json.dumps(sums))
EOF
(cd "$tree" && dpkg-buildpackage -S -us -uc -d -nc >../source.log 2>&1) ||
	fail "dpkg-buildpackage -S failed: $(tail -n 1 target/deb/source.log)"
# cargo refuses a vendored crate that lacks one of its files.
tar -tf "target/deb/${name}_$version.tar.xz" | python3 -c '
import json, pathlib, sys
packed = {name.split("/", 1)[-1].rstrip() for name in sys.stdin}
tree = pathlib.Path(sys.argv[1])
lost = ["%s/%s" % (path.parent.relative_to(tree), name) for path in tree.glob("vendor/*/.cargo-checksum.json")
        for name in json.loads(path.read_text())["files"]
        if "%s/%s" % (path.parent.relative_to(tree), name) not in packed]
sys.exit("error: the source package lacks %s" % ", ".join(lost[:5]) if lost else 0)' "$tree"
say "target/deb/${name}_$version.dsc"
