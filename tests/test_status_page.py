"""The status page, in a real browser: what it shows is what is."""
import re
import time
import urllib.error
import urllib.request

import pytest

from kit.browser import Browser
from kit.kamailio import ROOT, Kamailio
from kit.sip import Client, pidf

EXAMPLE = ROOT / "examples" / "status-page.cfg"


@pytest.fixture
def server():
    """The route of the example, on a port of its own."""
    route = EXAMPLE.read_text()
    route = route[route.index("request_route"):]
    server = Kamailio("ours", modules=("presence_xml", "presence_dialoginfo", "xhttp", "jsonrpcs"), route=route, tcp=True,
                      before="#!trydef TRUSTED 127.0.0.0/8\ntcp_accept_no_cl=yes\npv_buffer_size=32768\n", extra_params='modparam("jsonrpcs", "transport", 1)')
    with server:
        yield server


@pytest.fixture
def open_page(server, tmp_path):
    opened = []

    def open_page(fragment=""):
        opened.append(Browser(tmp_path / "profile", "http://127.0.0.1:%d/presence/%s" % (server.port, fragment)))
        opened[-1].wait("document.getElementById('state') && document.getElementById('state').textContent.startsWith('as of')")
        return opened[-1]

    yield open_page
    for browser in opened:
        browser.__exit__()


def rows(page, name):
    """The texts in a table, without its head."""
    return page.evaluate("[...document.querySelectorAll('#%s tr')].slice(1).map(r => [...r.cells].map(c => c.textContent))" % name)


def card(page, title):
    return page.evaluate("[...document.querySelectorAll('.card')].find(c => c.textContent.includes(%r)).querySelector('b').textContent" % title)


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
    fill(page, "explain", watcher=bob.uri, presentity=alice.uri, event="presence")
    page.wait("document.getElementById('answer').textContent.includes('active')")
    fill(page, "search", user=carol.uri)
    found = page.wait("document.querySelectorAll('#found table').length == 2 && document.getElementById('found').textContent")
    assert alice.uri in found and deaf.uri in found
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
    def ask(path, headers, data=b'{"jsonrpc":"2.0","method":"presence.busiest","id":1}'):
        request = urllib.request.Request("http://127.0.0.1:%d%s" % (server.port, path), data, headers)
        try:
            return urllib.request.urlopen(request, timeout=5).status
        except urllib.error.HTTPError as error:
            return error.code

    assert ask("/presence/RPC", {}) == 200
    assert ask("/presence/RPC", {"Origin": "http://localhost:1"}) == 200
    assert ask("/presence/RPC", {"Origin": "http://elsewhere.example"}) == 403
    assert ask("/presence/RPC", {"Host": "elsewhere.example"}) == 403
    assert ask("/nothing", {}) == 404


def test_it_needs_nothing_from_outside():
    page = (ROOT / "status" / "status-page.html").read_text()
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:)""", page) and "//" not in re.sub(r"http://127\.0\.0\.1\S*", "", page)
