# Shared by the scripts: messages, and the server that is to load the modules.

say() { printf '%s\n' "== $*" >&2; }
fail() { printf '%s\n' "error: $*" >&2; exit 1; }

# python3-minimal lacks most of the library.
need_python() {
	python3 -c "import shlex, tempfile" 2>/dev/null ||
		fail "no python3 with its library: install python3, or run make setup"
}

# What scripts/kamailio_host.py tells of the server: binary, version, modules, share, kamcmd, headers, flags.
host() {
	need_python
	python3 "$scripts_folder/kamailio_host.py" get "$1"
}
scripts_folder=$(pwd)/scripts

kamailio_binary() { host binary; }

# The place to look for others' files is asked once; a change makes the next build begin with the build script.
note_facts() {
	need_python
	facts=$(python3 "$scripts_folder/kamailio_host.py" facts) || exit 1
	mkdir -p target/host
	[ "$facts" = "$(cat target/host/facts 2>/dev/null)" ] || printf '%s\n' "$facts" >target/host/facts
}

fact() { printf '%s\n' "$facts" | sed -n "s/^$1	//p" | head -n 1; }

# Which sources these are: an unpacked archive has no history.
commit() { git describe --always --dirty --exclude "*" 2>/dev/null || echo unknown; }

cargo_command() {
	if [ -n "${CARGO:-}" ]; then echo "$CARGO"; else echo cargo; fi
}
