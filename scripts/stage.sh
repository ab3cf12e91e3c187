#!/bin/sh
# stage.sh ROOT: what a package holds, laid out under ROOT: modules in a folder of their own, commands, manual pages,
# documents, dashboard and alert rules. MODULES_OUT is where the modules were built. LIBDIR is the folder of libraries
# (/usr/lib/x86_64-linux-gnu, /usr/lib64), DIVERT=1 adds the command that puts the modules in the place of the stock
# ones, which needs dpkg.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
root=$1
need "${STRIP:-strip}" binutils
need_python
name=kamailio-presence
built=${MODULES_OUT:-target/modules}
libraries=${LIBDIR:-/usr/lib/$("${CC:-cc}" -print-multiarch 2>/dev/null)}
stock=$(host modules)
modules=$root$libraries/$name/modules
doc=$root/usr/share/doc/$name
man=$root/usr/share/man
mkdir -p "$modules" "$doc" "$root/usr/bin" "$man/man1" "$man/man7" "$man/man8"
server=$(host full_version)
for file in presence.so pua.so; do
	grep -qaF "$server" "$built/$file" || fail "$built/$file was not built for $server: run make build"
done
for file in presence.so pua.so libkamailio_presence.so; do
	install -m 0644 "$built/$file" "$modules/$file"
	"${STRIP:-strip}" --strip-unneeded "$modules/$file"
done
install -m 0755 scripts/example.sh "$root/usr/bin/$name-example"
install -m 0755 scripts/database.sh "$root/usr/bin/$name-database"
pages="man1/$name-example.1 man1/$name-database.1"
if [ -n "${DIVERT:-}" ]; then
	mkdir -p "$root/usr/sbin"
	sed "s|@MODULES@|$libraries/$name/modules|; s|@STOCK@|$stock|" packaging/$name-divert >"$root/usr/sbin/$name-divert"
	chmod 0755 "$root/usr/sbin/$name-divert"
	pages="$pages man8/$name-divert.8"
fi
python3 scripts/man.py docs/presence.md docs/pua.md | gzip -9nc >"$man/man7/$name.7.gz"
for page in $pages; do gzip -9nc "packaging/man/$(basename "$page")" >"$man/$page.gz"; done

# What Grafana and Prometheus import.
mkdir -p "$root/usr/share/$name"
install -m 0644 packaging/grafana/dashboard.json packaging/grafana/alerts.yml "$root/usr/share/$name/"

cp -r README.md COMPAT.md ARCHITECTURE.md BENCHMARKS.md CONTRIBUTING.md docs examples "$doc/"
find "$doc/examples" -type f -exec sed -i \
	-e "s|/usr/lib/x86_64-linux-gnu/kamailio-presence/|$libraries/$name/|g" \
	-e "s|/usr/lib/x86_64-linux-gnu/kamailio/modules|$stock|g" {} +
find "$doc" -type d -name __pycache__ -exec rm -rf {} +
gzip -9nc CHANGELOG.md >"$doc/changelog.gz"
sed -i 's|(CHANGELOG\.md)|(changelog.gz)|' "$doc"/*.md
find "$root" -type d -exec chmod 0755 {} +
find "$doc" -type f ! -name '*.sh' -exec chmod 0644 {} +

# Every link of a document leads to something in the package: a file of the tree that one names comes along.
python3 - "$doc" <<'EOF'
import pathlib, re, shutil, sys
doc, broken = pathlib.Path(sys.argv[1]).resolve(), []
for path in sorted(doc.rglob("*.md")):
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
        place = (path.parent / link).resolve()
        if "://" in link or place.exists():
            continue
        source = pathlib.Path(place.relative_to(doc)) if place.is_relative_to(doc) else None
        if source and source.is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)
        else:
            broken.append("%s: %s" % (path.relative_to(doc), link))
sys.exit("error: links lead nowhere: " + ", ".join(broken) if broken else 0)
EOF
