"""What the scripts that build, package and install say where a program they call is not installed."""
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from kit.kamailio import ROOT, SERVER

SCRIPTS = ("lib.sh", "build.sh", "stage.sh", "deb.sh", "deb-source.sh", "rpm.sh", "install.sh")

# By script, what is asked for before anything else is done.
WANTED = {
    "build.sh": ["pkg-config", "cargo", "rustc", "python3", "cc"],
    "stage.sh": ["strip", "python3"],
    "deb.sh": ["dpkg-deb", "readelf", "strip", "pkg-config", "cargo", "rustc", "python3", "cc"],
    "deb-source.sh": ["dpkg-buildpackage", "perl", "cargo", "rustc", "python3"],
    "rpm.sh": ["rpmbuild", "strip", "pkg-config", "cargo", "rustc", "python3", "cc"],
    "install.sh": ["python3"],
}
# What these scripts get along without.
OPTIONAL = {"git", "llvm-config", "strip", "dpkg-divert", "apt-get"}
# Packages that every Debian has; other systems have these programs, too.
EVERYWHERE = ("coreutils", "dash", "dpkg", "findutils", "grep", "gzip", "sed", "tar", "diffutils")


def folder_without(folder, missing):
    """Every program of this machine but one, as links."""
    folder.mkdir()
    for place in os.environ["PATH"].split(":") + ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]:
        for path in pathlib.Path(place).iterdir() if os.path.isdir(place) else ():
            if path.name != missing and not (folder / path.name).is_symlink() and not path.is_dir():
                (folder / path.name).symlink_to(path)
    return folder


def run(script, *arguments, **environment):
    shell = shutil.which("sh")
    return subprocess.run([shell, str(ROOT / "scripts" / script), *arguments], capture_output=True, text=True,
                          env=dict(os.environ, KAMAILIO_BIN=str(SERVER.binary), **environment))


def is_one_sentence(done, *words):
    lines = [line for line in done.stderr.splitlines() if not line.startswith("== ")]
    assert done.returncode == 1 and len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    assert all(word in lines[0] for word in words), lines[0]


@pytest.mark.parametrize("script, tool", [(script, tool) for script, tools in WANTED.items() for tool in tools])
def test_a_program_that_is_missing_is_named_with_what_brings_it(tmp_path, script, tool):
    path = folder_without(tmp_path / "path", tool)
    done = run(script, "install" if script == "install.sh" else str(tmp_path / "stage"), PATH=str(path),
               MODULES_OUT=str(tmp_path / "modules"), DESTDIR=str(tmp_path / "destination"))
    is_one_sentence(done, "python3" if tool == "python3" else "no %s" % tool if tool != "cc" else "C compiler",
                    "install" if tool not in ("cargo", "rustc") else "make setup")
    assert not (tmp_path / "stage").exists() and not (tmp_path / "destination").exists()


def test_every_program_that_the_scripts_call_is_asked_for():
    """Whatever stands where a command begins and is a program of this machine."""
    begins = re.compile(r"(?:^|[|;&!(`]|\b(?:then|do|else|if|xargs|-0)\b)\s*(?:[A-Z_]+=\S*\s+)*"
                        r"([a-z][a-z0-9_-]*)(?=[\s)])|\$\{[A-Z]+:-([a-z-]+)\}", re.M)
    owned = {name: {pathlib.Path(line).name for line in
                    subprocess.run(["dpkg-query", "-L", name], capture_output=True, text=True).stdout.splitlines()
                    if "/bin/" in line or "/sbin/" in line} for name in EVERYWHERE}
    everywhere = set().union(*owned.values()) - {"dpkg-deb"}
    asked = {tool for tools in WANTED.values() for tool in tools}
    called = set()
    for script in SCRIPTS:
        text = re.sub(r"^\s*#.*$", "", (ROOT / "scripts" / script).read_text(), flags=re.M)
        text = re.sub(r"<<-?'?EOF'?.*?^EOF$", "", text, flags=re.M | re.S)
        called |= {name for pair in begins.findall(text) for name in pair if name and shutil.which(name)}
    assert {"pkg-config", "readelf", "rpmbuild", "python3", "strip", "cc"} <= called
    assert not called - everywhere - asked - OPTIONAL


def setup_installs():
    """The packages that scripts/setup.sh names for the build and for the tests."""
    text = (ROOT / "scripts" / "setup.sh").read_text()
    return set(" ".join(re.findall(r'^(?:server_|)(?:test_|)packages="([^"]*)"', text, re.M)).split())


def test_what_the_tests_load_and_call_is_what_the_setup_installs():
    """In a clean Debian nothing is there that this machine happens to have."""
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    loaded = [str(path) for path in sorted(SERVER.modules.glob("*.so"))
              if re.search(r"""["' /]%s(?:\.so)?["' ]""" % path.stem, tests)]
    owners = subprocess.run(["dpkg-query", "-S", *loaded], capture_output=True, text=True).stdout.splitlines()
    owned = {line.partition(":")[0] for line in owners if not line.startswith("diversion")}
    # Of the programs, those that not every Debian has.
    owned |= {package for program, package in [("openssl", "openssl"), ("rpmbuild", "rpm"), ("ss", "iproute2"),
                                               ("g++", "g++")] if '"%s"' % program in tests}
    assert len(loaded) > 20 and not owned - setup_installs()


def hide(paths, command):
    """Runs the command where these files cannot be seen."""
    binds = "".join("mount --bind /dev/null '%s' && " % path for path in paths)
    return subprocess.run(["unshare", "--map-root-user", "--mount", "sh", "-c", binds + command], capture_output=True,
                          text=True, cwd=ROOT, env=dict(os.environ, KAMAILIO_BIN=str(SERVER.binary)))


# The kernel gives a changed root (chroot) no user namespace.
HIDES = subprocess.run(["unshare", "--map-root-user", "--mount", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not HIDES, reason="no user namespace can be had here")
def test_a_build_without_libclang_says_so():
    places = [pathlib.Path(place) for place in ("/usr/lib", "/usr/local/lib")]
    libraries = {path.resolve() for place in places for path in place.rglob("libclang*.so*") if path.is_file()}
    assert libraries
    is_one_sentence(hide(libraries, "scripts/build.sh"), "no libclang", "libclang-dev", "LIBCLANG_PATH=")


@pytest.mark.skipif(not HIDES, reason="no user namespace can be had here")
def test_a_build_without_the_headers_of_libxml2_says_so():
    files = {path.resolve() for place in ("/usr/lib", "/usr/share", "/usr/local/lib")
             for path in pathlib.Path(place).rglob("libxml-2.0.pc")}
    is_one_sentence(hide(files, "scripts/build.sh"), "no headers of libxml2", "libxml2-dev")


def test_a_compiler_that_is_too_old_is_said(tmp_path):
    for name in ("cargo", "rustc"):
        (tmp_path / name).write_text("#!/bin/sh\necho '%s 1.63.0 (old)'\n" % name)
        (tmp_path / name).chmod(0o755)
    done = run("build.sh", CARGO=str(tmp_path / "cargo"), RUSTC=str(tmp_path / "rustc"))
    is_one_sentence(done, "rustc 1.63.0", "older than 1.85", "make setup")


# What Debian calls the compiler and what belongs to it, and what a machine has that got its compiler otherwise.
@pytest.mark.parametrize("owner, wanted", [("rustc", ["rustfmt", "rust-clippy"]),
                                           ("rustc-web", ["rustfmt-web", "rust-web-clippy"]), ("", [])])
def test_formatter_and_lints_are_those_of_the_compiler_that_is_there(tmp_path, owner, wanted):
    """Also where the compiler was there before the set-up: a required lint that is missing fails everything."""
    programs = {
        "cargo": "echo 'cargo 1.85.0 (x)'", "rustc": "echo 'rustc 1.85.0 (x)'", "id": "echo 0",
        "dpkg-query": "case $1$4 in -S*) [ -z '%s' ] || echo '%s: /usr/bin/rustc' ;; -W*rustfmt* | -W*clippy*) ;; "
                      "*) echo installed ;; esac" % (owner, owner),
        "apt-get": "echo \"$*\" >>%s/asked" % tmp_path,
    }
    for name, text in programs.items():
        (tmp_path / name).write_text("#!/bin/sh\n%s\n" % text)
        (tmp_path / name).chmod(0o755)
    done = run("setup.sh", "lint", PATH="%s:%s" % (tmp_path, os.environ["PATH"]),
               KAMAILIO_SRC=os.environ.get("KAMAILIO_SRC", str(ROOT / "target" / "host" / "current")))
    assert done.returncode == 0, done.stderr
    asked = (tmp_path / "asked").read_text() if wanted else ""
    assert asked.split()[-len(wanted):] == wanted if wanted else not (tmp_path / "asked").exists()
