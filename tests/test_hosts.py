"""The build, the installation and what they say, for servers of other versions, other flags and other folders."""
import os
import pathlib
import re
import shutil
import sqlite3
import subprocess
import tarfile

import pytest

from kit.kamailio import OURS, ROOT, SERVER, kamailio_host

SCRIPT = ROOT / "scripts" / "kamailio_host.py"
HEADERS = kamailio_host.Host().headers.folder
CMAKE_FLAGS = ("USE_TCP, USE_TLS, USE_SCTP, TLS_HOOKS, USE_RAW_SOCKS, DISABLE_NAGLE, USE_MCAST, DNS_IP_HACK, SHM_MMAP, "
               "PKG_MALLOC, Q_MALLOC, "
               "F_MALLOC, TLSF_MALLOC, DBG_SR_MEMORY, %sUSE_DNS_CACHE, USE_DNS_FAILOVER, USE_NAPTR, USE_DST_BLOCKLIST, "
               "HAVE_RESOLV_RES")


def host(*arguments, **environment):
    """Runs the script as a user does, with these variables and no others of ours."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KAMAILIO_")}
    return subprocess.run(["python3", str(SCRIPT), *arguments], capture_output=True, text=True,
                          env=dict(clean, **{name: str(value) for name, value in environment.items()}))


class Fake:
    """A server that only says what it is, with one module, and a source tree of that version with this host's
    headers."""

    def __init__(self, folder, version="6.1.7", system="Linux", lock="USE_PTHREAD_MUTEX, ", printed="", tree=None,
                 flags=None):
        flags = flags or CMAKE_FLAGS % lock
        self.full = "kamailio %s (x86_64/%s)" % (version, system)
        self.modules = folder / "lib" / "kamailio" / "modules"
        self.modules.mkdir(parents=True)
        (self.modules / "tm.so").write_bytes(b"\x7fELF\0%s\0%s\0" % (self.full.encode(), flags.encode()))
        (folder / "sbin").mkdir()
        self.binary = folder / "sbin" / "kamailio"
        self.binary.write_text("#!/bin/sh\ncase $1 in -V) echo 'version: %s '; echo 'flags: %s' ;; -h) echo '    -L "
                               "path      Modules search"
                               " path (default: %s)' ;; esac\n"
                               % (self.full, flags.replace("DBG_SR_MEMORY, ", "DBG_SR_MEMORY, " + printed),
                                  self.modules))
        self.binary.chmod(0o755)
        self.source = folder / "source"
        (self.source / "src").mkdir(parents=True)
        for path in HEADERS.iterdir():
            if path.name not in ("config.mak", "Makefile.defs"):
                (self.source / "src" / path.name).symlink_to(path)
        number, _, suffix = (tree or version).partition("-")
        self.defs = "VERSION = %s\nPATCHLEVEL = %s\nSUBLEVEL = %s\n" % tuple(number.split("."))
        (self.source / "src" / "Makefile.defs").write_text(self.defs + "EXTRAVERSION = %s\n"
                                                           % (suffix and "-" + suffix))
        self.named = dict(KAMAILIO_BIN=self.binary, KAMAILIO_SRC=self.source, KAMAILIO_LIBS=SERVER.libraries)

    def flags(self, **more):
        done = host("facts", **dict(self.named, **more))
        assert done.returncode == 0, done.stderr
        return [line.split("\t")[1] for line in done.stdout.splitlines() if line.startswith("flag\t")]


def size_of_lock(flags):
    """What the compiler makes of the server's lock with these flags."""
    source = ('#include "core/locking.h"\n#include <pthread.h>\nint size[] = { sizeof(gen_lock_t), '
              'sizeof(pthread_mutex_t) };\n')
    done = subprocess.run(["cc", *flags, "-w", "-isystem", str(HEADERS), "-x", "c", "-S", "-o", "-", "-"],
                          input=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [int(line.split()[1]) for line in done.stdout.splitlines() if line.strip().startswith(".long")]


# Before 6.1 there is no lock of futexes alone.
@pytest.mark.parametrize("lock",
                         (["USE_FUTEX, "] if SERVER.numbers >= (6, 1)
                          else []) + ["USE_FUTEX, FAST_LOCK-ADAPTIVE_WAIT, ", "FAST_LOCK-BUSY_WAIT, ",
                                      "USE_PTHREAD_MUTEX, "])
def test_the_flags_are_the_servers(tmp_path, lock):
    """No more, no fewer, whatever the source was configured for; locks have the size they have in that server."""
    fake = Fake(tmp_path, lock=lock)
    flags = fake.flags()
    assert '-DOS_QUOTED="Linux"' in flags and "-DVERSIONVAL=6001007" in flags and "-DUSE_MCAST" in flags
    assert ("-DFAST_LOCK" in flags) == ("FAST_LOCK" in lock) and ("-DBUSY_WAIT" in flags) == ("BUSY" in lock)
    assert ("-DUSE_FUTEX" in flags) == ("FUTEX" in lock) and "-DKSR_PTHREAD_MUTEX_SHARED" not in flags
    size, mutex = size_of_lock(flags)
    assert size == mutex if "PTHREAD" in lock else size < mutex


def test_flags_that_headers_set_by_themselves_are_not_set_twice(tmp_path):
    """Newer servers print them, and do not ask their modules for them."""
    fake = Fake(tmp_path, printed="DBG_QM_MALLOC, DBG_F_MALLOC, DBG_TLSF_MALLOC, ")
    assert not [flag for flag in fake.flags() if "DBG_QM_MALLOC" in flag]


@pytest.mark.parametrize("kind", ["make", "cmake", "ninja", "none", "prefix"])
def test_headers_come_from_any_tree(tmp_path, kind):
    fake = Fake(tmp_path)
    # Both would make modules that this server refuses, were they believed.
    if kind == "make":
        (fake.source / "src" / "config.mak").write_text("C_DEFS= -DOS_QUOTED='\"linux\"' -DVERSIONVAL=1 -DFAST_LOCK "
                                                        "-DADAPTIVE_WAIT "
                                                        "-DSTATISTICS -DCC_GCC_LIKE_ASM "
                                                        "-DHAVE_GETHOSTBYNAME2\nCC_PMUTEX_OPTS= -pthread "
                                                        "-DKSR_PTHREAD_MUTEX_SHARED\n")
    if kind == "cmake":
        made = fake.source / "out" / "src/modules/presence/CMakeFiles/presence.dir"
        made.mkdir(parents=True)
        (made / "flags.make").write_text("C_DEFINES = -DOS_QUOTED=\\\"linux\\\" -DCOMPILER=\"\\\"gcc 12\\\"\" "
                                         "-DFAST_LOCK -DSTATISTICS "
                                         "-DCC_GCC_LIKE_ASM -DHAVE_GETHOSTBYNAME2 "
                                         "-DMOD_NAME=\\\"presence\\\" -Dpresence_EXPORTS\n")
    if kind == "ninja":
        (fake.source / "out").mkdir()
        (fake.source / "out" / "build.ninja").write_text(
            "build src/modules/tm/CMakeFiles/tm.dir/tm.c.o: C tm.c\n  DEFINES = -DFAST_LOCK\n\n"
            "build src/modules/presence/CMakeFiles/presence.dir/presence.c.o: C presence.c || order\n"
            "  DEFINES = -DCFG_DIR=\\\"/of/ninja$:/\\\" -DOS_QUOTED=\\\"linux\\\" -DFAST_LOCK -DSTATISTICS "
            "-DCC_GCC_LIKE_ASM -DHAVE_GETHOSTBYNAME2 -DMOD_NAME=\\\"presence\\\" -Dpresence_EXPORTS\n"
            "  FLAGS = -O3\n\n")
    source = fake.source
    if kind == "prefix":
        source = tmp_path / "prefix"
        (source / "include").mkdir(parents=True)
        (fake.source / "src").rename(source / "include" / "kamailio")
        (source / "include" / "kamailio" / "Makefile.defs").unlink()
    flags = fake.flags(KAMAILIO_SRC=source)
    assert '-DOS_QUOTED="Linux"' in flags and "-DFAST_LOCK" not in flags and "-DSTATISTICS" in flags
    assert not [flag for flag in flags if "MOD_NAME" in flag or "EXPORTS" in flag]
    assert ('-DCFG_DIR="/of/ninja:/"' in flags) == (kind == "ninja")


def test_a_version_before_its_release_is_one(tmp_path):
    fake = Fake(tmp_path, version="6.2.0-dev1")
    assert '-DVERSION="6.2.0-dev1"' in fake.flags() and "-DVERSIONVAL=6002000" in fake.flags()


@pytest.mark.parametrize("version, package, after, requires", [
    ("6.1.7", "6.1.7", "6.1.8~", "kamailio = 6.1.7"),
    ("6.2.0-dev1", "6.2.0~dev1", "6.2.0~dev2~", "kamailio >= 6.2.0-dev1, kamailio < 6.2.0-dev2"),
    ("6.2.0-rc9", "6.2.0~rc9", "6.2.0~rc10~", "kamailio >= 6.2.0-rc9, kamailio < 6.2.0-rc10"),
    ("6.2.0-pre", "6.2.0~pre", "6.2.0", "kamailio >= 6.2.0-pre, kamailio < 6.2.0-0")])
def test_packages_ask_for_this_version_and_no_other(tmp_path, version, package, after, requires):
    """Debian's revisions of the same version count as it; the release is another than what came before it."""
    fake = Fake(tmp_path, version=version)
    got = [host("get", name, **fake.named).stdout.strip() for name in ("package_version", "next_version",
                                                                       "rpm_requires")]
    assert got == [package, after, requires]

    def compare(one, relation, other):
        return subprocess.run(["dpkg", "--compare-versions", one, relation, other]).returncode == 0
    for revision in (package, package + "-2+deb13u1", package + "+bpo12"):
        assert compare(revision, ">=", package) and compare(revision, "<<", after)
    others = {version.partition("-")[0], after.removesuffix("~"), after.removesuffix("~") + "-1"}
    for other in others - {package}:
        assert not compare(other, "<<", after)


def test_headers_of_another_patch_level_are_taken_only_by_name(tmp_path):
    fake = Fake(tmp_path, tree="6.1.4")
    assert "KAMAILIO_SRC_VERSION=6.1.4" in host("facts", **fake.named).stderr
    assert '-DVERSION="6.1.7"' in fake.flags(KAMAILIO_SRC_VERSION="6.1.4")


@pytest.mark.parametrize("change, words", [
    (dict(KAMAILIO_BIN="/nowhere/kamailio"), ["/nowhere/kamailio is not a program", "name the kamailio"]),
    (dict(KAMAILIO_BIN="/bin/true"), ["does not print a version", "KAMAILIO_BIN="]),
    (dict(KAMAILIO_SRC="/nowhere"), ["no source of Kamailio 6.1.7 in /nowhere", "KAMAILIO_SRC"]),
    (dict(KAMAILIO_SRC=str(HEADERS.parent)), ["is 6.1.7", "set KAMAILIO_SRC to the source of 6.1.7"]),
    (dict(KAMAILIO_MODULES="/tmp"), ["/tmp has no tm.so", "name the folder"]),
    (dict(KAMAILIO_MODULES=str(SERVER.modules)), ["are of " + SERVER.full_version, "KAMAILIO_MODULES="]),
    (dict(CC="no-such-compiler"), ["no C compiler (no-such-compiler)", "install gcc"]),
    (dict(CC="/bin/false"), ["/bin/false compiles nothing", "CC="]),
    (dict(KAMAILIO_BUILD="/nowhere"), ["/nowhere has neither src/modules/presence", "cmake was run"]),
])
def test_what_is_missing_is_said_in_one_sentence(tmp_path, change, words):
    fake = Fake(tmp_path)
    done = host("facts", **dict(fake.named, **change))
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr


def test_a_program_that_does_not_end_is_said(tmp_path, monkeypatch):
    """Neither one that is asked what it is, nor one that is to load the modules, keeps a build for ever."""
    monkeypatch.setattr(kamailio_host, "PRINT_SECONDS", 0.2)
    monkeypatch.setattr(kamailio_host, "LOAD_SECONDS", 0.2)
    program = tmp_path / "kamailio"
    program.write_text("#!/bin/sh\nexec sleep 30\n")
    program.chmod(0o755)
    monkeypatch.setenv("KAMAILIO_BIN", str(program))
    with pytest.raises(kamailio_host.Missing, match="%s -V does not end: name .*KAMAILIO_BIN=" % program):
        kamailio_host.Server()
    fake = Fake(tmp_path / "server")
    monkeypatch.setenv("KAMAILIO_BIN", str(fake.binary))
    fake.binary.write_text(fake.binary.read_text() + "[ \"$1\" != -c ] || exec sleep 30\n")
    monkeypatch.setattr(kamailio_host, "PRINT_SECONDS", 60)
    with pytest.raises(kamailio_host.Missing, match="does not say within .* run make build again"):
        kamailio_host.check_load(tmp_path)


def test_a_link_to_a_server_stands_for_it_and_what_is_beside_it(tmp_path):
    fake = Fake(tmp_path)
    (fake.binary.parent / "kamcmd").write_text("")
    link = tmp_path / "named"
    link.symlink_to(fake.binary)
    for name, value in (("kamcmd", fake.binary.parent / "kamcmd"), ("modules", fake.modules)):
        assert host("get", name, KAMAILIO_BIN=link).stdout.strip() == str(value)


def setup(**environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KAMAILIO_")}
    return subprocess.run(["sh", str(ROOT / "scripts" / "setup.sh")], capture_output=True, text=True,
                          env=dict(clean, **{name: str(value) for name, value in environment.items()}))


def test_the_source_of_a_named_server_is_its_users(tmp_path):
    """No package of Kamailio is installed in its stead."""
    before = subprocess.run(["dpkg-query", "-W", "kamailio*"], capture_output=True, text=True).stdout
    done = setup(KAMAILIO_BIN=Fake(tmp_path).binary)
    assert done.returncode == 1 and "is no package's: set KAMAILIO_SRC" in done.stderr, done.stderr
    assert before == subprocess.run(["dpkg-query", "-W", "kamailio*"], capture_output=True, text=True).stdout


OWNER = subprocess.run(["dpkg-query", "-S", str(SERVER.binary.resolve())], capture_output=True)


@pytest.mark.skipif(OWNER.returncode != 0 or not (ROOT / "target" / "host" / "current").exists(),
                    reason="this server is no package's")
def test_the_source_of_a_package_is_fetched_also_where_it_is_named():
    done = setup(KAMAILIO_BIN=SERVER.binary)
    assert done.returncode == 0, done.stderr


def test_a_flag_that_the_headers_do_not_know_is_named(tmp_path):
    fake = Fake(tmp_path, flags=CMAKE_FLAGS % "USE_PTHREAD_MUTEX, " + ", NEW_THING")
    assert "NEW_THING, which the headers" in host("facts", **fake.named).stderr


def test_modules_that_the_server_refuses_are_no_build(tmp_path):
    assert host("check-load", str(OURS), KAMAILIO_BIN=SERVER.binary).returncode == 0
    for path in OURS.glob("*.so"):
        shutil.copy(path, tmp_path / path.name)
    version = SERVER.full_version.encode()
    other = version.replace(b"kamailio ", b"kamailiO ")
    (tmp_path / "pua.so").write_bytes((tmp_path / "pua.so").read_bytes().replace(version, other))
    done = host("check-load", str(tmp_path), KAMAILIO_BIN=SERVER.binary)
    assert (done.returncode == 1 and "version mismatch" in done.stderr and "pua.so" in done.stderr
            and done.stderr.count("\n") == 1)


# One that the sources name, one that these include, one of the memory managers.
@pytest.mark.parametrize("name", ["core/parser/parse_event.h", "lib/srdb1/db_val.h", "core/mem/shm.h",
                                  "core/mem/memapi.h"])
def test_a_header_that_is_missing_is_named_before_anything_is_compiled(tmp_path, name):
    tarfile.open(ROOT / "tests" / "hosts" / "kamailio-6.1-headers.tar.xz").extractall(tmp_path / "tree")
    (tmp_path / "server").mkdir()
    fake = Fake(tmp_path / "server", version="6.1.4")
    tree = dict(fake.named, KAMAILIO_SRC=tmp_path / "tree")
    whole = host("facts", **tree)
    assert whole.returncode == 0, whole.stderr
    (tmp_path / "tree" / "src" / name).unlink()
    done = host("facts", **tree)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert (re.search(r"has no (\w+/)*%s\b" % pathlib.Path(name).name, done.stderr)
            and "set KAMAILIO_SRC to the whole source of Kamailio 6.1.4" in done.stderr), done.stderr


def test_a_header_of_the_system_that_is_missing_is_named_with_its_package(tmp_path):
    """A compiler that says what gcc says where libc6-dev is not installed."""
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\nprintf '%s\\n' "
                        "\"/x/core/ut.h:32:10: fatal error: $LOST: No such file or directory\" "
                        "\"   32 | #include <$LOST>\" >&2\nexit 1\n")
    compiler.chmod(0o755)
    (tmp_path / "server").mkdir()
    fake = Fake(tmp_path / "server")
    for lost, package in [("sys/types.h", "libc6-dev"), ("libxml/parser.h", "libxml2-dev")]:
        done = host("facts", CC=compiler, LOST=lost, **fake.named)
        assert "no %s: run apt-get install %s" % (lost, package) in done.stderr


def test_the_headers_that_serve_where_no_source_is_offered_are_enough():
    """Whatever the modules include of the host is in the archive that tests/hosts keeps for a mirror without the
    source."""
    archive = tarfile.open(ROOT / "tests" / "hosts" / "kamailio-6.1-headers.tar.xz")
    there = {name.partition("src/")[2] for name in archive.getnames()}
    sources = [path for folder in ("kamailio-glue", "include") for path in (ROOT / folder).rglob("*.[ch]")]
    wanted = {(name, path.name) for path in sources
              for name in re.findall(r'#include "((?:core|lib|modules)/[^"]+)"', path.read_text())}
    assert len(wanted) > 20 and not [pair for pair in wanted if pair[0] not in there]


def test_the_sources_of_c_are_also_of_6_1(tmp_path):
    """What was renamed between this server and that one is found before a server of 6.1 is at hand."""
    tarfile.open(ROOT / "tests" / "hosts" / "kamailio-6.1-headers.tar.xz").extractall(tmp_path)
    (tmp_path / "other").mkdir()
    flags = Fake(tmp_path / "other", version="6.1.4").flags()
    xml = subprocess.run(["pkg-config", "--cflags", "libxml-2.0"], capture_output=True, text=True).stdout.split()
    sources = [str(path) for path in (ROOT / "kamailio-glue").rglob("*.c")]
    done = subprocess.run(["cc", "-fsyntax-only", "-w", *flags, '-DMOD_NAME="presence"', "-DMOD_NAMEID=presence",
                           '-DKR_COMMIT=""', *xml, "-I%s" % (ROOT / "include"), "-isystem", str(tmp_path / "src"),
                           *sources],
                          capture_output=True, text=True)
    assert len(sources) > 10 and done.returncode == 0, done.stderr[-2000:]


def test_sql_files_are_the_servers(tmp_path):
    """Those beside the program, those of its source where it was installed without them; not another version's."""
    fake = Fake(tmp_path)
    environment = dict(os.environ, **{name: str(path) for name, path in fake.named.items()})

    def create(name):
        return subprocess.run(["sh", str(ROOT / "scripts" / "database.sh"), "create", str(tmp_path / name)], text=True,
                              capture_output=True, env=environment)
    done = create("none.sqlite")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "KAMAILIO_SHARE" in done.stderr, done.stderr
    shutil.copytree(SERVER.share / "db_sqlite", fake.source / "utils" / "kamctl" / "db_sqlite")
    assert create("source.sqlite").returncode == 0
    with sqlite3.connect(tmp_path / "source.sqlite") as made:
        assert made.execute("pragma page_size").fetchone() == (2048,)
        assert made.execute("select table_version from version where table_name = 'active_watchers'").fetchone()
    shutil.copytree(SERVER.share / "db_sqlite", tmp_path / "share" / "kamailio" / "db_sqlite")
    (tmp_path / "share" / "kamailio" / "db_sqlite" / "rls-create.sql").unlink()
    assert "%s/share/kamailio/db_sqlite has no rls-create" % tmp_path in create("beside.sqlite").stderr


# -- COMPAT.md: versions of Kamailio ---------------------------------------------------------------------------------

def column():
    """What the table of versions says of this server, by row."""
    text = (ROOT / "COMPAT.md").read_text().split("## Versions of Kamailio")[1].split("\n## ")[0]
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line] for line in lines]
    series = "%d.%d" % SERVER.numbers[:2]
    place = next(place for place, cell in enumerate(head) if series == cell.removesuffix("-dev"))
    return {row[0]: row[place] for row in rows}


def test_the_table_of_versions_is_true_of_this_server():
    """Who has each name, stock's modules of this server or ours alone, is read from the modules themselves."""
    stock, ours = ((SERVER.modules / "presence.so").read_bytes(), (OURS / "libkamailio_presence.so").read_bytes())
    stock_pua = (SERVER.modules / "pua.so").read_bytes()
    said = column()
    for row, names, module in [
            ("RPC presentity_show, watcher_list", ["presence.presentity_show", "presence.watcher_list"], stock),
            ("RPC publish_cache_sync", ["presence.publish_cache_sync"], stock),
            ("pua: as-feature-event", ["as-feature-event"], stock_pua),
            ("enable_pres_dmq, enable_subs_dmq, skip_notify_dmq, default_socket",
             ["enable_pres_dmq", "enable_subs_dmq", "skip_notify_dmq", "default_socket"], stock),
            ("dmq_peer_id", ["dmq_peer_id"], stock)]:
        there = {name.encode() in module for name in names}
        assert there == {said[row] == "stock"}, row
        assert all(name.encode() in ours for name in names), row
    shares = b"enable_subs_dmq" in stock
    assert said["enable_subs_dmq: stock's nodes share subscriptions with ours"] == ("yes" if shares else "no")
    libraries = {"its own library": [True], "its own, or in the program": [True, False], "in the program": [False]}
    assert (SERVER.database_library is not None) in libraries[said["libsrdb1"]]


# -- make install ------------------------------------------------------------------------------------------------------

class Folder:
    """A module folder of this server that no package owns."""

    def __init__(self, folder):
        self.path = folder
        for name in ("tm.so", "presence.so", "pua.so"):
            shutil.copy(SERVER.modules / name, folder / name)

    def run(self, what):
        return subprocess.run(["sh", str(ROOT / "scripts" / "install.sh"), what], capture_output=True, text=True,
                              env=dict(os.environ, MODULES_DIR=str(self.path), KAMAILIO_BIN=str(SERVER.binary)))

    def other_version(self, name):
        """The file as the server's next version has it."""
        data = (SERVER.modules / name.removesuffix(".stock")).read_bytes()
        (self.path / name).write_bytes(data.replace(SERVER.full_version.encode(),
                                                    SERVER.full_version.encode().replace(b"kamailio ", b"kamailio\t")))

    def is_ours(self, name):
        return b"libkamailio_presence" in (self.path / name).read_bytes()

    def is_stock(self, name):
        return (self.path / name).read_bytes() == (SERVER.modules / name.removesuffix(".stock")).read_bytes()


@pytest.mark.skipif(OURS != ROOT / "target" / "modules", reason="what is installed is what was built here")
def test_an_installation_and_the_way_back(tmp_path):
    folder = Folder(tmp_path)
    for _ in range(2):
        assert folder.run("install").returncode == 0
        assert folder.is_ours("presence.so") and folder.is_ours("pua.so") and folder.is_stock("presence.so.stock")
    library = tmp_path / "libkamailio_presence.so"
    sections = subprocess.run(["readelf", "-S", "--wide", str(library)], capture_output=True, text=True).stdout
    assert ".debug_info" not in sections and ".symtab" not in sections
    assert host("check-load", str(tmp_path), KAMAILIO_BIN=SERVER.binary).returncode == 0
    assert folder.run("uninstall").returncode == 0
    assert folder.is_stock("presence.so") and folder.is_stock("pua.so")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["presence.so", "pua.so", "tm.so"]


@pytest.mark.skipif(OURS != ROOT / "target" / "modules", reason="what is installed is what was built here")
def test_the_file_of_another_version_does_not_come_back(tmp_path):
    folder = Folder(tmp_path)
    assert folder.run("install").returncode == 0
    # An upgrade brings its own file; what was kept before is of no use any more.
    shutil.copy(SERVER.modules / "presence.so", tmp_path / "presence.so")
    folder.other_version("presence.so.stock")
    folder.other_version("pua.so.stock")
    done = folder.run("uninstall")
    assert folder.is_stock("presence.so") and not (tmp_path / "presence.so.stock").exists()
    assert (not (tmp_path / "pua.so").exists() and (tmp_path / "pua.so.stock").exists()
            and "install that server's own pua.so" in done.stderr)


@pytest.mark.parametrize("name", ["tm.so", "pua.so"])
def test_another_servers_folder_is_refused(tmp_path, name):
    """Also where tm.so lies elsewhere."""
    folder = Folder(tmp_path)
    folder.other_version(name)
    if name != "tm.so":
        (tmp_path / "tm.so").unlink()
    done = folder.run("install")
    assert done.returncode == 1 and "has the modules of" in done.stderr and folder.is_stock("presence.so")
    assert pathlib.Path(tmp_path / "libkamailio_presence.so").exists() is False
