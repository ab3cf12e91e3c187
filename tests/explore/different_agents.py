"""Where ours differs from stock in what users of pua publish, and in what pua remembers."""

from . import agents
from .judging import SEEN_KINDS, codes, event, has_been_restarted


def has_users(case):
    return "agent" in case.config


def by_itself(case):
    """The step made a user of pua publish."""
    return has_users(case) and case.step["do"] in agents.STEPS


def in_table(case):
    """pua keeps its records in the table alone."""
    return has_users(case) and case.config["agent"]["params"].get("pua", {}).get("db_mode") == 2


def forgets(case):
    """A stop was before, and pua kept its records in memory."""
    return has_users(case) and not in_table(case) and has_been_restarted(case)


def commanded(case):
    """The presentities that commands have published for, or may have."""
    return {step["who"] for step in case.so_far if step["do"] == "command" and "who" in step}


# As in differences.py.
TABLE = [
    (
        "records of pua that a stop loses",
        "an orderly stop, db_mode 0",
        "what is published goes on: stock writes at its timer alone, and forgets at a stop what it has published since",
        True,
        lambda case: has_users(case)
        and case.kind == "rows"
        and case.what.startswith("pua:")
        and not in_table(case)
        and not case.stock
        or forgets(case)
        and (by_itself(case) or event(case) in ("presence", "dialog", "reg") or case.kind in ("rows", "row")),
    ),
    (
        "JSON on SQLite",
        "pua_json, a database without `replace`",
        "the document is stored by every driver",
        True,
        lambda case: has_users(case)
        and case.life.get("driver") == "sqlite"
        and any(step["do"] == "json" for step in case.so_far)
        and (
            case.kind in SEEN_KINDS
            or case.kind in ("rows", "row") and case.what.startswith("presentity")
            or codes(("publish",), 200, 412)(case)
        ),
    ),
    (
        "one id for several presentities in the table",
        "db_mode 2, one id for publications of several presentities",
        "each presentity has its own state: stock publishes one with the entity tag of the other",
        True,
        lambda case: in_table(case)
        and (any(step["do"] == "call" for step in case.so_far) or len(commanded(case)) > 1),
    ),
    (
        "the end of a publication that is not there",
        "end of a publication or subscription that is not there",
        "the caller is answered",
        False,
        lambda case: has_users(case)
        and case.kind == "rpc"
        and case.step["do"] == "command"
        and case.stock.startswith('"none')
        and '"result"' in case.ours
        and case.step.get("expires") == 0,
    ),
    (
        "changes of one publication at once",
        "several changes of one publication while the first PUBLISH",
        "RFC 3903 4.1: one at a time; the newest goes next",
        False,
        # One REGISTER ends several bindings.
        lambda case: by_itself(case)
        and case.step["do"] == "register"
        and (
            case.kind == "script" and case.stock.count("asked") > case.ours.count("asked")
            or case.kind == "notifies" and len(case.stock) > len(case.ours) and case.stock[-1:] == case.ours[-1:]
        ),
    ),
    (
        "an end below min_expires",
        "end with `min_expires` set",
        "RFC 3903 4.5",
        True,
        lambda case: has_users(case)
        and "min_expires" in case.config["agent"]["params"].get("pua", {})
        and any(str(step.get("expires")) in ("0", "*") for step in case.so_far if step["do"] in agents.STEPS)
        and case.kind in (*SEEN_KINDS, "script", "rows", "row"),
    ),
]
