# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Fixtures. `bed` is nearly always enough: it makes what is asked for and takes everything down after the test.

    bed.spool, bed.hook, bed.certs          there at once
    bed.broker                              made, not started; bed.new_broker("second") for another one
    bed.daemon                              made for bed.broker, not started; bed.new_daemon(...) for another one
    bed.subscriber(...)                     a started Subscriber of bed.broker
    bed.listener(uri or node, ...)          virtspool-listen on this spool, not started
    bed.recorder(...)                       virtspool-recorder for bed.broker, not started
    bed.node(...)                           a booted Node on bed.spool (boot=False: not yet), removed after the test
    bed.run("virtspool", "list", ...)       one of our commands on this spool: subprocess.CompletedProcess with text

More of them: `running` (a bed whose broker, subscriber and daemon are connected), `at_rest` (a bed with events that nobody
drains), `terminal` (tmux), `mounts` (file systems to break).
"""

import contextlib
import glob
import os
import subprocess
from functools import cached_property

import pytest

from . import process
from .broker import Broker
from .certs import Certs
from .daemon import Daemon
from .hook import Hook
from .listener import Listener
from .mounts import Mounts
from .node import Node
from .programs import program
from .recorder import Recorder
from .scripted_broker import ScriptedBroker
from .spool import Spool
from .subscriber import Subscriber
from .terminal import Terminal

__all__ = [
    "at_rest",
    "bed",
    "certs",
    "libvirt_cache",
    "mounts",
    "no_cgroup_left",
    "no_process_left",
    "running",
    "terminal",
]


@pytest.fixture(scope="session")
def certs(tmp_path_factory):
    return Certs(tmp_path_factory.mktemp("certs"))


@pytest.fixture(scope="session")
def libvirt_cache(tmp_path_factory):
    """What libvirtd found out about QEMU; a second node need not ask again."""
    return tmp_path_factory.mktemp("libvirt-cache")


@pytest.fixture(autouse=True)
def no_process_left():
    """Whatever a test started ends with it."""
    yield
    process.stop_all()


@pytest.fixture
def no_cgroup_left():
    """libvirt leaves its containers' empty parent groups behind."""

    def groups():
        return {p for top in ("/sys/fs/cgroup/machine", "/sys/fs/cgroup/*/machine") for p in glob.glob(top)}

    before = groups()
    yield
    for path in groups() - before:
        for directory, _, _ in os.walk(path, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)


class Bed:
    def __init__(self, directory, certs, cache):
        self.directory = directory
        self.cache = cache
        self.certs = certs
        self.spool = Spool(directory)
        self._closing = []

    @cached_property
    def hook(self):
        return Hook(self.spool)

    @cached_property
    def broker(self):
        return self.new_broker("broker")

    @cached_property
    def daemon(self):
        return self.new_daemon()

    def new_broker(self, name, **options):
        return Broker(self.directory / name, self.certs, **options)

    def scripted_broker(self, behaviour=None, **options):
        """A started ScriptedBroker; see lib/scripted_broker.py."""
        broker = ScriptedBroker(options.pop("certs", self.certs), behaviour, **options).start()
        self._closing.append(broker.stop)
        return broker

    def new_daemon(self, name="daemon", brokers=None, spool=None, **options):
        daemon = Daemon(self.directory / name, spool or self.spool, brokers or self.broker, self.certs, **options)
        self._closing.append(daemon.close)
        return daemon

    def subscriber(self, broker=None, **options):
        subscriber = Subscriber(broker or self.broker, **options).start()
        self._closing.append(subscriber.stop)
        return subscriber

    def recorder(self, name="recorder", brokers=None, **options):
        """A Recorder of bed.broker, not started."""
        recorder = Recorder(self.directory / name, brokers or self.broker, self.certs, **options)
        self._closing.append(recorder.close)
        return recorder

    def listener(self, *uris):
        listener = Listener(self.directory / "listener", self.spool, *uris)
        self._closing.append(listener.close)
        return listener

    def node(self, boot=True, **options):
        node = Node(**{"spool": self.spool, "cache": self.cache, **options})
        self._closing.append(node.remove)
        return node.boot() if boot else node

    def run(self, name, *arguments, timeout=30, environment=None, check=False, input=None):
        return subprocess.run(
            [program(name), *map(str, arguments)],
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=check,
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "LC_ALL": "C.UTF-8",
                "HOME": str(self.directory),
                **{k: v for k, v in os.environ.items() if k.startswith(("ASAN_", "UBSAN_", "LSAN_"))},
                **self.spool.environment,
                **(environment or {}),
            },
        )

    def check_sanitizers(self):
        """Under AddressSanitizer and UBSan: whatever they had to say is a failure."""
        for path in self.directory.rglob("*.log"):
            text = path.read_text(errors="replace")
            assert "Sanitizer: " not in text and ": runtime error: " not in text, f"{path}:\n{text}"

    def close(self):
        for close in reversed(self._closing):
            close()


@pytest.fixture
def bed(tmp_path, certs, libvirt_cache):
    bed = Bed(tmp_path, certs, libvirt_cache)
    yield bed
    process.stop_all()
    bed.close()
    bed.check_sanitizers()


@pytest.fixture
def running(bed):
    """Broker, subscriber and daemon, connected."""
    bed.broker.start()
    bed.subscribed = bed.subscriber()
    bed.daemon.start()
    bed.daemon.wait_connected()
    return bed


@pytest.fixture
def at_rest(bed):
    """web1 started and stopped, db1 started; nobody drains it."""
    bed.hook.start("web1")
    bed.hook.stop("web1", extra="shutdown")
    bed.hook.start("db1")
    return bed


@pytest.fixture
def terminal(bed):
    """terminal(environment, ...) opens one; see lib/terminal.py."""
    opened = []

    def make(*arguments, **options):
        opened.append(Terminal(bed, *arguments, **options))
        return opened[-1]

    yield make
    for t in opened:
        t.close()


@pytest.fixture
def mounts(tmp_path):
    """File systems in a mount namespace of their own; see lib/mounts.py."""
    mounts = Mounts(tmp_path)
    yield mounts
    mounts.close()
