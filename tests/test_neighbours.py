"""One failure, one victim: a loop over other people's records is not left because one of them failed."""
import re

import pytest

from kit.kamailio import ROOT

# The modules that walk rows, subscriptions, publications and records.
FOLDERS = ("src/bridge", "src/bridge/pua", "src/presence", "src/pua")

TOKEN = re.compile(
    r'//[^\n]*|/\*.*?\*/|b?r#*"(?:.|\n)*?"#*|b?"(?:\\.|[^"\\])*"|b?\'(?:\\.[^\']*|[^\'\\])\'|\'[a-z_]\w*|\w+|=>|->|\|\||[^\s\w]', re.S)
LEAVES_EARLY = {"try_for_each", "try_fold"}


class Place:
    """One exit from inside a loop: the file, the function, the line."""

    def __init__(self, path, function, line, what):
        self.path, self.function, self.line, self.what = path, function, line, what

    def __str__(self):
        return "%s:%d: %s in a loop of %s" % (self.path, self.line, self.what, self.function)


def exits(text, path=""):
    """Every `?` and `return` that leaves a function from inside a loop; closures are functions of their own, tests are left out."""
    text = text.split("#[cfg(test)]")[0]
    tokens = [(m.group(0), text.count("\n", 0, m.start()) + 1) for m in TOKEN.finditer(text) if not m.group(0).startswith(("//", "/*"))]
    blocks, found, pending, function = [], [], None, "?"
    depth = 0                      # of brackets inside a loop's head
    for index, (token, line) in enumerate(tokens):
        before = tokens[index - 1][0] if index else ""
        if token == "fn" and index + 1 < len(tokens):
            pending, function = ("fn", tokens[index + 1][0]), tokens[index + 1][0]
        elif token in ("for", "while", "loop") and before not in ("impl", ">") and pending is None and blocks:
            following = tokens[index + 1][0] if index + 1 < len(tokens) else ""
            if not (token == "for" and following == "<"):
                pending, depth = ("loop", None), 0
        elif token in "([" and pending and pending[0] == "loop":
            depth += 1
        elif token in ")]" and pending and pending[0] == "loop":
            depth -= 1
        elif token == ";" and pending and pending[0] == "fn":
            pending = None
        elif token == "{":
            if pending and (pending[0] == "fn" or depth == 0):
                blocks.append(pending)
                pending = None
            else:
                blocks.append(("closure", None) if before in ("|", "||") else ("block", None))
        elif token == "}" and blocks:
            blocks.pop()
        else:
            inside = _in_loop(blocks)
            if inside and (token == "return" or token in LEAVES_EARLY or (token == "?" and before in (")", "}", "]") or
                           token == "?" and re.match(r"\w", before))):
                name = next((name for kind, name in reversed(blocks) if kind == "fn"), function)
                found.append(Place(path, name, line, token))
    return found


def _in_loop(blocks):
    for kind, _ in reversed(blocks):
        if kind == "loop":
            return True
        if kind in ("fn", "closure"):
            return False
    return False


def all_exits():
    found = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).glob("*.rs")):
            found += exits(path.read_text(), str(path.relative_to(ROOT)))
    return found


@pytest.mark.parametrize("text,count", [
    ("fn f() { for a in b { g(a)?; } }", 1),
    ("fn f() { for a in b { if a { return; } } }", 1),
    ("fn f() { for a in b()? { g(a); } }", 0),
    ("fn f() { let x = || { g()?; }; while y { h(|a| { return 1; }); } g()?; }", 0),
    ("impl A for B { fn f(&self) -> C { return 1; } }", 0),
    ("fn f() { loop { match g() { Ok(_) => {} Err(e) => return e } } }", 1),
    ("fn f() { // for x in y { return }\n g(\"for { ?\"); }", 0),
    ("fn f() { for a in b { fn g() { return; } } }", 0),
])
def test_the_reader_of_sources(text, count):
    assert len(exits(text)) == count
