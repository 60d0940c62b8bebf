# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Our programs under what their units take away: another user, no capability, the system-call filter, the address families.
This needs no systemd as process 1. That systemd accepts the units, and how it rates them: test_install.py.
"""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from lib import BUILD, confined, process, wait_until
from lib.fixtures import Bed
from lib.programs import missing, tool
from lib.waiting import PATIENCE

UID, LISTEN_UID = 61234, 61235  # nobody's
UNIT = BUILD / "etc/systemd/virtspool.service"
LISTEN_UNIT = BUILD / "etc/systemd/virtspool-listen.service"


@pytest.fixture
def bed(certs):
    """A bed that somebody else may enter: pytest's own directories are closed."""
    if os.geteuid() != 0:
        missing("only root can become somebody else")
    if importlib.util.find_spec("seccomp") is None:
        missing("python3-seccomp is not installed (scripts/setup)")
    tool("systemd-analyze")
    directory = Path(tempfile.mkdtemp(prefix="unit-"))
    directory.chmod(0o755)
    bed = Bed(directory, certs, None)
    for path in (bed.spool.spooldir, *bed.spool.spooldir.iterdir()):
        os.chown(path, 0, UID)
        path.chmod(0o2770)
    bed.spool.spooldir.chmod(0o3770)
    for path, group, mode in ((bed.spool.rundir, UID, 0o1775), (bed.spool.rundir / "hook", LISTEN_UID, 0o751)):
        path.mkdir(exist_ok=True)
        os.chown(path, 0, group)
        path.chmod(mode)
    yield bed
    process.stop_all()
    bed.close()
    shutil.rmtree(directory)


def confine(bed, *forbidden):
    """bed.daemon as the unit runs it, with copies of the certificates that it may read."""
    bed.daemon.directory.mkdir()
    tls = bed.daemon.config["tls"]
    for key, path in tls.items():
        tls[key] = shutil.copy(path, bed.daemon.directory)
        os.chown(tls[key], 0, UID)
        os.chmod(tls[key], 0o640)
    bed.daemon.prefix = confined.prefix(UNIT, UID, *forbidden)
    return bed.daemon


def test_the_main_flow_under_the_units_filter(bed):
    bed.broker.start()
    subscriber = bed.subscriber()
    daemon = confine(bed)
    daemon.config["mqtt"]["status_topic"] = "virtspool/v1/{host}/status"
    bed.hook.start("vm1")  # there before the daemon
    daemon.start()
    subscriber.wait_for(3)
    fields = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{daemon.pid}/status").read_text().splitlines() if ":\t" in line
    )
    assert fields["Seccomp"] == "2" and int(fields["Seccomp_filters"]) >= 2 and fields["NoNewPrivs"] == "1"
    assert fields["Uid"].split() == [str(UID)] * 4 and fields["Groups"].split() == []
    assert all(int(fields[f"Cap{kind}"], 16) == 0 for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb"))

    # A reload, the broker away and back, events meanwhile, the archive's directory gone: all as without.
    daemon.reload()
    bed.broker.kill()
    bed.hook.stop("vm1")
    bed.broker.start()
    subscriber.wait_subscribed()
    subscriber.wait_for(5, 30)
    bed.spool.wait_empty()
    wait_until(lambda: (bed.spool.rundir / "virtspool.prom").exists(), what="the metrics")
    assert daemon.stop() == 0
    shutil.rmtree(bed.spool.spooldir / "sent")
    daemon.start()
    bed.hook("started", domain="vm2")
    subscriber.wait_for(6)
    bed.spool.wait_empty()
    bed.spool.wait_count(1, "sent")
    assert (bed.spool.spooldir / "sent").stat().st_mode & 0o7777 == 0o2770
    assert daemon.stop() == 0
    assert subscriber.operations() == ["prepare", "start", "started", "stopped", "release", "started"]
    subscriber.check_complete(6)
    assert bed.spool.failed() == {}


def test_the_listener_under_its_units_filter(bed):
    """libvirt's test driver stands in for libvirtd, which it would reach by a unix socket."""
    if not (BUILD / "virtspool-listen").exists():
        missing("virtspool-listen is not built")
    bed.hook("started", domain="vm1")  # makes the stamp
    listener = bed.listener("test:///default", "qemu+unix:///system?socket=/nowhere/libvirt-sock-ro")
    listener.prefix = confined.prefix(LISTEN_UNIT, LISTEN_UID, groups=[UID])
    listener.start()
    listener.wait_record("reconciled", "running", "test")
    wait_until(lambda: "cannot connect" in listener.connection(1).get("last_error", ""), what="the second one's error")
    records = bed.spool.records()
    assert [int(r["sequence"]) for r in records] == list(range(1, len(records) + 1))
    assert bed.spool.names("emergency/new") == []
    listener.stop()


def test_all_daemons_run_so_if_they_are_told_to(bed, monkeypatch):
    """As scripts/test tells its end-to-end tests: the same user, for the files' sake, and all else as the unit has it."""
    monkeypatch.setenv("VIRTSPOOL_CONFINED", "1")
    bed.broker.start()
    bed.daemon.start()
    status = Path(f"/proc/{bed.daemon.pid}/status").read_text()
    assert "\nSeccomp:\t2\n" in status and "\nCapEff:\t0000000000000000\n" in status
    assert bed.daemon.stop() == 0


@pytest.mark.parametrize("call", ["sendmsg", "renameat2,renameat,rename", "epoll_wait,epoll_pwait,epoll_pwait2"])
def test_a_filter_that_lacks_a_call_is_noticed(bed, call):
    """The test above would fail: the filter is on, and these are what the daemon lives by."""
    bed.broker.start()
    daemon = confine(bed, *call.split(","))
    bed.hook.start("vm1")
    with pytest.raises(AssertionError):
        daemon.start(deadline=4 / PATIENCE)
        wait_until(lambda: len(bed.spool.names("sent")) == 3, 4 / PATIENCE)
    assert bed.spool.names("sent") == []


def test_what_the_unit_takes_away(bed):
    """The launcher itself: a program under it may do none of this, and is told so with the unit's error."""
    attempts = """
import ctypes, errno, mmap, os, socket
def fails(what, *codes):
    try:
        what()
    except OSError as e:
        assert e.errno in codes, e
    else:
        raise AssertionError("allowed")
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)
fails(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW), errno.EPERM, errno.EAFNOSUPPORT)
fails(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW), errno.EPERM, errno.EAFNOSUPPORT)
fails(lambda: call("unshare", 0x10000000), errno.EPERM)
fails(lambda: call("mount", 0, 0, 0, 0, 0), errno.EPERM)
fails(lambda: call("ptrace", 16, 1, 0, 0), errno.EPERM)
fails(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC), errno.EPERM)
fails(lambda: os.chmod("new", 0o2770), errno.EPERM)
fails(lambda: os.chroot("."), errno.EPERM)
fails(lambda: os.setpriority(os.PRIO_PROCESS, 0, 5), errno.EPERM)
socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()
print("as it should be")
"""
    command = [*confined.prefix(UNIT, UID), "/usr/bin/python3", "-I", "-c", attempts]
    done = subprocess.run(command, cwd=bed.spool.spooldir, capture_output=True, text=True, timeout=30)
    assert done.stdout == "as it should be\n", done.stdout + done.stderr
