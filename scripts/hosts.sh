#!/bin/sh
# hosts.sh [suite...]: both README commands in a clean Debian of each suite (debootstrap, git and make, nothing else).
# The trees are kept between runs in HOSTS_DIR; FRESH=1 makes them anew. COMMANDS chooses what is run in them. A source
# named with KAMAILIO_SRC is taken along; where there is none and the mirror lacks it, headers of the same series serve
# (tests/hosts).
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
trees=${HOSTS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/kamailio-presence/hosts}
commands=${COMMANDS:-make run ONCE=1 PORT=5099 && make test}

[ "$(id -u)" = 0 ] || fail "chroot needs root: run as root, or with sudo"
command -v debootstrap >/dev/null || {
	say "installing debootstrap"
	apt-get update -qq &&
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
}

# The mirror this machine itself uses.
mirror() {
	[ -z "${MIRROR:-}" ] || { echo "$MIRROR"; return 0; }
	apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | sort -u | grep '/debian/*$' | head -n 1
}

make_tree() { # suite, folder
	[ -z "${FRESH:-}" ] || rm -rf "$2"
	[ ! -f "$2/.ready" ] || return 0
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
	chroot "$2" sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends git make ca-certificates' \
		>>"$2.log" 2>&1 ||
		fail "cannot install git and make: $(tail -n 1 "$2.log")"
	touch "$2/.ready"
}

# The working tree as it is, without what was built here.
copy_sources() {
	mkdir -p "$1/root/presence"
	find "$1/root/presence" -mindepth 1 -maxdepth 1 ! -name target -exec rm -rf {} +
	source_files | tar --null --files-from=- -cf - | tar -xf - -C "$1/root/presence"
	rm -rf "$1/root/kamailio"
	[ -z "${KAMAILIO_SRC:-}" ] || {
		mkdir "$1/root/kamailio" &&
		tar -C "$KAMAILIO_SRC" --exclude=.git -cf - . | tar -xf - -C "$1/root/kamailio"
	}
}

mounted=
release() { for place in $mounted; do umount -l "$place" 2>/dev/null || true; done; mounted=; }
trap release EXIT INT TERM

enter() { # folder
	for place in proc dev; do
		mount --rbind "/$place" "$1/$place"
		mount --make-rslave "$1/$place"
		mounted="$1/$place $mounted"
	done
	for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt; do
		[ ! -f "$file" ] || cp "$file" "$1$file"
	done
	chroot "$1" env -i HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		${KAMAILIO_SRC_VERSION:+KAMAILIO_SRC_VERSION="$KAMAILIO_SRC_VERSION"} \
		sh -c "cd /root/presence && . scripts/host-source.sh && $commands"
}

for suite in "${@:-trixie}"; do
	tree=$trees/$suite
	make_tree "$suite" "$tree"
	copy_sources "$tree"
	say "Debian $suite: $commands"
	enter "$tree" || fail "Debian $suite: $commands failed"
	release
	say "Debian $suite: passed"
done
