# Shared by the scripts: messages, and where the host's source is.

say() { printf '%s\n' "== $*" >&2; }
fail() { printf '%s\n' "error: $*" >&2; exit 1; }

kamailio_binary() { command -v kamailio || echo /usr/sbin/kamailio; }

# The unpacked and configured source of the host.
host_source() {
	dir=${KAMAILIO_SRC:-target/host/current}
	[ -f "$dir/src/core/sr_module.h" ] || fail "no Kamailio source in $dir: run make setup, or set KAMAILIO_SRC"
	[ -f "$dir/src/config.mak" ] || fail "$dir is not configured: run make cfg there"
	(cd "$dir" && pwd -P)
}

host_source_version() { sed -n 's/.*-DVERSIONVAL=\([0-9]*\).*/\1/p' "$1/src/config.mak" | awk '{printf "%d.%d.%d\n", $1/1000000, $1/1000%1000, $1%1000}'; }

# C_DEFS and CC_PMUTEX_OPTS, quoted for eval.
host_cflags() { sed -n 's/^C_DEFS=//p; s/^CC_PMUTEX_OPTS=//p' "$1/src/config.mak" | tr '\n' ' '; }

flags_differ() { fail "installed Kamailio was built with $1, the source in $2 is not: run make cfg there with the flags that kamailio -V prints"; }

# Kamailio refuses modules whose version or flags differ from its own: say so before the build.
check_host_flags() {
	binary=$(kamailio_binary)
	[ -x "$binary" ] || return 0
	theirs=$("$binary" -V | sed -n 's/^version: kamailio \([^ ]*\) .*/\1/p')
	ours=$(host_source_version "$1")
	[ "$theirs" = "$ours" ] || fail "the source in $1 is Kamailio $ours, installed is $theirs: run make setup again, or set KAMAILIO_SRC to the source of $theirs"
	for flag in $("$binary" -V | sed -n 's/^flags: //p' | tr ',' ' '); do
		case $flag in
			F_MALLOC|Q_MALLOC|TLSF_MALLOC|DBG_SR_MEMORY|PKG_MALLOC|SHM_MMAP|USE_TCP|USE_TLS|TLS_HOOKS)
				grep -q -- "-D$flag\b" "$1/src/config.mak" || flags_differ "$flag" "$1" ;;
			TLS_PTHREAD_MUTEX_SHARED)
				grep -q -- "-DKSR_PTHREAD_MUTEX_SHARED\b" "$1/src/config.mak" || flags_differ "$flag (LIBSSL_SET_MUTEX_SHARED=1)" "$1" ;;
		esac
	done
}

cargo_command() {
	if [ -n "${CARGO:-}" ]; then echo "$CARGO"; else echo cargo; fi
}
