"""The receive buffers of UDP sockets (`receive_buffer`): raised as far as the system allows, and never lowered."""
import re
import subprocess

import pytest

MEMORY = dict(subs_db_mode=0, publ_cache=2)
ALLOWED = int(open("/proc/sys/net/core/rmem_max").read())


def kept(server):
    """What the kernel says of each UDP socket of the server, in bytes; it counts twice what was asked for."""
    command = ["ss", "-Hulnm", "sport", "=", ":%d" % server.port]
    shown = subprocess.run(command, stdout=subprocess.PIPE, timeout=10).stdout.decode()
    return [int(size) // 2 for size in re.findall(r"skmem:\(r\d+,rb(\d+)", shown)]


@pytest.mark.parametrize("settings, before, wanted", [
    (dict(), "", 4 << 20),
    (dict(receive_buffer=1 << 20), "", 1 << 20),
    (dict(receive_buffer=1 << 16), "maxbuffer=1048576\n", None),
    (dict(receive_buffer=0), "", None),
    (dict(receive_buffer=64 << 20), "", 64 << 20),
], ids=["default", "less", "never lowered", "off", "more than the system allows"])
def test_buffers_are_raised_as_far_as_the_system_allows(ours, settings, before, wanted):
    # Without tcp, and with it, where there are sockets of another kind.
    for tcp in (False, True):
        server = ours(presence=dict(MEMORY, **settings), db=None, before=before, debug=3, tcp=tcp)
        plain = ours(presence=dict(MEMORY, receive_buffer=0), db=None, before=before, tcp=tcp)
        untouched = kept(plain)
        expected = [max(min(wanted, ALLOWED), size) for size in untouched] if wanted else untouched
        assert kept(server) == expected and expected
        said = [int(size) for size in re.findall(r"receive buffers of UDP sockets hold (\d+) bytes", server.log())]
        assert said == ([] if settings.get("receive_buffer") == 0 else [min(expected)])
