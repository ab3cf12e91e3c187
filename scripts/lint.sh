#!/bin/sh
# What is checked without running anything: Rust, its documentation, shell, Python, prose, licences, the oldest
# compiler. A tool that is missing is passed over with one sentence, unless REQUIRE_LINTS is set; `make setup-tests`
# installs the Debian packages.
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
# Like `has`, for tools that Debian does not have: passed over also where lints are required.
extra() { (unset REQUIRE_LINTS; has "$@"); }

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
! extra cargo-deny "cargo install cargo-deny" cargo deny ||
	cargo deny --offline --all-features check licenses bans sources
minimum=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
! extra "Rust $minimum" "rustup toolchain install $minimum" cargo "+$minimum" ||
	CARGO_TARGET_DIR=target/msrv cargo "+$minimum" check --release --quiet
