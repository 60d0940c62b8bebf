# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The hook under every driver of libvirt, as DRIVER and as a member of DRIVER.d/: for real where a driver runs here (qemu,
lxc, network, daemon), and with the calls that libvirt documents, from 0.8 to the newest, for all of them.
"""

import subprocess

import pytest
from lib import ROOT, program, wait_until
from lib.calls import CALLS, START, STOP, what_the_hook_gets

ANOTHER = "#!/bin/sh\ncat >/dev/null\nexit 0\n"


def told(events):
    """[(driver, operation, sub-operation, reason)], "-" as libvirt writes what is not there."""
    data = [e["data"] for e in events]
    return [(d["driver"], d["operation"], d.get("suboperation", "-"), d.get("reason", "-")) for d in data]


@pytest.mark.parametrize("place", ["{}", "{}.d/50-virtspool"])
def test_documented_calls(bed, place):
    expected = []
    for driver, calls in CALLS.items():
        name, document = what_the_hook_gets(driver)
        for operation, suboperation, *extra in calls:
            bed.hook(operation, suboperation, *extra, domain=name, driver=place.format(driver), document=document)
            expected.append((driver, operation, suboperation, *(extra or ["-"])))
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    events = subscriber.wait_for(len(expected))
    assert told(events) == expected
    subscriber.check_complete(len(expected))
    for e in events:
        d = e["data"]
        assert e.get("subject") == d.get("name") == {"daemon": None, "network": "net1"}.get(d["driver"], "vm1")
        kind = [d["driver"], d["operation"], d.get("suboperation")]
        assert e["type"] == ".".join(["org.virtspool", *filter(None, kind)])


# On a bridge that is there already: a network that neither needs dnsmasq nor a packet filter.
BRIDGED = "<network><name>net1</name><forward mode='bridge'/><bridge name='bridge1'/></network>"


@pytest.mark.parametrize("beside_another", [False, True], ids=["main script", "in DRIVER.d"])
def test_a_real_libvirt(bed, no_cgroup_left, beside_another):
    drivers = ("qemu", "lxc", "network", "daemon")
    node = bed.node(boot=False, hook=None)
    hooks = node.directory / "etc/hooks"
    hooks.mkdir(parents=True)
    for driver in drivers if beside_another else ():
        (hooks / driver).write_text(ANOTHER)
        (hooks / driver).chmod(0o755)
    subprocess.run(
        ["sh", ROOT / "scripts/install-hook", "--program", program("virtspool-hook"), "--hooksdir", hooks, *drivers],
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=30,
    )
    assert (hooks / "lxc.d/virtspool").exists() == beside_another
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    node.boot()
    node.path("/run/net1.xml").write_text(BRIDGED)
    node.container("c1").start().destroy()
    node.execute("ip", "link", "add", "bridge1", "type", "bridge")
    node.virsh("net-define", "/run/net1.xml")
    node.virsh("net-start", "net1")
    guest = node.guest("vm1")
    guest.virsh("attach-interface", "network", "net1", "--config")
    guest.start()
    guest.destroy()
    node.virsh("net-destroy", "net1")
    every = len(node.daemons.split())  # of the modular daemons calls the hook
    node.libvirtd("reload")
    wait_until(lambda: subscriber.operations().count("reload") == every, 30, "the reload is told")
    node.libvirtd("stop")

    expected = [
        *[("daemon", "start", "-")] * every,
        *(("lxc", *call) for call in [*START, *STOP]),
        *(("network", "start", "begin"), ("network", "started", "begin")),
        *(("qemu", "prepare", "begin"), ("network", "port-created", "begin")),
        *(("qemu", "start", "begin"), ("qemu", "started", "begin")),
        *(("qemu", "stopped", "end"), ("network", "port-deleted", "begin"), ("qemu", "release", "end")),
        ("network", "stopped", "end"),
        *[("daemon", "reload", "begin")] * every,
        *[("daemon", "shutdown", "-")] * every,
    ]
    events = subscriber.wait_for(len(expected), deadline=30)
    assert [call[:3] for call in told(events)] == expected
    subscriber.check_complete(len(expected))
    by_driver = {e["data"]["driver"]: e for e in events}
    if node.libvirt >= (10, 5):
        reasons = [(d["driver"], d["reason"]) for d in (e["data"] for e in events) if d["operation"] == "release"]
        assert reasons == [("lxc", "destroyed"), ("qemu", "destroyed")]
    assert by_driver["lxc"]["subject"] == "c1" and by_driver["lxc"]["data"]["domain_type"] == "lxc"
    assert by_driver["network"]["subject"] == "net1"
    port = next(e["data"] for e in events if e["data"]["operation"] == "port-created")
    assert port["owner_name"] == "vm1" and port["port_mac"]
