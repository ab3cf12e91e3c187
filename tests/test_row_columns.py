"""Every column of every table has what stock writes there, on each driver: texts, empty texts and NULL."""

import pytest

from kit.kamailio import Kamailio
from kit.responder import Responder
from kit.servers import PostgreSQL
from kit.sip import Client, pidf

TABLES = ("presentity", "active_watchers", "watchers", "pua")
# Generated, or counted differently on purpose; whether there is a value is compared all the same.
GENERATED = {"id", "etag", "ruid", "expires", "received_time", "inserted_time", "to_tag", "from_tag", "callid",
             "call_id", "tuple_id", "flags",
             "desired_expires", "cseq", "local_cseq", "version", "updated", "updated_winfo"}


def rows(server, database, table):
    if database is None:
        return server.rows(table)
    if isinstance(database, PostgreSQL):
        return database.rows(table)
    columns = database.sql("select column_name from information_schema.columns where table_schema = 'kamailio' and "
                           "table_name = '%s' "
                           "order by ordinal_position;" % table).split()
    fields = ", '|', ".join("ifnull(concat('<', hex(cast(%s as char)), '>'), 'NULL')" % column for column in columns)
    lines = database.sql("select concat(%s) from %s order by id;" % (fields, table)).split("\n")
    value = lambda text: None if text == "NULL" else bytes.fromhex(text[1:-1])
    return [dict(zip(columns, map(value, line.split("|")))) for line in lines if line]


def shown(found, ports):
    """Rows without what differs from run to run: whether a generated value is NULL or empty stays."""
    result = []
    for row in found:
        line = {}
        for column, value in row.items():
            if column in GENERATED and value not in (None, "", b""):
                value = "generated"
            if isinstance(value, (bytes, str)):
                text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
                for name, port in ports.items():
                    text = text.replace(":%d" % port, ":" + name)
                value = text
            line[column] = value
        result.append(sorted(line.items()))
    return sorted(result, key=str)


def life(which, url, database, mode):
    """One life of a presentity, a watcher, and a publication of the user agent; returns the rows of all tables."""
    if database is not None:
        database.sql("".join("delete from %s;" % table for table in TABLES))
    responder = Responder(lambda message: (200, ["SIP-ETag: tag"]))
    extra = ('modparam("pua", "db_url", "@DB@")\nmodparam("pua", "db_mode", 2)\nmodparam("presence_xml", '
             '"integrated_xcap_server", 1)\n')
    server = Kamailio(which, db=url, presence=dict(subs_db_mode=mode, db_update_period=1, publ_cache=1),
                      modules=("presence_xml", "pua", "pua_rpc"), extra_params=extra, force_active=False, http=True)
    try:
        with server:
            alice, bob, carol = Client(server, "alice"), Client(server, "bob"), Client(server, "carol")
            alice.publish(body=pidf())
            plain = bob.subscribe(alice.uri)
            full = carol.subscribe(alice.uri, extra=["User-Agent: Phone/1", "Record-Route: <sip:10.0.0.1;lr>"])
            assert plain.reply.code == 200 and full.reply.code == 200
            bob.quiet(1.5)
            if mode != 3:
                # Stock answers 500 to it in mode 3.
                assert plain.refresh().code == 200
            server.json_rpc("pua.publish", "sip:alice@example.org", "3600", "presence", "application/pidf+xml", ".",
                            ".", responder.uri, ".",
                            pidf())
            bob.quiet(2.0)
            ports = {"SERVER": server.port, "BOB": bob.port, "CAROL": carol.port, "ALICE": alice.port}
            return {table: shown(rows(server, database, table), ports) for table in TABLES}
    finally:
        responder.close()


# In mode 3 stock answers requests on the servers 500 now and then.
@pytest.mark.parametrize("name,mode",
                         [("sqlite", 1), ("sqlite", 2), ("sqlite", 3), ("postgres", 1), ("postgres", 2), ("mysql", 1),
                          ("mysql", 2)])
def test_all_columns(database_server, name, mode):
    database = None if name == "sqlite" else database_server(name)
    url = database.url if database else "sqlite"
    stock, ours = life("stock", url, database, mode), life("ours", url, database, mode)
    for table in TABLES:
        assert len(stock[table]) > 0 and ours[table] == stock[table], table
