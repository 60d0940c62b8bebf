# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A private spool: spool.spooldir (disk) and spool.rundir (instead of /run/virtspool), as hook/spool.h lays them out.

    spool.hooksdir             where status and doctor look for libvirt's hooks; a test makes it
    spool.environment          what makes our programs use it
    spool.names("new")         sorted file names, which is their order
    spool.read("new", name)    the record's bytes; parse_record() makes a dictionary of them
    spool.waiting()            names in everything that the daemon drains
    spool.locked()             a context in which no hook gets the stamp's lock
    spool.boot()               what a reboot does to it: the run directory is empty
"""

import contextlib
import fcntl
import os
import shutil
from pathlib import Path
from urllib.parse import unquote

from .waiting import wait_until

DIRECTORIES = ("tmp", "new", "replay", "sent", "failed", "skipped")


def parse_record(data):
    """The header as {key: string} and the document as "document" (bytes); repeated fields are left out."""
    header, _, document = data.partition(b"\n\n")
    first, *lines = header.decode("ascii").split("\n")
    assert first == "virtspool-record 1", first
    fields = dict(line.split(": ", 1) for line in lines if ": " in line)
    return {**{k: unquote(v, errors="surrogateescape") for k, v in fields.items()}, "document": document}


class Spool:
    def __init__(self, directory):
        self.directory = Path(directory)
        self.spooldir = self.directory / "spool"
        self.rundir = self.directory / "run"
        self.hooksdir = self.directory / "hooks"
        for name in DIRECTORIES:
            (self.spooldir / name).mkdir(parents=True, exist_ok=True)
        self.rundir.mkdir(exist_ok=True)

    @property
    def environment(self):
        return {
            "VIRTSPOOL_SPOOLDIR": str(self.spooldir),
            "VIRTSPOOL_RUNDIR": str(self.rundir),
            # The hooks of the machine that runs the tests say nothing about this spool.
            "VIRTSPOOL_HOOKSDIR": str(self.hooksdir),
        }

    def path(self, directory):
        """"new", "sent", … or "emergency/new"."""
        return self.rundir / directory if directory.startswith("emergency") else self.spooldir / directory

    def names(self, directory="new"):
        try:
            return sorted(p.name for p in self.path(directory).iterdir() if not p.name.startswith("."))
        except FileNotFoundError:
            return []

    def read(self, directory, name):
        return (self.path(directory) / name).read_bytes()

    def records(self, directory="new"):
        """Parsed, in order."""
        return [parse_record(self.read(directory, name)) for name in self.names(directory)]

    def failed(self):
        """{name: reason} of failed/."""
        names = self.names("failed")
        return {
            n: (self.read("failed", n + ".reason").decode() if n + ".reason" in names else None)
            for n in names
            if not n.endswith(".reason")
        }

    def waiting(self):
        """Each once: one that moves while the directories are read is seen in both."""
        return list(dict.fromkeys(n for d in ("new", "emergency/new", "replay") for n in self.names(d)))

    def wait_empty(self, deadline=15.0):
        """Everything was drained."""
        wait_until(lambda: not self.waiting(), deadline, lambda: f"the spool is empty: {len(self.waiting())} wait")

    def wait_count(self, n, directory="new", deadline=15.0):
        wait_until(
            lambda: len(self.names(directory)) == n,
            deadline,
            lambda: f"{n} files in {directory}/: {self.names(directory)}",
        )

    @contextlib.contextmanager
    def locked(self):
        """Somebody holds the stamp's lock, and does not let go."""
        fd = os.open(self.rundir / "hook", os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def boot(self):
        shutil.rmtree(self.rundir)
        self.rundir.mkdir()
