# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Debian packages, built once for the same sources, and copies of this system to install them in."""

import fcntl
import hashlib
import os
import re
import subprocess

import pytest
from lib import BUILD, ROOT
from lib.programs import missing, tool
from lib.system import System


def digest_of_sources():
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout.split(b"\0")
    digest = hashlib.sha256()
    for path in (ROOT / os.fsdecode(name) for name in files if name):
        digest.update(bytes(path))
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


def build_packages(directory):
    done = subprocess.run(
        [ROOT / "scripts/deb", "--no-tests", "-d", directory],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search("^[EW]: ", done.stdout, re.M), done.stdout


@pytest.fixture(scope="session")
def packages():
    """All of them, without those for debugging."""
    if os.geteuid() != 0:
        missing("needs root: a mount namespace")
    for needed in ("dpkg-buildpackage", "dh", "dh_apparmor", "lintian"):
        tool(needed)
    directory = BUILD / "test-debs"
    directory.mkdir(exist_ok=True)
    with open(directory / ".lock", "w") as lock:  # several pytest processes run at a time
        fcntl.flock(lock, fcntl.LOCK_EX)
        sources, digest = directory / ".sources", digest_of_sources()
        if not sources.exists() or sources.read_text() != digest:
            sources.unlink(missing_ok=True)
            build_packages(directory)
            sources.write_text(digest)
    return [p for p in directory.glob("*.deb") if "-dbgsym_" not in p.name]


@pytest.fixture(scope="session")
def package(packages):
    """The main one: hook, daemon and admin tool."""
    return next(p for p in packages if p.name.startswith("virtspool_"))


@pytest.fixture
def system(tmp_path):
    system = System(tmp_path / "system")
    yield system
    system.close()
