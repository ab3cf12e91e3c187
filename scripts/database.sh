#!/bin/sh
# database.sh create FILE               a new SQLite database with the tables of Kamailio's own SQL files
# database.sh user FILE NAME [REALM]    an account for digest authentication; the password is read from standard input
# An existing file is never overwritten; an existing account gets the new password. For a database server use kamdbctl
# create.
set -eu
fail() { printf '%s\n' "error: $*" >&2; exit 1; }
[ $# -ge 2 ] || { sed -n '2,/^set/s/^# //p' "$0" >&2; exit 2; }
command -v sqlite3 >/dev/null || fail "there is no sqlite3: apt-get install sqlite3"
file=$2

schemas() {
	here=$(dirname "$(readlink -f "$0")")
	share=${KAMAILIO_SHARE:-}
	[ -n "$share" ] || [ ! -f "$here/kamailio_host.py" ] || share=$(python3 "$here/kamailio_host.py" get share) || exit 1
	# Those of another version that the machine may have are no replacement for those of the server.
	for folder in ${share:-/usr/share/kamailio /usr/local/share/kamailio}; do
		if [ -f "$folder/db_sqlite/presence-create.sql" ]; then echo "$folder/db_sqlite"; return 0; fi
	done
	fail "Kamailio's SQL files are not in ${share:-/usr/share/kamailio}: install kamailio-sqlite-modules, or set" \
		"KAMAILIO_SHARE to utils/kamctl in the server's source"
}

create() {
	[ ! -e "$file" ] || fail "$file exists already and is left alone: name another file, or remove it first"
	folder=$(schemas)
	new=$file.new.$$
	trap 'rm -f "$new"' EXIT
	# A file that holds accounts is its owner's business.
	umask 077
	# A change is written to the log as whole pages, two for most: pages of 2 KB cost less than the 4 KB that SQLite has
	# by itself, for documents of half a KB as for those of three.
	echo 'pragma page_size = 2048; vacuum;' | sqlite3 "$new" || fail "$new cannot be written"
	for part in standard auth_db usrloc dialog presence rls; do
		[ -f "$folder/$part-create.sql" ] || fail "$folder has no $part-create.sql"
		{ echo '.bail on'; cat "$folder/$part-create.sql"; } | sqlite3 "$new" ||
			fail "$folder/$part-create.sql cannot be read into $new"
	done
	# A link is refused when there is a file: nobody is overwritten who came first.
	ln "$new" "$file" || fail "$file cannot be written"
}

digest() { printf '%s' "$1" | md5sum | cut -d' ' -f1; }

user() { # name, realm
	case $1$2 in *[!A-Za-z0-9._-]*) fail "a name and a realm are letters, digits, . _ and -" ;; esac
	[ -f "$file" ] || fail "there is no $file: create it first"
	IFS= read -r password || [ -n "$password" ] || fail "give the password on standard input"
	[ -n "$password" ] || fail "the password is empty"
	sqlite3 "$file" "delete from subscriber where username = '$1' and domain = '$2';
		insert into subscriber (username, domain, password, ha1, ha1b) values ('$1', '$2', '',
		'$(digest "$1:$2:$password")', '$(digest "$1@$2:$2:$password")');"
}

case $1 in
create) create ;;
user) [ $# -ge 3 ] || fail "name the user"; user "$3" "${4:-example.org}" ;;
*) fail "use: database.sh create FILE, or database.sh user FILE NAME [REALM]" ;;
esac
