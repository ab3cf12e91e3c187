"""No password of a database URL is written anywhere: not to the log, whatever fails, and not to an answer of a
command."""
import pytest

from kit.kamailio import Kamailio, free_port
from kit.sip import Client, pidf

SECRET = "S3cr:et@%2Fx"
USERS = ["kamailio:%s@" % SECRET, "kamailio:S3cr@", "kamailio:@S3cr:@"]


def start(module, url, **presence):
    if module == "presence":
        return Kamailio("ours", presence=dict(presence, db_url=url), modules=())
    extra = 'modparam("pua", "db_url", "%s")\n' % url
    extra += "".join('modparam("pua", "%s", "%s")\n' % item for item in presence.items())
    return Kamailio("ours", presence=dict(subs_db_mode=0, publ_cache=2, db_url=""), modules=("pua",),
                    extra_params=extra)


def fails(server):
    """Starts a server that cannot start; returns what it said."""
    try:
        server.start(expect_failure=True)
        assert server.process.poll() not in (None, 0), server.log()[-2000:]
        return server.log()
    finally:
        server.remove()


def reason(log):
    """The one line that says why the module does not start."""
    lines = [line for line in log.split("\n") if "cannot start" in line]
    assert lines, log[-2000:]
    return lines[-1]


@pytest.mark.parametrize("module,user", [("presence", USERS[0]), ("presence", USERS[1]), ("pua", USERS[2])])
@pytest.mark.parametrize("how,words", [
    ("unreachable", "cannot connect to sqlite://kamailio:***@h//nowhere/at/all.db"),
    ("no driver", "no database driver for db_url oracle://kamailio:***@h/db"),
    ("no database", "db_url sqlite://kamailio:***@h is not of the form"),
])
def test_a_database_that_cannot_be_used(module, user, how, words):
    url = {"unreachable": "sqlite://%sh//nowhere/at/all.db", "no driver": "oracle://%sh/db",
           "no database": "sqlite://%sh"}[how] % user
    log = fails(start(module, url))
    assert words in reason(log)
    assert "S3cr" not in log


@pytest.mark.parametrize("scheme", ["mysql", "postgres"])
@pytest.mark.parametrize("module", ["presence", "pua"])
def test_a_server_that_does_not_answer(module, scheme):
    place = "127.0.0.1:%d/kamailio" % free_port()
    server = start(module, "%s://kamailio:%s@%s" % (scheme, SECRET, place))
    server.db = "%s:" % scheme  # the driver that is loaded
    log = fails(server)
    assert "cannot connect to %s://kamailio:***@%s" % (scheme, place) in reason(log)
    assert "S3cr" not in log


@pytest.mark.parametrize("module,url", [
    ("presence", "kamailio:S3cret@localhost/kamailio"), ("pua", "sqlite:/kamailio:S3cret@h/x"),
    ("presence", "sqlite:kamailio:S3cret@h"),
    ("pua", "sqlite//kamailio:S3cret@h/x"), ("presence", "sqlite://kamailio:S3cret"),
    ("pua", "sqlite://kamailio:S3/cret@h/x"),
    ("presence", "sqlite://kamailio:33/S3cret@h/x"), ("pua", "S3cret@h"),
])
def test_a_url_that_cannot_be_read(module, url):
    log = fails(start(module, url))
    assert "db_url" in reason(log)
    assert "S3" not in log


@pytest.mark.parametrize("module,table", [("presence", "presentity_table"), ("pua", "db_table")])
def test_a_table_of_another_version(module, table, tmp_path):
    from kit.database import create_sqlite
    create_sqlite(tmp_path / "k.db")
    log = fails(start(module, "sqlite://kamailio:S3cret@h/%s" % (tmp_path / "k.db"), **{table: "version"}))
    assert "does not have version" in reason(log)
    assert "S3cret" not in log


def test_a_user_without_a_password_is_shown():
    log = fails(start("presence", "oracle://kamailio@h/db"))
    assert "oracle://kamailio@h/db" in log


def test_a_server_that_runs(tmp_path):
    """Answers of the commands, and what is logged when the database goes away."""
    from kit.database import create_sqlite
    create_sqlite(tmp_path / "k.db")
    url = "sqlite://kamailio:S3cret@h/%s" % (tmp_path / "k.db")
    with Kamailio("ours", presence=dict(db_url=url, subs_db_mode=1), modules=("presence_xml", "pua"), debug=3,
                  extra_params='modparam("pua", "db_url", "%s")' % url) as server:
        alice = Client(server, "alice")
        assert alice.publish(body=pidf()).code == 200
        shown = [server.rpc(*words)
                 for words in (["presence.config"], ["pua.config"], ["presence.failing"], ["pua.list"])]
        assert "subs_db_mode" in shown[0] and "db_table" in shown[1]
        (tmp_path / "k.db").write_bytes(b"no database" * 1000)
        assert alice.publish("sip:other@example.org", body=pidf()).code == 500
        alice.close()
        assert "S3cret" not in "".join(shown) + server.log()
