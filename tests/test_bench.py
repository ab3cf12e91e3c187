"""The benchmark's load generator against the real servers: what it counts is what happened."""
from xml.etree import ElementTree

import experiments
import plot
import pytest
import report

from rig import MEMORY, Rig


@pytest.mark.parametrize("package", ["presence", "dialog"])
@pytest.mark.parametrize("side", ["stock", "ours"])
def test_load(side, package):
    with Rig(side, MEMORY) as rig:
        published = rig.do("publish", count=10, presentities=10, package=package)
        assert (published["done"], published["codes"]) == (10, {"200": 10})
        subscribed = rig.do("subscribe", count=60, presentities=10, package=package)
        assert (subscribed["done"], subscribed["notifies"], subscribed["unknown"]) == (60, 60, 0)
        assert rig.do("refresh", count=60, package=package)["notifies"] == 60
        changed = rig.do("modify", count=10, presentities=10, package=package)
        assert (changed["done"], changed["notified"]["count"]) == (10, 60)
        assert (changed["behind"], changed["notifies"]) == (0, 60)
        assert changed["cpu"] > 0
        ended = rig.do("unsubscribe", count=60, package=package)
        assert (ended["done"], ended["notifies"], ended["out_of_order"]) == (60, 60, 0)
        alone = rig.do("modify", count=10, presentities=10, package=package)
        assert (alone["done"], alone["notifies"], alone["behind"]) == (10, 0, 0)
        assert rig.do("remove", count=10, presentities=10, package=package)["done"] == 10
        # The documents are gone: 412.
        assert rig.do("modify", count=10, presentities=10, package=package, timeout=0)["codes"] == {"412": 10}


@pytest.mark.parametrize("side", ["stock", "ours"])
def test_mix(side):
    """Of a hundred requests 50 are refreshes, 40 changes, 5 new watchers and 5 that leave; each is followed by its
    NOTIFYs."""
    with Rig(side, MEMORY, apart=True) as rig:
        rig.do("publish", count=20, presentities=20)
        rig.do("subscribe", count=100, presentities=20)
        figures = rig.do("mix", rate=50, seconds=2, presentities=20)
        assert (figures["count"], figures["sent"], figures["done"], figures["refused"]) == (100, 100, 100, 0)
        assert (figures["unanswered"], figures["behind"], figures["unknown"]) == (0, 0, 0)
        # 60 for SUBSCRIBEs, and five for each change, more or less those who came and went.
        assert 60 + 40 * 4 <= figures["notifies"] <= 60 + 40 * 6
        assert figures["seconds"] >= 99 / 50
        with pytest.raises(RuntimeError, match="more than 0"):
            rig.do("mix", rate=0)


def test_a_table_has_losses_first_and_spreads():
    rows = [experiments.row("even", "s", {"stock": [1.0, 2.0, 3.0], "ours": [2.0]}),
            experiments.row("lost", "s", {"stock": [1.0], "ours": [3.0]}),
            experiments.row("worst", "/s", {"stock": [4.0], "ours": [1.0]}, "more", "fm"),
            experiments.row("cannot", "s", {"stock": [], "ours": [1.0]})]
    text = report.markdown({"machine": {"cpu": "c", "cores": 2, "kamailio": "k", "system": "s"},
                            "mix": {"runs": 3, "build": "commit 1", "rows": rows}})
    lines = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert lines == ["| worst | /s | 4 | 1 | 0.25 |", "| lost | s | 1 | 3 | 3.00 |",
                     "| even | s | 2 (1 to 3) | 2 | 1.00 |", "| cannot | s | cannot | 1 |  |"]
    assert "commit 1; 3 runs: the median" in text and text.endswith("\nfm\n")


def test_wrong_commands_are_refused():
    with Rig("ours", MEMORY) as rig:
        for command, said in (("dance", "unknown work"), ("subscribe", "a whole number")):
            with pytest.raises(RuntimeError, match=said):
                rig.do(command, count="many")


def test_probe_and_rate():
    with Rig("ours", MEMORY) as rig:
        rig.do("probe", rate=100)
        slow = rig.do("subscribe", count=20, rate=40.0)
        assert slow["seconds"] >= 19 / 40
        answers = rig.do("probe", rate=0)
        assert answers["count"] >= 30 and answers["lost"] == 0


def results_of(pairs):
    rows = [{"what": what, "unit": "thousand", "better": "less", "stock": stock, "ours": ours}
            for what, (stock, ours) in zip((bar[0] for bar in plot.BARS), pairs)]
    return {"machine": {"kamailio": "version 5 & more"}, "instructions": {"build": "commit 1", "rows": rows}}


def test_the_plot_says_what_was_measured():
    assert len(plot.BARS) <= 10 and plot.svg({}) == ""
    drawn = ElementTree.fromstring(plot.svg(results_of([(80.0, 10.0), (10.0, 20.0), (0, 5.0)])))
    space = "{http://www.w3.org/2000/svg}"
    assert drawn.find(space + "title").text == plot.TITLE
    texts = [text.text for text in drawn.iter(space + "text")]
    assert "8.0 (80 to 10 thousand)" in texts and "0.5 (10 to 20 thousand)" in texts
    # What could not be measured has no bar. A bar begins at 1, and goes to the left where ours is worse.
    better, worse = drawn.iter(space + "rect")
    assert (better.get("class"), worse.get("class")) == ("b", "w")
    assert float(better.get("x")) == pytest.approx(float(worse.get("x")) + float(worse.get("width")), abs=0.2)
