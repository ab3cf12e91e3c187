#!/bin/sh
# What is checked without running anything: Rust, its documentation, shell, Python, prose, licences, the oldest
# compiler. A tool that is missing is passed over with one sentence, unless REQUIRE_LINTS is set; `make setup-tests`
# installs the Debian packages, and with REQUIRE_LINTS what Debian does not have.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
has() { # name, how to get it, command...
	name=$1 package=$2; shift 2
	if "$@" --version >/dev/null 2>&1; then say "$name"; return 0; fi
	[ -z "${REQUIRE_LINTS:-}" ] || fail "$name is not installed: install $package"
	say "$name is not installed ($package): skipped"
	return 1
}
! has rustfmt rustfmt cargo fmt || for crate in . fuzz benches/load; do
	cargo fmt --check --manifest-path "$crate/Cargo.toml"
done
! has clippy "rust-clippy, for rustc-web rust-web-clippy" cargo clippy ||
	cargo clippy --release --quiet --all-targets -- -D warnings
! has rustdoc rustc rustdoc ||
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --release --quiet --no-deps \
		--document-private-items
# Warnings and errors; what is left out is style.
! has shellcheck shellcheck shellcheck ||
	shellcheck -x -S warning -e SC1090,SC1091 -s sh scripts/*.sh examples/pbx/*.sh \
		packaging/kamailio-presence-divert packaging/debian/prerm
! has shellcheck shellcheck shellcheck || shellcheck -S warning -e SC1090,SC1091 .ci/run
python=/usr/bin/python3
[ -x $python ] || python=python3
! has pyflakes python3-pyflakes $python -m pyflakes || $python scripts/prose.py python
say "prose"
python3 scripts/prose.py
python3 scripts/prose.py commits
python3 scripts/picture.py check
PATH=$PATH:$(cargo_tools)/bin
! has cargo-deny "with REQUIRE_LINTS=1 make lint, or cargo install cargo-deny" cargo deny ||
	cargo deny --log-level error --locked --all-features check licenses bans sources
# Debian 13 has the oldest compiler that is supported: there everything else is built and tested by it (.ci/run).
minimum=1.$MINIMUM_RUST
case $(cargo --version) in
"cargo $minimum."*) say "Rust $minimum: the compiler of this host" ;;
*)
	if cargo "+$minimum" --version >/dev/null 2>&1; then
		say "Rust $minimum"
		CARGO_TARGET_DIR=target/msrv cargo "+$minimum" check --release --quiet
	else
		say "Rust $minimum is not installed (rustup toolchain install $minimum): .ci/run builds by it on Debian 13"
	fi
	;;
esac
