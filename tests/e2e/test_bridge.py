# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The socket between libmosquitto and GnuTLS inside the daemon: another user of the machine cannot use it, see it, or
disturb it. And nothing is left of it, in descriptors or in the file system, however often it is made.
"""

import contextlib
import os
import socket
import subprocess
from pathlib import Path

import pytest
from lib import Broker, Process, wait_until
from lib.programs import program, tool

SOCKET_ACCEPTS = 0x10000  # __SO_ACCEPTCON in /proc/net/unix


def unix_sockets(pid):
    """{inode: (flags, path or None)} of the Unix sockets that the process holds."""
    inodes = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = {}
    with open("/proc/net/unix", encoding="utf-8", errors="replace") as f:
        for line in f.readlines()[1:]:
            fields = line.split(None, 7)
            if fields[6] in inodes:
                found[fields[6]] = int(fields[3], 16), fields[7].strip() if len(fields) > 7 else None
    return found


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_nothing_to_connect_to(bed):
    """While connected, no socket of the daemon's has a name that others could use, and none listens."""
    bed.broker.start()
    bed.hook("start", "begin")
    bed.daemon.start()
    bed.spool.wait_empty()
    for inode, (flags, path) in unix_sockets(bed.daemon.pid).items():
        assert not flags & SOCKET_ACCEPTS, (inode, path)
        assert path is None or ".virtspool-" not in path or not os.path.exists(path), path
        assert path is None or not path.startswith("@"), "abstract sockets are open to everybody"


ATTACKER = r"""
import os, signal, socket
# Looks for the bridge's directory all the time, and tries to enter it, to list it, and to connect to its socket.
seen = entered = connected = 0
def end(*_):
    os.write(1, f"seen {seen} entered {entered} connected {connected}\n".encode())
    os._exit(0)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
while True:
    for name in os.listdir("/tmp"):
        if not name.startswith(".virtspool-"):
            continue
        seen += 1
        try:
            os.listdir("/tmp/" + name)
            entered += 1
        except OSError:
            pass
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(0.1)
        try:
            s.connect("/tmp/" + name + "/s")
            connected += 1
        except OSError:
            pass
        s.close()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_another_user_races_for_it(bed):
    """Connections are made by the hundred, while an unprivileged user does all that he can: none of his succeeds."""
    broker = Broker(bed.directory / "plain", bed.certs, tls=False).start()
    log = bed.directory / "attacker.log"
    command = [tool("setpriv"), "--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs"]
    attackers = [Process([*command, "/usr/bin/python3", "-c", ATTACKER], log) for _ in range(2)]
    wait_until(lambda: log.read_text().count("ready") == 2, 10, "the attackers are at work")
    done = subprocess.run(
        [probe(), "--plain", "--rounds", "500", "--publish", "1", "--quiet", f"127.0.0.1:{broker.port}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    for a in attackers:
        a.stop()
    assert (done.returncode, done.stdout.strip()) == (0, "done 1"), done.stdout
    results = [line for line in log.read_text().splitlines() if line.startswith("seen")]
    assert len(results) == 2
    for line in results:
        assert "entered 0 connected 0" in line, line


def probe():
    return program("tests/net/client-probe")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root, or the same user, could try")
def test_while_it_has_a_name_nobody_can_connect(bed):
    """strace holds the process between bind() and unlink(): the socket can be found, and does not listen."""
    p = held_probe(bed, "unlink,unlinkat", 1)
    (path,) = wait_until(lambda: list(bed.directory.glob(".virtspool-*/s")), 10, "the bridge's socket")
    with socket.socket(socket.AF_UNIX) as s, pytest.raises(ConnectionRefusedError):
        s.connect(str(path))
    assert p.wait(20) == 0 and "done 1" in p.output()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root, or the same user, could try")
def test_a_connection_of_another_process_is_not_taken_for_ours(bed):
    """strace holds it before libmosquitto's connect() (the second; the first is TCP), and somebody else is faster."""
    p = held_probe(bed, "connect", 2)

    def inode():
        for pid in children(p.pid):
            for path in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                    if "/.virtspool-" in os.readlink(path):
                        return str(path)

    path = wait_until(inode, 10, "the bridge's inode")
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        assert p.wait(20) == 1
    assert "cannot set up the connection inside this process: Operation not permitted" in p.output()


def own_directory(bed):
    """An environment in which the bridge's directory is where no other test's is."""
    return {**os.environ, "RUNTIME_DIRECTORY": str(bed.directory)}


def held_probe(bed, calls, which):
    """The probe under strace, which lets these system calls wait for 1.5 s from the n-th on."""
    broker = Broker(bed.directory / "plain", bed.certs, tls=False).start()
    command = [tool("strace"), "-qq", "-f", "-o", bed.directory / "strace", "-e", f"trace={calls}", "-e"]
    command += [f"inject={calls}:delay_enter=1500000:when={which}+"]
    command += [probe(), "--plain", "--publish", "1", f"127.0.0.1:{broker.port}"]
    environment = {**own_directory(bed), "ASAN_OPTIONS": "detect_leaks=0"}  # that works with ptrace itself
    return Process(command, bed.directory / "probe", environment)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        return f.read().split()


def test_nothing_is_left_after_many_connections(bed):
    """Descriptors and directories: the same after five hundred connections as after one."""

    bed.broker.start()
    command = [probe(), "--ca", bed.certs.ca, "--cert", bed.certs.pem("host"), "--key", bed.certs.key("host"), "--hold"]
    few = Process([*command, f"localhost:{bed.broker.port}"], bed.directory / "few", own_directory(bed))
    few.wait_output("connected")
    expected = descriptors(few.pid)
    few.stop()
    many = Process(
        [*command[:-1], "--rounds", "500", "--publish", "1", "--quiet", "--linger", f"localhost:{bed.broker.port}"],
        bed.directory / "many",
        own_directory(bed),
    )
    many.wait_output("lingering", deadline=60)
    assert descriptors(many.pid) <= expected
    many.stop()
    assert not list(bed.directory.glob(".virtspool-*"))


def test_idle_is_quiet(bed):
    """Nothing to send: the process is woken by its keep-alive and the answer to it, and by nothing else."""
    bed.broker.start()
    command = [probe(), "--ca", bed.certs.ca, "--cert", bed.certs.pem("host"), "--key", bed.certs.key("host"), "--hold"]
    p = Process([*command, "--keep-alive", "5", f"localhost:{bed.broker.port}"], bed.directory / "idle")
    p.wait_output("connected")

    def pings():
        return bed.broker.output().count("Sending PINGRESP to client-probe")

    def wakes():
        with open(f"/proc/{p.pid}/status", encoding="ascii") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("voluntary_ctxt_switches"))

    wait_until(lambda: pings() == 1, 15, "the first ping")
    wait_until(lambda: p.state() == "S", 5, "it sleeps")
    before = wakes()
    wait_until(lambda: pings() == 3, 30, "two more pings")
    wait_until(lambda: p.state() == "S", 5, "it sleeps")
    assert wakes() - before <= 2 * 2 + 1
