"""Publications in a table that other servers write, too: what one has read may be another's by the time it is
written."""
import sqlite3

import pytest

from conftest import MODES
from kit.sip import pidf

# Another server changes the row after this one has read it and before it is written.
FASTER = ("create trigger faster before %s on presentity begin update presentity set etag = 'a.faster' "
          "where id = old.id; select raise(ignore); end")
STEPS = {"refresh": ("update", dict()), "modification": ("update", dict(body=pidf(note="two"))),
         "removal": ("delete", dict(expires=0))}


@pytest.mark.parametrize("mode", ["table", "write-through"])
@pytest.mark.parametrize("step", sorted(STEPS))
def test_a_publication_that_another_server_changes_meanwhile(ours, phones, mode, step):
    """RFC 3903 6: what is under another entity tag by now is no match, and a 200 would be a tag that nobody knows."""
    statement, request = STEPS[step]
    server = ours(workers=1, **MODES[mode])
    alice = phones(server, "alice")
    etag = alice.publish(body=pidf(note="one")).get("SIP-ETag")
    with sqlite3.connect(str(server.db_path), timeout=10) as table:
        table.execute(FASTER % statement)
    assert alice.publish(etag=etag, **request).code == 412
    with sqlite3.connect(str(server.db_path), timeout=10) as table:
        assert table.execute("select etag from presentity").fetchall() == [("a.faster",)]
        table.execute("drop trigger faster")
    assert alice.publish(etag="a.faster", **request).code == 200


@pytest.mark.parametrize("step", sorted(STEPS))
def test_stock_says_that_it_is_done(both, step):
    def scenario(server, phone, trace):
        alice = phone("alice")
        etag = alice.publish(body=pidf(note="one")).get("SIP-ETag")
        with sqlite3.connect(str(server.db_path), timeout=10) as table:
            table.execute(FASTER % STEPS[step][0])
        trace.note("answer", alice.publish(etag=etag, **STEPS[step][1]).code)

    both(scenario, workers=1, **MODES["table"], different={
        "answer": ("a tag that no publication has is no match (RFC 3903 6)", lambda seen: seen == "412")})
