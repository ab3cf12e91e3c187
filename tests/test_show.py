"""`make run` after its show: whichever way it is ended, its server ends with it."""
import os
import signal
import socket
import subprocess

import pytest

from kit.kamailio import ROOT, free_port


def is_free(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_its_server_ends_with_it(number):
    port = free_port()
    environment = dict(os.environ, PORT=str(port), PYTHONPATH=str(ROOT / "tests"))
    environment.pop("ONCE", None)
    # As a shell starts what it puts in the background.
    show = subprocess.Popen(["sh", "-c", "trap '' INT; exec python3 scripts/show.py"], cwd=ROOT, env=environment,
                            stdout=subprocess.PIPE, text=True)
    line = next((line for line in show.stdout if "make example NAME=pbx" in line), "")
    assert line and not is_free(port)
    show.send_signal(number)
    assert show.wait(15) == 0
    show.stdout.close()
    assert is_free(port) and not (ROOT / "target" / ("run-%d" % port)).exists()
