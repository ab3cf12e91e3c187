"""The benchmark's load generator against the real servers: what it counts is what happened."""
import pytest

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
        assert rig.do("modify", count=10, presentities=10, package=package, patience=0)["codes"] == {"412": 10}


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
