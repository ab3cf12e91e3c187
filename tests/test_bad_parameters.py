"""Parameters outside of what they can be: the server does not start, and one line has the parameter, its value and what
is allowed. The table of all parameters is held in src/host/params.rs; here are the kinds, on a server."""
import pytest

from kit.kamailio import Kamailio

LONG = "x" * 300


def fails(presence=(), extra=""):
    modules = ("pua",) if extra else ()
    server = Kamailio("ours", presence=dict(subs_db_mode=0, publ_cache=2, **dict(presence)), modules=modules,
                      extra_params=extra)
    try:
        server.start(expect_failure=True)
        assert server.process.poll() not in (None, 0)
        return [line for line in server.log().split("\n") if "cannot start: " in line][0]
    finally:
        server.remove()


@pytest.mark.parametrize("name,value,words", [
    ("local_log_level", 4, "local_log_level is 4: allowed is -1 to 3"),
    ("db_update_period", 100000001, "db_update_period is 100000001: allowed is 0 (never) to 100000000 seconds"),
    ("shm_slab", 2, "shm_slab is 2: allowed is 0 or 1"),
    ("dmq_peer_id", "two words", "dmq_peer_id is two words: allowed is a word of letters"),
    ("retrieve_order_by", "colour", "retrieve_order_by is colour: allowed is columns of presentity"),
    ("server_address", "sip:a\x01b", "allowed is a text without control characters"),
    ("xavp_cfg", LONG, "(300 bytes): allowed is a text of at most 255 bytes"),
    ("cluster_secret", "s3cret\x02s3cret-s3cret", "cluster_secret is a text that is not shown here"),
])
def test_of_the_server(name, value, words):
    line = fails({name: value})
    assert "ERROR: presence: cannot start: parameter " in line and words in line and "s3cret" not in line


@pytest.mark.parametrize("name,value,words", [
    ("update_period", "5", "update_period is 5: allowed is 0 (no timers), or 6 to 100000000 seconds"),
    ("sqlite_direct", "-1", "sqlite_direct is -1: allowed is 0 or 1"),
    ("db_table", '"a b"', "db_table is a b: allowed is a table name"),
    ("outbound_proxy", '"sip:%s"' % LONG, "(304 bytes): allowed is a text of at most 255 bytes"),
    ("credential", '"s3cret\x03"', "credential is a text that is not shown here"),
])
def test_of_the_user_agent(name, value, words):
    """Its lines have its own name, not that of the module that shares its library."""
    line = fails(extra='modparam("pua", "db_url", "@DB@")\nmodparam("pua", "%s", %s)\n' % (name, value))
    assert "ERROR: pua: cannot start: parameter " in line and words in line and "s3cret" not in line


def test_a_switch_of_stock_is_corrected_aloud(ours):
    server = ours(presence=dict(timer_mode=5, retrieve_order=2))
    assert "WARNING: presence: parameter timer_mode is 5, which is not 0 or 1: 1 is used" in server.log()
    assert "WARNING: presence: parameter retrieve_order is 2, which is not 0 or 1: 0 is used" in server.log()


def test_stock_takes_them():
    """"a parameter outside of what it can be": stock starts and says nothing."""
    values = dict(local_log_level=4, timer_mode=5, retrieve_order_by="colour")
    with Kamailio("stock", presence=values) as stock:
        assert not [name for name in values if name in stock.log()]
    assert "local_log_level" in fails(values)
