"""One failure, one victim: a loop over other people's records is not left because one of them failed."""
import re

import pytest

from kit.kamailio import ROOT

# The modules that walk rows, subscriptions, publications and records.
FOLDERS = ("src/server", "src/agent", "src/common", "src/presence", "src/pua")

TOKEN = re.compile(
    r'//[^\n]*|/\*.*?\*/|b?r#*"(?:.|\n)*?"#*|b?"(?:\\.|[^"\\])*"|b?\'(?:\\.[^\']*|[^\'\\])\'|\'[a-z_]\w*'
    r'|\w+|=>|->|\|\||[^\s\w]', re.S)
LEAVES_EARLY = {"try_for_each", "try_fold"}


class Place:
    """One exit from inside a loop: the file, the function, the line."""

    def __init__(self, path, function, line, what):
        self.path, self.function, self.line, self.what = path, function, line, what

    def __str__(self):
        return "%s:%d: %s in a loop of %s" % (self.path, self.line, self.what, self.function)


def exits(text, path=""):
    """Every `?` and `return` that leaves a function from inside a loop; closures are functions, tests are left out."""
    text = text.split("#[cfg(test)]")[0]
    tokens = [(m.group(0), text.count("\n", 0, m.start()) + 1) for m in TOKEN.finditer(text)
              if not m.group(0).startswith(("//", "/*"))]
    blocks, found, pending, function = [], [], None, "?"
    depth = 0                      # of brackets inside a loop's head
    for index, (token, line) in enumerate(tokens):
        before = tokens[index - 1][0] if index else ""
        if token == "fn" and index + 1 < len(tokens):
            pending, function = ("fn", tokens[index + 1][0]), tokens[index + 1][0]
        elif token in ("for", "while", "loop") and before not in ("impl", ">") and pending is None and blocks:
            following = tokens[index + 1][0] if index + 1 < len(tokens) else ""
            if not (token == "for" and following == "<"):
                pending, depth = ("loop", None), 0
        elif token in "([" and pending and pending[0] == "loop":
            depth += 1
        elif token in ")]" and pending and pending[0] == "loop":
            depth -= 1
        elif token == ";" and pending and pending[0] == "fn":
            pending = None
        elif token == "{":
            if pending and (pending[0] == "fn" or depth == 0):
                blocks.append(pending)
                pending = None
            else:
                blocks.append(("closure", None) if before in ("|", "||") else ("block", None))
        elif token == "}" and blocks:
            blocks.pop()
        else:
            inside = _in_loop(blocks)
            if inside and (token == "return" or token in LEAVES_EARLY or (token == "?" and before in (")", "}", "]") or
                           token == "?" and re.match(r"\w", before))):
                name = next((name for kind, name in reversed(blocks) if kind == "fn"), function)
                found.append(Place(path, name, line, token))
    return found


def _in_loop(blocks):
    for kind, _ in reversed(blocks):
        if kind == "loop":
            return True
        if kind in ("fn", "closure"):
            return False
    return False


def all_exits():
    found = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.rs")):
            # The ports in plain memory belong to the unit tests.
            if "testing" in path.with_suffix("").relative_to(ROOT).parts:
                continue
            found += exits(path.read_text(), str(path.relative_to(ROOT)))
    return found


@pytest.mark.parametrize("text,count", [
    ("fn f() { for a in b { g(a)?; } }", 1),
    ("fn f() { for a in b { if a { return; } } }", 1),
    ("fn f() { for a in b()? { g(a); } }", 0),
    ("fn f() { let x = || { g()?; }; while y { h(|a| { return 1; }); } g()?; }", 0),
    ("impl A for B { fn f(&self) -> C { return 1; } }", 0),
    ("fn f() { loop { match g() { Ok(_) => {} Err(e) => return e } } }", 1),
    ("fn f() { // for x in y { return }\n g(\"for { ?\"); }", 0),
    ("fn f() { for a in b { fn g() { return; } } }", 0),
])
def test_the_reader_of_sources(text, count):
    assert len(exits(text)) == count


# Where such an exit reaches nobody else: what comes out of the loop
# concerns one record or one document, or nothing was taken yet.
ALLOWED = {
    ("server/tables/dialog_index.rs", "new"): "made once, at the start",
    ("server/tables.rs", "new"): "made once, at the start",
    ("server/publications/edit.rs", "take_over"): "those of one presentity, changed together or not at all",
    ("server/publications/cached.rs", "change"): "tries for one publication, bounded",
    ("server/publications/table.rs", "change"): "tries for one publication, bounded",
    ("server/publications/trims.rs", "prepared"): "tries for one presentity, bounded",
    ("server/notifications/unread.rs", "waiting_in"): "no room for more names: it is noted that there are more",
    ("server/notifications/unread.rs", "find_more"): "no room for more names: the next search goes on from there",
    ("server/notify/row_queue.rs", "mark_rows"): "the database is away: all of the presentity are noted as missed",
    ("server/publications/cached.rs", "load"): "those of one presentity, known together or not at all",
    ("server/operator/catalogue.rs", "each_publication"): "a reader for an operator: nothing changes",
    ("common/failures.rs", "until_failed"): "what is left stays noted for the next turn",
    ("server/publications/undo.rs", "carry_out"): "those of one presentity, which are read anew then",
    ("server/subscriptions/memory.rs", "read_last"): "tries for one subscription, bounded",
    ("server/subscriptions/memory.rs", "renew_where_it_is"): "tries for one subscription, bounded",
    ("server/subscriptions/write_through.rs", "write_row"): "tries for one subscription, bounded",
    ("server/cluster/merging.rs", "apply"): "tries for one subscription, bounded",
    ("server/cluster/stock_subscriptions.rs", "on_message"): "tries for one subscription, bounded",
    ("server/nodes/placing.rs", "observe"): "no memory: the nodes that were known are kept, and looked at again",
    ("server/tables/stored.rs", "change"): "tries for one subscription, bounded",
    ("presence/authorization/judgement.rs", "known_authorizations"): "the rules are away: it is judged again",
    ("presence/authorization/judgement.rs", "judge_subscriptions"): "the rules are away: it is judged again",
    ("presence/notification/notifier.rs", "rules_can_be_applied"): "one look at one presentity, nothing changes",
    ("presence/subscription/subscribe.rs", "authorize"): "tries for one request, bounded",
    ("server/publications/presentity_table.rs", "each_row"): "no memory at the start: the server does not start",
    ("agent/request_queue.rs", "give_way"): "the requests of one record",
    ("server/tables/authorization_cache.rs", "make_room"): "there is room enough",
    ("presence/composition/dialog_info.rs", "parse_any"): "one document",
    ("presence/composition/plain_tags.rs", "each"): "one document",
    ("presence/composition/dialog_info.rs", "without"): "one document",
    ("presence/expiry.rs", "subscriptions"): "the loop takes portions; nothing was taken when it fails",
    ("presence/expiry.rs", "publications"): "the loop takes portions; nothing was taken when it fails",
    ("presence/notification/notifier.rs", "run"): "nothing is left to send for one presentity",
    ("presence/composition/dialogs.rs", "share_any"): "one document is looked for",
    ("common/opening.rs", "open_tables"): "at the start: each table has to be there",
    ("common/database/with_others.rs", "write_with_others"): "its own statement is waited for",
    ("presence/composition/readable.rs", "last"): "one document is looked for",
    ("presence/authorization/sphere.rs", "in_document"): "one document is looked for",
    ("presence/subscription.rs", "new"): "the fields of one subscription",
    ("presence/subscription.rs", "with"): "the fields of one subscription",
    ("presence/composition/tuples.rs", "ids"): "one document",
    ("pua/queue.rs", "resume"): "the requests of one record",
    ("pua/request.rs", "check"): "the strings of one request",
    ("server/subscriptions/database.rs", "set_authorization"): "tries for one row, bounded",
    ("server/subscriptions/database.rs", "take_next"): "tries for one row, bounded",
    ("server/subscriptions/database.rs", "give_back"): "the numbers of one row, each noted before",
    ("server/subscriptions/database.rs", "take_row"): "tries for one row, bounded",
    ("presence/subscription/subscribe.rs", "carry_out"): "tries for one request, bounded",
    ("server/nodes/held_lease.rs", "learn"): "no memory for the list: the one before it stays",
    ("server/nodes/message_rate.rs", "take"): "one counter is counted up",
    ("server/notify/missed_sweep.rs", "step"): "the database is away; the portion is swept again",
    ("server/notify/notifier_process.rs", "tick"): "the database is away; the turns are noted again",
    ("server/notify/notifier_process.rs", "serve_turn"): "the database is away; the turn is served again",
    ("server/notify/row_queue.rs", "begin_run"): "the runs of one resource are looked through",
    ("agent/interleavings.rs", "settle"): "a model that unit tests run",
    ("common/paging.rs", "each_page_of"): "the table cannot be read: there is nothing to go on with",
    ("common/paging.rs", "by_list"): "the table cannot be read: there is nothing to go on with",
    ("common/row_groups.rs", "write_alone"): "the database is away; a row that it refuses is split off",
    ("server/authorizations/watchers_table.rs", "select_row"): "one row is looked for",
    ("presence/replication.rs", "apply"): "tries for one change, bounded",
    ("server/authorizations/watchers_table.rs", "write"): "the database is away; refused rows are apart",
    ("server/notifications/senders.rs", "wait_for_memory"): "the wait is over",
    ("server/operator/catalogue.rs", "page_of_publications"): "a reader for an operator: nothing changes",
    ("server/operator/ending.rs", "run"): "a page cannot be read: the command says so, those before have ended",
    ("server/operator/selection.rs", "read"): "the arguments of one command",
    ("server/operator/subscription_lists.rs", "each_of_presentity"): "a reader for an operator: nothing changes",
    ("server/operator/top_lists.rs", "refused_rows"): "a reader for an operator: the list is full",
    ("common/ended_rows.rs", "take"): "the database is away, or rows that others hold took 5 s; what fails is logged",
    ("server/publications/write_behind.rs", "write_all"): "the database is away; refused rows are split off",
    ("server/publications/write_behind.rs", "write_of"): "the publications of one presentity",
    ("server/subscriptions/kept_rows.rs", "write_older"): "the database is away; refused rows are split off",
    ("presence/subscription.rs", "of_checked"): "the fields of one subscription",
    ("server/cluster/comparison.rs", "document_page"): "the page is full; the next one goes on there",
    ("server/notifications/transactions.rs", "claim"): "one free slot is looked for",
    ("server/notifications/transactions.rs", "claim_in"): "one free slot is looked for",
    ("server/notifications/transactions.rs", "held"): "tries for one slot, bounded",
    ("server/operator/catalogue.rs", "count_publications"): "a reader for an operator: nothing changes",
    ("server/history.rs", "new"): "made once, at the start",
    ("server/subscriptions/kept_rows.rs",
     "delete_pending"): "the database is away; what was not removed is kept for the next time",
}


def test_no_loop_over_others_is_left_because_one_failed():
    places = all_exits()
    assert len(places) > 20, "the reader of the sources finds nothing any more"
    unknown = [str(place) for place in places if (place.path[4:], place.function) not in ALLOWED]
    assert not unknown, "split the failure off and go on, or say here why it concerns nobody else:\n" + \
        "\n".join(unknown)


def test_every_exemption_is_needed():
    found = {(place.path[4:], place.function) for place in all_exits()}
    assert not [place for place in ALLOWED if place not in found]
