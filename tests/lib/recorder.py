# SPDX-License-Identifier: LGPL-2.1-or-later
"""
virtspool-recorder on a private store, with a configuration written from a dictionary.

    recorder.config["retention"] = "1h"         before start()
    recorder.start()                            returns when it has subscribed
    recorder.stop()                             SIGTERM; the exit status must be 0
    recorder.kill()                             SIGKILL
    recorder.command("guests", "--json")        one of its commands: subprocess.CompletedProcess with text
    recorder.rows("guests", "--vm", "web1")     the same with --json, as a list of dictionaries
    recorder.ids()                              ids of all recorded events, the oldest first
    recorder.wait_for(n)                        until n events are recorded
    recorder.sql("SELECT ...")                  of an SQLite store
"""

import json
import os
import sqlite3
import subprocess
from pathlib import Path

from .daemon import confined_prefix, to_yaml
from .process import Process
from .programs import program
from .waiting import free_port, wait_until


class Recorder:
    def __init__(self, directory, brokers, certs, certificate="consumer", store=None):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.brokers = brokers if isinstance(brokers, list) else [brokers]
        self.database = self.directory / "recorder.db"
        self.prefix = []
        self.process = None
        self.starts = 0
        self.config = {
            "brokers": None,
            "store": store or f"sqlite://{self.database}",
            "mqtt": {
                "client_id": f"recorder-{self.directory.name}",
                "status_topic": "virtspool/v1/{host}/status",
                "retry_min": "1s",
                "retry_max": "1s",
            },
            "http": {"listen": f"127.0.0.1:{free_port()}"},
            "log": {"level": "debug"},
            "tls": {
                "ca_file": certs.ca,
                "certificate_file": certs.pem(certificate),
                "key_file": certs.key(certificate),
            },
        }

    @property
    def store(self):
        return self.config["store"]

    @property
    def url(self):
        """Of its web server."""
        http = self.config["http"]
        return f"{'https' if 'certificate_file' in http else 'http'}://{http['listen'].replace('127.0.0.1', 'localhost')}"

    @property
    def config_file(self):
        return self.directory / "recorder.yaml"

    @property
    def environment(self):
        kept = {k: v for k, v in os.environ.items() if k.startswith(("ASAN_", "UBSAN_", "LSAN_"))}
        return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "RUNTIME_DIRECTORY": str(self.directory), **kept}

    def write_config(self):
        if self.config["brokers"] is None or self.starts:
            self.config["brokers"] = [b.url for b in self.brokers]
        self.config_file.write_text(to_yaml(self.config))

    def start(self, wait=True, prefix=()):
        self.write_config()
        self.starts += 1
        prefix = list(prefix) or self.prefix or confined_prefix("virtspool-recorder.service")
        command = [*prefix, program("virtspool-recorder"), "run", "-c", self.config_file]
        self.process = Process(command, self.directory / f"recorder{self.starts}.log", self.environment)
        if wait:
            self.wait_subscribed()
        return self

    def wait_subscribed(self, deadline=15):
        wait_until(
            lambda: "subscribed to" in self.output() or not self.process.running,
            deadline,
            lambda: f"the recorder is subscribed:\n{self.output()}",
        )
        assert self.process.running, self.output()

    def stop(self):
        assert self.process.stop() == 0, self.output()

    def kill(self):
        self.process.kill()

    def close(self):
        if self.process:
            self.process.kill()

    @property
    def pid(self):
        return self.process.pid

    def output(self):
        return self.process.output()

    def command(self, *arguments, timeout=60, check=True, options=None, input=None):
        options = ["--store", self.store] if options is None else options
        return subprocess.run(
            [program("virtspool-recorder"), *map(str, arguments), *options],
            stdin=subprocess.DEVNULL if input is None else None,
            input=input,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=check,
            env={**self.environment, "TZ": "UTC"},
        )

    def rows(self, *arguments):
        return [json.loads(line) for line in self.command(*arguments, "--json").stdout.splitlines()]

    def ids(self):
        return [e["id"] for e in self.rows("log", "--oldest")]

    def wait_for(self, n, deadline=20):
        wait_until(lambda: len(self.ids()) >= n, deadline, lambda: f"{n} events are recorded: {len(self.ids())}\n{self.output()}")
        return self.rows("log", "--oldest")

    def sql(self, statement):
        db = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=10)
        try:
            return db.execute(statement).fetchall()
        finally:
            db.close()
