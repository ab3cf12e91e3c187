#!/usr/bin/env python3
"""The Kamailio that the modules are built for, as that server describes itself.

The program (`KAMAILIO_BIN`, else the one in PATH) gives the version, the compile flags and the name of the operating
system: it refuses modules in which one character of these differs. The source (`KAMAILIO_SRC`) gives the headers,
whether it was configured by make, by cmake or not at all, and the few flags that decide layouts and that the program
does not print.

    kamailio_host.py facts             one line each: name, tab, value (`flag` repeats)
    kamailio_host.py get NAME          one value
    kamailio_host.py check-load DIR    whether that server loads the modules in DIR
"""
import functools
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]

# What every Kamailio on Linux is built with and its -V does not say: for headers that come without a configuration.
USUAL = """CC_GCC_LIKE_ASM HAVE_ALLOCA_H HAVE_EPOLL HAVE_GETHOSTBYNAME2 HAVE_IP_MREQN HAVE_MSGHDR_MSG_CONTROL
HAVE_MSG_NOSIGNAL HAVE_SCHED_SETSCHEDULER HAVE_SCHED_YIELD HAVE_SELECT HAVE_SIGIO_RT HAVE_TIMEGM HAVE_UNION_SEMUN
MALLOC_STATS MEM_JOIN_FREE STATISTICS USE_CORE_STATS WITH_XAVP""".split()

# Flags that headers set by themselves with DBG_SR_MEMORY. Some versions print them and do not ask modules for them.
IMPLIED = re.compile(r",? ?\bDBG_(?:QM|F|SF|LL|TLSF)_MALLOC\b")

# How long a server may take to print what it is, an emulated one included.
PRINT_SECONDS = 60

# Where cmake writes how the module presence is compiled, by the program that it writes for: make, ninja.
PRESENCE_BY_CMAKE = "src/modules/presence/CMakeFiles/presence.dir"
MADE_BY_CMAKE = (PRESENCE_BY_CMAKE + "/flags.make", "build.ninja")

LOCKS = ("FAST_LOCK", "BUSY_WAIT", "ADAPTIVE_WAIT")


class Missing(Exception):
    """What is missing, and the command that mends it, in one sentence."""


def named(variable):
    """A path that the user named; an empty one counts as none."""
    value = os.environ.get(variable, "").strip()
    return pathlib.Path(value).absolute() if value else None


class Server:
    """The program, and where its own files are. `prefix` begins the names of its variables: tests have two servers."""

    def __init__(self, prefix=""):
        self.prefix = prefix
        self.binary = self.find()
        text = self.output("-V")
        version = re.search(r"^version: (\S+) (\S+) \((\S+)/(\S+)\)", text, re.M)
        flags = re.search(r"^flags: (.*)$", text, re.M)
        if not version or not flags:
            raise Missing("%s -V does not print a version and flags: name Kamailio's own program with KAMAILIO_BIN=..."
                          % self.binary)
        self.name, self.version, self.arch, self.system = version.groups()
        self.flags = flags.group(1).rstrip()
        loops = re.search(r"ADAPTIVE_WAIT_LOOPS (\d+)", text)
        self.wait_loops = loops.group(1) if loops else "1024"

    def named(self, variable):
        return named(self.prefix + variable)

    def find(self):
        binary = self.named("KAMAILIO_BIN")
        if binary:
            if not binary.is_file() or not os.access(binary, os.X_OK):
                raise Missing("%sKAMAILIO_BIN=%s is not a program: name the kamailio that is to load the modules"
                              % (self.prefix, binary))
            return binary
        found = shutil.which("kamailio") or next(
            (path for path in ("/usr/sbin/kamailio", "/usr/local/sbin/kamailio") if os.access(path, os.X_OK)), None)
        if not found:
            raise Missing("no kamailio in PATH: install it (make setup does on Debian), or name it with "
                          "KAMAILIO_BIN=/path/to/sbin/kamailio")
        return pathlib.Path(found)

    def output(self, *options):
        try:
            done = subprocess.run([str(self.binary), *options], capture_output=True, text=True, timeout=PRINT_SECONDS,
                                  errors="replace")
        except OSError as error:
            raise Missing("%s cannot be run (%s): name the kamailio of this machine with KAMAILIO_BIN=..."
                          % (self.binary, error.strerror))
        except subprocess.TimeoutExpired:
            raise Missing("%s %s does not end: name Kamailio's own program with KAMAILIO_BIN=..."
                          % (self.binary, " ".join(options)))
        return done.stdout + done.stderr

    @property
    def full_version(self):
        """As modules carry it: `kamailio 6.1.5 (x86_64/Linux)`."""
        return "%s %s (%s/%s)" % (self.name, self.version, self.arch, self.system)

    @property
    def numbers(self):
        """Major, minor and patch level, without a suffix such as -dev1."""
        return tuple(int(part) for part in re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", self.version).groups(default="0"))

    @property
    def package_version(self):
        """The version as Debian's packages and RPMs write it: 6.2.0~dev1 comes before 6.2.0."""
        return self.version.replace("-", "~")

    @property
    def before_release(self):
        """The release, what marks a version before it, and the mark of the next such: 6.2.0, dev1 and dev2. A release
        has no mark, and no mark comes after one without a number."""
        release, _, mark = self.version.partition("-")
        count = re.fullmatch(r"(.*?)(\d+)", mark)
        return release, mark, count.group(1) + str(int(count.group(2)) + 1) if count else ""

    @property
    def next_version(self):
        """The least version of a package that is another Kamailio: 5.6.4~ after 5.6.3, 6.2.0~dev2~ after 6.2.0~dev1."""
        release, mark, after = self.before_release
        if mark:
            return "%s~%s~" % (release, after) if after else release
        major, minor, patch = self.numbers
        return "%d.%d.%d~" % (major, minor, patch + 1)

    @property
    def rpm_requires(self):
        """The RPM of this Kamailio and no other. The project's own has what marks a version before its release in the
        release of the package: 6.2.0-dev1.0."""
        release, mark, after = self.before_release
        if mark:
            return "kamailio >= %s-%s, kamailio < %s-%s" % (release, mark, release, after or "0")
        return "kamailio = %s" % release

    @property
    def value(self):
        """VERSIONVAL."""
        major, minor, patch = self.numbers
        return major * 1000000 + minor * 1000 + patch

    @functools.cached_property
    def modules(self):
        """The folder of the stock modules: what the server itself searches when nobody names another."""
        folder = self.named("KAMAILIO_MODULES")
        if folder:
            if not (folder / "tm.so").exists():
                raise Missing("KAMAILIO_MODULES=%s has no tm.so: name the folder of %s's own modules"
                              % (folder, self.full_version))
            return folder
        default = re.search(r"-L path.*?default: *([^)]*)\)", self.output("-h"), re.S)
        places = [pathlib.Path(part) for part in (default.group(1).split(":") if default else []) if part.strip()]
        prefix = self.binary.resolve().parents[1]
        places += [prefix / part / "kamailio/modules"
                   for part in ("lib64", "lib", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu")]
        for folder in places:
            if (folder / "tm.so").exists():
                return folder
        raise Missing("%s is there, its modules are not (looked in %s): name their folder with KAMAILIO_MODULES=..."
                      % (self.full_version, ", ".join(map(str, places))))

    @functools.cached_property
    def module_flags(self):
        """The flag string that this server wants modules to carry: the one of its own modules. -V may print more."""
        data = (self.modules / "tm.so").read_bytes()
        if self.full_version.encode() + b"\0" not in data:
            other = re.search(rb"%s \d[\w.-]+ \([\w/]+\)" % self.name.encode(), data)
            raise Missing("the modules in %s are of %s, %s is %s: name the folder of its own modules with "
                          "KAMAILIO_MODULES=..."
                          % (self.modules, other.group().decode() if other else "another server", self.binary,
                             self.full_version))
        printed = IMPLIED.sub("", self.flags)
        for text in re.findall(rb"[A-Z0-9_, -]{20,}(?=\0)", data):
            if IMPLIED.sub("", text.decode()) == printed:
                return text.decode()
        return printed if "DBG_SR_MEMORY" in self.flags else self.flags

    @property
    def libraries(self):
        """The folder of the server's own libraries, libsrdb1 among them."""
        return self.named("KAMAILIO_LIBS") or self.modules.parent

    @property
    def database_library(self):
        """libsrdb1 of this server; none where it is part of the program."""
        library = self.libraries / "libsrdb1.so.1"
        if library.exists():
            return library
        if self.numbers < (6, 0, 0):
            raise Missing("no libsrdb1.so.1 in %s: name the folder of %s's libraries with KAMAILIO_LIBS=..."
                          % (self.libraries, self.full_version))
        return None

    @property
    def share(self):
        """The folder of the database schemas. cmake installs none where kamctl is left out: its source has them."""
        beside, source = self.binary.resolve().parents[1] / "share" / "kamailio", self.named("KAMAILIO_SRC")
        if source and not (beside / "db_sqlite").is_dir() and (source / "utils" / "kamctl" / "db_sqlite").is_dir():
            beside = source / "utils" / "kamctl"
        return self.named("KAMAILIO_SHARE") or beside

    @property
    def kamcmd(self):
        """The command line beside this server."""
        for beside in (self.binary.parent / "kamcmd", self.binary.resolve().parent / "kamcmd"):
            if beside.exists():
                return beside
        return pathlib.Path(shutil.which("kamcmd") or "/usr/sbin/kamcmd")


class Headers:
    """The headers of that version, from a source tree or from a prefix they were installed in."""

    def __init__(self, server):
        self.server = server
        self.place = (named("KAMAILIO_SRC") or ROOT / "target" / "host" / "current")
        self.folder = next((folder for folder in (self.place / "src", self.place, self.place / "include" / "kamailio")
                            if (folder / "core" / "sr_module.h").exists()), None)
        if not self.folder:
            raise Missing("no source of Kamailio %s in %s: run make setup, or set KAMAILIO_SRC to an unpacked tree"
                          % (server.version, self.place))
        self.folder = self.folder.resolve()
        for needed in ("modules/presence/bind_presence.h", "modules/pua/pua_bind.h", "modules/tm/tm_load.h",
                       "lib/srdb1/db.h"):
            if not (self.folder / needed).exists():
                raise Missing("%s has no %s: set KAMAILIO_SRC to the whole source of Kamailio %s"
                              % (self.folder, needed, server.version))
        self.check_version()

    @functools.cached_property
    def versions(self):
        """The versions the tree names, in its build files or in a stamp; none for headers alone. Releases before 6.1
        were made by make, and what they say for cmake was left behind."""
        named_versions = []
        makefile = self.folder / "Makefile.defs"
        if makefile.exists():
            text = makefile.read_text(errors="replace")
            part = {name: re.search(r"^%s\s*=[ \t]*(\S*)" % name, text, re.M)
                    for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL", "EXTRAVERSION")}
            if all(part.values()):
                named_versions.append("%s.%s.%s%s"
                                      % tuple(part[name].group(1)
                                              for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL", "EXTRAVERSION")))
        lists = self.folder.parent / "CMakeLists.txt"
        if lists.exists():
            text = lists.read_text(errors="replace")
            number, extra = re.search(r"^\s+VERSION (\d+\.\d+\.\d+)", text,
                                      re.M), re.search(r'set\(EXTRAVERSION "([^"]*)"', text)
            if number:
                named_versions.append(number.group(1) + (extra.group(1) if extra else ""))
        stamp = self.place / "VERSION"
        if not named_versions and stamp.exists():
            named_versions.append(stamp.read_text().strip())
        return named_versions

    def check_version(self):
        theirs = self.server.version
        if not self.versions or theirs in self.versions:
            return
        ours = self.versions[0]
        series = theirs.split(".")[:2] == ours.split(".")[:2]
        if series and os.environ.get("KAMAILIO_SRC_VERSION") == ours:
            return
        fix = "run make setup again, or set KAMAILIO_SRC to the source of %s" % theirs
        if series:
            fix += " (KAMAILIO_SRC_VERSION=%s takes the headers of %s all the same)" % (ours, ours)
        raise Missing("the source in %s is Kamailio %s, %s is %s: %s"
                      % (self.place, ours, self.server.binary, theirs, fix))

    def configuration(self):
        """The file with the flags of the tree: make's, or cmake's; none where it is not configured."""
        made = self.folder / "config.mak"
        if made.exists():
            return made
        build = named("KAMAILIO_BUILD")
        if build:
            found = next((build / inner for inner in MADE_BY_CMAKE if (build / inner).exists()), None)
            if not found:
                raise Missing("KAMAILIO_BUILD=%s has neither %s: name the folder in which cmake was run"
                              % (build, " nor ".join(MADE_BY_CMAKE)))
            return found
        found = [path for inner in MADE_BY_CMAKE for path in self.folder.parent.glob("*/" + inner)]
        return max(found, key=lambda path: path.stat().st_mtime, default=None)

    def configured(self):
        """The tree's own flags, by name: what the server does not print is taken from here."""
        path = self.configuration()
        text = path.read_text(errors="replace") if path else ""
        if path and path.name == "build.ninja":
            # What the module's first file is compiled with; `$` takes its meaning from the character after it.
            rule = re.search(r"^build %s/.*\n((?: +.*\n)*)" % re.escape(PRESENCE_BY_CMAKE), text, re.M)
            text = re.sub(r"\$(.)", r"\1", rule.group(1)) if rule else ""
        words = []
        for line in text.splitlines():
            found = re.match(r"(?:C_DEFS|CC_PMUTEX_OPTS|C_DEFINES| +DEFINES) ?=(.*)", line)
            words += shlex.split(found.group(1)) if found else []
        if not words:
            return {name: None for name in USUAL}
        flags = dict((word[2:].split("=", 1) + [None])[:2] for word in words if word.startswith("-D"))
        return {name: value for name, value in flags.items() if name not in ("MOD_NAME", "MOD_NAMEID")
                and not name.endswith("_EXPORTS")}

    def printed(self):
        """What the flag string is made of, in order: the text, and the macros that bring it about."""
        text = (self.folder / "core" / "ver_defs.h").read_text(errors="replace")
        body = re.search(r"#define \w+_COMPILE_FLAGS((?:.*\\\n)*.*)", text).group(1)
        for name in re.findall(r"\b(\w+)_STR\b", body):
            if name == "FAST_LOCK":
                yield [(", FAST_LOCK-BUSY_WAIT", ("FAST_LOCK", "BUSY_WAIT")),
                       (", FAST_LOCK-ADAPTIVE_WAIT", ("FAST_LOCK", "ADAPTIVE_WAIT")),
                       (", FAST_LOCK", ("FAST_LOCK",))], LOCKS
                continue
            found = re.search(r'#ifdef (\w+)\s*\n\s*#define %s_STR,? *"([^"]*)"' % name, text)
            if found:
                yield [(found.group(2), (found.group(1),))], (found.group(1),)


def included():
    """The headers of the host that the modules are compiled with, as the sources name them."""
    files = sorted(path for folder in ("kamailio-glue", "include") for path in (ROOT / folder).rglob("*.[ch]"))
    found = (name for path in files
             for name in re.findall(r'^#include "((?:core|lib|modules)/[^"]+)"', path.read_text(), re.M))
    return list(dict.fromkeys(found))


def xml_includes():
    """Where the headers of libxml2 are, which some of the host's include; without pkg-config the compiler looks."""
    try:
        done = subprocess.run(["pkg-config", "--cflags", "libxml-2.0"], capture_output=True, text=True)
    except OSError:
        return []
    return shlex.split(done.stdout)


class Host:
    """Server and headers together: the flags with which a module is the server's."""

    def __init__(self):
        self.server = Server()
        self.headers = Headers(self.server)
        self.compiler = shlex.split(os.environ.get("CC", "cc"))
        if not shutil.which(self.compiler[0]):
            raise Missing("no C compiler (%s): install gcc, or name yours with CC=..." % self.compiler[0])
        self.flags = self.derive()

    def listed_macros(self):
        """The macros that the server's flag string names: those set, and those that are not."""
        rest, on, off = self.server.module_flags, [], []
        for choices, macros in self.headers.printed():
            chosen = ()
            for text, names in choices:
                # No comma stands between EXTRA_DEBUG and what follows it.
                if rest.startswith(text) and (rest[len(text):][:1] in ("", ",", "-") or text.endswith("EXTRA_DEBUG")):
                    rest, chosen = rest[len(text):], names
                    break
            on += chosen
            off += [name for name in macros if name not in chosen]
        if rest:
            raise Missing("%s was built with %s, which the headers in %s do not know: set KAMAILIO_SRC to the source "
                          "of exactly this server"
                          % (self.server.binary, rest.strip(", "), self.headers.folder))
        return on, off

    def derive(self):
        server = self.server
        flags = self.headers.configured()
        on, off = self.listed_macros()
        for name in off:
            flags.pop(name, None)
        flags.update({name: flags.get(name) for name in on})
        for name in [name for name in flags if name.startswith(("__CPU_", "__OS_"))]:
            del flags[name]
        if "ADAPTIVE_WAIT" in on:
            flags["ADAPTIVE_WAIT_LOOPS"] = server.wait_loops
        else:
            flags.pop("ADAPTIVE_WAIT_LOOPS", None)
        flags.update({"NAME": '"%s"' % server.name, "VERSION": '"%s"' % server.version, "ARCH": '"%s"' % server.arch,
                      "OS_QUOTED": '"%s"' % server.system, "VERSIONVAL": str(server.value),
                      "__CPU_" + server.arch: None, "__OS_" + server.system.lower(): None})
        flags.setdefault("OS", server.system + "_")
        for name, value in (("CFG_DIR", "/etc/kamailio/"), ("SHARE_DIR", "%s/" % server.share),
                            ("RUN_DIR", "/run/kamailio")):
            flags.setdefault(name, '"%s"' % value)
        flags.setdefault("COMPILER", '"cc"')
        version, made = self.module_strings(flags)
        if version != server.full_version:
            raise Missing("modules would say %s, the server says %s: set KAMAILIO_SRC to the source of that server"
                          % (version, server.full_version))
        if made != server.module_flags:
            raise Missing(difference(made, server.module_flags, server.binary, self.headers.folder))
        return ["-D" + name if value is None else "-D%s=%s" % (name, value) for name, value in flags.items()]

    def module_strings(self, flags):
        """Version and flags that a module compiled with these flags carries. Every header that the modules are
        compiled with is read on the way: one that is missing is named before the compilers begin."""
        source = "".join('#include "%s"\n' % name for name in ("core/dprint.h", *included()))
        source += "@version SER_FULL_VERSION\n@flags SER_COMPILE_FLAGS\n"
        words = ["-D" + name if value is None else "-D%s=%s" % (name, value) for name, value in flags.items()]
        words += ['-DMOD_NAME="presence"', "-DMOD_NAMEID=presence", *xml_includes()]
        done = subprocess.run(self.compiler + ["-E", "-P", "-w", *words, "-isystem", str(self.headers.folder), "-x",
                                               "c", "-"],
                              input=source, capture_output=True, text=True)
        if done.returncode != 0:
            raise Missing(self.unreadable(done.stderr))
        joined = dict(line[1:].split(" ", 1) for line in done.stdout.splitlines()
                      if line.startswith(("@version ", "@flags ")))
        return tuple("".join(re.findall(r'"([^"]*)"', joined[name])) for name in ("version", "flags"))

    def unreadable(self, said):
        """Why the headers could not be read, from what the compiler says."""
        whole = "set KAMAILIO_SRC to the whole source of Kamailio %s" % self.server.version
        lost = re.search(r"^(\S+):\d+:\d+: fatal error: '?([^\s':]+)'?:? ", said, re.M)
        if not said.strip():
            return "%s compiles nothing and does not say why: name a C compiler that works with CC=..." % shlex.join(
                self.compiler)
        if not lost:
            first = next((line for line in said.splitlines() if "error" in line), said.strip())
            return "the headers in %s cannot be compiled (%s): %s" % (self.headers.folder, first, whole)
        by, name = lost.groups()
        if re.search(r"#\s*include\s*<%s>" % re.escape(name), said):
            package = "libxml2-dev" if name.startswith("libxml/") else "libc6-dev"
            return "no %s: run apt-get install %s, or install the package that has it" % (name, package)
        asked = "" if by == "<stdin>" else ", which %s includes" % by.removeprefix("%s/" % self.headers.folder)
        return "%s has no %s%s: %s" % (self.headers.folder, name, asked, whole)

    def facts(self):
        server = self.server
        library = server.database_library
        yield "binary", server.binary
        yield "version", server.version
        yield "full_version", server.full_version
        yield "value", server.value
        yield "modules", server.modules
        yield "share", server.share
        yield "kamcmd", server.kamcmd
        yield "headers", self.headers.folder
        yield "configuration", self.headers.configuration() or ""
        yield "database_library", library or ""
        for flag in self.flags:
            yield "flag", flag


def difference(made, wanted, binary, folder):
    """One sentence: which flags the modules would lack or have too many."""
    mine, theirs = [[part for part in text.split(", ") if part] for text in (made, wanted)]
    lacking, extra = [part for part in theirs if part not in mine], [part for part in mine if part not in theirs]
    parts = (["without %s" % ", ".join(lacking)] if lacking else []) + (["with %s" % ", ".join(extra)] if extra else [])
    return ("modules would be built %s, unlike %s, with the headers in %s: set KAMAILIO_SRC to the source of exactly "
            "this server"
            % (" and ".join(parts) or "with the flags in another order", binary, folder))


CONFIGURATION = """#!KAMAILIO
debug=1
log_stderror=yes
dns=no
rev_dns=no
listen=udp:127.0.0.1:5060
mpath="%s/:%s/"
loadmodule "presence.so"
loadmodule "pua.so"
request_route { exit; }
"""


# How long a server may take over it, an emulated one included.
LOAD_SECONDS = 300


def check_load(folder):
    """Loads the modules in that server, which says why when it refuses them."""
    server = Server()
    with tempfile.TemporaryDirectory(prefix="presence-load-") as place:
        path = pathlib.Path(place) / "kamailio.cfg"
        path.write_text(CONFIGURATION % (pathlib.Path(folder).resolve(), server.modules))
        try:
            done = subprocess.run([str(server.binary), "-c", "-E", "-f", str(path), "-Y", place, "-P", place + "/pid"],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                                  timeout=LOAD_SECONDS,
                                  env={name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"})
        except subprocess.TimeoutExpired:
            raise Missing("%s does not say within %g s whether it loads the modules in %s: run make build again when "
                          "this machine has less to do" % (server.full_version, LOAD_SECONDS, folder))
    if done.returncode == 0:
        return
    lines = [line.strip() for line in done.stdout.splitlines() if "ERROR" in line or "CRITICAL" in line]
    reason = (" | ".join(re.sub(r"^.*?(?:ERROR|CRITICAL): ", "", line) for line in lines[:2])
              or done.stdout[-500:].strip())
    raise Missing("%s does not load the modules in %s: %s" % (server.full_version, folder, reason))


def main(arguments):
    try:
        if arguments == ["facts"]:
            for name, value in Host().facts():
                print("%s\t%s" % (name, value))
        elif len(arguments) == 2 and arguments[0] == "get":
            name = arguments[1]
            if name in ("binary", "version", "package_version", "next_version", "rpm_requires", "full_version",
                        "module_flags", "modules", "share", "kamcmd", "libraries"):
                print(getattr(Server(), name))
            elif name == "flags":
                print(" ".join(shlex.quote(flag) for flag in Host().flags))
            else:
                print(dict(Host().facts())[name])
        elif len(arguments) == 2 and arguments[0] == "check-load":
            check_load(arguments[1])
        else:
            sys.exit(__doc__)
    except Missing as missing:
        sys.exit("error: %s" % missing)


if __name__ == "__main__":
    main(sys.argv[1:])
