"""COMPAT.md: each row of "Where the answer differs" has a scenario that names it; those that have no better place are
here."""
import ast
import re

import pytest

from conftest import MODES
from kit.kamailio import ROOT, ROUTE
from kit.sip import dialog_info, pidf

MWI = dict(event="message-summary", ctype="application/simple-message-summary")
DIALOG = dict(event="dialog", ctype="application/dialog-info+xml")

# The beginning of each row, and where it is shown.
ROWS = {
    "`Event: presence;id=x`": "test_subscribe.py::test_event_id_is_echoed",
    "write-back, the rules change": "test_explore.py::test_what_is_declared_occurs",
    "`pres_has_subscribers`, another resource": "test_explore.py::test_what_is_declared_occurs",
    "`handle_subscribe` with a From that": "test_explore.py::test_what_is_declared_occurs",
    "memory only, SUBSCRIBE for watcher": "test_explore.py::test_what_is_declared_occurs",
    "memory only, winfo subscription": "test_winfo.py::test_in_memory_only",
    "memory only, rules documents": "test_compat.py::test_rules_in_memory_only",
    "database-only, subscription expires": "test_subscribe.py::test_expiry_in_the_database_only",
    "memory, PUBLISH refresh without body": "test_publish.py::test_refresh_without_body_keeps_the_document_in_memory",
    "message-summary, PUBLISH refresh without body": "test_compat.py::test_voicemail_refresh",
    "packages that show one document": "test_compat.py::test_voicemail_of_two",
    "several message-summary documents in memory": "test_compat.py::test_the_newest_voicemail",
    "write-back, kill -9": "test_row_keys.py::test_numbers_never_go_back_after_a_crash",
    "a row that the database refuses": "test_refused_rows.py::test_subscriptions_in_write_back",
    "a time beyond 2038": "test_row_keys.py::test_times_beyond_2038",
    "write-through, refresh": "test_row_keys.py::test_a_refresh_that_is_answered_500_has_not_happened",
    "write-through, restart": "test_compat.py::test_numbers_after_a_restart",
    "PUBLISH below min_expires": "test_publish.py::test_intervals_below_the_minimum",
    "SIP-If-Match that cannot be ours": "test_compat.py::test_a_foreign_entity_tag",
    "SUBSCRIBE in a dialog of another event": "test_compat.py::test_another_event_in_the_dialog",
    "SUBSCRIBE in a dialog with another event id": "test_dialogs.py::test_another_event_id_in_the_dialog",
    "SUBSCRIBE in a dialog, its Contact": "test_compat.py::test_a_contact_that_is_the_beginning_of_the_one_before",
    "handle_subscribe, a Contact whose host name": "test_compat.py::test_a_contact_whose_name_leads_nowhere",
    "SUBSCRIBE in a dialog from another From": "test_dialogs.py::test_a_refresh_by_somebody_else",
    "the same SUBSCRIBE again": "test_dialogs.py::test_the_same_subscribe_twice",
    "Event with parameters other than id": "test_doors.py::test_parameters_of_event_refuse_nothing",
    "a user written with escapes": "test_dialogs.py::test_escaped_users_are_one",
    "From and To of NOTIFYs": "test_dialogs.py::test_the_uris_of_a_notify_are_those_of_the_first_request",
    "a Contact, Call-ID, tag": "test_doors.py::test_bytes_that_break_a_line",
    "a Call-ID or tag that is not ASCII": "test_doors.py::test_ids_of_a_dialog_are_ascii",
    "a User-Agent with characters": "test_doors.py::test_a_user_agent_that_no_character_set_holds",
    "an RPC command with a parameter of the wrong type": "test_bad_arguments.py::test_stock_does_without_them",
    "a parameter outside of what it can be": "test_bad_parameters.py::test_what_stock_starts_with_starts",
    "a PUBLISH whose strings or body": "test_doors.py::test_publications_that_no_row_holds",
    "the presentity's rules cannot be read": "test_rules_away.py::test_stock_refuses_whom_it_cannot_judge",
    "enable_sphere_check, the document": "test_rules_away.py::test_stock_goes_on_after_the_sphere_has_run_out",
    "a start with subscriptions": "test_privacy.py::test_a_decision_holds_though_the_table_could_not_be_written",
    "a SUBSCRIBE whose strings are longer": "test_doors.py::test_strings_that_no_column_holds",
    "CSeq of 2^31": "test_dialogs.py::test_where_stock_takes_another_way",
    "SUBSCRIBE to a resource whose winfo watcher has lost":
        "test_dialogs.py::test_a_watcher_of_watchers_that_is_gone_costs_no_other_its_notify",
    "Contact over WebSocket": "test_dialogs.py::test_contact_over_tls_and_websockets",
    "rls with a server_address": "test_dialogs.py::test_contact_of_a_list_over_tcp",
    "handle_subscribe with a watcher": "test_dialogs.py::test_the_script_says_who_watches",
    "body of another type than": "test_publish.py::test_refused_requests",
    "body in an encoding": "test_publish.py::test_encoded_bodies",
    "a Record-Route that cannot be read below": "test_subscribe.py::test_routes_above_a_broken_record_route_are_kept",
    "a package refuses a body": "test_companions.py::test_a_voicemail_document_that_is_none",
    "send_fast_notify 0": "test_parameters.py::test_no_first_notify_without_a_body",
    "a document of an ended dialog is refreshed": "test_compat.py::test_an_ended_dialog_is_refreshed_and_removed",
    "sip_uri_match 1": "test_parameters.py::test_life_with",
    "a hard-state document": "test_authorization.py::test_hard_state",
    "watcher information, a NOTIFY that is": "test_explore.py::test_what_is_declared_occurs",
    "pua_json, a database without": "test_explore.py::test_what_is_declared_occurs",
    "an orderly stop, db_mode 0": "test_explore.py::test_what_is_declared_occurs",
    "db_mode 2, one id for publications": "test_explore.py::test_what_is_declared_occurs",
    "watcher information in database-only mode": "test_winfo.py::test_a_watcher_that_nobody_has_confirmed_waits",
    "watcher information, a watcher whose URI": "test_winfo.py::test_a_watcher_with_an_ampersand",
    "`dialog;sla`, whose line": "test_composition.py::test_the_line_is_that_of_the_request_uri",
    "`dialog;sla`, PUBLISH refresh": "test_composition.py::test_a_line_is_refreshed",
    "broken XML": "test_publish.py::test_refused_requests",
    "XML of packages other than": "test_pua_users.py::test_a_contact_with_an_ampersand_is_seen_by_a_watcher",
    "XML that packages other than": "test_composition.py::test_every_package_refuses_what_it_cannot_read",
    "a stored document that cannot be read": "test_composition.py::test_an_unreadable_row_hides_no_other",
    "a document that declares entities": "test_composition.py::test_the_door_takes_what_the_package_reads",
    "a dialog-info document with a document type":
        "test_composition.py::test_a_document_type_hides_no_dialog",
    "a document in UTF-16": "test_composition.py::test_documents_in_wide_characters_become_utf_8",
    "handle_publish with a sender of more": "test_composition.py::test_what_the_script_sees_and_who_may_send",
    "expires_offset above": "test_composition.py::test_what_is_stored_never_reads_as_removed",
    "body without Content-Type": "test_publish.py::test_refused_requests",
    "Expires beyond 2^32": "test_publish.py::test_refused_requests",
    "initial PUBLISH with Expires 0": "test_publish.py::test_initial_publish_with_expires_0_stores_nothing",
    "SUBSCRIBE without Contact": "test_subscribe.py::test_refused_requests",
    "SUBSCRIBE without a From tag": "test_hostile.py::test_torture",
    "the wall clock is set": "test_wall_clock.py::test_a_clock_that_is_set_ends_and_prolongs_nothing",
    "delete_same_subs 1": "test_subscribe.py::test_one_call_with_several_subscriptions",
    "a PUBLISH with SIP-If-Match whose row": "test_shared_publications.py::test_stock_says_that_it_is_done",
    "a change in the second in which": "test_subscribe.py::test_the_end_is_said_once",
    "a fetch (SUBSCRIBE with Expires 0)": "test_unread_state.py::test_stock_answers_a_fetch_without_the_state",
    "the table of publications cannot be read": "test_unread_state.py::test_stock_says_nothing_when_the_table_is_back",
    "MariaDB, watchers whose names": "test_unread_state.py::test_names_that_a_collation_takes_for_equal",
    "the database is gone": "test_crash.py::test_a_database_that_goes_away",
    "URI without user": "test_compat.py::test_a_uri_without_a_user",
    "SUBSCRIBE to a tel: URI": "test_addresses.py::test_tel",
    "cluster_replicas, a request": "test_cluster_replicas.py::test_a_request_finds_the_node_that_serves_it",
    "late state for a dialog": "test_compat.py::test_a_late_state",
    "the next call of a publication": "test_composition.py::test_the_next_call_on_stock_and_on_ours",
    "PUBLISH without tag for one dialog": "test_composition.py::test_of_several_dialogs_the_rest_stays",
    "updateWatchers": "test_compat.py::test_winfo_of_changed_rules",
    "refreshWatchers with 1": "test_explore.py::test_what_is_declared_occurs",
    "rules that change, a watcher": "test_explore.py::test_what_is_declared_occurs",
    "rules document that is gone": "test_refresh_commands.py::test_rules_that_are_gone",
    "presence_xml `disable_presence`": "test_winfo.py::test_of_a_package_that_is_switched_off",
    "two processes on SQLite": "test_storage.py::test_everybody_at_once_on_sqlite",
    "MariaDB write-through": "test_databases.py::test_cell",
    "PostgreSQL, database-only, notifier: refresh": "test_databases.py::test_cell",
    "one worker, 1,000 watchers": "test_fanout.py::test_a_thousand_watchers_and_one_worker",
    "restart with thousands of rows": "test_storage.py::test_thousands_of_rows_at_start",
    "memory, two presence documents": "test_composition.py::test_a_phone_that_has_forgotten_its_tag",
    "DMQ, enable_subs_dmq and skip_notify_dmq 1": "test_mixed_versions.py::test_a_watcher_is_served_by_either_node",
    "DMQ, enable_subs_dmq: a watcher refreshes": "test_mixed_versions.py::test_a_watcher_is_served_by_either_node",
    "db_redis as the database": "test_redis.py::test_a_database_without_binary_columns",
    "DMQ: a node joins": "test_dmq.py::test_a_node_that_joins_is_sent_what_there_is",
    "DMQ: the same message twice": "test_dmq.py::test_messages_twice_late_and_after_a_gap",
    "DMQ: a member nobody knows": "test_dmq.py::test_messages_that_are_none",
    "DMQ, memory only, refresh": "test_dmq.py::test_a_publication_is_seen_on_the_other_node",
    "several changes of one publication": "test_pua_heals.py::test_one_request_at_a_time",
    "end of a publication whose first": "test_pua_heals.py::test_end_before_the_first_answer",
    "408, 429, 5xx, no answer": "test_pua_heals.py::test_server_in_trouble",
    "the same, caller waits": "test_pua_heals.py::test_newer_state_replaces_what_waits",
    "412 to a refresh": "test_pua_heals.py::test_forgotten_publication_is_published_again_once",
    "423": "test_pua_heals.py::test_interval_too_brief",
    "200 to a PUBLISH without SIP-ETag": "test_pua.py::test_life_of_a_publication",
    "200 to a SUBSCRIBE without an Expires":
        "test_pua_heals.py::test_an_answer_that_cannot_be_read_leaves_no_second_dialog",
    "200 to a SUBSCRIBE without a Contact":
        "test_pua_heals.py::test_an_answer_that_cannot_be_read_leaves_no_second_dialog",
    "`drop` in event_route": "test_pua_heals.py::test_dropped_by_the_script_blocks_nothing",
    "publication that has ended": "test_pua.py::test_rows_in_the_database_only",
    "start-up": "test_pua_heals.py::test_restart",
    "SUBSCRIBE dialogs on SQLite": "test_exchange.py::test_swap_of_the_user_agent",
    "db_mode 2 on SQLite": "test_pua.py::test_rows_in_the_database_only",
    "pua_update_contact on": "test_pua.py::test_update_contact_from_lua",
    "unsubscribe while": "test_pua_heals.py::test_notify_before_the_answer_and_new_contact",
    "SUBSCRIBE without a remote target": "test_pua.py::test_life_of_a_subscription",
    "refresh answered 5xx": "test_pua_heals.py::test_refresh_that_fails",
    "a tuple without an id": "test_pua.py::test_bodies",
    "tuple ids of 50": "test_pua.py::test_bodies",
    "`outbound_proxy` of a request": "test_pua_proxies.py::test_refreshes_of_a_publication",
    "refreshes after a restart": "test_pua_heals.py::test_refreshes_are_spread",
    "end of a publication or subscription": "test_pua_waits.py::test_the_end_of_nothing_is_answered",
    "a queued request": "test_pua_waits.py::test_every_caller_that_waits_is_answered",
    "a second SUBSCRIBE": "test_pua_waits.py::test_a_longer_subscription_while_the_first_is_under_way",
    "NOTIFY terminated": "test_pua_waits.py::test_terminated_says_when_to_come_back",
    "NOTIFY with a shorter": "test_pua_waits.py::test_a_shorter_life_in_a_notify_is_heeded",
    "a SUBSCRIBE or PUBLISH that is challenged": "test_pua_waits.py::test_a_server_that_asks_who_we_are",
    "first SUBSCRIBE or PUBLISH": "test_pua_waits.py::test_the_first_request_is_sent_elsewhere",
    "first SUBSCRIBE answered": "test_pua_waits.py::test_the_first_subscribe_is_tried_again",
    "change of a publication refused": "test_pua_waits.py::test_a_refused_change_keeps_the_document_there_is",
    "CSeq of a dialog": "test_pua_waits.py::test_sequence_numbers_after_a_crash",
    "end with `min_expires`": "test_pua_waits.py::test_an_end_asks_for_no_interval",
    "forked SUBSCRIBE": "test_pua_waits.py::test_a_forked_subscribe_has_one_branch",
    "line breaks": "test_pua_waits.py::test_no_text_becomes_a_header",
    "rows whose grant": "test_pua_waits.py::test_a_publication_outlives_the_grant_of_a_busy_server",
    "statistics of tm": "test_notify_neighbours.py::test_tm_does_not_count_them",
    "database-only with notifier processes":
        "test_notifier_processes.py::test_a_change_on_this_server_is_sent_at_once",
}


# Where the scenario above runs ours alone, and one runs stock: what the column of stock says.
STOCK = {
    "presence_xml `disable_presence`":
        "test_stock_column.py::test_winfo_of_a_package_that_is_switched_off_ends_the_server",
    "`Event: presence;id=x`": "test_stock_column.py::test_parameters_of_event_are_unknown_packages",
    "memory only, winfo subscription": "test_stock_column.py::test_winfo_in_memory_only_ends_the_server",
    "database-only, subscription expires": "test_stock_column.py::test_the_last_notify_is_repeated_from_the_table",
    "memory, PUBLISH refresh without body": "test_stock_column.py::test_a_refresh_without_a_body_loses_the_document",
    "write-back, kill -9": "test_stock_column.py::test_numbers_go_back_after_a_crash",
    "a time beyond 2038": "test_stock_column.py::test_a_time_beyond_2038_is_negative",
    "write-through, refresh": "test_stock_column.py::test_a_refresh_that_is_answered_500_has_happened",
    "PUBLISH below min_expires": "test_stock_column.py::test_intervals",
    "SUBSCRIBE in a dialog with another event id": "test_dialogs.py::test_where_stock_takes_another_way",
    "SUBSCRIBE in a dialog from another From": "test_dialogs.py::test_where_stock_takes_another_way",
    "the same SUBSCRIBE again": "test_dialogs.py::test_where_stock_takes_another_way",
    "Event with parameters other than id": "test_stock_column.py::test_parameters_of_event_are_unknown_packages",
    "a user written with escapes": "test_dialogs.py::test_where_stock_takes_another_way",
    "From and To of NOTIFYs": "test_stock_column.py::test_uris_of_a_notify_lose_what_they_had",
    "a Contact, Call-ID, tag": "test_stock_column.py::test_a_control_character_is_sent_on",
    "a Call-ID or tag that is not ASCII": "test_stock_column.py::test_ids_that_are_not_ascii_are_taken",
    "a row that the database refuses": "test_stock_column.py::test_a_refused_row_is_tried_at_each_period_and_not_named",
    "a start with subscriptions": "test_stock_column.py::test_rows_decide_at_the_start",
    "the wall clock is set": "test_wall_clock.py::test_stock_ends_what_the_wall_clock_says",
    "cluster_replicas, a request": "test_stock_column.py::test_there_is_no_parameter_for_parts_of_a_cluster",
    "two processes on SQLite": "test_stock_column.py::test_processes_on_sqlite_lock_each_other_out",
    "one worker, 1,000 watchers": "test_stock_column.py::test_a_large_change_is_sent_again",
    "database-only with notifier processes": "test_stock_column.py::test_a_change_waits_for_the_turn_of_its_watcher",
    "`drop` in event_route": "test_stock_pua.py::test_dropped_requests_lose_memory",
    "refreshes after a restart": "test_stock_pua.py::test_refreshes_after_a_restart_come_at_once",
    "CSeq of a dialog": "test_stock_pua.py::test_numbers_of_a_dialog_go_back_after_a_crash",
    "a User-Agent with characters": "test_stock_column.py::test_a_user_agent_that_no_character_set_holds",
    "a PUBLISH whose strings or body": "test_stock_column.py::test_strings_that_a_server_database_does_not_take",
    "a SUBSCRIBE whose strings are longer": "test_stock_column.py::test_strings_that_a_server_database_does_not_take",
    "rls with a server_address": "test_stock_column.py::test_contact_of_a_list_names_no_transport",
    "handle_subscribe with a watcher": "test_stock_column.py::test_a_watcher_that_is_no_uri_is_not_answered",
    "a hard-state document": "test_stock_column.py::test_hard_state_is_seen_once",
    "XML that packages other than":
        "test_stock_column.py::test_xml_that_cannot_be_read_hides_the_other_documents",
    "a stored document that cannot be read": "test_stock_column.py::test_an_unreadable_row_empties_the_notifies",
    "a document that declares entities": "test_stock_column.py::test_entities_are_taken",
    "a dialog-info document with a document type":
        "test_composition.py::test_a_document_type_hides_no_dialog",
    "a document in UTF-16": "test_stock_column.py::test_what_the_table_holds",
    "expires_offset above": "test_stock_column.py::test_intervals",
    "initial PUBLISH with Expires 0": "test_stock_column.py::test_what_the_table_holds",
    "the database is gone": "test_stock_column.py::test_the_database_is_gone",
    "MariaDB, watchers whose names": "test_stock_column.py::test_mariadb_takes_names_for_equal",
    "PUBLISH without tag for one dialog":
        "test_stock_column.py::test_one_dialog_of_several_takes_the_others_along_or_is_twice_there",
    "MariaDB write-through": "test_stock_column.py::test_mariadb_with_the_usual_lock_of_tables",
    "PostgreSQL, database-only, notifier: refresh":
        "test_stock_column.py::test_a_refresh_in_the_database_with_a_notifier",
    "restart with thousands of rows": "test_stock_column.py::test_thousands_of_rows_are_too_many_at_start",
    "DMQ: a node joins": "test_stock_column.py::test_a_node_that_joins_learns_nothing",
    "DMQ: the same message twice": "test_stock_column.py::test_messages_of_a_node_twice_and_after_a_gap",
    "DMQ: a member nobody knows": "test_stock_column.py::test_messages_of_a_node_twice_and_after_a_gap",
    "several changes of one publication": "test_stock_pua.py::test_changes_are_sent_beside_each_other",
    "end of a publication whose first": "test_stock_pua.py::test_an_end_before_the_first_answer_is_not_sent",
    "408, 429, 5xx, no answer": "test_stock_pua.py::test_a_refresh_that_fails_ends_what_it_refreshed",
    "the same, caller waits": "test_stock_pua.py::test_a_refused_change_loses_its_tag",
    "412 to a refresh": "test_stock_pua.py::test_a_refused_change_loses_its_tag",
    "423": "test_stock_pua.py::test_an_interval_too_brief_ends_the_publication",
    "start-up": "test_stock_pua.py::test_rows_are_deleted_at_the_start",
    "pua_update_contact on": "test_stock_pua.py::test_a_notify_changes_nothing",
    "unsubscribe while": "test_stock_pua.py::test_while_the_first_subscribe_is_under_way",
    "SUBSCRIBE without a remote target": "test_stock_pua.py::test_a_subscribe_without_a_target_is_another_dialog",
    "refresh answered 5xx": "test_stock_pua.py::test_a_refresh_that_fails_ends_what_it_refreshed",
    "end of a publication or subscription": "test_stock_pua.py::test_the_end_of_nothing_is_not_answered",
    "a queued request": "test_stock_pua.py::test_nothing_is_queued",
    "a second SUBSCRIBE": "test_stock_pua.py::test_while_the_first_subscribe_is_under_way",
    "NOTIFY terminated": "test_stock_pua.py::test_a_notify_changes_nothing",
    "NOTIFY with a shorter": "test_stock_pua.py::test_a_notify_changes_nothing",
    "a SUBSCRIBE or PUBLISH that is challenged": "test_stock_pua.py::test_a_first_request_that_is_refused_is_given_up",
    "first SUBSCRIBE or PUBLISH": "test_stock_pua.py::test_a_first_request_that_is_refused_is_given_up",
    "first SUBSCRIBE answered": "test_stock_pua.py::test_a_first_request_that_is_refused_is_given_up",
    "change of a publication refused": "test_stock_pua.py::test_a_refused_change_loses_its_tag",
    "end with `min_expires`": "test_stock_pua.py::test_while_the_first_subscribe_is_under_way",
    "forked SUBSCRIBE": "test_stock_pua.py::test_of_a_fork_the_branch_that_answers_counts",
    "line breaks": "test_stock_pua.py::test_line_breaks_become_headers",
    "rows whose grant": "test_stock_pua.py::test_a_refresh_that_fails_ends_what_it_refreshed",
}


def cases():
    text = (ROOT / "COMPAT.md").read_text()
    text = text[text.index("## Where the answer differs"):]
    return [row for row in re.findall(r"^\| (.*?) \|", text, re.M) if row not in ("case", "---")]


def test_each_row_has_a_scenario():
    rows = cases()
    assert len(rows) > 40
    assert not [row for row in rows
                if sum(row.startswith(name) for name in ROWS) != 1], "rows without a scenario, or with two"
    assert not [name for name in ROWS
                if not any(row.startswith(name) for row in rows)], "scenarios of rows that are gone"
    assert STOCK.keys() <= ROWS.keys()
    for place in {*ROWS.values(), *STOCK.values()}:
        path, name = place.split("::")
        tree = ast.parse((ROOT / "tests" / path).read_text())
        assert any(isinstance(node, ast.FunctionDef) and node.name == name for node in tree.body), place


def code_of(path, name, seen=()):
    """A function of a test file with those of the same file that it calls, as nodes of their syntax trees."""
    text = (ROOT / "tests" / path).read_text()
    functions = {node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
    if name not in functions or name in seen:
        return []
    nodes = list(ast.walk(functions[name]))
    called = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    others = [code_of(path, other, (*seen, name)) for other in sorted(called - {name})]
    return nodes + [node for other in others for node in other]


def runs_stock(node):
    """A fixture that runs stock is used, or stock is an argument, one of several that a loop goes through, or a
    parameter of a test that has several."""
    if isinstance(node, ast.Call):
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        return name in ("both", "on_both", "judge") or any(map(names_stock, node.args))
    if isinstance(node, ast.For):
        return names_stock(node.iter)
    return isinstance(node, ast.Name) and node.id in ("stock", "in_memory", "PAIRS")


def names_stock(node):
    return any(isinstance(part, ast.Constant) and part.value == "stock" for part in ast.walk(node))


def test_the_column_of_stock_is_held():
    """The scenario of each row runs stock, or one beside it does."""
    for row, place in ROWS.items():
        assert any(runs_stock(node) for node in code_of(*STOCK.get(row, place).split("::"))), row


def voicemail(waiting):
    return "Messages-Waiting: %s\r\n" % waiting


@pytest.mark.parametrize("mode", ["memory", "write-through"])
def test_voicemail_refresh(both, mode):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        etag = alice.publish(body=voicemail("yes"), **MWI).get("SIP-ETag")
        watch = bob.subscribe(alice.uri, event="message-summary")
        watch.wait(1)
        trace.note("refresh", alice.publish(etag=etag, event="message-summary").code)
        bob.quiet(0.3)
        trace.note("notified", watch.notifies[-1].text)

    both(scenario, workers=1, **MODES[mode], different={
        "notified": ("a refresh changes nothing (RFC 3903 4.3)", lambda text: "Messages-Waiting: yes" in text)})


@pytest.mark.parametrize("mode", ["memory", "write-through"])
def test_voicemail_of_two(both, mode):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        alice.publish(body=voicemail("no"), **MWI)
        second = alice.publish(body=voicemail("yes"), **MWI).get("SIP-ETag")
        watch = bob.subscribe(alice.uri, event="message-summary")
        watch.wait(1)
        trace.note("removed", alice.publish(etag=second, expires=0, event="message-summary").code)
        bob.quiet(0.3)
        trace.note("left", watch.notifies[-1].text)

    both(scenario, workers=1, **MODES[mode], different={
        "left": ("the other document is still there (RFC 3903 4.5)", lambda text: "Messages-Waiting: no" in text)})


def test_the_newest_voicemail(both):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        alice.publish(body=voicemail("no"), **MWI)
        watch = bob.subscribe(alice.uri, event="message-summary")
        watch.wait(1)
        alice.publish(body=voicemail("yes"), **MWI)
        watch.wait(2)
        trace.note("change", watch.notifies[-1].text)
        watch.refresh()
        watch.wait(3)
        trace.note("refresh", watch.notifies[-1].text)

    both(scenario, workers=1, **MODES["memory"], different={
        "refresh": ("one state for every watcher", lambda text: "Messages-Waiting: yes" in text)})


def test_numbers_after_a_restart(both):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        watch = bob.subscribe(alice.uri)
        watch.wait(1)
        server.restart()
        watch.refresh()
        watch.wait(2)
        trace.note("rises", watch.notifies[1].cseq > watch.notifies[0].cseq)

    both(scenario, workers=1, **MODES["write-through"],
         different={"rises": ("RFC 3261 12.2.1.1", lambda rises: rises == "True")})


def test_a_foreign_entity_tag(both):
    def scenario(server, phone, trace):
        alice = phone("alice")
        alice.publish(body=pidf(alice.user))
        trace.note("like one of ours", alice.publish(body=pidf(alice.user), etag="a.1.2.3.4").code)
        trace.note("no number", alice.publish(body=pidf(alice.user), etag="nonsense").code)

    both(scenario, workers=1, **MODES["memory"], different={"no number": ("RFC 3903 6", lambda code: code == "412")})


def test_another_event_in_the_dialog(both):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        watch = bob.subscribe(alice.uri)
        watch.wait(1)
        trace.note("dialog", watch.refresh(event="dialog").code)

    both(scenario, workers=1, **MODES["memory"], different={"dialog": ("RFC 6665 4.1.2.2", lambda code: code == "481")})


def test_an_ended_dialog_is_refreshed_and_removed(both):
    def scenario(server, phone, trace):
        alice = phone("alice")
        etag = alice.publish(body=dialog_info("confirmed", alice.user), **DIALOG).get("SIP-ETag")
        etag = alice.publish(body=dialog_info("terminated", alice.user), etag=etag, **DIALOG).get("SIP-ETag")
        refreshed = alice.publish(etag=etag, event="dialog")
        trace.note("refreshed", refreshed.code)
        trace.note("removed", alice.publish(etag=refreshed.get("SIP-ETag"), expires=0, event="dialog").code)

    both(scenario, workers=1, **MODES["write-through"],
         different={"removed": ("RFC 3903 4.4", lambda code: code == "200")})


def test_a_uri_without_a_user(both):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        trace.note("publish", alice.publish("sip:example.org", body=pidf()).code)
        trace.note("subscribe", bob.subscribe("sip:example.org").reply.code)

    accepted = ("a host may have a presence", lambda code: code == "200")
    both(scenario, workers=1, **MODES["write-through"], different={"subscribe": accepted})


def test_a_late_state(both):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        etag = alice.publish(body=dialog_info("confirmed", alice.user, version=1), **DIALOG).get("SIP-ETag")
        etag = alice.publish(body=dialog_info("terminated", alice.user, version=2), etag=etag, **DIALOG).get("SIP-ETag")
        late = alice.publish(body=dialog_info("early", alice.user, version=0), etag=etag, **DIALOG)
        trace.note("late", late.code)
        watch = bob.subscribe(alice.uri, event="dialog")
        watch.wait(1)
        trace.note("the end stays", "early" not in watch.notifies[0].text)
        trace.note("tag", alice.publish(etag=late.get("SIP-ETag"), event="dialog").code)

    both(scenario, workers=1, **MODES["write-through"],
         different={"tag": ("a tag that was given is good", lambda code: code == "200")})


def test_winfo_of_changed_rules(both):
    from test_authorization import XML, put, rules

    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        put(server, alice.user, rules(**{bob.user: "allow", alice.user: "allow"}))
        winfo = alice.subscribe(alice.uri, event="presence.winfo")
        winfo.wait(1)
        bob.subscribe(alice.uri).wait(1)
        winfo.wait(2)
        before = len(winfo.notifies)
        put(server, alice.user, rules(**{bob.user: "block", alice.user: "allow"}))
        server.rpc("presence.updateWatchers", alice.uri, "presence")
        alice.quiet(0.4)
        trace.note("notified", len(winfo.notifies) - before)

    both(scenario, workers=1, **MODES["write-through"], **XML,
         different={"notified": ("RFC 3857 4.7.1", lambda notified: notified == "1")})


def test_rules_in_memory_only(both):
    from test_authorization import XML, put, rules

    def scenario(server, phone, trace):
        alice, bob, carol = phone("alice"), phone("bob"), phone("carol")
        put(server, alice.user, rules(**{bob.user: "allow", carol.user: "polite-block"}))
        alice.publish(body=pidf(alice.user, note="secret"))
        for name, watcher in (("allowed", bob), ("politely blocked", carol)):
            trace.note(name, "secret" in watcher.subscribe(alice.uri).wait(1)[0].text)
        dave, eve = phone("dave"), phone("eve")
        dave.publish(body=pidf(dave.user, note="open to all"))
        first = eve.subscribe(dave.uri).wait(1)[0]
        trace.note("without a document", first.get("Subscription-State").split(";")[0])
        assert "open to all" in first.text
        assert "NULL rules doc" not in server.log(), "nothing is filtered where there is nothing to filter by"

    both(scenario, workers=1, **MODES["memory"], **XML,
         different={"politely blocked": ("RFC 5025 3: the rules of the presentity decide",
                                         lambda shown: shown == "False")})


@pytest.mark.parametrize("mode", ["memory", "write-through"])
def test_a_contact_that_is_the_beginning_of_the_one_before(both, mode):
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        own = bob.contact.strip("<>")
        watch = bob.subscribe(alice.uri, contact="<%s;ob>" % own)
        watch.wait(1)
        trace.note("refreshed", watch.refresh(contact="<%s>" % own).code)
        watch.wait(2)
        alice.publish(body=pidf())
        trace.note("target", watch.wait(3)[2].start.split()[1] == own)

    both(scenario, workers=1, **MODES[mode], different={"target": ("RFC 3261 12.2.2", lambda text: text == "True")})


def test_a_contact_whose_name_leads_nowhere(both):
    """One that is no SIP URI at all has no name."""
    def scenario(server, phone, trace):
        alice, bob = phone("alice"), phone("bob")
        trace.note("reply", bob.subscribe(alice.uri, contact="<sip:bob@nowhere.invalid>").reply.code)
        assert server.answers()
        trace.note("to the script", re.search(r"ANSWER (-?\d+)", server.log())[1])
        trace.note("reply to tel", bob.subscribe(alice.uri, contact="<tel:+15551234>").reply.code)
        assert server.answers()
        trace.note("tel to the script", re.findall(r"ANSWER (-?\d+)", server.log())[1])

    answer = 'handle_subscribe(); xlog("L_NOTICE", "ANSWER $retcode\\n");'
    both(scenario, workers=1, route=ROUTE % dict(publish="handle_publish()", subscribe=answer), **MODES["memory"],
         different={"to the script": ("the name is looked up by another process", lambda text: text == "1")})
