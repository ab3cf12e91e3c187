"""What names and polls can make the server remember is bounded, and so is what the log is filled with."""
import re
import sqlite3
import time

import pytest

from conftest import MODES
from kit.kamailio import Kamailio
from kit.sip import pidf

WITHOUT_TM = '''
request_route {
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    handle_publish();
}
'''


def used(server):
    return int(re.search(r"\bused: (\d+)", server.rpc("core.shmmem")).group(1))


def flood(phone, requests):
    for at in range(0, len(requests), 50):
        for request in requests[at:at + 50]:
            phone.send_raw(request)
        phone.quiet(0.05)


def really_used(server):
    """The same with what the host's allocator adds to each block."""
    return int(re.search(r"\breal_used: (\d+)", server.rpc("core.shmmem")).group(1))


def test_a_publication_takes_no_more_memory_than_with_stock(phones):
    """Publications that nobody watches, as most are, and their documents; no transactions hold memory meanwhile."""
    head = ["Event: presence", "Expires: 3600", "Content-Type: application/pidf+xml"]

    def publish(server, phone, first, count):
        names = ["u%d" % n for n in range(first, first + count)]
        flood(phone, [phone.request("PUBLISH", "sip:%s@example.org" % name, head, pidf(name), contact=None)
                      for name in names])
        phone.quiet(0.5)

    def bytes_of(which):
        with Kamailio(which, workers=1, debug=0, route=WITHOUT_TM, **MODES["memory"]) as server:
            phone = phones(server, "p")
            publish(server, phone, 0, 500)
            assert phone.replies and {reply.code for reply in phone.replies} == {200}
            before = really_used(server)
            publish(server, phone, 1000, 4000)
            assert len(phone.replies) >= 4500
            return (really_used(server) - before) / 4000

    stock, ours = bytes_of("stock"), bytes_of("ours")
    assert ours <= stock, (stock, ours)


@pytest.mark.parametrize("mode", ["defaults", "table", "memory"])
def test_refreshing_unknown_names_leaves_nothing(ours, phones, mode):
    route = ('request_route { if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; } '
             'pres_refresh_watchers("$ru", "presence", 1); sl_send_reply("299", "done"); exit; }')
    server = ours(workers=1, route=route, **MODES[mode])
    phone = phones(server, "p")

    def turn(first):
        flood(phone, [phone.request("MESSAGE", "sip:u%d@example.org" % n) for n in range(first, first + 600)])
        phone.quiet(0.5)

    turn(0)
    before = used(server)
    turn(1000)
    turn(2000)
    assert used(server) <= before + 4000, used(server) - before


def test_a_flood_of_refusals_is_counted(ours, phones):
    server = ours(workers=1, **MODES["memory"])
    phone = phones(server, "p")
    lines = ["Event: nonsense", "Contact: <sip:p@127.0.0.1:%d>" % phone.port]
    flood(phone, [phone.request("SUBSCRIBE", "sip:alice@example.org", lines) for _ in range(400)])
    assert server.log().count("answered 489") <= 20
    time.sleep(10.5)
    phone.reply_to(phone.request("SUBSCRIBE", "sip:alice@example.org", lines))
    assert re.search(r"answered 489.* \.\.\. and [\d,]+ more like this in 1\d s", server.log())


@pytest.mark.parametrize("mode", ["defaults", "database-only"])
def test_what_ended_long_ago_is_removed_in_silence(ours, phones, mode):
    settings = dict(MODES[mode]["presence"], clean_period=1, db_update_period=1, expires_offset=0)
    server = ours(workers=1, presence=settings)
    old, new, alice = phones(server, "old"), phones(server, "new"), phones(server, "alice")
    first, second = old.subscribe(alice.uri), new.subscribe(alice.uri)
    first.wait(1), second.wait(1)
    server.stop()
    connection = sqlite3.connect(str(server.db_path))
    for user, age in (("old", 4000), ("new", 30)):
        connection.execute("update active_watchers set expires=? where watcher_username like ?",
                           (int(time.time()) - age, user + "%"))
    connection.commit()
    connection.close()
    server.start()
    assert second.wait(2, timeout=5)[-1].get("Subscription-State") == "terminated;reason=timeout"
    old.quiet(1.0)
    assert len(first.notifies) == 1
    assert server.rows("active_watchers") == []
    assert "removed without a NOTIFY" in server.log()


@pytest.mark.parametrize("mode", ["memory", "database-only"])
@pytest.mark.parametrize("code,headers,stays",
                         [(480, "Retry-After: 30", True), (480, None, False), (404, "Retry-After: 30", False)])
def test_an_answer_with_retry_after_keeps_the_subscription(ours, phones, mode, code, headers, stays):
    server = ours(workers=1, presence=dict(MODES[mode]["presence"], notify_failures=1))
    bob = phones(server, "bob")
    bob.answer, bob.answer_headers = code, headers
    watch = bob.subscribe("sip:alice@example.org")
    watch.wait(1)
    bob.quiet(0.5)
    bob.answer, bob.answer_headers = 200, None
    assert watch.refresh().code == (200 if stays else 481)
