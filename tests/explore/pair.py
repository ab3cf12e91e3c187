"""A second server that exchanges publications with the first over DMQ."""

import time

from .agents import OTHERS

ADDRESS = "127.0.0.2"
DMQ = 'if (is_method("KDMQ")) { dmq_handle_message(); exit; }\n    '


def add(server, seed=None):
    """Makes a server, which is not started yet, a node; the second one is given the first."""
    server.modules = ["dmq", "presence"] + server.modules
    server.presence["enable_dmq"] = 1
    server.route = server.route.replace(OTHERS, DMQ + OTHERS)
    if seed:
        server.address = ADDRESS
        server.listen[0] = "udp:%s:%d" % (ADDRESS, server.port)
        server.extra_params += parameter("notification_address", "sip:%s:%d" % (seed.address, seed.port))
    server.extra_params += parameter("server_address", "sip:%s:%d" % (server.address, server.port))
    server.extra_params += parameter("server_socket", "udp:%s:%d" % (server.address, server.port))


def parameter(name, value):
    return 'modparam("dmq", "%s", "%s")\n' % (name, value)


def join(*nodes):
    """Waits until each node knows the other."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if all(node.rpc("dmq.list_nodes").count("host:") >= len(nodes) for node in nodes):
            time.sleep(0.3)
            return
        time.sleep(0.2)
    raise RuntimeError("the nodes do not find each other:\n" + nodes[0].rpc("dmq.list_nodes"))
