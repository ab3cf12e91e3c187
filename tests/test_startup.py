"""Configuration errors stop start-up with the parameter, the value and what is allowed."""
import pytest

from kit.kamailio import Kamailio


@pytest.mark.parametrize("name,value,words", [
    ("subs_db_mode", 7, ["subs_db_mode", "7", "3 (database)"]),
    ("publ_cache", -1, ["publ_cache", "-1", "2 (memory)"]),
    ("min_expires_action", 3, ["min_expires_action", "3", "423"]),
    ("min_expires", -5, ["min_expires", "-5", "0 or more seconds"]),
    ("presentity_table", "a;drop", ["presentity_table", "a;drop", "table name"]),
    ("local_log_facility", "LOG_NOWHERE", ["local_log_facility", "LOG_NOWHERE", "LOG_LOCAL3"]),
    ("presentity_table", "version", ["version", "5"]),
])
def test_bad_values(name, value, words):
    server = Kamailio("ours", presence={name: value})
    try:
        server.start(expect_failure=True)
        assert server.process.poll() not in (None, 0)
        line = [line for line in server.log().split("\n") if "presence: cannot start" in line]
        assert line and all(word in line[0] for word in words), server.log()[-2000:]
    finally:
        server.remove()


def test_unknown_driver():
    server = Kamailio("ours", presence=dict(db_url="oracle://x/y"))
    try:
        server.start(expect_failure=True)
        assert "db_url" in server.log() and server.process.poll() not in (None, 0)
    finally:
        server.remove()


def test_all_parameters_are_accepted(ours):
    server = ours(presence=dict(
        presentity_table="presentity", active_watchers_table="active_watchers", watchers_table="watchers",
        clean_period=50, cseq_offset=1,
        db_update_period=50, waitn_time=4, notifier_poll_rate=20, notifier_processes=2, force_delete=1, startup_mode=0,
        expires_offset=3,
        max_expires=7200, min_expires=2, min_expires_action=2, server_address="sip:127.0.0.1:5060", subs_db_mode=2,
        publ_cache=1,
        subs_htable_size=11, pres_htable_size=11, send_fast_notify=0, enable_sphere_check=1, timeout_rm_subs=0,
        fetch_rows=1000,
        db_table_lock_type=0, local_log_level=3, local_log_facility="LOG_LOCAL3", subs_remove_match=1, xavp_cfg="pres",
        retrieve_order=1,
        retrieve_order_by="priority, received_time", sip_uri_match=1, pres_subs_mode=0, delete_same_subs=1,
        timer_mode=0,
        subs_respond_200=0, to_tag_pref="a", totag_avpid=1, lock_set_size=8, force_active=1))
    assert server.alive()


def test_it_is_really_ours(ours):
    server = ours(db=None, presence=dict(subs_db_mode=0, publ_cache=2), modules=("presence_xml",))
    maps = open("/proc/%d/maps" % server.pids()[1]).read()
    assert "libkamailio_presence.so" in maps


SHARED = dict(subs_db_mode=3, publ_cache=0, notifier_processes=0)


@pytest.mark.parametrize("settings,words", [
    (dict(subs_db_mode=2, notifier_processes=4), "notifier_processes 4 has no effect with subs_db_mode 2"),
    (dict(subs_db_mode=0, notifier_processes=2), "notifier_processes 2 has no effect with subs_db_mode 0"),
    (dict(SHARED, publ_cache=1), "set publ_cache 0"),
    (dict(SHARED, publ_cache=2), "set publ_cache 0"),
    (dict(subs_db_mode=2, db_update_period=0), "set db_update_period"),
    (dict(max_expires=600, expires_offset=600), "lower expires_offset"),
    (dict(expires_offset=7200), "lower expires_offset"),
    (dict(server_address="myserver"), "write sip:HOST:PORT"),
    (dict(server_address="10.0.0.1:5060"), "write sip:HOST:PORT"),
    (dict(server_address="sip:"), "write sip:HOST:PORT"),
    (dict(send_fast_notify=0), "set send_fast_notify 1"),
    (dict(clean_period=0), "set clean_period"),
    (dict(enable_subs_dmq=1), "set enable_dmq 1"),
    (dict(default_socket="udp:192.0.2.1:5060"), "write one of its listen lines"),
    (dict(default_socket="nowhere"), "write one of its listen lines"),
])
def test_settings_that_stock_takes_in_silence_are_doubted(ours, settings, words):
    """The server starts, as with stock, and one line says what to do."""
    warnings = [line for line in ours(presence=settings).log().split("\n") if "WARNING: presence: " in line]
    assert len(warnings) == 1 and words in warnings[0], warnings


@pytest.mark.parametrize("settings", [
    dict(), SHARED, dict(subs_db_mode=0, publ_cache=2), dict(subs_db_mode=1, db_update_period=0),
    dict(expires_offset=30),
    dict(subs_db_mode=0, publ_cache=2, clean_period=0, db_url=""),
    dict(server_address="sip:10.0.0.1:5060;transport=tcp"), dict(server_address="SIPS:presence.example.org"),
    dict(SHARED, notifier_processes=4),
])
def test_settings_that_make_sense_are_not_doubted(ours, settings):
    assert "WARNING: presence: " not in ours(presence=settings).log()


@pytest.mark.parametrize("proxy,doubted",
                         [("10.0.0.1:5060", True), ("proxy", True), ("sip:", True), ("sip:10.0.0.1", False)])
def test_a_proxy_of_pua_that_is_no_uri_is_doubted(proxy, doubted):
    extra = 'modparam("pua", "db_url", "@DB@")\nmodparam("pua", "outbound_proxy", "%s")\n' % proxy
    with Kamailio("ours", presence=dict(subs_db_mode=0, publ_cache=2), modules=("pua",), extra_params=extra) as server:
        assert ("outbound_proxy %s is no SIP URI" % proxy in server.log()) == doubted


def test_it_introduces_itself(ours):
    """One line in the log, and a command: the stock module has neither."""
    server = ours(presence=dict(subs_db_mode=1, publ_cache=2, notify_engine="auto", predict_bodies=0, seed_memory=0))
    lines = [line for line in server.log().split("\n") if "NOTICE: presence: kamailio-presence " in line]
    assert len(lines) == 1 and lines[0].endswith(
        "subscriptions write-through, publications memory, notify_engine auto, "
        "shortcuts on except predict_bodies, seed_memory")
    shown = server.rpc("presence.version")
    assert ("name: kamailio-presence" in shown and "subscriptions: write-through" in shown
            and "publications: memory" in shown)
    with Kamailio("stock") as stock:
        assert "not found" in stock.rpc("presence.version")
