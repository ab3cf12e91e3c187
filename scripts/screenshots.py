"""Pictures of the status page for the documentation, light and dark: python3 scripts/screenshots.py (after make
build)."""
import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from kit.browser import Browser  # noqa: E402
from kit.sip import Client, dialog_info, pidf  # noqa: E402
from test_status_page import serve  # noqa: E402

LAMPS = ["reception", "sales", "support", "warehouse"]


def fill(server):
    """A small office: some lamps, a phone that refuses its NOTIFYs."""
    phones = {name: Client(server, name) for name in LAMPS}
    watchers = [Client(server, name) for name in ("alice", "bob", "carol")]
    for watcher in watchers:
        for name in LAMPS:
            watcher.subscribe("sip:%s@example.org" % name, event="dialog").wait(1)
    deaf = Client(server, "door", answer=486)
    deaf.subscribe("sip:reception@example.org", event="dialog").wait(1)
    for name in LAMPS:
        phones[name].publish(event="dialog", ctype="application/dialog-info+xml", body=dialog_info("confirmed", name))
        phones[name].publish(body=pidf(name))
    for watcher in watchers:
        watcher.quiet(0.3)
    return [*phones.values(), *watchers, deaf]


def main():
    with serve(presence=dict(subs_db_mode=0, publ_cache=2)) as server, tempfile.TemporaryDirectory() as folder:
        people = fill(server)
        address = "http://127.0.0.1:%d/presence/#explain?watcher=bob&presentity=reception&event=dialog" % server.port
        with Browser(pathlib.Path(folder) / "profile", address, size="1000,1250") as page:
            page.call("Emulation.setDeviceMetricsOverride", width=1000, height=1250, deviceScaleFactor=1, mobile=False)
            page.wait("document.querySelectorAll('#charts path').length >= 7")
            page.evaluate("document.forms.subscriptions.requestSubmit()")
            page.wait("document.querySelectorAll('#subscriptions-list tbody tr').length > 10")
            page.wait("document.querySelectorAll('#answer table').length == 1")
            page.evaluate("window.scrollTo(0, 0)")
            for scheme in ("light", "dark"):
                page.call("Emulation.setEmulatedMedia", features=[dict(name="prefers-color-scheme", value=scheme)])
                page.screenshot(ROOT / "docs" / ("status-page-%s.png" % scheme), height=1250)
            page.call("Emulation.setDeviceMetricsOverride", width=375, height=750, deviceScaleFactor=1, mobile=True)
            page.screenshot(ROOT / "docs" / "status-page-phone.png", height=750)
        for client in people:
            client.close()


if __name__ == "__main__":
    main()
