# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A real host in a virtual machine takes minutes: scripts/test-vm, which sets the variables, runs these tests.

    VIRTSPOOL_VM_IMAGE     directory of the image (build-image)
    VIRTSPOOL_VM_PACKAGES  directory of our packages (scripts/deb)
    VIRTSPOOL_VM_WORK      where disks and logs go
"""

import fcntl
import hashlib
import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

collect_ignore_glob = [] if os.environ.get("VIRTSPOOL_VM_IMAGE") else ["test_*.py"]

if not collect_ignore_glob:
    pytest.register_assert_rewrite("host", "vm")
    from host import Host
    from vm import qcow2


@pytest.fixture
def no_process_left():
    """A machine lives for all tests of a file."""


@pytest.fixture(scope="session")
def image():
    if collect_ignore_glob:
        pytest.skip("scripts/test-vm runs these")
    return Path(os.environ["VIRTSPOOL_VM_IMAGE"])


@pytest.fixture(scope="session")
def work():
    work = Path(os.environ["VIRTSPOOL_VM_WORK"])
    work.mkdir(parents=True, exist_ok=True)
    return work


@pytest.fixture(scope="session")
def packages():
    return [p for p in Path(os.environ["VIRTSPOOL_VM_PACKAGES"]).glob("*.deb") if "-dbgsym_" not in p.name]


def install(image, packages, disk):
    disk.parent.mkdir()
    new = disk.with_name("new.qcow2")
    qcow2(new, image / "root.img", "raw")
    host = Host(image, disk.parent, new)
    try:
        host.boot()
        host.install(packages)
        host.poweroff()
    finally:
        host.cut()
    new.rename(disk)


@pytest.fixture(scope="session")
def installed(image, work, packages):
    """The disk of a host with broker and consumer on which our packages are installed, configured and running."""
    contents = hashlib.sha256(str(image).encode())
    for p in sorted(packages):
        contents.update(p.read_bytes())
    disk = work / f"installed-{contents.hexdigest()[:12]}/disk.qcow2"
    with open(work / "installed.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in two processes
        if not disk.exists():
            for old in work.glob("installed-*"):
                shutil.rmtree(old)
            install(image, packages, disk)
    return disk


@pytest.fixture(scope="session")
def new_host(image, work, request):
    """new_host(NAME, bare=False, ...): a machine that begins as `installed`, or as the image; options as those of VM."""
    hosts = []

    def make(name, bare=False, **options):
        directory = work / name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        base = (image / "root.img", "raw") if bare else (request.getfixturevalue("installed"), "qcow2")
        disk = directory / "disk.qcow2"
        qcow2(disk, *base)
        hosts.append(Host(image, directory, disk, **options))
        return hosts[-1]

    yield make
    for host in hosts:
        host.cut()
