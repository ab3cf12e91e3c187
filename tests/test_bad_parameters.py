"""Parameters outside of what they can be. What stock starts with never stops the start: it is corrected, or used as it
is, with a warning. Otherwise the server does not start. One line has the parameter, its value and what is allowed. The
table of all parameters is held in src/host/params.rs; here are the kinds, on a server."""
import pytest

from kit.kamailio import Kamailio

LONG = "x" * 300


def fails(presence=(), extra=""):
    modules = ("pua",) if extra else ()
    server = Kamailio("ours", presence=dict(dict(subs_db_mode=0, publ_cache=2), **dict(presence)), modules=modules,
                      extra_params=extra)
    try:
        server.start(expect_failure=True)
        assert server.process.poll() not in (None, 0)
        return [line for line in server.log().split("\n") if "cannot start: " in line][0]
    finally:
        server.remove()


@pytest.mark.parametrize("name,value,words", [
    ("min_expires_action", 3, "min_expires_action is 3: allowed is 1 (423 Interval Too Brief) or 2 (use min_expires)"),
    ("history_size", 10001, "history_size is 10001: allowed is 0 (none) to 10000 entries"),
    ("cluster_arbiter", LONG, "(300 bytes): allowed is a text of at most 255 bytes"),
    ("cluster_peers", "192.0.2.1\x01", "allowed is a text without control characters"),
    ("shm_slab", 2, "shm_slab is 2: allowed is 0 or 1"),
    ("local_log_facility", "", "local_log_facility is empty: allowed is a syslog facility such as LOG_LOCAL3"),
    ("notify_engine", "", "notify_engine is empty: allowed is auto, tm, direct"),
    ("cluster_secret", "s3cret\x02s3cret-s3cret", "cluster_secret is a text that is not shown here"),
])
def test_of_the_server(name, value, words):
    line = fails({name: value})
    assert "ERROR: presence: cannot start: parameter " in line and words in line and "s3cret" not in line


@pytest.mark.parametrize("name,value,words", [
    ("update_period", "5", "update_period is 5: allowed is 0 (no timers), or 6 to 100000000 seconds"),
    ("check_remote_contact", "2", "check_remote_contact is 2: allowed is 0 (off) or 1 (on)"),
    ("sqlite_direct", "-1", "sqlite_direct is -1: allowed is 0 or 1"),
    ("print_statements", "2", "print_statements is 2: allowed is 0 or 1"),
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


# Values outside of what a parameter can be with which stock starts, and the warning of ours; "": nothing is said of it.
NUMBERS = dict(
    local_log_level=(4, "is 4, which is not -1 to 3: 3 is used"),
    db_update_period=(100000001, "is 100000001, which is not 0 (never) to 100000000 seconds: 100000000 is used"),
    clean_period=(-1, "is -1, which is not 0 (never) to 100000000 seconds: 0 is used"),
    fetch_rows=(0, "is 0, which is not 1 or more rows: 500 is used"),
    max_expires=(0, "is 0, which is not 1 or more seconds: 3600 is used"),
    expires_offset=(-1, "is -1, which is not 0 or more seconds: 0 is used"),
    cseq_offset=(-1, "is -1, which is not 0 or more: 0 is used"),
    timer_mode=(5, "is 5, which is not 0 or 1: 1 is used"),
    waitn_time=(0, "is 0, which is not 1 to 86400 seconds: 5 is used"),
    notifier_poll_rate=(100001, "is 100001, which is not 1 to 10000 per second: 10000 is used"),
    notifier_processes=(-1, "is -1, which is not 0 to 256 processes: 0 is used"),
    subs_htable_size=(-1, ""), pres_htable_size=(0, ""), startup_mode=(7, ""), db_table_lock_type=(7, ""),
    subs_remove_match=(7, ""), retrieve_order_by=("colour", ""),
)

NOTIFIERS = dict(
    subs_db_mode=(3, ""), publ_cache=(0, ""), notifier_processes=(2, ""),
    waitn_time=(-1, "is -1, which is not 1 to 86400 seconds: 5 is used"),
    notifier_poll_rate=(0, "is 0, which is not 1 to 10000 per second: 10 is used"),
)

TURNS = dict(
    subs_db_mode=(3, ""), publ_cache=(0, ""), notifier_processes=(3, ""), notifier_poll_rate=(10000, ""),
    waitn_time=(86400, "is 86400, which is not 1 to 71582 seconds with notifier_poll_rate 10000 and "
                       "notifier_processes 3: 71582 is used"),
)

TEXTS = dict(
    xavp_cfg=(LONG, "(300 bytes), which is not a text of at most 255 bytes: it is used"),
    server_address=("sip:a\x01b@127.0.0.1",
                    "which is not a text without control characters: sip:ab@127.0.0.1 is used"),
    retrieve_order=(1, ""),
    retrieve_order_by=("priority + 0", "is priority + 0, which is not column names separated by commas: it is used"),
)


@pytest.mark.parametrize("which", ["stock", "ours"])
@pytest.mark.parametrize("values", [NUMBERS, NOTIFIERS, TURNS, TEXTS], ids=["numbers", "notifiers", "turns", "texts"])
def test_what_stock_starts_with_starts(values, which):
    """"a parameter outside of what it can be": stock starts and says nothing."""
    with Kamailio(which, presence={name: value for name, (value, _) in values.items()}) as server:
        log = server.log()
        for name, (_, words) in values.items():
            lines = [line for line in log.split("\n") if "parameter %s is" % name in line]
            if which == "stock" or not words:
                assert not lines
            else:
                assert len(lines) >= 1 and any("WARNING: presence: " in line and words in line for line in lines)


@pytest.mark.parametrize("which", ["stock", "ours"])
def test_what_stocks_user_agent_starts_with_starts(which):
    values = dict(
        update_period=("200000000", "is 200000000, which is not 0 (no timers), or 6 to 100000000 seconds: 100000000"),
        outbound_proxy=('"sip:%s"' % LONG, "(304 bytes), which is not a text of at most 255 bytes: it is used"),
        db_mode=("7", "is 7, which is not 0 (memory) or 2 (database): 0 is used"),
        default_expires=("-1", "is -1, which is not 600 or more seconds: 3600 is used"),
        min_expires=("-1", "is -1, which is not 0 or more seconds: 0 is used"),
        fetch_rows=("0", "is 0, which is not 1 or more rows: 500 is used"),
        dlginfo_increase_version=("-1", "is -1, which is not 0 or 1: 1 is used"),
    )
    given = "".join('modparam("pua", "%s", %s)\n' % (name, value) for name, (value, _) in values.items())
    with Kamailio(which, presence=dict(subs_db_mode=0, publ_cache=2), modules=("pua",),
                  extra_params='modparam("pua", "db_url", "@DB@")\n' + given) as server:
        for name, (_, words) in values.items():
            said = "WARNING: pua: parameter %s is" % name in server.log() and words in server.log()
            assert said == (which == "ours"), name
