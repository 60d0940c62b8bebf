# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The short one: a host is booted and the packages are installed; then their own test (etc/debian/tests/delivers), with a
power cut where autopkgtest reboots.
"""

import shutil

import pytest
from lib import ROOT


@pytest.fixture(scope="module")
def host(packages, new_host):
    host = new_host("quick", bare=True)
    host.boot()
    host.install_packages(packages)
    return host


def test_a_guest_and_a_power_cut(host):
    shutil.copytree(ROOT / "etc/debian/tests", host.share / "tests")
    host.run("""ln -s /bin/true /tmp/autopkgtest-reboot
        RECEIVED=/share/received /share/tests/delivers""")
    host.cut()
    host.boot()
    host.settled()
    host.run("AUTOPKGTEST_REBOOT_MARK=rebooted RECEIVED=/share/received /share/tests/delivers")
    host.check()
