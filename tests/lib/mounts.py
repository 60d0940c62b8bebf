# SPDX-License-Identifier: LGPL-2.1-or-later
"""
File systems to break: mounted in a mount namespace that this test run has for itself (root only), so that nothing is
left on the machine, whatever happens.

    mounts = Mounts(directory)
    mounts.tmpfs(path, "size=64k")          mounts.ext4(path, megabytes=16)
    mounts.remount(path, "ro")              mounts.unmount(path)
    with mounts.frozen(path): ...           # fsfreeze: what writes to it hangs in the kernel; for 15 s at most
    with mounts.dead(path): ...             # a network file system (FUSE) whose server does not answer any more
    mounts.close()                          # the fixture `mounts` does
"""

import contextlib
import ctypes
import os
import shutil
import subprocess
import threading
from pathlib import Path

from .programs import missing, tool

SBIN = "/usr/sbin:/usr/bin:/sbin:/bin"
CLONE_NEWNS = 0x00020000
MS_REC_PRIVATE = 0x4000 | 0x40000

_libc = ctypes.CDLL(None, use_errno=True)
_own_namespace = False


def _enter_namespace():
    global _own_namespace
    if _own_namespace:
        return
    if os.geteuid() != 0:
        missing("only root can mount")
    if _libc.unshare(CLONE_NEWNS) < 0 or _libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None) < 0:
        missing(f"no mount namespace: {os.strerror(ctypes.get_errno())}")
    _own_namespace = True


# Their least sizes in MiB, and what makes them; xfs refuses less than 300 unless it is told that it is for tests.
KINDS = {
    "ext4": (2, ["mkfs.ext4", "-q", "-F", "-m", "0"]),
    "xfs": (32, ["mkfs.xfs", "-q", "-f", "--unsupported"]),
    "btrfs": (128, ["mkfs.btrfs", "-q", "-f"]),
}


def kinds():
    """ext4, and what else this machine can make."""
    return ["ext4"] + [k for k, (_, make) in KINDS.items() if k != "ext4" and shutil.which(make[0], path=SBIN)]


def make_filesystem(image, kind, megabytes):
    least, command = KINDS[kind]
    with image.open("wb") as f:
        f.truncate(max(least, megabytes) << 20)
    subprocess.run([tool(command[0]), *command[1:], image], check=True)


class Mounts:
    def __init__(self, directory):
        _enter_namespace()
        self.directory = Path(directory)
        self._mounted = []

    def mount(self, path, *arguments):
        path.mkdir(parents=True, exist_ok=True)
        subprocess.run([tool("mount"), *arguments, path], check=True)
        self._mounted.append(path)
        return path

    def tmpfs(self, path, options="size=16m"):
        return self.mount(path, "-t", "tmpfs", "-o", options, "none")

    def ext4(self, path, megabytes=16, options="loop"):
        return self.disk(path, "ext4", megabytes, options)

    def disk(self, path, kind, megabytes=16, options="loop"):
        """A new file system of that kind in a file, or the one that is there already."""
        image = self.directory / f"{path.name}.{kind}"
        if not image.exists():
            make_filesystem(image, kind, megabytes)
        return self.mount(path, "-t", kind, "-o", options, image)

    def remount(self, path, options):
        subprocess.run([tool("mount"), "-o", f"remount,{options}", path], check=True)

    def unmount(self, path, lazy=False):
        subprocess.run([tool("umount"), *(["-l"] if lazy else []), path], check=True)
        self._mounted.remove(path)

    @contextlib.contextmanager
    def frozen(self, path, limit=15):
        subprocess.run([tool("fsfreeze"), "-f", path], check=True)
        # A process that hangs there cannot be killed, nor can a test that waits for it end otherwise.
        timer = threading.Timer(limit, self._thaw, (path,))
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
            self._thaw(path)

    @contextlib.contextmanager
    def dead(self, path):
        if not os.path.exists("/dev/fuse"):
            missing("there is no /dev/fuse")
        server = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={server},rootmode=40000,user_id=0,group_id=0"
        if _libc.mount(b"dead", bytes(path), b"fuse.dead", 0, options.encode()) < 0:
            missing(f"cannot mount FUSE: {os.strerror(ctypes.get_errno())}")
        self._mounted.append(path)
        try:
            yield
        finally:
            os.close(server)  # nobody can answer now: what waits fails
            self.unmount(path, lazy=True)

    def _thaw(self, path):
        subprocess.run([tool("fsfreeze"), "-u", path], stderr=subprocess.DEVNULL)

    def close(self):
        for path in self._mounted[::-1]:
            self.unmount(path, lazy=True)
