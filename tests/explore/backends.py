"""The databases of a run: SQLite in the server's folder, or one database server with a database for each side."""

import json
import re
import sqlite3
import time

from kit import servers

from .config import PASSWORD

# The types of documents in the table xcap.
RULES, MANIPULATION = 2, 16
PUT = (
    "insert into xcap (username, domain, doc, doc_type, etag, source, doc_uri, port) values "
    "('%(user)s', 'example.org', '%(document)s', %(type)d, 'e', 0, '%(uri)s', 0)"
)


class SQLite:
    name = "sqlite"
    # Whether rows can be read and changed while a server runs.
    outside = True

    def url(self, which):
        return "sqlite"

    def clean(self, which):
        """A new file for each life."""

    def _connect(self, server):
        connection = sqlite3.connect(str(server.db_path), timeout=10)
        connection.row_factory = sqlite3.Row
        connection.text_factory = lambda raw: raw.decode("utf-8", "backslashreplace")
        return connection

    def rows(self, which, server, table):
        connection = self._connect(server)
        try:
            return [dict(row) for row in connection.execute("select * from %s" % table)]
        finally:
            connection.close()

    def execute(self, which, server, sql):
        connection = self._connect(server)
        try:
            for statement in sql if isinstance(sql, list) else [sql]:
                connection.execute(statement)
            connection.commit()
        finally:
            connection.close()

    def put_document(self, which, server, user, kind, uri, document):
        """A user's document of one type takes the place of the one before, or goes (None)."""
        statements = ["delete from xcap where username='%s' and doc_type=%d" % (user, kind)]
        if document is not None:
            statements.append(PUT % dict(user=user, document=document.replace("'", "''"), type=kind, uri=uri))
        self.execute(which, server, statements)

    def close(self):
        pass


class Text(SQLite):
    """db_text: files that are written while the server stops, and nobody else may touch meanwhile."""

    name = "text"
    outside = False

    def url(self, which):
        return "text"

    def rows(self, which, server, table):
        path = server.folder / "dbtext" / table
        lines = path.read_text(errors="backslashreplace").split("\n")
        names = re.findall(r"(\w+)\(", lines[0])
        found = []
        for line in lines[1:]:
            values = [self._value(value) for value in re.findall(r"((?:\\.|[^:\\])*)(?::|$)", line)]
            if line:
                found.append(dict(zip(names, values)))
        return found

    @staticmethod
    def _value(text):
        # Ours writes what is empty as a blank: db_text cannot read it otherwise.
        text = "" if text == " " else text
        written = {"n": "\n", "r": "\r", "t": "\t", "0": "\0"}
        return re.sub(r"\\(.)", lambda found: written.get(found[1], found[1]), text)


class _Server(SQLite):
    """A database server that both sides share, each with a database of its own."""

    def __init__(self, server):
        self.server = server

    def clean(self, which):
        """The tables are emptied; the server may have no connection to spare while those of a life that has been killed
        are still there."""
        tables = ("presentity", "active_watchers", "watchers", "xcap", "pua")
        counts = " + ".join("(select count(*) from %s)" % table for table in tables)
        for _ in range(50):
            self.sql(which, " ".join("delete from %s;" % table for table in tables))
            if self.sql(which, "select %s;" % counts).strip() == "0":
                return
            time.sleep(0.2)
        raise RuntimeError("the tables of %s cannot be emptied" % which)

    def execute(self, which, server, sql):
        self.sql(which, ";\n".join(sql if isinstance(sql, list) else [sql]) + ";")

    def close(self):
        self.server.stop()


class PostgreSQL(_Server):
    name = "postgres"

    def __init__(self):
        super().__init__(servers.PostgreSQL())
        for which in ("stock", "ours"):
            self.server.sql("create database %s template kamailio" % which, "postgres")

    def url(self, which):
        return "postgres://kamailio:%s@127.0.0.1:%d/%s" % (PASSWORD, self.server.port, which)

    def sql(self, which, text):
        return self.server.sql(text, which)

    def rows(self, which, server, table):
        lines = self.sql(which, "select row_to_json(t) from (select * from %s) t" % table).splitlines()
        found = [json.loads(line) for line in lines]
        for row in found:
            for name, value in row.items():
                if isinstance(value, str) and value.startswith("\\x"):
                    row[name] = bytes.fromhex(value[2:])
        return found


class MariaDB(_Server):
    name = "mysql"

    def __init__(self):
        super().__init__(servers.MariaDB())
        for which in ("stock", "ours"):
            self.server.sql("create database %s" % which, "")
            for part in ("standard", "presence"):
                self.server.sql(servers.schema("mysql", part + "-create.sql").read_text(), which)
        for host in ("127.0.0.1", "localhost"):
            self.server.sql(
                "create user explorer@'%s' identified by '%s'; grant all on *.* to explorer@'%s'"
                % (host, PASSWORD, host),
                "",
            )

    def url(self, which):
        return "mysql://explorer:%s@127.0.0.1:%d/%s" % (PASSWORD, self.server.port, which)

    def sql(self, which, text):
        return self.server.sql(text, which)

    def rows(self, which, server, table):
        columns = (
            self.sql(
                which,
                "select group_concat(column_name) from information_schema.columns where table_schema='%s' "
                "and table_name='%s'" % (which, table),
            )
            .strip()
            .split(",")
        )
        pairs = ", ".join("'%s', convert(%s using utf8mb4)" % (column, column) for column in columns)
        text = self.sql(which, "select hex(json_object(%s)) from %s" % (pairs, table))
        return [json.loads(bytes.fromhex(line)) for line in text.splitlines()]


DRIVERS = {"sqlite": SQLite, "text": Text, "postgres": PostgreSQL, "mysql": MariaDB}
