# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Debian packages, built once, and copies of this system to install them in."""

import os
import re
import subprocess

import pytest
from lib import ROOT
from lib.programs import missing, tool
from lib.system import System


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    """All of them, without those for debugging."""
    if os.geteuid() != 0:
        missing("needs root: a mount namespace")
    for needed in ("dpkg-buildpackage", "dh", "dh_apparmor", "lintian"):
        tool(needed)
    directory = tmp_path_factory.mktemp("deb")
    done = subprocess.run(
        [ROOT / "scripts/deb", "--no-tests", "-d", directory],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search("^[EW]: ", done.stdout, re.M), done.stdout
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
