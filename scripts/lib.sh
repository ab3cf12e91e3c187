# Shared by the scripts: messages, and the server that is to load the modules.

say() { printf '%s\n' "== $*" >&2; }
fail() { printf '%s\n' "error: $*" >&2; exit 1; }

# need TOOL PACKAGE: a script asks for what it calls before it begins.
need() { command -v "$1" >/dev/null || fail "no $1: $(how_to_install "$2")"; }
how_to_install() {
	if command -v apt-get >/dev/null; then
		echo "run apt-get install $1"
	else
		echo "install the package that has it (Debian's is $1)"
	fi
}

# python3-minimal lacks most of the library.
need_python() {
	python3 -c "import shlex, tempfile" 2>/dev/null || fail "no python3 with its library: $(how_to_install python3)"
}

# Tools that cargo builds, for all clones of this user.
cargo_tools() { echo "${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/kamailio-presence/tools"; }

MINIMUM_RUST=85 # 1.85: the compiler of Debian 13

cargo_command() {
	if [ -n "${CARGO:-}" ]; then echo "$CARGO"; else echo cargo; fi
}

rust_is_new_enough() {
	version=$("$(cargo_command)" --version 2>/dev/null | sed -n 's/^cargo 1\.\([0-9]*\)\..*/\1/p')
	compiler=$("${RUSTC:-rustc}" --version 2>/dev/null | sed -n 's/^rustc 1\.\([0-9]*\)\..*/\1/p')
	[ "${version:-0}" -ge "$MINIMUM_RUST" ] && [ "${compiler:-0}" -ge "$MINIMUM_RUST" ]
}

# Where bindgen looks for libclang: what the user names, then the system's folders.
libclang_is_there() {
	[ ! -f "${LIBCLANG_PATH:-}" ] || return 0
	for folder in ${LIBCLANG_PATH:+"$LIBCLANG_PATH"} $(printf %s "${LD_LIBRARY_PATH:-}" | tr : ' ') \
		$(llvm-config --libdir 2>/dev/null) /usr/local/llvm*/lib* /usr/local/lib* /usr/local/lib*/* \
		/usr/local/lib*/*/* /usr/lib* /usr/lib*/* /usr/lib*/*/*; do
		for file in "$folder"/libclang.so* "$folder"/libclang-[0-9]*.so*; do [ ! -f "$file" ] || return 0; done
	done
	return 1
}

need_rust() {
	for tool in "$(cargo_command)" "${RUSTC:-rustc}"; do
		command -v "$tool" >/dev/null || fail "no $tool: run make setup, or install Rust 1.$MINIMUM_RUST or newer"
	done
	rust_is_new_enough ||
		fail "$("${RUSTC:-rustc}" --version 2>&1 | head -n 1) is older than 1.$MINIMUM_RUST:" \
			"run make setup, or install a newer Rust"
}

# What scripts/build.sh calls, and what the compilers it starts call; kamailio_host.py asks for the C compiler.
need_to_build() {
	need pkg-config pkg-config
	pkg-config --exists libxml-2.0 || fail "no headers of libxml2: $(how_to_install libxml2-dev)"
	need_rust
	libclang_is_there || fail "no libclang: $(how_to_install libclang-dev), or name its folder with LIBCLANG_PATH=DIR"
	need_python
}

# The files of these sources, each ended by a null: git's where this is a clone, otherwise all but what was built here.
source_files() {
	if [ -e .git ] && git ls-files >/dev/null 2>&1; then
		git ls-files -co --exclude-standard -z
	else
		find . -path ./target -prune -o \( -type f -o -type l \) -printf '%P\0'
	fi
}

# What scripts/kamailio_host.py says of the server: binary, version, modules, share, kamcmd, headers, flags.
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
