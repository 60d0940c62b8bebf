# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A private PostgreSQL from Debian's package: a cluster of its own in a directory of its own, reached by a socket in it.

    server = PostgreSQL().start()
    server.url("name")          creates that database; for `store:`
    server.sql("name", "SELECT ...")    rows as lists of strings
    server.ask("name", "SELECT ...")    the same by a psql that stays, for a bench: it takes no time to start
    server.stop(), server.kill(), server.pause(), server.resume()
    server.close()              and removes it

It does not run as root: as root, the user `postgres` of the package is taken.
"""

import contextlib
import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from .process import Process
from .programs import missing
from .waiting import wait_until


def children(pid):
    """Processes whose parent this one is."""
    found = []
    for path in glob.glob("/proc/[0-9]*/stat"):
        with contextlib.suppress(OSError), open(path, encoding="ascii", errors="replace") as f:
            if int(f.read().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.split("/")[2]))
    return found


def _bin(name):
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))
    if not found:
        missing("postgresql is not installed (scripts/setup)")
    return found[-1]


class PostgreSQL:
    def __init__(self, settings=()):
        self.directory = Path(tempfile.mkdtemp(prefix="virtspool-pg-"))
        self.settings = {"listen_addresses": "", "fsync": "off", "shared_buffers": "32MB", **dict(settings)}
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        self.process = None
        if os.geteuid() == 0:
            self.user = "postgres"
            entry = pwd.getpwnam("postgres")
            os.chown(self.directory, entry.pw_uid, entry.pw_gid)
        os.chmod(self.directory, 0o755)
        subprocess.run(
            [*self._as_user(), _bin("initdb"), "-D", self.data, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"],
            check=True,
            capture_output=True,
        )
        self.databases = set()
        self.sessions = {}

    def _as_user(self):
        if os.geteuid() != 0:
            return []
        return ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--init-groups"]

    @property
    def data(self):
        return self.directory / "data"

    def start(self):
        options = [x for k, v in self.settings.items() for x in ("-c", f"{k}={v}")]
        command = [*self._as_user(), _bin("postgres"), "-D", self.data, "-k", self.directory, *options]
        self.process = Process(command, self.directory / "log", {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"})
        wait_until(self.answers, 30, lambda: f"PostgreSQL answers:\n{self.process.output()}")
        return self

    def answers(self):
        return self._psql("postgres", "SELECT 1", check=False).returncode == 0

    def _client(self, database):
        return [_bin("psql"), "-h", self.directory, "-U", self.user, "-d", database, "-qAtF", "\x1f"]

    def _psql(self, database, statement, check=True):
        return subprocess.run([*self._client(database), "-c", statement], capture_output=True, text=True, check=check, timeout=120)

    def sql(self, database, statement):
        return [line.split("\x1f") for line in self._psql(database, statement).stdout.splitlines()]

    def ask(self, database, statement):
        if database not in self.sessions:
            self.sessions[database] = subprocess.Popen(self._client(database), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                                       stderr=subprocess.DEVNULL, text=True)
        psql = self.sessions[database]
        psql.stdin.write(f"{statement};\n\\echo end\n")
        psql.stdin.flush()
        rows = []
        for line in psql.stdout:
            if line == "end\n":
                return rows
            rows.append(line.rstrip("\n").split("\x1f"))
        raise RuntimeError(f"psql has ended: {statement}")

    def url(self, database):
        if database not in self.databases:
            self._psql("postgres", f'CREATE DATABASE "{database}"')
            self.databases.add(database)
        return f"postgresql:///{database}?host={self.directory}&user={self.user}"

    def _signal_all(self, number):
        """The server, and the processes that it made: each has a session of its own."""
        for pid in [self.process.pid, *children(self.process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def pause(self):
        """The server is there and does not answer."""
        self._signal_all(signal.SIGSTOP)

    def resume(self):
        self._signal_all(signal.SIGCONT)

    def stop(self):
        self.process.signal(2)  # "fast"
        self.process.wait(30)

    def kill(self):
        """SIGKILL for all of it; start() recovers."""
        left = children(self.process.pid)
        self._signal_all(signal.SIGKILL)
        self.process.kill()
        wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in left), 30, "its processes are gone")
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def close(self):
        for psql in self.sessions.values():
            psql.kill()
            psql.communicate()
        if self.process and self.process.running:
            self.process.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
