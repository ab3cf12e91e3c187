"""Rules that users write with XCAP (RFC 4825): the server of a life is an XCAP server, too."""

import http.client

DOMAIN = "example.org"
SCRIPT = """
event_route[xhttp:request] {
    $xcapuri(u=>data) = $hu;
    $var(user) = "sip:" + $xcapuri(u=>xuid) + "@example.org";
    if ($rm == "PUT") {
        xcaps_put("$var(user)", "$hu", "$rb");
    } else {
        xcaps_del("$var(user)", "$hu");
    }
    xlog("L_NOTICE", "SEEN xcap $rm $retcode\\n");
    pres_update_watchers("$var(user)", "presence");
    xlog("L_NOTICE", "SEEN judged $retcode\\n");
    exit;
}
"""


def add(server):
    """Makes a server, which is not started yet, an XCAP server."""
    if not any(one.startswith("tcp:") for one in server.listen):
        server.listen.append("tcp:127.0.0.1:%d" % server.port)
    server.modules += ["xhttp", "xcap_server"]
    server.extra_params += 'modparam("xcap_server", "db_url", "@DB@")\n'
    server.before += "tcp_accept_no_cl=yes\ntcp_rd_buf_size=1048576\n"
    server.more_route += SCRIPT


def put(server, user, document):
    """Puts the rules of a user, or removes them (None): the status of the answer, or what went wrong."""
    path = "/xcap-root/pres-rules/users/%s/index" % user
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        body = None if document is None else document.encode()
        headers = {"Content-Type": "application/auth-policy+xml"}
        connection.request("DELETE" if document is None else "PUT", path, body, headers)
        return "%d" % connection.getresponse().status
    except OSError as error:
        return type(error).__name__
    finally:
        connection.close()
