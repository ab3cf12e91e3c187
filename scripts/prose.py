#!/usr/bin/env python3
"""Checks the words of documents, comments and tests, and that no line of the tree is wider than WIDTH: `prose.py wrap
FILE ...` wraps the paragraphs of documents, `prose.py commits` checks the messages of the last commits, `prose.py
python` runs pyflakes over the Python files."""
import pathlib
import re
import subprocess
import sys
import textwrap

ROOT = pathlib.Path(__file__).resolve().parent.parent
WIDTH = 120
# What is no English, and what to write instead.
PHRASES = [
    (r"\bthere is what there is\b", "say what is there"),
    (r"\bwhoever\b", "name the person or process"),
    (r"\bhas not version\b", "does not have version"),
    (r"\bwho built Kamailio themselves\b", "if you built Kamailio yourself"),
    (r"//.* (?:time|which|that|who|it|they|subscriptions?|dialogs?|pass|publications?) (?:is|are|was|were) over\b",
     "has expired, has ended"),
    (r"//.*\b(?:it|body|that) is true\b(?! of| for (?:both|all))", "is valid"),
]
# Words of this project's own that had a term in the field; not part of a longer word, and not in a text that goes over
# the wire or names a column.
OWN_WORDS = [
    ("told", "notified, sent, answered, announced"),
    ("hears?|heard|hearers?", "receives, is sent, learns of, accepts"),
    ("(?<![\"'`])(?:say_)?goodbyes?(?![\"'`])", "leave; of a subscription: the final NOTIFY"),
    ("farewells?", "the final NOTIFY"),
    ("(?<![\"'`])heirs?(?![\"'`]| VARCHAR|_lease| = '%)", "successor"),
    ("lanes?", "resource entry, notify queue"),
    ("(?<!-)standing(?! in)", "authorization, state"),
    ("occasions?", "reason, moment"),
    ("wish(?:es)?", "request, options"),
    ("(?<!in_)flights?", "pending request, transaction"),
    ("surveys?", "statistics"),
    ("worlds?", "context; in a simulation: simulation"),
    ("patience|breath", "timeout, budget, grace, with the unit"),
    ("bury|buried|buries", "record a removal"),
    ("next in line", "candidate, successor"),
]
OWN_WORDS = [(r"(?<![a-z])(?:%s)(?![a-z])" % word, instead) for word, instead in OWN_WORDS]
WORDS_ARE_CHECKED = ("src/", "tests/", "docs/", "examples/", "fuzz/", "benches/", "kamailio-glue/", "ARCHITECTURE.md",
                     "CONTRIBUTING.md", "README.md", "COMPAT.md")
# pyflakes does not know pytest's fixtures, which are imported to be used by name: \1 is the name.
OF_FIXTURES = re.compile(r"'(?:\w+\.)*(\w+)' imported but unused|redefinition of unused '(\w+)'")


# What people write; what is read by a machine alone (traces, corpora, dashboards) has lines of any width.
WRITTEN = (".rs", ".md", ".py", ".sh", ".c", ".h", ".js", ".css", ".html", ".toml", "Makefile", "run", "divert")
# Made by a program.
NOT_OURS = ("include/kamailio_presence.h",)
# A record of what was called so when it was written.
RECORDS = ("CHANGELOG.md",)
# A documentation comment that begins so is about a thing that it does not name.
FIRST_WORDS = re.compile(r"\s*//[/!] (?:Its?|They|Them|Their|Nothing|Those|These|This|That|Others|Who|Not)\b(?!\S)")
# So many of the last commits are checked against the rules of CONTRIBUTING.md.
COMMITS = 20


def files():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    names = listed.stdout.split("\n") if listed.returncode == 0 else []
    for name in names:
        if name.endswith(WRITTEN) and name not in NOT_OURS and (ROOT / name).is_file():
            yield name


def too_wide(name):
    code = False
    for number, line in enumerate((ROOT / name).read_text().split("\n"), 1):
        code ^= line.startswith("```")
        # Tables, links and lines of a configuration cannot be wrapped.
        fixed = name.endswith(".md") and (code or line.startswith(("|", "![")) or " " not in line.strip(" -"))
        if len(line) > WIDTH and not fixed:
            yield "%s:%d: %d characters, %d are allowed" % (name, number, len(line), WIDTH)


def worst_words(name):
    if name in RECORDS:
        return
    for number, line in enumerate((ROOT / name).read_text().split("\n"), 1):
        for phrase, instead in PHRASES + (OWN_WORDS if name.startswith(WORDS_ARE_CHECKED) else []):
            if re.search(phrase, line, re.I):
                yield "%s:%d: %s: %s" % (name, number, line.strip()[:60], instead)


def first_sentences(name):
    """The first sentence of a documentation comment is read without the code, so it names its subject."""
    before = ""
    for number, line in enumerate((ROOT / name).read_text().split("\n"), 1) if name.endswith(".rs") else ():
        if FIRST_WORDS.match(line) and not re.match(r"\s*//[/!]", before):
            yield "%s:%d: %s: name the subject" % (name, number, line.strip()[:60])
        before = line


def is_of_fixture(fault, names):
    """Whether a line of pyflakes is about the import of a fixture that one of the files declares."""
    found = OF_FIXTURES.search(fault)
    return bool(found) and any(re.search(r"@pytest\.fixture.*\ndef %s\b" % (found[1] or found[2]),
                                         pathlib.Path(name).read_text()) for name in names)


def commits():
    """Subjects are imperative and at most 60 characters long, and a body says why."""
    log = subprocess.run(["git", "log", "-n", str(COMMITS), "--no-merges", "--format=%h%x1f%s%x1f%b%x1e"], cwd=ROOT,
                         capture_output=True, text=True)
    for record in log.stdout.split("\x1e") if log.returncode == 0 else []:
        if not record.strip():
            continue
        commit, subject, body = record.strip("\n").split("\x1f")
        if len(subject) > 60:
            yield "%s: a subject of %d characters, 60 are allowed: %s" % (commit, len(subject), subject)
        if not re.match(r"[A-Z]\w+ ", subject) or re.match(r"(?!Bring|Need|Feed|Embed|Ring)\w+(?:ed|ing) ", subject):
            yield "%s: the subject is not an imperative: %s" % (commit, subject)
        if not body.strip():
            yield "%s: no body that says why: %s" % (commit, subject)


def wrap(text):
    """The text with every paragraph that has a line beyond the width wrapped anew; code, tables and headings stay."""
    done, block, code = [], [], False

    def flush():
        if any(len(line) > WIDTH for line in block):
            items = []
            for line in block:
                if not items or re.match(r"\s*(?:[-*]|\d+\.) ", line):
                    items.append([line])
                else:
                    items[-1].append(line)
            for item in items:
                lead = re.match(r"\s*(?:(?:[-*]|\d+\.) )?", item[0]).group(0)
                first = item[0][:len(item[0]) - len(item[0].lstrip())]
                done.extend(textwrap.wrap(" ".join(line.strip() for line in item), WIDTH, initial_indent=first,
                                          subsequent_indent=" " * len(lead), break_long_words=False,
                                          break_on_hyphens=False))
        else:
            done.extend(block)
        block.clear()

    for line in text.split("\n"):
        if line.startswith("```"):
            flush()
            code = not code
            done.append(line)
        elif code:
            done.append(line)
        elif not line.strip() or line.startswith(("#", "|", "<")):
            flush()
            done.append(line)
        else:
            block.append(line)
    flush()
    return "\n".join(done)


def main(arguments):
    if arguments[:1] == ["wrap"]:
        for name in arguments[1:]:
            path = pathlib.Path(name)
            path.write_text(wrap(path.read_text()))
        return 0
    if arguments[:1] == ["python"]:
        names = [str(path) for folder in ("tests", "scripts") for path in sorted((ROOT / folder).rglob("*.py"))]
        done = subprocess.run([sys.executable, "-m", "pyflakes"] + names, capture_output=True, text=True)
        faults = [line for line in (done.stdout + done.stderr).split("\n") if line and not is_of_fixture(line, names)]
    elif arguments[:1] == ["commits"]:
        faults = list(commits())
    else:
        checks = (too_wide,) if arguments[:1] == ["width"] else (too_wide, worst_words, first_sentences)
        faults = [fault for name in files() for check in checks for fault in check(name)]
    print("\n".join(faults), end="\n" if faults else "")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
