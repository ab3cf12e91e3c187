#!/bin/sh
# A mixed run of the real Kamailio under valgrind's memcheck: fails where an error's stack goes through our library.
# ONLY names other tests.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
command -v valgrind >/dev/null || fail "valgrind is not installed: apt-get install valgrind"
folder=$(pwd)/target/memcheck
rm -rf "$folder"
mkdir -p "$folder"
cat >"$folder/kamailio" <<EOF
#!/bin/sh
exec valgrind --tool=memcheck --trace-children=no --child-silent-after-fork=no --num-callers=30 --error-limit=no \\
	--log-file=$folder/%p.log $(kamailio_binary) "\$@"
EOF
chmod +x "$folder/kamailio"
say "the real Kamailio under memcheck"
(cd tests && KAMAILIO="$folder/kamailio" SLOW=8 /usr/bin/python3 -m pytest -q -p no:cacheprovider \
	${ONLY:-test_memcheck.py test_hostile.py::test_odd_requests}) || fail "scenarios failed"
logs=$(ls "$folder"/*.log)
# An error is a paragraph; ours are those whose stack names the library.
errors=$(awk -v RS='==[0-9]+== \n' \
	'/kamailio_presence|presence\.so|pua\.so/ && /Invalid|ninitialised|Mismatched|overlap|points to/' $logs)
[ -z "$errors" ] || { printf '%s\n' "$errors" | head -n 80; fail "memcheck found errors in our library: $folder"; }
say "memcheck: nothing in our library, in $(echo "$logs" | wc -l) processes"
