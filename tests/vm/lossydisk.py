#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
lossydisk.py FILE SOCKET - an NBD server that is a disk with a volatile write cache.

Writes reach the disk (FILE) only with a flush, or with FUA; until then they are in memory. SIGUSR1 is a power cut: each
write that was not flushed is kept, torn (its first sectors only) or lost, at random as in a real cache, and the server
ends. SIGUSR2 arms it: after a random number of further writes (--within N, default 200) QEMU, whose process id is in
SOCKET.pid, is killed just before the answer to one, so that the machine sees no error, and the power is cut. SIGTERM
keeps everything.

    --lose-all   a power cut loses every write that was not flushed
    --no-flush   a disk that lies: flushes are answered and ignored. It shows that the tests can fail.

For QEMU: -drive file=nbd+unix:///?socket=SOCKET,format=raw,if=virtio,cache=writeback
The protocol is described in the NBD project's doc/proto.md; this is the fixed newstyle handshake with simple replies.
"""

import argparse
import os
import random
import signal
import socket
import struct

SECTOR = 512
FLAGS = 1 | 4 | 8  # has flags, flush, FUA
OPTION_MAGIC, REPLY_MAGIC, SIMPLE_REPLY = b"IHAVEOPT", 0x3E889045565A9, 0x67446698
EXPORT_NAME, ABORT, INFO, GO = 1, 2, 6, 7
ACK, REPLY_INFO, UNSUPPORTED = 1, 3, 0x80000001
READ, WRITE, DISCONNECT, FLUSH = range(4)


class Disk:
    def __init__(self, path, lies, lose_all):
        self.fd = os.open(path, os.O_RDWR)
        self.size = os.fstat(self.fd).st_size
        self.lies, self.lose_all = lies, lose_all
        self.pending = []  # (offset, bytes, FUA), oldest first
        self.sectors = {}  # the newest content of those that are not flushed
        self.writes = self.flushes = 0

    def write(self, offset, data, fua):
        self.writes += 1
        self.pending.append((offset, data, fua and not self.lies))
        for i in range(0, len(data), SECTOR):
            self.sectors[(offset + i) // SECTOR] = data[i : i + SECTOR]

    def read(self, offset, length):
        data = bytearray(os.pread(self.fd, length, offset).ljust(length, b"\0"))
        for i in range(0, length, SECTOR):
            newer = self.sectors.get((offset + i) // SECTOR)
            if newer is not None:
                data[i : i + SECTOR] = newer
        return bytes(data)

    def flush(self):
        self.flushes += 1
        if not self.lies:
            self.keep()

    def keep(self):
        for offset, data, _ in self.pending:
            os.pwrite(self.fd, data, offset)
        self.pending.clear()
        self.sectors.clear()

    def power_cut(self):
        kept = 0
        for offset, data, forced in self.pending:
            fate = 0 if forced else 1 if self.lose_all else random.random()
            if fate < 0.45:
                os.pwrite(self.fd, data, offset)
                kept += 1
            elif fate < 0.55:
                sectors = random.randrange(len(data) // SECTOR + 1)
                os.pwrite(self.fd, data[: sectors * SECTOR], offset)
        print(f"{self.writes} writes, {self.flushes} flushes; not flushed {len(self.pending)}, {kept} of them kept", flush=True)
        os._exit(0)


class Server:
    def __init__(self, disk, path, within):
        self.disk, self.path, self.within = disk, path, within
        self.countdown = None

    def arm(self):
        self.countdown = random.randrange(1, self.within)

    def wrote(self):
        if self.countdown is None:
            return
        self.countdown -= 1
        if self.countdown <= 0:
            with open(f"{self.path}.pid", encoding="ascii") as f:
                os.kill(int(f.read()), signal.SIGKILL)
            self.disk.power_cut()

    def run(self):
        if os.path.exists(self.path):
            os.unlink(self.path)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(self.path)
            listening.listen(4)
            while True:
                with listening.accept()[0] as c:
                    try:
                        if self.negotiate(c):
                            self.serve(c)
                    except (EOFError, ConnectionError):
                        pass

    def negotiate(self, c):
        """True when the client has chosen to read and write."""
        c.sendall(b"NBDMAGIC" + OPTION_MAGIC + struct.pack(">H", 3))
        no_zeroes = struct.unpack(">I", exactly(c, 4))[0] & 2
        while True:
            _, option, length = struct.unpack(">8sII", exactly(c, 16))
            exactly(c, length)
            if option == EXPORT_NAME:
                c.sendall(struct.pack(">QH", self.disk.size, FLAGS) + (b"" if no_zeroes else bytes(124)))
                return True
            if option in (INFO, GO):
                info = struct.pack(">HQH", 0, self.disk.size, FLAGS)
                c.sendall(struct.pack(">QIII", REPLY_MAGIC, option, REPLY_INFO, len(info)) + info)
            known = option in (INFO, GO, ABORT)
            c.sendall(struct.pack(">QIII", REPLY_MAGIC, option, ACK if known else UNSUPPORTED, 0))
            if option in (GO, ABORT):
                return option == GO

    def serve(self, c):
        while True:
            _, flags, command, handle, offset, length = struct.unpack(">IHHQQI", exactly(c, 28))
            answer = b""
            if command == READ:
                answer = self.disk.read(offset, length)
            elif command == WRITE:
                self.disk.write(offset, exactly(c, length), bool(flags & 1))
                self.wrote()
            elif command == FLUSH:
                self.disk.flush()
            elif command == DISCONNECT:
                return
            c.sendall(struct.pack(">IIQ", SIMPLE_REPLY, 0, handle) + answer)


def exactly(c, n):
    parts = []
    while n:
        part = c.recv(n)
        if not part:
            raise EOFError
        parts.append(part)
        n -= len(part)
    return b"".join(parts)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("socket")
    parser.add_argument("--within", type=int, default=200)
    parser.add_argument("--lose-all", action="store_true")
    parser.add_argument("--no-flush", action="store_true")
    a = parser.parse_args()
    disk = Disk(a.file, a.no_flush, a.lose_all)
    server = Server(disk, a.socket, a.within)

    def keep(*_):
        disk.keep()
        os._exit(0)

    signal.signal(signal.SIGUSR1, lambda *_: disk.power_cut())
    signal.signal(signal.SIGUSR2, lambda *_: server.arm())
    signal.signal(signal.SIGTERM, keep)
    server.run()


if __name__ == "__main__":
    main()
