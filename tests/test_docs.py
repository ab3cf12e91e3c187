"""What the documents name exists, what exists is named, and the configurations in them start."""
import pathlib
import re
import subprocess

import pytest

from kit import database
from kit.kamailio import KAMAILIO, OURS, ROOT, STOCK, free_port

DOCUMENTS = sorted((ROOT / "docs").glob("*.md")) + [ROOT / "README.md"]


def table(module):
    """The module's table of parameters: name -> (integer, switch, text or limit; default)."""
    source = (ROOT / "src" / module / "config.rs").read_text()
    found = re.findall(r'\b(integer|switch|text|limit)\(c"(\w+)"(?:, ("[^"]*"|[\w:]+))?\)', source)
    assert len(found) > 10
    return {name: (kind, default.strip('"')) for kind, name, default in found}


def exported(module):
    """What a module exports: parameters, commands."""
    source = (ROOT / "src" / "abi" / module / "commands.rs").read_text()
    commands = re.findall(r'\bcommand\(c"([\w.]+)"\)', source)
    assert commands
    return list(table(module)), commands


@pytest.mark.parametrize("module", ["presence", "pua"])
def test_everything_is_described(module):
    parameters, commands = exported(module)
    text, compat = (ROOT / "docs" / ("%s.md" % module)).read_text(), (ROOT / "COMPAT.md").read_text()
    contents = text.split("## Contents")[1].split("\n## ")[0]
    assert not [name for name in parameters + commands if "\n### `%s`\n" % name not in text]
    assert not [name for name in parameters + commands if "(#%s)" % name.replace(".", "").lower() not in contents]
    assert not [name for name in parameters if name not in compat]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_what_is_named_exists(path):
    known = {module: exported(module) for module in ("presence", "pua")}
    text = path.read_text()
    for module, name in re.findall(r'modparam\("(presence|pua)", "(\w+)"', text):
        assert name in known[module][0], name
    for command in re.findall(r"kamcmd ((?:presence|pua)\.\w+)", text):
        assert command in known["presence"][1] + known["pua"][1], command
    for link in re.findall(r"\]\(([\w/.-]+)\)", text):
        assert (path.parent / link).exists(), link


def sources():
    return {path: path.read_text() for path in (ROOT / "src").rglob("*.rs")}


def without_fences(text):
    return re.sub(r"```.*?```", "", text, flags=re.S)


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "docs/glossary.md"])
def test_files_and_types_of_the_house_exist(name):
    """A file by its path, or by what is left of it below a folder of src; a type, module or function by its name."""
    files = {str(path.relative_to(ROOT)) for folder in ("src", "docs", "tests", "scripts") for path in
             (ROOT / folder).rglob("*") if path.is_file()}
    code = "\n".join(sources().values())
    defined = set(re.findall(r"\b(?:struct|enum|trait|type|union|fn|mod|const|static|macro_rules!)\s+(\w+)", code))
    variants = set(re.findall(r"^\s+([A-Z]\w+)\b", code, re.M))
    named = set(re.findall(r"`([^`\n]+)`", without_fences((ROOT / name).read_text())))
    paths = {word for word in named if re.fullmatch(r"[\w/-]+\.(rs|py|sh|md|svg|txt)", word)}
    types = {word for word in named if re.fullmatch(r"[A-Z][a-z]\w+(::\w+)*|[a-z_]+(::\w+)+", word)}
    assert len(paths) > 10 and len(types) > 20
    assert not [path for path in paths if not any(file == path or file.endswith("/" + path) for file in files)]
    parts = {(word, part) for word in types for part in word.split("::")}
    assert not [pair for pair in parts if pair[1] not in defined | variants | {"crate"}]


def test_the_house_on_its_first_page_is_the_tree():
    """Each folder of src, and each room of presence and server, has a line in the picture of ARCHITECTURE."""
    page = re.search(r"```\n(.*?)```", (ROOT / "ARCHITECTURE.md").read_text(), re.S).group(1)
    assert all(len(line) <= 120 for line in page.splitlines())
    for folder in sorted(path.name for path in (ROOT / "src").iterdir() if path.is_dir()):
        assert re.search(r"^src/%s\b" % folder, page, re.M), folder
    for layer in "presence", "server":
        rooms = re.search(r"^src/%s\b.*\n((?:    .*\n)*)" % layer, page, re.M).group(1)
        parts = {path.name for path in (ROOT / "src" / layer).iterdir() if path.is_dir()} - {"testing"}
        for part in sorted(parts):
            assert re.search(r"^    (\w+, )?%s\b" % part, rooms, re.M), part


def test_the_nouns_of_the_rfcs_have_files():
    rows = (ROOT / "docs" / "glossary.md").read_text().split("## RFC 6665 by file name")[1]
    files = re.findall(r"`([\w/]+\.rs)`", rows)
    assert len(files) >= 32
    assert not [file for file in files if not (ROOT / "src" / file).exists()]


def test_what_the_glossary_names_exists():
    rows = (ROOT / "docs" / "glossary.md").read_text().split("## RFC 6665 by file name")[0].split("\n")
    names = {name for row in rows if row.startswith("|") for name in re.findall(r"`([\w:]+)`", row.split("|")[3])}
    assert len(names) > 50
    sources = {path: path.read_text() for path in (ROOT / "src").rglob("*.rs")}
    modules = {str(path.relative_to(ROOT / "src"))[:-3].replace("/", "::") for path in sources}

    def exists(name):
        first, _, last = name.rpartition("::")
        if any(module == name or module.endswith("::" + name) for module in modules):
            return True
        if any(re.search(r"\b(?:struct|enum|trait|type) %s\b" % (first or last), text) for text in sources.values()):
            return not first or any(re.search(r"\b%s\b" % last, text) for text in sources.values())
        return any(re.search(r"\b(?:fn|struct|enum|trait) %s\b" % last, text)
                   for path, text in sources.items() if path.stem == first.rpartition("::")[2])

    known = {"subs_info_t", "publ_info_t"}
    assert not sorted(name for name in names - known if not exists(name))


def configurations():
    for path in DOCUMENTS:
        blocks = re.findall(r"```\n(.*?)```", path.read_text(), re.S)
        # The examples of single parameters are read together.
        single = [block for block in blocks if re.fullmatch(r'modparam\("\w+", "\w+", [^\n]*\)\n', block)]
        blocks = [block for block in blocks if block not in single] + ["".join(single)]
        for at, block in enumerate(blocks):
            if re.search(r'^modparam\("(presence|pua)"', block, re.M):
                yield pytest.param(block, id="%s-%d" % (path.name, at))


@pytest.mark.parametrize("block", list(configurations()))
def test_configurations_are_accepted(block, tmp_path):
    """Kamailio itself reads them (`-c`), with what a fragment leaves out put around it."""
    port, path = free_port(), tmp_path / "kamailio.cfg"
    database.create_sqlite(tmp_path / "presence.sqlite")
    block = block.replace("    ...\n", "")
    block = re.sub(r"sqlite:///+[\w/.]+", "sqlite:///%s" % (tmp_path / "presence.sqlite"),
                   block).replace("192.0.2.1", "127.0.0.1")
    if "request_route" not in block and "cfgengine" not in block:
        block += "request_route { exit; }\n"
    if not block.startswith("#!KAMAILIO"):
        first = ["db_sqlite", "tm", "sl", "pv", "textops"] + ([] if "dmq.so" in block else ["presence"])
        lines = ["#!KAMAILIO", "listen=udp:127.0.0.1:%d" % port, 'mpath="%s/:%s/"' % (OURS, STOCK)]
        lines += ['loadmodule "%s.so"' % module for module in first if 'loadmodule "%s.so"' % module not in block]
        if 'modparam("pua"' in block and 'loadmodule "pua.so"' not in block:
            lines.append('loadmodule "pua.so"')
        block = "\n".join(lines) + "\n" + block
    path.write_text(block)
    done = subprocess.run([KAMAILIO, "-c", "-f", str(path), "-E"], capture_output=True, text=True, timeout=30)
    output = done.stdout + done.stderr
    assert "config file ok, exiting" in output and done.returncode == 0, output[-2000:] + pathlib.Path(path).read_text()
