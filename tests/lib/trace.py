# SPDX-License-Identifier: LGPL-2.1-or-later
"""
strace: the system calls that a program makes, and what happens if one of them fails, or is its last.

    calls = read_trace(path)                      # [Call(name, n, text)] of the first thread, n counts per name
    prefix = tracing(path)                        # put before the command: writes the trace
    prefix = injecting(call, "signal=KILL")       # killed before this call is made
    prefix = injecting(call, "error=EIO", log)    # this call, and no other, fails
    landed_elsewhere(log)                         # was it one that the kernel never fails?

The tracer runs detached, so the process that is started is the program itself.
"""

import re
from collections import Counter
from typing import NamedTuple

from .programs import tool

LINE = re.compile(r"(\d+) +([a-z_0-9]+)\((.*)")

# What each call can fail with, of what a running daemon may meet. A call that is not listed cannot fail, or its failure
# is nothing that the kernel does (gettid, rt_sigprocmask, and brk, which tells failure otherwise).
ERRORS = {
    "openat": ["ENOENT", "EACCES", "EMFILE", "ENFILE", "ENOMEM", "EIO", "EINTR"],
    "newfstatat": ["EACCES", "ENOMEM", "EIO"],
    "fstat": ["ENOMEM", "EIO"],
    "statx": ["ENOENT", "ENOMEM", "EIO"],
    "fcntl": ["ENOMEM"],
    "getdents64": ["EIO"],
    "read": ["EIO", "EINTR"],
    "write": ["EIO", "EINTR", "EPIPE", "ECONNRESET"],
    "writev": ["EIO", "EINTR", "EPIPE", "ECONNRESET"],
    "close": ["EIO", "EINTR"],
    "recvfrom": ["EINTR", "ECONNRESET", "ETIMEDOUT", "ENOMEM"],
    "recvmsg": ["EINTR", "ECONNRESET", "ETIMEDOUT", "ENOMEM"],
    "sendto": ["EINTR", "EPIPE", "ECONNRESET", "ENOBUFS"],
    "sendmsg": ["EINTR", "EPIPE", "ECONNRESET", "ENOBUFS", "EHOSTUNREACH"],
    "epoll_wait": ["EINTR"],
    "epoll_pwait": ["EINTR"],
    "epoll_ctl": ["ENOMEM", "ENOSPC"],
    "renameat2": ["ENOSPC", "EDQUOT", "EIO", "EROFS", "EACCES", "ENOENT", "EXDEV", "ENOMEM"],
    "renameat": ["ENOSPC", "EDQUOT", "EIO", "EROFS", "EACCES", "ENOENT", "EXDEV", "ENOMEM"],
    "unlinkat": ["EIO", "EROFS", "EACCES", "EBUSY"],
    "mkdirat": ["ENOSPC", "EROFS", "EACCES"],
    "fsync": ["EIO", "ENOSPC"],
    "fstatfs": ["EIO"],
    "statfs": ["EIO"],
    "lseek": ["EINVAL"],
    "ioctl": ["EIO"],
    "getrandom": ["EINTR"],
    "mmap": ["ENOMEM"],
    "socket": ["EMFILE", "ENFILE", "ENOMEM"],
    "timerfd_settime": ["ENOMEM"],
}


class Call(NamedTuple):
    name: str
    n: int
    text: str

    def __str__(self):
        return f"{self.name}#{self.n}({self.text[:90]}"


def tracing(path):
    return [tool("strace"), "-D", "-f", "-s", "256", "-y", "-o", str(path), "--"]


def injecting(call, what, log="/dev/null"):
    return [
        *[tool("strace"), "-D", "-f", "-y", "-o", str(log), "-e", f"trace={call.name}"],
        *["-e", f"inject={call.name}:{what}:when={call.n}", "--"],
    ]


def is_of_event_loop(text):
    """Timers, signals and inotify: the kernel has no reason to fail a read of these."""
    return "<anon_inode:" in text.partition(",")[0]


def landed_elsewhere(log):
    """A run may read a timer more, or less, than the traced one did: the n-th call is then another."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return any("(INJECTED)" in line and is_of_event_loop(line) for line in lines)


def read_trace(path):
    counts, calls, first = Counter(), [], None
    with open(path, encoding="utf-8", errors="replace") as f:
        for line in f:
            match = LINE.match(line)
            if not match:  # the second half of a call, a signal, the end
                continue
            thread, name, text = match.groups()
            first = first or thread
            if thread == first:
                counts[name] += 1
                calls.append(Call(name, counts[name], text))
    return calls
