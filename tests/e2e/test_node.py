# SPDX-License-Identifier: LGPL-2.1-or-later
"""The node tests itself: which hooks libvirt calls for what, as counted by the ledger, without our hook."""

import os

START = ["prepare begin", "start begin", "started begin"]
STOP = ["stopped end", "release end"]
RESTORE = ["restore begin", *START]
SAVED = "/var/lib/libvirt/vm1.save"


def calls(node):
    """What the ledger says of vm1, without the extra argument."""
    return [" ".join(line.split()[1:3]) for line in node.ledger("vm1")]


def test_hook_calls(bed):
    node = bed.node(hook=None)
    guest = node.guest("vm1")
    expected = []

    def expect(*more):
        expected.extend(more)
        node.wait_ledger(len(expected))
        assert calls(node) == expected

    guest.start().wait_up()
    expect(*START)
    guest.virsh("save", SAVED)
    expect(*STOP)
    node.virsh("restore", SAVED)
    expect(*RESTORE)
    guest.virsh("suspend")
    guest.virsh("resume")
    guest.virsh("reset")
    guest.wait_up()
    guest.virsh("shutdown")
    expect(*STOP)
    guest.start().wait_up().send("p")
    expect(*START, *STOP)
    guest.start().wait_up().send("c")
    expect(*START, *STOP)
    guest.start()
    guest.kill()
    expect(*START, *STOP)
    guest.start()
    node.libvirtd("kill")
    node.libvirtd("start")
    expect(*START, "reconnect begin")
    guest.destroy()
    expect(*STOP)


def test_the_machine_itself_is_not_touched(bed):
    def state():
        places = ("/etc/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/run/libvirt", "/var/spool/virtspool")
        files = [
            (path, os.lstat(path).st_mtime_ns)
            for place in places
            for directory, _, names in os.walk(place)
            for path in [directory, *(os.path.join(directory, n) for n in names)]
        ]
        with open("/proc/self/mountinfo") as mounts, open("/etc/passwd") as accounts:
            return files, mounts.read(), accounts.read(), os.uname().nodename

    os.makedirs("/etc/libvirt", exist_ok=True)  # which a node mounts over; the packages have it
    before = state()
    node = bed.node(name="elsewhere", hook="/bin/true")
    guest = node.guest("vm1").start()
    assert state() == before
    guest.destroy()
    node.power_cut()
    assert state() == before


def test_power_cut_and_boot(bed):
    node = bed.node(hook=None)
    guest = node.guest("vm1")
    guest.virsh("autostart")
    guest.start()
    assert guest.state == "running"
    pid = guest.pid
    node.power_cut()
    assert not os.path.exists(f"/proc/{pid}/fd")
    node.boot()
    guest.wait_state("running")
    assert calls(node) == START + START


def test_two_nodes_and_a_migration(bed):
    images = bed.directory / "images"
    images.mkdir()
    one = bed.node(hook=None, images=images)
    two = bed.node(hook=None, images=images, name="node2", spool=None)
    guest = one.guest("vm1").start().wait_up()
    uri = f"qemu+unix:///system?socket={two.socket}"
    data = f"unix://{two.directory}/migration.sock"
    guest.virsh("migrate", "--live", "--p2p", "--unsafe", uri, "--migrateuri", data)
    assert calls(one) == START + STOP
    assert calls(two) == ["migrate begin", *START]
