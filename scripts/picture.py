#!/usr/bin/env python3
"""Pictures of the documentation, drawn from text: `picture.py` writes docs/NAME.svg for each docs/pictures/NAME.txt,
`picture.py check` says which are not what their text says. A text has a title, boxes `id column row title | line |
line`, and arrows `id > id label`."""
import html
import pathlib
import re
import sys

DOCS = pathlib.Path(__file__).resolve().parent.parent / "docs"
WIDTH, GAP, LINE, MARGIN = 330, 70, 18, 20
# Characters that fit into a box.
LONGEST, LONGEST_TITLE = 47, 43
HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13"
role="img">
<title>%s</title>
<style>rect{fill:#fff;stroke:#444}text{fill:#222}.h{font-weight:bold}.l{font-size:12px;fill:#555}
path{stroke:#444;fill:none;marker-end:url(#a)}</style>
<defs><marker id="a" markerWidth="9" markerHeight="9" refX="8" refY="4" orient="auto">
<path d="M0 0L8 4L0 8z" style="fill:#444;marker-end:none"/></marker></defs>
"""


def read(text):
    title, boxes, arrows = "", {}, []
    for line in text.strip().split("\n"):
        first, _, rest = line.partition(" ")
        if first == "title":
            title = rest
        elif rest.startswith("> "):
            to, _, label = rest[2:].partition(" ")
            arrows.append((first, to, label))
        elif line.strip() and not line.startswith("#"):
            column, row, words = rest.split(" ", 2)
            boxes[first] = (int(column), int(row), [part.strip() for part in words.split("|")])
    return title, boxes, arrows


def place(boxes):
    """Where each box stands: left, top, height. A row is as high as its highest box."""
    rows = {}
    for _, row, lines in boxes.values():
        rows[row] = max(rows.get(row, 0), len(lines) * LINE + 16)
    tops, top = {}, MARGIN
    for row in sorted(rows):
        tops[row], top = top, top + rows[row] + 34
    placed = {name: (MARGIN + column * (WIDTH + GAP), tops[row], len(lines) * LINE + 16)
              for name, (column, row, lines) in boxes.items()}
    return placed, top


def arrow(start, end):
    """From box to box: down within a column, else from side to side. Path, and where its label stands."""
    (x1, y1, h1), (x2, y2, h2) = start, end
    if x1 == x2:
        top, bottom = (y1 + h1, y2) if y2 > y1 else (y1, y2 + h2)
        return "M%d %dL%d %d" % (x1 + 40, top, x1 + 40, bottom), (x1 + 48, (top + bottom) // 2 + 4)
    left, right = (x1 + WIDTH, x2) if x2 > x1 else (x1, x2 + WIDTH)
    return ("M%d %dL%d %d" % (left, y1 + h1 // 2, right, y2 + h2 // 2),
            (min(left, right) + 4, (y1 + h1 // 2 + y2 + h2 // 2) // 2 - 5))


def draw(text):
    title, boxes, arrows = read(text)
    placed, height = place(boxes)
    width = max(left for left, _, _ in placed.values()) + WIDTH + MARGIN
    out = [HEAD % (width, height, html.escape(title))]
    for name, (_, _, lines) in boxes.items():
        left, top, tall = placed[name]
        out.append('<rect x="%d" y="%d" width="%d" height="%d"/>' % (left, top, WIDTH, tall))
        out += ['<text x="%d" y="%d"%s>%s</text>' % (left + 12, top + 20 + at * LINE, "" if at else ' class="h"',
                                                     html.escape(line)) for at, line in enumerate(lines)]
    for start, end, label in arrows:
        path, (x, y) = arrow(placed[start], placed[end])
        out.append('<path d="%s"/><text x="%d" y="%d" class="l">%s</text>' % (path, x, y, html.escape(label)))
    return "\n".join(out) + "\n</svg>\n"


def faults(text):
    """Lines that are wider than their box, and files that are not there."""
    sources = ["/%s" % path.relative_to(DOCS.parent) for path in (DOCS.parent / "src").rglob("*")]
    for _, _, lines in read(text)[1].values():
        for at, line in enumerate(lines):
            if len(line) > (LONGEST if at else LONGEST_TITLE):
                yield "%s: longer than its box" % line
            for name in re.findall(r"[\w/]+\.rs\b", line):
                if not any(source.endswith("/" + name) for source in sources):
                    yield "%s: there is no such file" % name


def main(arguments):
    stale = []
    for source in sorted((DOCS / "pictures").glob("*.txt")):
        picture, drawn = DOCS / (source.stem + ".svg"), draw(source.read_text())
        if arguments == ["check"]:
            stale += [] if picture.is_file() and picture.read_text() == drawn else [picture.name]
        else:
            picture.write_text(drawn)
    wrong = [fault for source in (DOCS / "pictures").glob("*.txt") for fault in faults(source.read_text())]
    for fault in wrong:
        print("docs/pictures: " + fault)
    for name in stale:
        print("docs/%s is not what docs/pictures says: run scripts/picture.py" % name)
    return 1 if stale or wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
