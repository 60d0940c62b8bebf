#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A disk that remembers: one file, `disk`, in a FUSE file system, made to be mounted through a loop device. Each write and
each flush (the loop device turns the block layer's flush into fsync) is logged in its order, so that afterwards the
state can be made that a power cut at any moment would have left.

    recorder.py DIRECTORY IMAGE LOG

mounts itself on DIRECTORY, with the content of IMAGE, and says "ready". A line on stdin is logged as a mark, and
answered. It speaks the kernel's protocol itself (linux/fuse.h), as no Python binding is in Debian's main packages that
would be shorter.
"""

import ctypes
import errno
import os
import select
import signal
import struct
import sys
from pathlib import Path

LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE = 1, 2, 3, 4, 14, 15, 16
STATFS, RELEASE, FSYNC, FLUSH, INIT, OPENDIR, READDIR = 17, 18, 20, 25, 26, 27, 28
RELEASEDIR, INTERRUPT, DESTROY, BATCH_FORGET = 29, 36, 38, 42

ROOT, DISK = 1, 2
MAX_WRITE = 128 * 1024
FOPEN_DIRECT_IO = 1
FUSE_BIG_WRITES = 1 << 5

# What the log holds: type, offset, size, then the data.
ENTRY = struct.Struct("=cQI")


def read_log(path):
    """[("W", offset, data) | ("F",) | ("M", text in bytes)]"""
    data, at, entries = path.read_bytes(), 0, []
    while at < len(data):
        kind, offset, size = ENTRY.unpack_from(data, at)
        at += ENTRY.size
        content = data[at : at + size]
        at += size
        entries.append({b"W": ("W", offset, content), b"F": ("F",), b"M": ("M", content)}[kind])
    return entries


class Disk:
    def __init__(self, image, log):
        self.data = bytearray(Path(image).read_bytes())
        self.log = open(log, "wb")

    def record(self, kind, offset=0, data=b""):
        self.log.write(ENTRY.pack(kind, offset, len(data)) + data)

    def attributes(self, node):
        size, mode = (len(self.data), 0o100600) if node == DISK else (4096, 0o40700)
        return struct.pack("=6Q10I", node, size, size // 512, *[0] * 6, mode, 1, 0, 0, 0, 4096, 0)

    def answer(self, opcode, node, body):
        """The reply's body, None for no reply, or an OSError."""
        if opcode in (FORGET, BATCH_FORGET, INTERRUPT):
            return None
        if opcode == INIT:
            return struct.pack("=4I2H2I2H8I", 7, 31, 0, FUSE_BIG_WRITES, 16, 12, MAX_WRITE, 1, 0, 0, *[0] * 8)
        if opcode == LOOKUP and body.rstrip(b"\0") == b"disk":
            return struct.pack("=4Q2I", DISK, 0, 3600, 3600, 0, 0) + self.attributes(DISK)
        if opcode in (GETATTR, SETATTR):
            return struct.pack("=Q2I", 3600, 0, 0) + self.attributes(node)
        if opcode in (OPEN, OPENDIR):
            return struct.pack("=Q2I", 0, FOPEN_DIRECT_IO, 0)
        if opcode == READ:
            _, offset, size = struct.unpack_from("=QQI", body)
            return bytes(self.data[offset : offset + size])
        if opcode == WRITE:
            _, offset, size = struct.unpack_from("=QQI", body)
            data = body[40 : 40 + size]
            self.data[offset : offset + size] = data
            self.record(b"W", offset, data)
            return struct.pack("=2I", size, 0)
        if opcode == FSYNC:
            self.record(b"F")
            return b""
        if opcode in (FLUSH, RELEASE, RELEASEDIR, READDIR, DESTROY):
            return b""
        if opcode == STATFS:
            return struct.pack("=5Q10I", *[0] * 5, 4096, 255, 4096, *[0] * 7)
        raise OSError(errno.ENOENT if opcode == LOOKUP else errno.ENOSYS, "")


def serve(fd, disk):
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.register(0, select.POLLIN)
    while True:
        ready = dict(poll.poll())
        if fd in ready:
            try:
                request = os.read(fd, MAX_WRITE + 4096)
            except OSError as e:
                if e.errno == errno.ENODEV:  # unmounted
                    return
                if e.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
                    continue
                raise
            _, opcode, unique, node = struct.unpack_from("=IIQQ", request)
            try:
                body, error = disk.answer(opcode, node, request[40:]), 0
            except OSError as e:
                body, error = b"", -e.errno
            if body is not None:
                os.write(fd, struct.pack("=IiQ", 16 + len(body), error, unique) + body)
        elif 0 in ready:
            line = os.read(0, 4096)
            if line:
                disk.record(b"M", 0, line.strip())
                os.write(1, b"marked\n")
            else:
                poll.unregister(0)


def main():
    directory, image, log = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    disk = Disk(image, log)
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0"
    if libc.mount(b"recorder", directory.encode(), b"fuse.recorder", 0, options.encode()) < 0:
        sys.exit(f"cannot mount: {os.strerror(ctypes.get_errno())}")
    os.write(1, b"ready\n")
    serve(fd, disk)
    disk.log.close()


if __name__ == "__main__":
    main()
