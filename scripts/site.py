#!/usr/bin/env python3
"""Lays out the sources of the site in target/site-source: the documents, and every file that one of them links to. A
link that leads nowhere, or to a heading that does not exist, is an error."""
import pathlib
import re
import shutil
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "target" / "site-source"
DOCUMENTS = ["README.md", "COMPAT.md", "ARCHITECTURE.md", "BENCHMARKS.md", "CONTRIBUTING.md", "CHANGELOG.md"]


def prose(text):
    return re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)


def anchors(text):
    """The anchors of the headings, as GitHub and Python-Markdown make them."""
    titles = re.findall(r"^#+ (.*)$", prose(text), re.M)
    plain = [re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", title) for title in titles]
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in plain}


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    documents = [ROOT / name for name in DOCUMENTS if (ROOT / name).exists()] + sorted((ROOT / "docs").glob("*.md"))
    broken = []
    for path in documents:
        place = OUT / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        for link in re.findall(r"\]\(([^)\s]+)[^)]*\)", prose(path.read_text())):
            if "://" in link or link.startswith("mailto:"):
                continue
            name, _, anchor = link.partition("#")
            target = (path.parent / name).resolve() if name else path
            wrong = not target.exists() or not target.is_relative_to(ROOT)
            if not wrong and anchor and target.suffix == ".md":
                wrong = anchor not in anchors(target.read_text())
            if wrong:
                broken.append("%s: %s" % (path.relative_to(ROOT), link))
            elif target.is_file() and target.suffix != ".md":
                copy = OUT / target.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(target, copy)
    sys.exit("error: links lead nowhere: " + ", ".join(broken) if broken else 0)


main()
