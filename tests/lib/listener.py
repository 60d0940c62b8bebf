# SPDX-License-Identifier: LGPL-2.1-or-later
"""
virtspool-listen on a private spool.

    listener = bed.listener("test:///default")      or bed.listener(node) for a node's libvirtd
    listener.start()              returns when it said READY=1; wait_listening() when it listens everywhere
    listener.stop(), .kill()      SIGTERM (the exit status must be 0), SIGKILL
    listener.status()             RUNDIR/listen.json as a dictionary, {} if there is none of the one that runs
    listener.records(name)        what it recorded: [("lifecycle-started", "booted"), ...], of this domain or of all
"""

import json
import os
from pathlib import Path

from .daemon import Notifications, confined_prefix
from .process import Process
from .programs import program
from .waiting import wait_until


def uri_of(node):
    """A node's QEMU driver, as anybody may reach it: read-only."""
    return f"qemu+unix:///system?socket={node.socket}-ro"


class Listener:
    def __init__(self, directory, spool, *uris):
        self.directory, self.spool = Path(directory), spool
        self.uris = [u if isinstance(u, str) else uri_of(u) for u in uris]
        self.options = ["--keep-alive=1", "--keep-alive-count=2", "--retry-max=1"]
        self.prefix = []
        self.program = program("virtspool-listen")
        self.process = self.notifications = None

    @property
    def log(self):
        return self.directory / "virtspool-listen.log"

    @property
    def running(self):
        return self.process is not None and self.process.running

    def start(self, deadline=15):
        assert not self.running
        self.directory.mkdir(parents=True, exist_ok=True)
        self.close()
        self.notifications = Notifications()
        for path, mode in ((Path(self.notifications.path).parent, 0o755), (self.notifications.path, 0o666)):
            os.chmod(path, mode)  # another user may run it
        environment = {
            "HOME": "/nonexistent",
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "NOTIFY_SOCKET": self.notifications.path,
            **{k: v for k, v in os.environ.items() if k.startswith(("ASAN_", "UBSAN_", "LSAN_"))},
            **self.spool.environment,
        }
        prefix = self.prefix or confined_prefix("virtspool-listen.service")
        command = [*prefix, self.program, *self.options]
        for uri in self.uris:
            command += ["-c", uri]
        self.process = Process(command, self.log, environment)
        wait_until(
            lambda: "READY=1" in self.notifications.lines or not self.running,
            deadline,
            lambda: f"virtspool-listen is ready: {self.output()}",
        )
        assert self.running, self.output()
        return self

    def stop(self):
        if self.running:
            assert self.process.stop() == 0, self.output()

    def kill(self):
        if self.running:
            self.process.kill()

    def close(self):
        if self.notifications:
            self.notifications.close()
            self.notifications = None

    def output(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def status(self):
        try:
            status = json.loads((self.spool.rundir / "listen.json").read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return status if self.running and status["pid"] == self.process.pid else {}

    def connection(self, i=0):
        connections = self.status().get("connections", [])
        return connections[i] if i < len(connections) else {}

    def wait_phase(self, phase, connects=0, deadline=20):
        """Until each connection is "listening", "waiting", ..., after so many connects."""
        wait_until(
            lambda: (c := self.status().get("connections"))
            and all(x["phase"] == phase and x["connects"] >= connects for x in c),
            deadline,
            lambda: f"{phase}: {self.status()} {self.output()}",
        )
        return self

    def wait_listening(self, connects=1, deadline=20):
        """And what was different is reconciled."""
        return self.wait_phase("listening", connects, deadline)

    def records(self, name=None):
        """[(operation, reason)] in the spool that came from the API; of a `reconciled` one (operation, state)."""
        return [
            (r["operation"], r["suboperation"] if r["operation"] in ("reconciled", "listen") else r["extra"])
            for r in self.spool.records()
            if r.get("origin") == "api" and name in (None, r.get("object"))
        ]

    def wait_record(self, operation, reason, name=None, count=1, deadline=20):
        wait_until(
            lambda: self.records(name).count((operation, reason)) >= count,
            deadline,
            lambda: f"{operation} {reason}: {self.records(name)} {self.output()}",
        )
