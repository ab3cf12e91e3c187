"""Debian's own Prometheus and promtool, unpacked by `scripts/setup.sh tests`, and what a page for it says."""
import json
import re
import subprocess
import time
import urllib.parse
import urllib.request

from .kamailio import ROOT, free_port

TOOLS = ROOT / "target" / "tools" / "usr" / "bin"

# The route of a server that shows its metrics.
PAGE = """
tcp_accept_no_cl=yes
loadmodule "xhttp.so"
event_route[xhttp:request] { if (!%s()) xhttp_reply("500", "No page", "text/plain", ""); }
"""


def promtool(*words, text=None):
    """What promtool says, and whether it is content."""
    done = subprocess.run([str(TOOLS / "promtool")] + [str(word) for word in words], input=text, capture_output=True,
                          text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def page(server):
    """The text that the server answers, and its Content-Type."""
    with urllib.request.urlopen("http://127.0.0.1:%d/metrics" % server.port, timeout=5) as reply:
        return reply.read().decode(), reply.headers["Content-Type"]


def values(server):
    """Every sample of the page: `name{label="value"}` and its number."""
    lines = [line for line in page(server)[0].split("\n") if line and not line.startswith("#")]
    return {name: float(number) for name, number in (line.rsplit(" ", 1) for line in lines)}


def families(text):
    """Names and types of the metrics on a page."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))


class Prometheus:
    """A running Prometheus that scrapes one server each second. Use it as a context manager."""

    def __init__(self, folder, target, rules=()):
        self.folder, self.port = folder, free_port()
        files = "".join("- %s\n" % path for path in rules)
        (folder / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\n" + ("rule_files:\n" + files if files else "") +
            "scrape_configs:\n- job_name: kamailio-presence\n  static_configs:\n  - targets: ['127.0.0.1:%d']\n"
            % target)

    def __enter__(self):
        self.process = subprocess.Popen(
            [str(TOOLS / "prometheus"), "--config.file=%s" % (self.folder / "prometheus.yml"),
             "--storage.tsdb.path=%s" % (self.folder / "data"), "--web.listen-address=127.0.0.1:%d" % self.port],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(20)

    def query(self, text):
        """The samples of a query: labels and number; None while Prometheus does not answer."""
        address = "http://127.0.0.1:%d/api/v1/query?query=%s" % (self.port, urllib.parse.quote(text))
        try:
            with urllib.request.urlopen(address, timeout=5) as reply:
                found = json.loads(reply.read())["data"]["result"]
        except OSError:
            return None
        return [(sample["metric"], float(sample["value"][1])) for sample in found]

    def wait(self, text, seconds=30):
        """The samples of a query as soon as there are some."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = self.query(text)
            if found:
                return found
            time.sleep(0.3)
        return []
