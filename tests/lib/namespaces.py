# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Mount and network namespaces of a test's own: what is mounted, cut or filled there is nobody else's, and is gone with it.

    box = Namespaces(directory, mount=True)     # or network=True
    box.run("mount", "-t", "tmpfs", "none", path)
    box.prefix                                  # put before a command: daemon.prefix = box.prefix
    box.see(path)                               # where we find a path of the inside
    with box.inside_network(): ...              # sockets that this thread makes belong to it
    box.close()
"""

import contextlib
import ctypes
import os
import subprocess
from pathlib import Path

from .process import Process
from .programs import tool
from .waiting import wait_until

CLONE_NEWNET = 0x40000000


class Namespaces:
    def __init__(self, directory, mount=False, network=False):
        self.mount, self.network = mount, network
        options = (["--mount", "--propagation", "private"] if mount else []) + (["--net"] if network else [])
        self.process = Process(
            [tool("unshare"), *options, "--", "/bin/sleep", "infinity"], Path(directory) / "namespaces.log"
        )
        self.pid = self.process.pid
        wait_until(lambda: self._comm() == "sleep", what=lambda: f"namespaces: {self.process.output()}")
        if network:
            self.run("ip", "link", "set", "lo", "up")

    @property
    def prefix(self):
        options = (["--mount"] if self.mount else []) + (["--net"] if self.network else [])
        return [tool("nsenter"), "--target", str(self.pid), *options, "--"]

    def run(self, *command):
        done = subprocess.run(
            [*self.prefix, tool(command[0]), *map(str, command[1:])], capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr}"
        return done.stdout

    def see(self, path):
        """Through /proc, as its processes see it."""
        return Path(f"/proc/{self.pid}/root{path}")

    @contextlib.contextmanager
    def inside_network(self):
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net") as home, open(f"/proc/{self.pid}/ns/net") as there:
            self._enter(libc, there)
            try:
                yield
            finally:
                self._enter(libc, home)

    def close(self):
        self.process.kill()

    @staticmethod
    def _enter(libc, namespace):
        if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")

    def _comm(self):
        try:
            return Path(f"/proc/{self.pid}/comm").read_text().strip()
        except OSError:
            return ""
