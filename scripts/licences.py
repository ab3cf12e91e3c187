#!/usr/bin/env python3
"""Prints the copyright file of the package: our licence, and the licence texts of every crate inside the library."""
import json
import pathlib
import subprocess

NAMES = ("LICENSE", "LICENCE", "COPYING", "UNLICENSE", "NOTICE")


def crates_inside():
    tree = subprocess.run(["cargo", "tree", "--quiet", "--locked", "--edges", "normal", "--prefix", "none", "--format",
                           "{p}"],
                          check=True, capture_output=True, text=True).stdout
    return {tuple(line.split()[:2]) for line in tree.splitlines() if line.strip()}


def main():
    metadata = json.loads(subprocess.run(["cargo", "metadata", "--quiet", "--locked", "--format-version", "1"],
                                         check=True,
                                         capture_output=True, text=True).stdout)
    inside = crates_inside()
    print("kamailio-presence: GPL-2.0-or-later (on Debian: /usr/share/common-licenses/GPL-2)\n")
    for package in sorted(metadata["packages"], key=lambda package: package["name"]):
        if (package["name"], "v" + package["version"]) not in inside or not package["source"]:
            continue
        print("=" * 100 + "\n%s %s: %s\n%s\n" % (package["name"], package["version"], package["license"],
                                                 package["repository"] or ""))
        folder = pathlib.Path(package["manifest_path"]).parent
        texts = [path for path in sorted(folder.iterdir()) if path.is_file() and path.name.upper().startswith(NAMES)]
        if not texts:
            print("(the crate carries no licence text of its own)\n")
        for path in texts:
            text = path.read_text(errors="replace").strip()
            # Debian has this one on every machine.
            if "Apache License" in text and "END OF TERMS AND CONDITIONS" in text:
                text = "Apache License 2.0, on Debian: /usr/share/common-licenses/Apache-2.0"
            print("--- %s\n\n%s\n" % (path.name, text))


if __name__ == "__main__":
    main()
