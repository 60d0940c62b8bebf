# SPDX-License-Identifier: LGPL-2.1-or-later
"""The short one: a host is booted, the packages are installed, a guest runs, the power fails, and everything arrives."""

import pytest


@pytest.fixture(scope="module")
def host(packages, new_host):
    host = new_host("quick", bare=True)
    host.boot()
    host.install(packages)
    return host


def test_a_guest_and_a_power_cut(host):
    host.run("define_guest web1; virsh start web1; virsh destroy web1")
    host.delivered("web1")
    # Nobody takes the next ones before the power goes.
    host.run("systemctl stop virtspool; virsh start web1; define_guest db1; virsh start db1; virsh destroy db1")
    host.cut()
    host.boot()
    host.settled()
    host.delivered("db1")
    host.run("virsh start db1")
    host.healthy()
    assert host.operations("web1")[:8] == "prepare start started stopped release prepare start started".split()
    assert host.operations("db1") == "prepare start started stopped release prepare start started".split()
    host.check()
