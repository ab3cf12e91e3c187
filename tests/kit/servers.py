"""PostgreSQL and MariaDB started on loopback in a temporary folder, as an unprivileged user, with Kamailio's own
tables."""
import glob
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

from .database import schema
from .kamailio import free_port

USER = "nobody"


class DatabaseServer:
    def __init__(self):
        self.port = free_port()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="presence-db-"))
        self.process = None
        if os.geteuid() == 0:
            shutil.chown(str(self.folder), USER)
        self.start()

    def run(self, command, **options):
        """Runs a program as the unprivileged user."""
        if os.geteuid() == 0:
            options["user"] = USER
        options.setdefault("cwd", str(self.folder))
        options.setdefault("env", dict(os.environ, HOME=str(self.folder)))
        return subprocess.Popen(command, stdout=open(self.folder.parent / (self.folder.name + ".log"), "ab"),
                                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, **options)

    def finished(self, command):
        process = self.run(command)
        assert process.wait(120) == 0, "%s failed:\n%s" % (command[0], self.log())

    def log(self):
        return (self.folder.parent / (self.folder.name + ".log")).read_text(errors="replace")[-3000:]

    def until_ready(self, command):
        for _ in range(150):
            if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
                return
            assert self.process.poll() is None, self.log()
            time.sleep(0.2)
        raise RuntimeError("the database server does not answer:\n" + self.log())

    def stop(self):
        self.process.send_signal(signal.SIGTERM if "mariadb" in type(self).__name__.lower() else signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder.parent / (self.folder.name + ".log")).unlink()


class PostgreSQL(DatabaseServer):
    def rows(self, table):
        """All rows of a table as dictionaries; bytes in PostgreSQL's own notation."""
        return [json.loads(line)
                for line in self.sql("select row_to_json(t) from (select * from %s order by id) t"
                                     % table).splitlines()]

    @staticmethod
    def folder_of_programs():
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"))
        return os.path.dirname(found[-1]) if found else None

    def start(self):
        programs, data = self.folder_of_programs(), str(self.folder / "data")
        self.finished([programs + "/initdb", "-D", data, "-A", "trust", "-U", "kamailio"])
        self.process = self.run([programs + "/postgres", "-D", data, "-p", str(self.port), "-k", str(self.folder),
                                 "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"])
        self.until_ready([programs + "/psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "kamailio", "-c",
                          "select 1", "postgres"])
        self.sql("create database kamailio", "postgres")
        for part in ("standard", "presence"):
            self.sql(schema("postgres", part + "-create.sql").read_text())

    def sql(self, text, database="kamailio"):
        done = subprocess.run([self.folder_of_programs() + "/psql", "-q", "-t", "-A", "-h", "127.0.0.1", "-p",
                               str(self.port), "-U",
                               "kamailio", database], input=text.encode(), stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL)
        return done.stdout.decode()

    @property
    def url(self):
        return "postgres://kamailio:x@127.0.0.1:%d/kamailio" % self.port


class MariaDB(DatabaseServer):
    @staticmethod
    def program():
        return shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin:/usr/libexec")

    def start(self):
        data, socket = str(self.folder / "data"), str(self.folder / "sock")
        # Servers with the same process number, in namespaces of their own, would take each other's files in /tmp.
        own = "--tmpdir=" + str(self.folder)
        self.finished([shutil.which("mariadb-install-db"), "--no-defaults", "--datadir=" + data, own,
                       "--auth-root-authentication-method=normal", "--skip-test-db"])
        self.process = self.run([self.program(), "--no-defaults", "--datadir=" + data, own, "--port=%d" % self.port,
                                 "--bind-address=127.0.0.1", "--socket=" + socket,
                                 "--innodb-flush-log-at-trx-commit=2"])
        self.until_ready(["mariadb", "-uroot", "-S", socket, "-e", "select 1"])
        self.sql("create database kamailio", "")
        for host in ("127.0.0.1", "localhost"):
            self.sql("create user kamailio@'%s' identified by 'k'; grant all on kamailio.* to kamailio@'%s'"
                     % (host, host), "")
        for part in ("standard", "presence", "rls"):
            self.sql(schema("mysql", part + "-create.sql").read_text())

    def sql(self, text, database="kamailio"):
        done = subprocess.run(["mariadb", "-uroot", "-N", "-S",
                               str(self.folder / "sock")] + ([database] if database else []),
                              input=text.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0, done.stdout.decode()
        return done.stdout.decode()

    @property
    def url(self):
        return "mysql://kamailio:k@127.0.0.1:%d/kamailio" % self.port


class Redis(DatabaseServer):
    """Redis, with the versions of the tables that a module looks for."""

    @staticmethod
    def program():
        return shutil.which("redis-server", path="/usr/bin:/usr/sbin:/usr/local/bin")

    def start(self):
        self.process = self.run([self.program(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                                 "--dir", str(self.folder)])
        self.until_ready(["redis-cli", "-p", str(self.port), "ping"])
        for table, version in (("presentity", 5), ("active_watchers", 12), ("watchers", 3)):
            self.command("HSET", "version:entry::" + table, "table_name", table, "table_version", str(version))

    def command(self, *words):
        done = subprocess.run(["redis-cli", "-p", str(self.port), *words], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        assert done.returncode == 0, done.stdout.decode()
        return done.stdout.decode()

    @property
    def url(self):
        return "redis://127.0.0.1:%d/0" % self.port
