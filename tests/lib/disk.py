# SPDX-License-Identifier: LGPL-2.1-or-later
"""A spool on a file system of its own, which can be full, read-only, unmounted, and mounted again."""

import os

from .spool import DIRECTORIES, Spool


class Disk(Spool):
    """A spool whose directory is a mount point inside `box`; we see it through /proc."""

    def __init__(self, directory, box):
        self.directory, self.box = directory, box
        self.point = directory / "disk"
        self.point.mkdir()
        self.rundir = directory / "run"
        self.rundir.mkdir(exist_ok=True)

    @property
    def spooldir(self):
        return self.box.see(self.point)

    @property
    def environment(self):
        return {"VIRTSPOOL_SPOOLDIR": str(self.point), "VIRTSPOOL_RUNDIR": str(self.rundir)}

    def tmpfs(self, options):
        self.box.run("mount", "-t", "tmpfs", "-o", options, "none", self.point)
        self.make()

    def bind(self):
        """A directory beside it; what is in there outlives the unmounting."""
        backing = self.directory / "backing"
        backing.mkdir(exist_ok=True)
        self.box.run("mount", "--bind", backing, self.point)
        self.make()

    def make(self):
        for name in DIRECTORIES:
            (self.spooldir / name).mkdir(exist_ok=True)

    def unmount(self, *options):
        self.box.run("umount", *options, self.point)

    def room(self):
        s = os.statvfs(self.spooldir)
        return s.f_bavail / s.f_blocks, s.f_favail / s.f_files
