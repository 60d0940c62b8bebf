# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Runs a program as one of our units would, without systemd as process 1: as an unprivileged user, without any capability,
under the unit's system-call filter, address families and the like, as systemd.exec(5) describes them.

    daemon.prefix = confined.prefix(unit, uid)                   a command that is put before
    daemon.prefix = confined.prefix(unit, uid, "sendmsg")        and this system call is forbidden, too

The sets (@system-service, ...) are those of the installed systemd. What the unit says of files and namespaces
(ProtectSystem= and so on) is not done here: tests/e2e/test_systemd.py boots a systemd for that.
"""

import ctypes
import errno
import functools
import os
import re
import signal
import socket
import stat
import subprocess
import sys

PR_SET_PDEATHSIG, PR_CAPBSET_DROP = 1, 24
CLONE_NEW = [0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000]
PROT_WRITE, PROT_EXEC = 2, 4


def prefix(unit, uid, *forbidden, groups=()):
    """groups: supplementary ones, which the unit's user would have by /etc/group."""
    ids = ":".join(map(str, (uid, *groups)))
    return ["/usr/bin/python3", "-B", __file__, str(unit), ids, ",".join(forbidden), "--"]


@functools.lru_cache(None)
def known_sets():
    text = subprocess.run(
        ["systemd-analyze", "--no-pager", "syscall-filter"], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    found, name = {}, None
    for line in re.sub("\x1b\\[[0-9;]*m", "", text).splitlines():
        if line.startswith("@"):
            name = line.strip()
            found[name] = []
        elif line.startswith(" ") and name and not line.strip().startswith("#"):
            found[name].append(line.strip())
    return found


def expand(names):
    """System calls, with those of the sets among the names."""
    calls = set()
    for name in names:
        calls |= expand(known_sets()[name]) if name.startswith("@") else {name}
    return calls


def settings(unit):
    """{key: [values]} of [Service], in order."""
    found = {}
    for line in open(unit, encoding="utf-8"):
        key, equals, value = line.strip().partition("=")
        if equals and not line.startswith(("#", ";")):
            found.setdefault(key, []).append(value)
    return found


def allowed(unit):
    """What SystemCallFilter= lets through: the first line tells that it is a list of what is allowed."""
    lines = settings(unit)["SystemCallFilter"]
    assert not lines[0].startswith("~"), lines
    calls = expand(["@default"])
    for line in lines:
        if line.startswith("~"):
            calls -= expand(line[1:].split())
        else:
            calls |= expand(line.split())
    return calls


def make_filter(unit, forbidden):
    import seccomp

    said = settings(unit)
    action = seccomp.ERRNO(getattr(errno, said["SystemCallErrorNumber"][0]))
    filter_ = seccomp.SyscallFilter(action)
    calls = allowed(unit) - set(forbidden)
    special = {}

    def refuse(call, error, *arguments):
        special.setdefault(call, []).append((error, arguments))

    def on(key):
        return said.get(key) == ["yes"]

    arg, masked = seccomp.Arg, seccomp.MASKED_EQ
    if on("MemoryDenyWriteExecute"):
        refuse("mmap", errno.EPERM, arg(2, masked, PROT_WRITE | PROT_EXEC, PROT_WRITE | PROT_EXEC))
        for call in ("mprotect", "pkey_mprotect"):
            refuse(call, errno.EPERM, arg(2, masked, PROT_EXEC, PROT_EXEC))
    if on("RestrictSUIDSGID"):
        for bit in (stat.S_ISUID, stat.S_ISGID):
            for call in ("chmod", "fchmod", "mkdir", "creat"):
                refuse(call, errno.EPERM, arg(1, masked, bit, bit))
            for call in ("fchmodat", "mkdirat"):
                refuse(call, errno.EPERM, arg(2, masked, bit, bit))
            for call, at in (("open", 1), ("openat", 2)):
                refuse(call, errno.EPERM, arg(at, masked, os.O_CREAT, os.O_CREAT), arg(at + 1, masked, bit, bit))
    if on("RestrictNamespaces"):
        calls -= {"unshare", "setns"}
        for flag in CLONE_NEW:
            refuse("clone", errno.EPERM, arg(0, masked, flag, flag))
    if on("LockPersonality"):
        calls -= {"personality"}
    families = [getattr(socket, name) for name in said["RestrictAddressFamilies"][0].split()]

    for call in sorted(calls):
        try:
            if call == "socket":
                for family in families:
                    filter_.add_rule(seccomp.ALLOW, call, arg(0, seccomp.EQ, family))
            elif call == "clone3" and on("RestrictNamespaces"):
                filter_.add_rule(seccomp.ERRNO(errno.ENOSYS), call)
            elif call not in special:
                filter_.add_rule(seccomp.ALLOW, call)
        except (RuntimeError, ValueError, OSError):
            pass  # not of this architecture, or newer than libseccomp
    # libseccomp has one default for all; so what is special is allowed here, and refused by a second filter.
    second = seccomp.SyscallFilter(seccomp.ALLOW)
    for call, rules in special.items():
        if call not in calls:
            continue
        try:
            filter_.add_rule(seccomp.ALLOW, call)
            for error, arguments in rules:
                second.add_rule(seccomp.ERRNO(error), call, *arguments)
        except (RuntimeError, ValueError, OSError):
            pass
    return filter_, second


def open_the_way(uid):
    """The socket that stands in for the service manager's lies in a directory that is closed to others."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        os.chown(path, uid, uid)
        os.chmod(os.path.dirname(path), 0o711)


def main():
    unit, forbidden = sys.argv[1], [f for f in sys.argv[3].split(",") if f]
    uid, *groups = map(int, sys.argv[2].split(":"))
    command = sys.argv[5:]
    if "ASAN_OPTIONS" in os.environ:  # its leak check wants ptrace(), which the filter takes away
        os.environ["ASAN_OPTIONS"] = "detect_leaks=0"
    # Opened here: the build tree may be closed to others.
    fd = os.open(command[0], os.O_RDONLY | os.O_CLOEXEC)
    open_the_way(uid)
    filters = make_filter(unit, forbidden)
    umask = int(settings(unit).get("UMask", ["0022"])[0], 8)
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(64):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.setgroups(groups)
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    os.umask(umask)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for filter_ in reversed(filters):  # the one that allows most first: it lets the other in
        filter_.load()
    os.execve(fd, command, os.environ)


if __name__ == "__main__":
    main()
