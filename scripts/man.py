#!/usr/bin/env python3
"""kamailio-presence(7), made from the reference pages: `man.py FILE ...` writes the manual page of these Markdown
files."""
import pathlib
import re
import sys

HEAD = r""".TH KAMAILIO-PRESENCE 7 "" "kamailio-presence" "Kamailio modules"
.SH NAME
kamailio-presence \- presence.so and pua.so: parameters, functions, variables, commands and statistics
"""
TAIL = r""".SH SEE ALSO
.BR kamailio (8),
.BR kamcmd (8),
.BR kamailio-presence-database (1),
.BR kamailio-presence-example (1)
"""


def text(line):
    """A line of prose: code in bold, links as their text."""
    line = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", line).replace("\\", r"\e")
    line = re.sub(r"\*\*([^*]+)\*\*", r"\\fI\1\\fR", line)
    line = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", line).replace("-", r"\-")
    return r"\&" + line if line.startswith((".", "'")) else line


def joined(page):
    """The lines of a page, each paragraph and each item of a list as one of them."""
    code, held = False, ""
    for line in page.split("\n"):
        code ^= line.startswith("```")
        alone = code or not line.strip() or line.startswith(("```", "#", "|", "<!--"))
        if held and (alone or line.startswith("- ")):
            yield held
            held = ""
        if alone:
            yield line
        else:
            held = (held + " " + line.strip()).strip() if held else line
    if held:
        yield held


def convert(page):
    code, skipping = False, False
    for line in joined(page):
        if line.startswith("```"):
            code = not code
            yield ".PP\n.nf\n.RS 4" if code else ".RE\n.fi"
        elif code:
            plain = line.replace("\\", r"\e").replace("-", r"\-")
            yield r"\&" + plain if plain.startswith((".", "'")) else plain
        elif line.startswith("#"):
            marks, title = line.split(" ", 1)
            skipping = title == "Contents"
            if not skipping:
                # The page of a module is a section, its chapters and entries are sections inside it.
                title = title.replace("`", "")
                yield ".SH %s" % title.upper() if len(marks) < 3 else ".SS %s" % text(title)
        elif skipping or line.startswith("<!--") or re.match(r"\|[-|]+\|$", line) or line in ("| Field | Meaning |",
                                                                                         "| Name | Meaning |",
                                                                                         "| Statistic | Meaning |"):
            continue
        elif line.startswith("|"):
            name, *rest = [cell.strip() for cell in line.strip("|").split(" | ")]
            yield ".TP\n%s\n%s" % (text(name.strip()), text(" | ".join(rest).strip(" |")))
        elif line.startswith("- "):
            yield ".IP \\(bu 2\n" + text(line[2:])
        elif not line.strip():
            yield ".PP"
        else:
            yield text(line)


def main(names):
    lines = [line for name in names for line in convert(pathlib.Path(name).read_text())]
    body = re.sub(r"(\.PP\n)+(?=\.(PP|SH|SS|TP|IP|RE))", "", "\n".join(lines) + "\n")
    sys.stdout.write(HEAD + body + TAIL)


main(sys.argv[1:])
