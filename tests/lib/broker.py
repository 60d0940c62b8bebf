# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A mosquitto of one's own: TLS on a free port of 127.0.0.1, client certificates demanded (the common name is the user),
persistence on, everything in a private directory.

    broker.options    lines of mosquitto.conf, appended: broker.options += ["max_inflight_messages 1"]
    broker.acl        lines of an ACL file, or None: broker.acl = ["user host", "topic write virtspool/#"]
    broker.persistent False: keeps everything in memory only, for the bench
    broker.address, broker.prefix    where it listens, and a command that runs it, such as namespaces.prefix
    broker.start()    also after kill(): same port, same directory, so sessions and queues are found again
    broker.kill()     SIGKILL; broker.stop() is SIGTERM; broker.pause()/resume() make it hang
    broker.reload()   SIGHUP: reads the ACL (and nothing else) again
"""

import os
import shutil
import signal
import socket
from pathlib import Path

from .process import Process
from .programs import tool
from .waiting import free_port, wait_until


class Broker:
    version = "5"  # the MQTT version for the daemon's configuration

    def __init__(self, directory, certs, tls=True, certificate="broker", port=None):
        self.directory = Path(directory)
        self.certs = certs
        self.tls = tls
        self.certificate = certificate
        self.host = "localhost" if tls else "127.0.0.1"
        self.port = port
        self.options = []
        self.acl = None
        self.persistent = True
        self.log_type = "all"
        self.prefix = []
        self.address = "127.0.0.1"
        self.require_certificate = True
        self.process = None
        self._own_port = port is None

    @property
    def url(self):
        """As the daemon's configuration names it."""
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"

    @property
    def log(self):
        return self.directory / "mosquitto.log"

    @property
    def running(self):
        return self.process is not None and self.process.running

    def start(self):
        """Starts it and waits until it accepts connections. Returns self."""
        assert not self.running
        self.directory.mkdir(parents=True, exist_ok=True)
        for attempt in range(5):
            if self.port is None:
                self.port = free_port()
            self._write_config()
            self.process = Process([*self.prefix, tool("mosquitto"), "-c", self._config], self.log)
            wait_until(lambda: self._accepts() or not self.process.running, 20, "mosquitto listens")
            if self.process.running:
                return self
            # Somebody else took the port between our look and mosquitto's bind.
            if not self._own_port or attempt == 4:
                break
            self.port = None
        raise AssertionError(f"mosquitto does not start:\n{self.process.output()}")

    def stop(self):
        if self.running:
            self.process.stop()

    def kill(self):
        """What the broker held only in memory is gone."""
        if self.running:
            self.process.kill()

    def restart(self):
        self.stop()
        return self.start()

    def reload(self):
        self._write_config()
        self.process.signal(signal.SIGHUP)

    def pause(self):
        self.process.pause()

    def resume(self):
        self.process.resume()

    def forget(self):
        """Removes the persistent sessions and queues, as if the broker's disk were lost."""
        assert not self.running
        shutil.rmtree(self._store, ignore_errors=True)

    def saved(self):
        """What a kill would leave: the file is replaced as a whole."""
        try:
            return (self._store / "mosquitto.db").read_bytes()
        except FileNotFoundError:
            return b""

    def output(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def _config(self):
        return self.directory / "mosquitto.conf"

    @property
    def _store(self):
        return self.directory / "store"

    def _accepts(self):
        try:
            with socket.create_connection((self.address, self.port), timeout=1):
                return True
        except OSError:
            return False

    def _write_config(self):
        self._store.mkdir(exist_ok=True)
        lines = [
            f"listener {self.port} {self.address}",
            "max_queued_messages 0",
            "log_dest stderr",
            f"log_type {self.log_type}",
            "log_timestamp_format %H:%M:%S",
        ]
        if self.persistent:
            # Written after every second change: a killed broker forgets as little as mosquitto can be made to.
            lines += [
                "persistence true",
                f"persistence_location {self._store}/",
                "autosave_on_changes true",
                "autosave_interval 1",
            ]
        if os.geteuid() == 0:
            lines += ["user root"]
        if self.tls:
            lines += [
                f"cafile {self.certs.ca}",
                f"certfile {self.certs.pem(self.certificate)}",
                f"keyfile {self.certs.key(self.certificate)}",
            ]
        if self.tls and self.require_certificate:
            lines += ["require_certificate true", "use_identity_as_username true"]
        if not any(o.startswith("allow_anonymous") for o in self.options):
            lines += [f"allow_anonymous {'false' if self.tls and self.require_certificate else 'true'}"]
        if self.acl is not None:
            path = self.directory / "acl"
            path.write_text("\n".join(self.acl) + "\n")
            lines += [f"acl_file {path}"]
        self._config.write_text("\n".join(lines + self.options) + "\n")
