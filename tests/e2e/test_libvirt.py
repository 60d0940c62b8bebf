# SPDX-License-Identifier: LGPL-2.1-or-later
"""
With a real libvirtd and QEMU guests: each action, what libvirt calls for it, and what the subscriber receives.

Three things must be equal: what the table expects, what libvirt called according to the ledger (a second hook), and
what arrived, in its order.
"""

import re
import threading

import pytest

from lib import Spool, wait_until

P, S, D = "prepare begin", "start begin", "started begin"
START = [P, S, D]
RESTORE = ["restore begin", *START]


def stop(reason):
    """What the end of a domain is told with; a libvirt before 10.5 gives no reason."""
    return ["stopped end", f"release end {reason}"]


SAVED = "/var/lib/libvirt/vm1.save"


@pytest.fixture
def host(bed):
    """A node with our hook, whose spool is drained to a subscriber."""
    bed.broker.start()
    bed.subscribed = bed.subscriber()
    bed.daemon.start()
    bed.node1 = bed.node()
    return bed


def calls(lines):
    """"vm1 release end from snapshot" → "release end from snapshot", "vm1 prepare begin -" → "prepare begin"."""
    return [re.search(r" (\w+ (begin|end) .*)$", line)[1].removesuffix(" -") for line in lines]


def arrived(subscriber, domain="vm1"):
    data = [e["data"] for e in {e["id"]: e for e in list(subscriber.events)}.values() if e["data"].get("name") == domain]
    return [" ".join(filter(None, (d["operation"], d["suboperation"], d.get("reason")))) for d in data]


def expect(bed, expected, node=None, subscriber=None, domain="vm1"):
    node, subscriber = node or bed.node1, subscriber or bed.subscribed
    if node.libvirt < (10, 5):
        expected = [re.sub("^(release end) .*", r"\1", call) for call in expected]
    wait_until(
        lambda: len(node.ledger(domain)) >= len(expected), 30, lambda: f"{expected}: libvirt called {node.ledger(domain)}"
    )
    wait_until(
        lambda: len(arrived(subscriber, domain)) >= len(expected),
        30,
        lambda: f"{expected}: {arrived(subscriber, domain)} arrived",
    )
    assert calls(node.ledger(domain)) == expected
    assert arrived(subscriber, domain) == expected
    subscriber.check_complete(concurrent=True)


# --- one action each: name, what is done to a guest that was just defined, what is called


def start(bed, guest):
    guest.start()


def destroy(bed, guest):
    guest.start().destroy()


def create_transient(bed, guest):
    bed.node1.virsh("undefine", "vm1")
    bed.node1.virsh("create", "/run/vm1.xml")
    guest.destroy()


def suspend_resume_reset_reboot(bed, guest):
    guest.start().wait_up()
    guest.virsh("suspend")
    guest.virsh("resume")
    guest.virsh("reset")
    guest.wait_up()
    guest.send("r")
    guest.wait_up()


def shutdown(bed, guest):
    guest.start().wait_up()
    guest.virsh("shutdown")
    guest.wait_state("shut off")


def power_off_from_inside(bed, guest):
    guest.start().wait_up().send("p")
    guest.wait_state("shut off")


def panic(bed, guest):
    guest.start().wait_up().send("c")
    guest.wait_state("shut off")


def panic_and_restart(bed, guest):
    guest.change("<on_crash>destroy", "<on_crash>restart").start().wait_up().send("c")
    guest.wait_up()


def qemu_is_killed(bed, guest):
    guest.start()
    guest.kill()
    guest.wait_state("shut off")


def save_restore(bed, guest):
    guest.start().virsh("save", SAVED)
    bed.node1.virsh("restore", SAVED)


def managed_save(bed, guest):
    guest.start().virsh("managedsave")
    guest.start()


def revert_to_a_running_snapshot(bed, guest):
    guest.start().virsh("snapshot-create-as", "one")
    guest.virsh("snapshot-revert", "one")


def start_that_fails_in_qemu(bed, guest):
    bed.node1.execute("truncate", "-s", "0", "/var/lib/libvirt/images/vm1.qcow2")
    assert "error" in guest.virsh("start", check=False)


def libvirtd_restarts(bed, guest):
    guest.start()
    bed.node1.libvirtd("stop")
    bed.node1.libvirtd("start")


def libvirtd_is_killed(bed, guest):
    guest.start()
    bed.node1.libvirtd("kill")
    bed.node1.libvirtd("start")
    guest.destroy()


def guest_dies_while_libvirtd_is_down(bed, guest):
    guest.start()
    pid = guest.pid
    bed.node1.libvirtd("stop")
    guest.node.execute("kill", "-KILL", str(_inside(guest, pid)))
    bed.node1.libvirtd("start")


def another_hook_refuses_the_reconnect(bed, guest):
    refusing = bed.node1.directory / "etc/hooks/qemu.d/refusing"
    refusing.write_text('#!/bin/sh\n[ "$2" != reconnect ]\n')
    refusing.chmod(0o755)
    guest.start()
    bed.node1.libvirtd("stop")
    bed.node1.libvirtd("start")
    guest.wait_state("shut off")


def define_rename_undefine(bed, guest):
    guest.virsh("domrename", "other")
    bed.node1.virsh("undefine", "other")


def _inside(guest, pid):
    with open(f"/proc/{pid}/status") as f:
        return next(line.split()[-1] for line in f if line.startswith("NSpid:"))


ACTIONS = [
    (start, START),
    (destroy, START + stop("destroyed")),
    (create_transient, START + stop("destroyed")),
    (suspend_resume_reset_reboot, START),
    (shutdown, START + stop("shutdown")),
    (power_off_from_inside, START + stop("shutdown")),
    (panic, START + stop("crashed")),
    (panic_and_restart, START),
    (qemu_is_killed, START + stop("crashed")),
    (save_restore, START + stop("saved") + RESTORE),
    (managed_save, START + stop("saved") + RESTORE),
    (revert_to_a_running_snapshot, START + stop("from snapshot") + START),
    (start_that_fails_in_qemu, [P, S, *stop("failed")]),
    (libvirtd_restarts, START + ["reconnect begin"]),
    (libvirtd_is_killed, START + ["reconnect begin"] + stop("destroyed")),
    (guest_dies_while_libvirtd_is_down, START + stop("crashed")),
    (another_hook_refuses_the_reconnect, START + ["reconnect begin"] + stop("daemon")),
    (define_rename_undefine, []),
]


@pytest.mark.parametrize("action, expected", ACTIONS, ids=[a.__name__ for a, _ in ACTIONS])
def test_action(host, action, expected):
    action(host, host.node1.guest("vm1"))
    expect(host, expected)


# --- more than one guest, more than one host


def test_what_the_document_says_arrives(host):
    guest = host.node1.guest("vm1", "6ba7b810-9dad-41d1-80b4-00c04fd430c8")
    guest.change("<memory", "<title>The first</title>\n  <memory").start()
    expect(host, START)
    data = host.subscribed.events[-1]["data"]
    assert (data["uuid"], data["title"]) == ("6ba7b810-9dad-41d1-80b4-00c04fd430c8", "The first")
    assert (data["vcpus"], data["memory_kib"], data["driver"]) == (1, 32 * 1024, "qemu")


def test_guests_that_start_and_stop_at_once(host):
    guests = [host.node1.guest(f"vm{i}") for i in range(4)]

    def cycle(guest):
        guest.start().destroy()

    threads = [threading.Thread(target=cycle, args=(g,)) for g in guests]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for g in guests:
        expect(host, START + stop("destroyed"), domain=g.name)
    host.subscribed.check_complete(20, concurrent=True)


@pytest.mark.parametrize("name", ["a b", "-rf", ".hidden", "$(reboot)", "ü%s;*'", 'q"uote', "x" * 200])
def test_names(host, name):
    guest = host.node1.guest("vm1")
    uuid = guest.virsh("domuuid").strip()
    guest.change("<name>vm1</name>", f"<name>{name}</name>")
    guest.name = uuid
    guest.start().destroy()
    events = host.subscribed.wait_for(5)
    assert {e["data"]["name"] for e in events} == {name}
    assert {e["data"]["uuid"] for e in events} == {uuid}


def test_power_cut_and_boot(host):
    guest = host.node1.guest("vm1")
    guest.virsh("autostart")
    guest.start()
    expect(host, START)
    host.node1.power_cut()
    host.node1.boot()
    guest.wait_state("running")
    expect(host, START + START)
    assert len({e["epoch"] for e in host.subscribed.events}) == 2, "each boot has an epoch of its own"


def test_migration_is_told_by_both_hosts(host):
    images = host.directory / "images"
    images.mkdir()
    host.node1.remove()
    one = host.node(images=images)
    spool2 = Spool(host.directory / "second")
    two = host.node(images=images, name="node2", spool=spool2)
    daemon2 = host.new_daemon("daemon2", host="node2")
    daemon2.spool = spool2
    daemon2.config["mqtt"]["client_id"] = "virtspool-node2"
    daemon2.config["metrics"] = {"file": spool2.rundir / "virtspool.prom"}
    daemon2.start()
    on_one = host.subscriber(topic="virtspool/v1/node1/#")
    on_two = host.subscriber(topic="virtspool/v1/node2/#")
    guest = one.guest("vm1").start().wait_up()
    uri = f"qemu+unix:///system?socket={two.socket}"
    guest.virsh(
        "migrate", "--live", "--p2p", "--unsafe", uri, "--migrateuri", f"unix://{two.directory}/migration.sock"
    )
    expect(host, START + stop("migrated"), one, on_one)
    expect(host, ["migrate begin", *START], two, on_two)
    assert {e["source"] for e in on_two.events} == {"/virtspool/node2"}


# --- what breaks


def test_a_broker_outage_is_not_felt_by_guests(host):
    guest = host.node1.guest("vm1").start()
    expect(host, START)
    host.spool.wait_empty()
    host.broker.kill()
    guest.destroy()
    guest.start().virsh("save", SAVED)
    host.node1.virsh("restore", SAVED)
    assert len(host.spool.waiting()) == 11
    host.broker.start()
    expect(host, START + stop("destroyed") + START + stop("saved") + RESTORE)
    host.spool.wait_empty()


def test_guests_start_without_a_spool_and_the_events_arrive(host):
    """The spool's file system is not mounted: the emergency spool takes them."""
    guest = host.node1.guest("vm1")
    unmounted = host.spool.spooldir / "unmounted"
    host.spool.path("new").rename(unmounted)
    guest.start()
    assert guest.state == "running"
    unmounted.rename(host.spool.path("new"))
    guest.destroy()
    expect(host, START + stop("destroyed"))


def test_guests_start_on_a_machine_without_anything(bed):
    """The hook is there, but neither of its directories: nothing is harmed, nothing is said."""
    node = bed.node(spool=None)
    node.execute("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", "/var/spool")
    guest = node.guest("vm1").start()
    assert guest.state == "running"
    node.libvirtd("stop")
    node.libvirtd("start")
    assert guest.state == "running"
    guest.virsh("save", SAVED)
    node.virsh("restore", SAVED)
    guest.destroy()
    operations = [call.split()[0] for call in calls(node.ledger("vm1"))]
    assert operations == "prepare start started reconnect stopped release restore prepare start started stopped release".split()


def test_a_graphics_password_does_not_reach_the_disk(host):
    guest = host.node1.guest("vm1")
    password = "<graphics type='vnc' port='-1' autoport='yes' passwd='pa55word'/>"
    if "vnc" in guest.change("<memballoon", password + "<memballoon").virsh("start", check=False).lower():
        pytest.skip("this QEMU has no VNC")
    guest.virsh("save", SAVED)
    host.node1.virsh("restore", SAVED)
    assert "pa55word" in guest.virsh("dumpxml", "--security-info"), "the guest keeps it"
    expect(host, START + stop("saved") + RESTORE)
    host.spool.wait_count(9, "sent")
    records = host.spool.records("sent")
    assert [r["operation"] for r in records] == ["prepare", "start", "started", "stopped", "release"] + [
        r.split()[0] for r in RESTORE
    ]
    assert not any(b"pa55word" in r["document"] for r in records)
    assert any(r.get("redacted") for r in records)


def test_beside_another_hook(bed):
    """Where somebody's hook stands, ours works from qemu.d/."""
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    other = bed.directory / "other-hook"
    other.write_text("#!/bin/sh\necho \"$2\" >>/var/log/libvirt/other\n")
    node = bed.node(hook=other)
    done = bed.run("../scripts/install-hook", "--program", bed.hook.installed(), "--hooksdir", node.directory / "etc/hooks")
    assert done.returncode == 0 and "qemu.d" in done.stdout + done.stderr, done
    node.libvirtd("stop")
    node.libvirtd("start")
    guest = node.guest("vm1").start()
    guest.destroy()
    expect(bed, START + stop("destroyed"), node, subscriber)
    assert (node.directory / "log/other").read_text().split() == ["prepare", "start", "started", "stopped", "release"]
