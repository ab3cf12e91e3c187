"""Lives that once went wrong, and those of a fixed seed, for a minute or so (`make explore` goes on)."""
import json

import pytest

from explore import backends, config, declared, differences, explorer
from explore.names import Span
from kit.kamailio import ROOT

KEPT = sorted((ROOT / "tests" / "explore" / "kept").glob("*.json"))
SECONDS, SEED, LIVES = 90, 20261125, 30


@pytest.fixture(scope="module")
def drivers():
    started = {}

    def get(name):
        if name not in started:
            started[name] = backends.DRIVERS[name]()
        return started[name]

    yield get
    for backend in started.values():
        backend.close()
    config.forget_templates()


@pytest.mark.parametrize("path", KEPT, ids=[path.stem for path in KEPT])
def test_kept(drivers, path):
    life = json.loads(path.read_text())
    findings, _ = explorer.judge(life, drivers(life.get("driver", "sqlite")), explorer.lives.PATIENT)
    assert not findings, "\n".join(str(finding) for finding in findings)


@pytest.mark.parametrize("one", declared.LIVES, ids=lambda one: one["shows"][0].replace(" ", "-"))
def test_what_is_declared_occurs(drivers, one):
    """A declaration that is no longer true hides what it should find: it has to go."""
    life = {name: value for name, value in one.items() if name != "shows"}
    for quiet in (explorer.lives.QUICK, explorer.lives.PATIENT):
        counts = {}
        findings, _ = explorer.judge(life, drivers(one["driver"]), quiet, counts)
        missing = [name for name in one["shows"] if name not in counts]
        if not missing and not findings:
            return
    assert not missing and not findings, (missing, "\n".join(str(finding) for finding in findings))


def test_every_declaration_has_its_life():
    shown = {name for one in declared.LIVES for name in one["shows"]} | set(declared.BY_CHANCE)
    assert shown == {one.name for one in differences.DIFFERENCES}


def finds_nothing(run):
    assert run.lives > 3, "a busy machine runs few, none at all is a fault"
    found = ["%s\n%s" % (finding, json.dumps(life)) for finding, life in run.failures.values()]
    assert not found, "\n".join(found)


def test_a_minute_of_lives(drivers):
    run = explorer.Explorer(drivers("sqlite"), reduce=True)
    run.explore(SECONDS, SEED, LIVES)
    finds_nothing(run)


def test_odd_values(drivers):
    """Some of the sweep (`make explore SWEEP=1` runs all of it)."""
    run = explorer.Explorer(drivers("sqlite"), reduce=False)
    run.sweep(SECONDS, SEED, LIVES)
    finds_nothing(run)


def test_differences_name_rows_that_exist():
    text = (ROOT / "COMPAT.md").read_text()
    rows = [line[2:] for line in text.splitlines() if line.startswith("| ")]
    assert not [one.name for one in differences.DIFFERENCES if one.row
                and not any(row.startswith(one.row) for row in rows)]
    assert all(one.reason for one in differences.DIFFERENCES)
    names = [one.name for one in differences.DIFFERENCES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("left,started,seen,same", [
    (3600, 100.9, 101.1, True), (3600, 101.2, 101.3, True), (3600, 103.9, 104.0, True), (3598, 101.9, 102.2, True),
    (3600, 110.0, 110.1, False), (3590, 100.2, 100.3, False), (3610, 100.2, 100.3, False)])
def test_seconds_that_pass_on_a_busy_machine_are_no_difference(left, started, seen, same):
    """An hour that was granted in second 100, and NOTIFYs of steps that begin then or later: the clock may have turned
    since they were written, and one that does not count down is found."""
    stock = Span.granted(3600, (100, 100), 100.1, 100.2)
    assert (("active;expires=", stock) == ("active;expires=", Span.granted(left, (100, 100), started, seen))) is same


def test_a_difference_is_found_and_reduced(drivers):
    """The machine itself: a life in which a known difference is not declared fails, and is reduced to the step that
    shows it."""
    subscribe = dict(do="subscribe", who="bob", to="alice", dialog="d", event="presence", expires=3600)
    steps = [dict(do="publish", who="alice", slot="s1", op="initial", event="presence", kind="open", expires=3600),
             subscribe,
             dict(subscribe, dialog="e", who="carol", event_more=";id=7"), dict(do="refresh", dialog="d", expires=0)]
    life = dict(config=dict(mode=0, cache=2, notifiers=0, packages=["presence_xml"], rules=False, params={},
                            route="plain", workers=1,
                            transport="udp"), steps=steps)
    declared, differences.DIFFERENCES = differences.DIFFERENCES, [
        one for one in differences.DIFFERENCES if one.name != "event id"]
    try:
        findings, _ = explorer.judge(life, drivers("sqlite"), explorer.lives.PATIENT)
        assert [finding.signature for finding in findings] == ["reply: SUBSCRIBE 489, ours 200"]
        shorter = explorer.reduced(life, findings[0].signature, drivers("sqlite"), explorer.time.monotonic() + 60)
        assert shorter["steps"] == [steps[2]]
    finally:
        differences.DIFFERENCES = declared
    findings, _ = explorer.judge(life, drivers("sqlite"), explorer.lives.PATIENT)
    assert not findings, str(findings[0])
