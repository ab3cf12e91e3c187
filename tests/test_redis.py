"""Redis as the database: its driver writes no bodies, which is said at start."""
import pytest

from kit.kamailio import Kamailio
from kit.servers import Redis
from kit.sip import Client, pidf

KEYS = ("version=entry:table_name", "presentity=entry:ruid&usrdom:username,domain,event",
        "active_watchers=entry:callid,to_tag,from_tag&usrdom:presentity_uri,event", "watchers=entry:presentity_uri")
FOLDER = "/usr/share/kamailio/db_redis/kamailio"


@pytest.fixture(scope="module")
def redis():
    server = Redis()
    yield server
    server.stop()


def on_redis(which, server, **presence):
    params = ('modparam("db_redis", "schema_path", "%s")\n' % FOLDER
              + "".join('modparam("db_redis", "keys", "%s")\n' % key for key in KEYS))
    return Kamailio(which, db=server.url, modules=("presence_xml",), before=params,
                    presence=dict(presence or dict(subs_db_mode=1, publ_cache=1)))


@pytest.mark.suite("databases")
def test_a_database_without_binary_columns(redis):
    """COMPAT, "db_redis as the database": stock starts, and stores no publication."""
    with on_redis("stock", redis) as node:
        alice = Client(node, "alice")
        reply = alice.publish(body=pidf())
        assert reply is None or reply.code >= 500, reply.code
        assert "Unsupported val type" in node.log()
        alice.close()


@pytest.mark.suite("databases")
@pytest.mark.parametrize("parameters", [
    dict(subs_db_mode=1, publ_cache=1), dict(subs_db_mode=3, publ_cache=0), dict(subs_db_mode=0, publ_cache=2)])
def test_it_is_refused_at_start(redis, parameters):
    node = on_redis("ours", redis, **parameters)
    try:
        node.start(expect_failure=True)
        assert node.process.poll() not in (None, 0)
        lines = [line for line in node.log().splitlines() if "presence: cannot start" in line]
        assert len(lines) == 1 and "db_redis cannot be used" in lines[0] and "binary columns" in lines[0], lines
    finally:
        node.remove()
