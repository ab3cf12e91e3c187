#!/bin/sh
# container-test.sh: builds the image of packaging/Containerfile with buildah, starts the server in it as the image
# says, and shows a publication reach a watcher. BASE names a base image (docker.io/library/debian:trixie-slim); without
# it debootstrap makes one here, of a clean Debian SUITE (trixie), so that no registry is needed. The container has this
# machine's network: PORT (5098) is free on loopback. What is built lies in a folder of its own, removed at the end.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/debian-tree.sh
suite=${SUITE:-trixie}
port=${PORT:-5098}

need_python
need buildah buildah
store=$(mktemp -d "${TMPDIR:-/var/tmp}/presence-container.XXXXXX")
# Changing the root and copying layers whole ask least of the kernel: both work inside most containers, too.
export BUILDAH_ISOLATION="${BUILDAH_ISOLATION:-chroot}"
in_store() {
	command=$1
	shift
	buildah --root "$store/root" --runroot "$store/run" --storage-driver "${STORAGE_DRIVER:-vfs}" "$command" "$@"
}
server=
end() {
	[ -z "$server" ] || kill "$server" 2>/dev/null || true
	in_store rm --all >/dev/null 2>&1 || true
	rm -rf "$store"
}
trap end EXIT
trap 'exit 1' INT TERM

# A clean Debian as an image that trusts whom this machine trusts.
make_base() {
	need_debootstrap
	bootstrap "$suite" "$store/tree"
	cp -r /usr/local/share/ca-certificates "$store/tree/usr/local/share/"
	mkdir -p "$store/tree/etc/ssl/certs"
	[ ! -f /etc/ssl/certs/ca-certificates.crt ] || cp /etc/ssl/certs/ca-certificates.crt "$store/tree/etc/ssl/certs/"
	empty=$(in_store from scratch)
	in_store add --quiet "$empty" "$store/tree" / >/dev/null
	BASE=localhost/debian:$suite
	in_store commit --quiet --rm "$empty" "$BASE" >/dev/null
	rm -rf "$store/tree"
}

not_here() {
	fail "buildah cannot run a step of an image here ($(tail -n 1 "$store/log")): run this as root, on a machine or in a" \
		"container that may make mount and user namespaces"
}

# Whether a step can be run at all is known before the long build.
try_step() {
	container=$(in_store from "$BASE" 2>"$store/log") || fail "no base image $BASE: $(tail -n 1 "$store/log")"
	in_store run "$container" true 2>"$store/log" || not_here
	in_store rm "$container" >/dev/null
}

# What the image says that a container starts, as words of the shell.
command_of_image() {
	in_store inspect --type image "$1" | python3 -c '
import json, shlex, sys
config = json.load(sys.stdin)["OCIv1"]["config"]
print(shlex.join(config["Entrypoint"] + config["Cmd"]))'
}

in_store from scratch >"$store/log" 2>&1 || not_here
[ -n "${BASE:-}" ] || make_base
try_step
say "building packaging/Containerfile on $BASE"
in_store bud --build-arg "BASE=$BASE" -f packaging/Containerfile -t presence . >"$store/log" 2>&1 ||
	fail "the image cannot be built: $(tail -n 5 "$store/log")"

container=$(in_store from presence)
started=$(command_of_image presence)
say "starting $started"
eval "set -- $started"
in_store run --env ADDRESS=127.0.0.1 --env "PORT=$port" "$container" "$@" >"$store/server.log" 2>&1 &
server=$!
PYTHONPATH=tests python3 scripts/show.py "$port" ||
	fail "the server in the image does not serve: $(tail -n 5 "$store/server.log")"
in_store run "$container" kamcmd -s unix:/var/lib/kamailio-presence/ctl presence.version
in_store run "$container" sh -c 'kill "$(cat /var/lib/kamailio-presence/kamailio.pid)"'
wait "$server" || fail "the server in the image did not end well: $(tail -n 5 "$store/server.log")"
server=
say "the image serves"
