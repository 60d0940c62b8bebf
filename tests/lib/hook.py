# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The hook, run as libvirt runs it: a real file below a hooks directory, five arguments, the document on stdin, a clean
environment.

    hook("start", "begin")                                     # qemu, domain vm1, its XML on stdin
    hook("release", "end", "shutdown", domain="a b")           # operation, sub-operation, extra
    hook("started", "begin", driver="network", document=b"<hookData/>")
    hook.raw(["vm1", "start"], document=None)                  # any arguments; document None: stdin is closed

Each call asserts what may never be broken: exit status 0 and nothing on stdout and stderr. It returns the time that
the call took in seconds. hook.calls counts the calls, for comparison with what arrives; hook.prefix is
a command that runs it, such as namespaces.prefix.
"""

import os
import shutil
import subprocess
import time
from pathlib import Path

from .documents import domain_xml
from .programs import program


class Hook:
    def __init__(self, spool, environment=None):
        self.spool = spool
        self.environment = {"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **spool.environment}
        self.environment.update(environment or {})
        self.prefix = []
        self.calls = 0
        self.directory = Path(spool.directory) / "hooks"

    def installed(self, driver="qemu"):
        """The hook's path for this driver; "qemu.d/50-virtspool" works as well."""
        path = self.directory / driver
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Beside it and renamed: two threads may be the first.
            temporary = path.parent / f".{path.name}.{os.getpid()}.{time.monotonic_ns()}"
            shutil.copy(program("virtspool-hook"), temporary)
            temporary.rename(path)
        return str(path)

    def __call__(
        self, operation, suboperation="begin", extra="-", *more, domain="vm1", driver="qemu", document=..., timeout=10
    ):
        if document is ...:
            document = domain_xml(domain)
        return self.raw([domain, operation, suboperation, extra, *more], driver, document, timeout)

    def raw(self, arguments, driver="qemu", document=b"", timeout=10):
        """document: bytes, None (stdin closed), or something with a fileno() that becomes stdin."""
        path = self.installed(driver)
        command = [*self.prefix, path, *arguments]
        options = {}
        if document is None:
            command = ["/bin/sh", "-c", 'exec "$@" <&-', "sh", *command]
            options["stdin"] = subprocess.DEVNULL
        elif isinstance(document, bytes):
            options["input"] = document
        else:
            options["stdin"] = document
        start = time.monotonic()
        done = subprocess.run(command, capture_output=True, env=self.environment, timeout=timeout, **options)
        took = time.monotonic() - start
        assert done.returncode == 0, f"the hook exited with {done.returncode}: {done.stderr!r}"
        assert done.stdout == b"" and done.stderr == b"", f"the hook said {done.stdout!r} {done.stderr!r}"
        self.calls += 1
        return took

    def start(self, domain="vm1"):
        """The three calls of a domain's start."""
        for operation in ("prepare", "start", "started"):
            self(operation, "begin", domain=domain)

    def stop(self, domain="vm1", extra="-"):
        """The two calls of a domain's end."""
        self("stopped", "end", domain=domain)
        self("release", "end", extra, domain=domain)

    def many(self, n, domain="vm1"):
        """n events, quickly."""
        document = domain_xml(domain)
        for i in range(n):
            self(f"made-up-{i}", domain=domain, document=document)
