"""Creates Kamailio's own tables and reads rows back."""
import re
import shutil
import sqlite3
import time


def schema(kind, name, share=None):
    """A file with which the server's own tables are made."""
    from .kamailio import SERVER
    folder = share or SERVER.share
    path = folder / kind / name
    if path.exists():
        return path
    raise RuntimeError("no %s schema %s in %s: name that folder with KAMAILIO_SHARE=..." % (kind, name, folder))


def create_sqlite(path, journal=None, share=None):
    connection = sqlite3.connect(str(path))
    if journal:
        connection.execute("pragma journal_mode=%s" % journal)
    for part in ("standard", "presence", "rls"):
        try:
            script = schema("db_sqlite", part + "-create.sql", share).read_text()
        except RuntimeError:
            if part == "rls":
                continue
            raise
        connection.executescript(script)
    connection.commit()
    connection.close()


def create_text(folder):
    source = schema("dbtext/kamailio", "version").parent
    shutil.copytree(str(source), str(folder))


def until_watchers_are_written(server):
    """With `subs_db_mode` 2 our module writes rows of `watchers` within a second."""
    deadline = time.monotonic() + 5
    while server.which == "ours" and server.alive() and time.monotonic() < deadline:
        found = re.search(r"watchers_queued = (\d+)", server.rpc("stats.get_statistics", "presence:"))
        if not found or found[1] == "0":
            return
        time.sleep(0.05)


def rows(server, table, order=None):
    """All rows of a table as dictionaries (SQLite and db_text)."""
    if table == "watchers":
        until_watchers_are_written(server)
    if server.db == "sqlite":
        connection = sqlite3.connect(str(server.db_path), timeout=10)
        connection.row_factory = sqlite3.Row
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        found = [dict(row) for row in connection.execute("select * from %s order by %s" % (table, order or "id"))]
        connection.close()
        return found
    raise NotImplementedError(server.db)
