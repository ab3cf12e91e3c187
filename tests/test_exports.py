"""What the files show to the loader: exactly the checked-in list, and nothing else."""
import pathlib
import subprocess

import pytest

from kit.kamailio import OURS


def symbols(name):
    text = subprocess.run(["nm", "-D", "--defined-only", str(OURS / name)], capture_output=True, text=True,
                          check=True).stdout
    return sorted(line.split()[-1] for line in text.splitlines())


def test_the_library():
    wanted = (pathlib.Path(__file__).parent / "exports.txt").read_text().split()
    assert symbols("libkamailio_presence.so") == wanted


@pytest.mark.parametrize("name", ["presence.so", "pua.so"])
def test_the_modules(name):
    assert symbols(name) == ["exports", "mod_register", "module_flags", "module_interface_ver", "module_version"]
