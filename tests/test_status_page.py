"""The status page, in a real browser: what it shows is what is."""
import json
import re
import sqlite3
import time
import urllib.error
import urllib.request

import pytest

from kit.browser import Browser
from kit.kamailio import ROOT, Kamailio
from kit.sip import Client, pidf

EXAMPLE = ROOT / "examples" / "status-page.cfg"


def serve(**options):
    """A server with the route of the example, on a port of its own."""
    text = EXAMPLE.read_text()
    changes = options.pop("changes", 0)
    before = "#!trydef TRUSTED 127.0.0.0/8\n#!trydef CHANGES %d\ntcp_accept_no_cl=yes\n" % changes
    before += re.search(r"pv_buffer_size=\d+\n", text)[0]
    return Kamailio("ours", modules=("presence_xml", "presence_dialoginfo", "presence_mwi", "xhttp", "jsonrpcs"),
                    tcp=True, before=before,
                    route=text[text.index("request_route"):], extra_params='modparam("jsonrpcs", "transport", 1)\n',
                    **options)


@pytest.fixture
def server():
    with serve() as server:
        yield server


@pytest.fixture
def open_page(server, tmp_path):
    opened = []

    def open_page(fragment=""):
        opened.append(Browser(tmp_path / "profile", "http://127.0.0.1:%d/presence/%s" % (server.port, fragment)))
        opened[-1].wait("document.getElementById('state') && "
                        "document.getElementById('state').textContent.startsWith('as of')")
        return opened[-1]

    yield open_page
    for browser in opened:
        browser.__exit__()


def rows(page, name):
    """The texts in a table, without its head."""
    return page.evaluate("[...document.querySelectorAll('#%s tbody tr')].map(r => [...r.cells].map(c => "
                         "c.textContent))" % name)


def card(page, title):
    return page.evaluate("[...document.querySelectorAll('.card')].find(c => "
                         "c.textContent.includes(%r)).querySelector('b').textContent" % title)


def fill(page, form, **fields):
    for name, value in fields.items():
        page.evaluate("document.forms.%s.elements.%s.value = %r" % (form, name, value))
    page.evaluate("document.forms.%s.querySelector('button').click()" % form)


def test_it_shows_what_is(server, open_page):
    alice, bob, carol = Client(server, "alice"), Client(server, "bob"), Client(server, "carol")
    deaf = Client(server, "deaf", answer=486)
    watches = [bob.subscribe(alice.uri), carol.subscribe(alice.uri), deaf.subscribe(carol.uri)]
    for watch in watches:
        watch.wait(1)
    assert alice.publish(body=pidf()).code == 200
    watches[0].wait(2)
    page = open_page()
    assert [card(page, title) for title in ("subscriptions", "publications", "presentities")] == ["3", "1", "1"]
    assert [row[:3] for row in rows(page, "busiest")] == [[alice.uri, "presence", "2"], [carol.uri, "presence", "1"]]
    assert [(row[0], row[4]) for row in rows(page, "failing")] == [(deaf.uri, "486")]
    # A figure that rises is drawn.
    page.wait("document.querySelector('#charts path') !== null")
    etag = alice.publish(body=pidf()).get("SIP-ETag")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and card(page, "PUBLISH accepted") in ("–", "0.0"):
        etag = alice.publish(body=pidf(), etag=etag).get("SIP-ETag")
        time.sleep(0.2)
    assert float(card(page, "PUBLISH accepted")) > 0
    assert "L" in page.evaluate("document.querySelector('#charts path').getAttribute('d')")
    # Users as people write them; the answer, and below it what happened, with local times.
    fill(page, "explain", watcher="bob", presentity="alice", event="presence")
    page.wait("document.getElementById('answer').textContent.includes('active: the watcher has the newest state')")
    page.wait("document.querySelectorAll('#answer table').length == 1")
    steps = [row[1] for row in rows(page, "answer")]
    assert steps[:2] == ["notified", "answered"] and {"published", "composed"} <= set(steps)
    fill(page, "subscriptions", watcher="carol")
    page.wait("document.getElementById('subscriptions-list').textContent.includes('1–1 of 1')")
    assert [row[:3] for row in rows(page, "subscriptions-list")] == [[carol.uri, alice.uri, "presence"]]
    # A row leads to the answer.
    page.evaluate("document.querySelector('#subscriptions-list tbody tr').click()")
    page.wait("document.querySelector('#answer dl') && document.querySelector('#answer').textContent.includes(%r)"
              % carol.uri)
    fill(page, "publications", presentity="", event="presence")
    page.wait("document.getElementById('publications-list').textContent.includes('1–2 of 2')")
    received = rows(page, "publications-list")[0][4]
    assert str(time.localtime().tm_year) in received and re.search(r"\d\d?:\d\d:\d\d", received)
    page.evaluate("document.querySelector('#publications-list tbody tr').click()")
    page.wait("document.querySelectorAll('#answer table').length == 1 && document.querySelectorAll('#answer "
              "dl').length == 0")
    page.evaluate("document.querySelector('details').open = true")
    page.wait("document.getElementById('settings').textContent.includes('subs_db_mode')")
    for client in (alice, bob, carol, deaf):
        client.close()


def test_a_link_asks_at_once(open_page):
    page = open_page("#watcher=sip:a@b&presentity=sip:c@d&event=nothing")
    page.wait("document.getElementById('answer').textContent.includes('no event package nothing')")


def test_it_says_when_nobody_answers(server, open_page):
    page = open_page()
    server.stop()
    page.wait("document.getElementById('state').className == 'bad'")
    server.start()
    page.wait("document.getElementById('state').textContent.startsWith('as of')")


def test_other_sites_cannot_ask(server):
    def ask(path, headers):
        return post(server, call("presence.busiest"), path, headers)

    assert ask("/presence/RPC", {}) == 200
    assert ask("/presence/RPC", {"Origin": "http://localhost:1"}) == 200
    assert ask("/presence/RPC", {"Origin": "http://elsewhere.example"}) == 403
    assert ask("/presence/RPC", {"Host": "elsewhere.example"}) == 403
    assert ask("/nothing", {}) == 404


def call(method, *params):
    """A call as the page writes it."""
    return json.dumps(dict(jsonrpc="2.0", method=method, params=list(params), id=1), separators=(",", ":")).encode()


def post(server, data, path="/presence/RPC", headers=()):
    """The status of the answer."""
    try:
        return urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:%d%s" % (server.port, path), data,
                                                             dict(headers)), timeout=5).status
    except urllib.error.HTTPError as error:
        return error.code


READS = [("presence.busiest", "10"), ("presence.failing", "10"), ("presence.config",), ("presence.version",),
         ("presence.history", "limit=5"),
         ("presence.explain", "bob", "alice"), ("presence.subscriptions", "count=1"),
         ("presence.publications", "count=1"), ("stats.fetchn", "presence:")]
CHANGES = [("presence.drain", "0"), ("presence.cleanup",), ("core.kill", "1"), ("core.version",),
           ("stats.fetchn", "core:"), ("stats.fetchn", "all"),
           ("presence.refreshWatchers", "sip:a@b", "presence", "0"), ("cfg.set_now_int", "core", "debug", "3")]
# With one of these allowed, something is ended.
ALLOWED_LATER = [("presence.subscription_end", "sip:a@b", "sip:c@d", "presence"),
                 ("presence.publication_expire", "sip:a@b", "presence", "x")]


def test_the_page_is_given_what_it_needs_and_nothing_else(server):
    for words in READS:
        assert post(server, call(*words)) == 200, words
    for words in CHANGES + ALLOWED_LATER:
        assert post(server, call(*words)) == 403, words


@pytest.mark.parametrize("body", [
    # Two methods, of which a filter and a parser may see one each.
    b'{"jsonrpc":"2.0","method":"core.version","method":"presence.busiest","params":[],"id":1}',
    b'{"jsonrpc":"2.0","method":"presence.busiest","params":[],"id":1,"method":"core.version"}',
    b'{"jsonrpc":"2.0","Method":"core.version","method":"presence.busiest","params":[],"id":1}',
    b'{"method":"core.version","a":\n{"jsonrpc":"2.0","method":"presence.busiest","params":[],"id":1}\n}',
    b'[{"jsonrpc":"2.0","method":"core.version","params":[],"id":1}]',
    b'{"jsonrpc":"2.0","method":"presence.busiest","params":["\\"],"id":1,"method":"core.version","x":["],"id":1}',
    b'{"jsonrpc":"2.0","method":"presence.busiest","params":{"a":"b"},"id":1}',
    b'{"jsonrpc":"2.0","method":"presence.busiestx","params":[],"id":1}',
    b'{"jsonrpc":"2.0","method":"presence.busies\\u0074","params":[],"id":1}',
    b'{"jsonrpc":"2.0","method":"presence.busiest","params":[],"id":1} {"method":"core.version"}',
    b"", b"{}", b"x"], ids=range(13))
def test_what_can_be_read_in_two_ways_is_refused(server, body):
    assert post(server, body) == 403


def test_changes_are_made_where_they_are_allowed(tmp_path):
    with serve(changes=1, presence=dict(subs_db_mode=0, publ_cache=2)) as server:
        for words in CHANGES:
            assert post(server, call(*words)) == 403, words
        alice, bob = Client(server, "alice"), Client(server, "bob")
        bob.subscribe(alice.uri).wait(1)
        with Browser(tmp_path / "profile",
                     "http://127.0.0.1:%d/presence/#subscriptions?watcher=bob" % server.port) as page:
            page.wait("document.querySelector('#subscriptions-list tbody button') !== null")
            page.evaluate("window.confirm = () => true; document.querySelector('#subscriptions-list tbody "
                          "button').click()")
            page.wait("document.getElementById('subscriptions-list').textContent.includes('no subscription fits')")
        assert "an operator ended it" in server.rpc("presence.history", "watcher=bob")
        alice.close(), bob.close()


def test_a_page_that_nobody_looks_at_asks_nothing(open_page):
    page = open_page()
    page.evaluate("window.asked = 0; const f = window.fetch; window.fetch = (...words) => { window.asked += 1; return "
                  "f(...words); }; 0")
    page.wait("window.asked >= 3")
    page.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true }); "
                  "document.dispatchEvent(new Event('visibilitychange'))")
    time.sleep(0.5)
    before = page.evaluate("window.asked")
    time.sleep(4.5)
    assert page.evaluate("window.asked") == before
    page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    page.wait("window.asked > %d" % before)


HOSTILE = "<img src=x onerror=window.hit=1><script>window.hit=2</script>"


def test_names_do_not_become_markup(server, open_page):
    """Whatever a phone writes into its headers is text; and the browser would run nothing but the page's script."""
    eve = Client(server, "'-alert(1)-'")
    alice = Client(server, "&lt;b&gt;".replace(";", ""))
    watch = eve.subscribe(alice.uri, extra=["User-Agent: " + HOSTILE])
    assert watch.reply.code == 200
    watch.wait(1)
    page = open_page("#subscriptions?event=presence")
    page.wait("document.getElementById('subscriptions-list').textContent.includes(%r)" % HOSTILE)
    page.evaluate("document.querySelector('#subscriptions-list tbody tr').click()")
    page.wait("document.querySelector('#answer dl') && document.querySelectorAll('#answer table').length == 1")
    assert page.evaluate("document.querySelectorAll('img, #answer script, td script').length") == 0
    page.evaluate("document.body.insertAdjacentHTML('beforeend', %r)" % HOSTILE)
    time.sleep(0.5)
    assert page.evaluate("window.hit") is None
    eve.close(), alice.close()


def test_the_browser_is_sent_what_it_may_run(server):
    for name, kind in (("", "text/html"), ("page.js", "text/javascript"), ("page.css", "text/css")):
        reply = urllib.request.urlopen("http://127.0.0.1:%d/presence/%s" % (server.port, name), timeout=5)
        policy = reply.headers["Content-Security-Policy"]
        assert ("default-src 'none'" in policy and "script-src 'self';" in policy and "unsafe" not in policy
                and "frame-ancestors 'none'" in policy)
        assert reply.headers.get_content_type() == kind and reply.headers["X-Content-Type-Options"] == "nosniff"


MANY = 100000


@pytest.fixture(scope="module")
def crowd():
    """A server with very many subscriptions in its memory: they are copies of the row of one that was made by a
    phone."""
    server = serve(presence=dict(subs_db_mode=2, db_update_period=3600), shm=512, pkg=16)
    with server:
        bob = Client(server, "bob")
        bob.subscribe("sip:lamp0@example.org", event="dialog", extra=["User-Agent: " + HOSTILE]).wait(1)
        bob.quiet(0.2)
        bob.close()
        server.stop()
        connection = sqlite3.connect(str(server.db_path))
        connection.row_factory = sqlite3.Row
        row = dict(connection.execute("select * from active_watchers").fetchone())
        del row["id"]
        names = list(row)
        changed = [dict(row, presentity_uri="sip:lamp%d@example.org" % (n % 500), watcher_username="w%06d" % n,
                        from_user="w%06d" % n, callid="c%d" % n,
                        expires=row["expires"] + n % 1000) for n in range(1, MANY)]
        connection.executemany("insert into active_watchers (%s) values (%s)"
                               % (", ".join(names), ", ".join("?" * len(names))),
                               ([one[name] for name in names] for one in changed))
        connection.commit()
        connection.close()
        server.start(timeout=60)
        yield server


def test_a_hundred_thousand_subscriptions_are_paged_by_the_server(crowd, tmp_path):
    with Browser(tmp_path / "profile", "http://127.0.0.1:%d/presence/#subscriptions?event=dialog" % crowd.port) as page:
        count = "document.querySelector('#subscriptions-list .count')"
        text = lambda wanted: page.wait("%s && %s.textContent.replace(/\\D+/g, ' ').trim() == %r"
                                        % (count, count, wanted), timeout=40)
        text("1 50 100 000")
        # Largest first, then the last page.
        page.evaluate("[...document.querySelectorAll('#subscriptions-list th button')].find(b => b.textContent == "
                      "'watcher').click()")
        page.wait("document.querySelector('#subscriptions-list th[aria-sort=ascending]') !== null", timeout=40)
        assert rows(page, "subscriptions-list")[0][0] == "sip:bob@example.org"
        page.evaluate("document.querySelector('#subscriptions-list th[aria-sort=ascending] button').click()")
        page.wait("document.querySelector('#subscriptions-list th[aria-sort=descending]') !== null", timeout=40)
        assert [row[0] for row in rows(page,
                                       "subscriptions-list")[
                                           :2]] == ["sip:w%06d@example.org" % (MANY - n) for n in (1, 2)]
        page.evaluate("[...document.querySelectorAll('#subscriptions-list .pages button')].find(b => b.textContent == "
                      "'Last').click()")
        text("99 951 100 000 100 000")
        assert [row[0] for row in rows(page,
                                       "subscriptions-list")][-2:] == ["sip:w000001@example.org", "sip:bob@example.org"]
        # A filter changes the count with the rows.
        fill(page, "subscriptions", presentity="lamp7", event="dialog")
        text("1 50 200")
        assert {row[1] for row in rows(page, "subscriptions-list")} == {"sip:lamp7@example.org"}
        assert "there are more" in page.wait("document.querySelector('#busiest .count') && "
                                             "document.querySelector('#busiest').textContent")
        assert page.evaluate("window.hit") is None and page.evaluate("document.querySelectorAll('img').length") == 0


def test_it_fits_a_phone(crowd, tmp_path):
    with Browser(tmp_path / "profile", "about:blank", size="375,700") as page:
        page.call("Emulation.setDeviceMetricsOverride", width=375, height=700, deviceScaleFactor=1, mobile=True)
        page.call("Page.navigate", url="http://127.0.0.1:%d/presence/#subscriptions?presentity=lamp7" % crowd.port)
        page.wait("document.querySelectorAll('#subscriptions-list tbody tr').length == 50", timeout=40)
        page.wait("document.querySelectorAll('#busiest tbody tr').length == 10")
        page.evaluate("document.querySelector('#subscriptions-list tbody tr').click()")
        page.wait("document.querySelector('#answer dl') !== null", timeout=40)
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        too_wide = "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > 376).length"
        assert page.evaluate(too_wide) == 0
        # Rows are blocks there, and the columns that sort are a line of buttons above them.
        visible = ("[...document.querySelectorAll('#subscriptions-list th')].filter(e => e.offsetWidth)"
                   ".map(e => e.textContent)")
        assert page.evaluate(visible) == page.evaluate(
            "[...document.querySelectorAll('#subscriptions-list th button')].map(e => e.textContent)") != []
        page.evaluate("[...document.querySelectorAll('#subscriptions-list th button')].find(b => b.textContent == "
                      "'watcher').click()")
        page.wait("document.querySelector('#subscriptions-list th[aria-sort=ascending]') !== null", timeout=40)


def test_it_needs_nothing_from_outside():
    for name in ("page.html", "page.js", "page.css"):
        text = (ROOT / "status" / name).read_text()
        assert set(re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", text)) <= {"data:,", "page.css", "page.js"}
        assert (not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text) and "@import" not in text
                and "url(" not in text)
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|style=|\son\w+=", text)
