# SPDX-License-Identifier: LGPL-2.1-or-later
"""SELinux with Debian's policy, permissive: the policy loads with our rules in it, and the hook gets its label."""

import pytest


@pytest.fixture(scope="module")
def host(new_host):
    host = new_host("selinux", memory=1536, kernel="security=selinux selinux=1 enforcing=0")
    host.boot()
    host.expect("ready", 900)  # the first boot gives each file its label, and boots again
    host.settled()
    return host


def test_our_rules_load(host):
    host.run("sestatus; semodule -i /usr/share/doc/virtspool/selinux/virtspool-hook.cil")
    assert "virtspool-hook" in host.run("semodule -l")


def test_the_hook_records(host):
    host.run("restorecon -R /etc/libvirt/hooks /var/spool/virtspool /run/virtspool || true")
    host.run("define_guest web1; virsh -q start web1; virsh -q destroy web1")
    host.delivered("web1")
