#!/bin/sh
# hosts.sh [suite...]: both README commands in a clean Debian of each suite (debootstrap, git and make, nothing else).
# The trees are kept between runs in HOSTS_DIR; FRESH=1 makes them anew. COMMANDS chooses what is run in them. A source
# named with KAMAILIO_SRC is taken along; where there is none and the mirror lacks it, headers of the same series serve
# (tests/hosts).
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/debian-tree.sh
trees=${HOSTS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/kamailio-presence/hosts}
commands=${COMMANDS:-make run ONCE=1 PORT=5099 && make test}

need_debootstrap

make_tree() { # suite, folder
	[ -z "${FRESH:-}" ] || rm -rf "$2"
	[ ! -f "$2/.ready" ] || return 0
	bootstrap "$1" "$2"
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
