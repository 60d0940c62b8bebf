# SPDX-License-Identifier: LGPL-2.1-or-later
"""
virtspoold on a private spool, with a configuration written from a dictionary.

    daemon.config["mqtt"]["window"] = 5     before start(), or followed by reload()
    daemon.start()       writes the configuration, starts it, returns when it said READY=1 (sd_notify)
    daemon.reload()      writes the configuration, SIGHUP, returns when it is ready again
    daemon.stop()        SIGTERM; the exit status must be 0
    daemon.kill()        SIGKILL
    daemon.restart()
    daemon.check()       virtspoold --check-config: (exit status, what it said)
    daemon.notified      what it told the service manager, in order: ["READY=1", "STATUS=...", ...]
    daemon.output()      its log
    daemon.prefix        a command that runs it: ["strace", ...], namespaces.prefix
    daemon.status()      RUNDIR/status.json as a dictionary, {} if there is none
    daemon.wait_quiet()  until it sleeps, woken by nothing
    daemon.wait_connected()   until it says so in its log, count=2 for the second time

With VIRTSPOOL_CONFINED=1 in the environment, each daemon that has no prefix of its own runs without capabilities and
under the system-call filter of its unit (lib/confined.py); see confined_prefix().
"""

import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from . import confined
from .process import Process
from .programs import BUILD, program
from .waiting import wait_until


def confined_prefix(unit):
    """What VIRTSPOOL_CONFINED=1 puts before a program: the user stays, so that a test's files need nobody else's rights."""
    if os.environ.get("VIRTSPOOL_CONFINED") != "1":
        return []
    return confined.prefix(BUILD / "etc/systemd" / unit, os.geteuid())


def to_yaml(value, indent=0):
    """Dictionaries, lists, strings, numbers and booleans in block style."""
    pad = " " * indent
    if isinstance(value, dict):
        lines = []
        for k, v in value.items():
            if isinstance(v, (dict, list)) and v:
                lines.append(f"{pad}{k}:\n{to_yaml(v, indent + 2)}")
            else:
                lines.append(f"{pad}{k}: {_scalar(v)}\n")
        return "".join(lines)
    return "".join(f"{pad}- {_scalar(v)}\n" for v in value)


def _scalar(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (dict, list)):
        return "{}" if isinstance(value, dict) else "[]"
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


class Notifications:
    """A socket that stands in for the service manager's."""

    def __init__(self):
        # A socket's path is limited to 107 bytes, which pytest's directories may exceed.
        self._directory = tempfile.TemporaryDirectory(prefix="notify-")
        self.directory = self._directory.name
        self.path = f"{self.directory}/s"
        self.lines = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        while True:
            data = self._socket.recv(65536)
            if data == b"end":
                return
            self.lines += data.decode(errors="replace").splitlines()

    def close(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(b"end", self.path)
        self._thread.join()
        self._socket.close()
        self._directory.cleanup()


class Daemon:
    def __init__(self, directory, spool, brokers, certs=None, certificate="host", host="node1"):
        """brokers: one Broker or a list in order of preference; their ports are taken when it starts."""
        self.directory = Path(directory)
        self.spool = spool
        self.brokers = brokers if isinstance(brokers, list) else [brokers]
        self.environment = {}
        self.options = []
        self.prefix = []
        self.process = None
        self.notifications = None
        self.config = {
            "host": host,
            "brokers": None,
            "mqtt": {"retry_min": "1s", "retry_max": "1s"},
            # By default it is in the system's /run.
            "metrics": {"file": spool.rundir / "virtspool.prom"},
            "log": {"level": "debug"},
        }
        if certs is not None:
            self.config["tls"] = {
                "ca_file": certs.ca,
                "certificate_file": certs.pem(certificate),
                "key_file": certs.key(certificate),
            }

    @property
    def config_file(self):
        return self.directory / "virtspool.yaml"

    @property
    def log(self):
        return self.directory / "virtspoold.log"

    @property
    def running(self):
        return self.process is not None and self.process.running

    @property
    def pid(self):
        return self.process.pid

    @property
    def notified(self):
        return list(self.notifications.lines) if self.notifications else []

    def write_config(self, text=None):
        """From self.config, or this text."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if text is None:
            config = dict(self.config)
            if config.get("brokers") is None:
                config["brokers"] = [b.url for b in self.brokers]
            text = to_yaml(config)
        self.config_file.write_text(text)

    def start(self, ready=True, deadline=15):
        """ready=False: only start it. Returns self."""
        assert not self.running
        self.write_config()
        self.close()
        self.notifications = Notifications()
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "NOTIFY_SOCKET": self.notifications.path,
            # What a killed one leaves behind is taken away with it, and no other test meets it in /tmp.
            "RUNTIME_DIRECTORY": self.notifications.directory,
            **{k: v for k, v in os.environ.items() if k.startswith(("ASAN_", "UBSAN_", "LSAN_"))},
            **self.spool.environment,
            **self.environment,
        }
        prefix = self.prefix or confined_prefix("virtspool.service")
        command = [*prefix, program("virtspoold"), "-c", self.config_file, *self.options]
        self.process = Process(command, self.log, environment)
        if ready:
            self.wait_notified("READY=1", deadline=deadline)
        return self

    def wait_notified(self, line, count=1, deadline=15):
        """Waits until it said this line `count` times."""
        wait_until(
            lambda: self.notified.count(line) >= count or not self.running,
            deadline,
            lambda: f"virtspoold says {line}: {self.notified}\n{self.output()}",
        )
        assert self.notified.count(line) >= count, f"virtspoold ended ({self.process.returncode}):\n{self.output()}"

    def reload(self, deadline=15):
        """Writes the configuration; SIGHUP; waits for RELOADING=1 and READY=1. Also when it is refused it is READY."""
        self.write_config()
        ready = self.notified.count("READY=1")
        self.process.signal(signal.SIGHUP)
        self.wait_notified("READY=1", ready + 1, deadline)

    def stop(self, deadline=15):
        """Returns the exit status."""
        return self.process.stop(deadline) if self.running else None

    def kill(self):
        if self.running:
            self.process.kill()

    def restart(self):
        self.stop()
        return self.start()

    def check(self, text=None):
        """virtspoold --check-config on the configuration (or this text): (exit status, stdout and stderr)."""
        self.write_config(text)
        done = subprocess.run(
            [program("virtspoold"), "--check-config", "-c", self.config_file],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", **self.spool.environment},
            timeout=30,
        )
        return done.returncode, done.stdout.decode(errors="replace")

    def status(self):
        try:
            return json.loads((self.spool.rundir / "status.json").read_text())
        except FileNotFoundError:
            return {}

    def wait_connected(self, count=1, deadline=15):
        wait_until(
            lambda: self.output().count("connected to broker") >= count or not self.running,
            deadline,
            lambda: f"virtspoold is connected:\n{self.output()}",
        )
        assert self.running, self.output()

    def wait_quiet(self, seconds=2.5):
        """Until it has not run at all for so long."""
        seen = [None, 0]

        def quiet():
            switches = self.process.switches()
            if seen[0] != switches:
                seen[:] = switches, time.monotonic()
            return time.monotonic() - seen[1] > seconds

        wait_until(quiet, 20, f"virtspoold sleeps for {seconds} s")

    def output(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def close(self):
        if self.notifications:
            self.notifications.close()
            self.notifications = None
