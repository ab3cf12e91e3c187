# Shared by the scripts that need a clean Debian, after lib.sh: how debootstrap makes one.

need_debootstrap() {
	[ "$(id -u)" = 0 ] || fail "chroot needs root: run as root, or with sudo"
	command -v debootstrap >/dev/null || {
		say "installing debootstrap"
		apt-get update -qq &&
			DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
	}
}

# The mirror this machine itself uses.
mirror() {
	[ -z "${MIRROR:-}" ] || { echo "$MIRROR"; return 0; }
	apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | sort -u | grep '/debian/*$' | head -n 1
}

# bootstrap SUITE FOLDER: a minimal Debian with nothing added; the log is FOLDER.log.
bootstrap() {
	from=$(mirror)
	[ -n "$from" ] || fail "no Debian mirror in this machine's package lists: name one with MIRROR=..."
	say "making a clean Debian $1"
	rm -rf "$2" && mkdir -p "$2"
	# A suite that is younger than this debootstrap is made as sid is.
	script=/usr/share/debootstrap/scripts/$1
	[ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid
	debootstrap --variant=minbase "$1" "$2" "$from" "$script" >"$2.log" 2>&1 ||
		fail "debootstrap failed: $(tail -n 1 "$2.log")"
	# The lists of suites that change daily expire; a mirror may be behind.
	echo 'Acquire::Check-Valid-Until "false";' >"$2/etc/apt/apt.conf.d/90lists-that-expired"
}
