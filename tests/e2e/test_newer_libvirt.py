# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What only another libvirt than this system's can show. scripts/test-newer-libvirt makes VIRTSPOOL_NEWER: root/, a Debian 13
with libvirt 11, its systemd units and the modular daemons; build/, our programs as they are built there.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from lib import ROOT, program, wait_until
from lib.system import System

NEWER = Path(os.environ.get("VIRTSPOOL_NEWER", "/nonexistent"))
pytestmark = pytest.mark.skipif(not NEWER.exists(), reason="needs another system (scripts/test-newer-libvirt)")

MODULAR = "virtqemud virtlxcd virtnetworkd"
UNITS = {
    "libvirtd": ["libvirtd.service", "libvirtd.socket"],
    MODULAR: [f"{d}.{kind}" for d in MODULAR.split() for kind in ("service", "socket")],
}
DROP_INS = {
    "virtspool-listen.service": '[Service]\nEnvironment="LISTEN_OPTIONS=-c qemu:///system -c lxc:///system"\n',
    "libvirt-guests.service": "[Unit]\nAfter=libvirtd.service virtqemud.service virtlxcd.service\n",  # see virtspoold(8)
}
QEMU_CONF = 'user = "root"\ngroup = "root"\ncgroup_controllers = []\nnamespaces = []\nsecurity_driver = "none"\n'


# --- versions: what the listener was built with, the library that it finds, and the libvirt that it listens to


@pytest.mark.parametrize(
    "built, library, libvirt",
    [("old", "old", "new"), ("old", "new", "new"), ("old", "new", "old"), ("new", "new", "new"), ("new", "new", "old")],
)
def test_versions(bed, built, library, libvirt):
    node = bed.node(root=NEWER / "root" if libvirt == "new" else None)
    assert (node.libvirt >= (11,)) == (libvirt == "new")
    listener = bed.listener(node)
    if built == "new":
        listener.program = NEWER / "build/virtspool-listen"
    if library == "new":  # all of them: that system's loader and where it looks
        root = NEWER / "root"
        listener.prefix = [root / "lib64/ld-linux-x86-64.so.2", "--library-path", root / "usr/lib/x86_64-linux-gnu"]
    listener.start().wait_listening()
    guest = node.guest("vm1").start()
    guest.virsh("suspend")
    guest.destroy()
    listener.wait_record("lifecycle-stopped", "destroyed", "vm1")
    happened = ["defined", "started", "suspended", "stopped"]
    told = [o for o, _ in listener.records("vm1")]
    assert [o for o in happened if f"lifecycle-{o}" in told] == happened
    # nic-mac-change is there when both ends have it.
    assert listener.connection()["kinds_of_events"] == (25 if (library, libvirt) == ("new", "new") else 24)
    assert sum("transition" in r for r in bed.spool.records() if r.get("origin") == "api") == 2
    listener.stop()


# --- a host that boots and shuts down


@pytest.fixture(params=UNITS, ids=["monolithic", "modular"])
def host(request, bed, packages, tmp_path):
    """Not booted yet: the package of this system, libvirt with its own units, and a guest that starts with the host."""
    bed.broker.start()
    system = System(tmp_path / "system", of=NEWER / "root")
    system.install(*packages)
    system.configure(bed)
    subprocess.run([ROOT / "tests/lib/node.sh", "guest", tmp_path, "vm1"], check=True, timeout=30)
    shutil.copy(tmp_path / "vm1.qcow2", system.path("var/lib/libvirt/images"))
    domains = system.path("etc/libvirt/qemu")
    (domains / "autostart").mkdir(parents=True, exist_ok=True)
    shutil.copy(tmp_path / "vm1.xml", domains)
    (domains / "autostart/vm1.xml").symlink_to("/etc/libvirt/qemu/vm1.xml")
    system.path("etc/libvirt/qemu.conf").write_text(QEMU_CONF)
    system.path("etc/default/libvirt-guests").write_text("URIS=qemu:///system\n")
    for unit, text in DROP_INS.items():
        directory = system.path(f"etc/systemd/system/{unit}.d")
        directory.mkdir()
        (directory / "test.conf").write_text(text)
    for script in system.path("etc/init.d").glob("libvirt*"):  # systemctl would look for their links
        script.unlink()
    system.boot()
    system.run(
        *("systemctl", "enable", *UNITS[request.param], "virtlogd.socket", "libvirt-guests"),
        *("virtspool", "virtspool-listen"),
    )
    system.poweroff()
    system.daemon = request.param.split()[0]
    yield system
    system.close()


def doctor(host):
    """[(grade, text)] of what it says of hooks and units."""
    findings = map(json.loads, host.run("virtspool", "doctor", "--json", check=False).splitlines())
    return [(f["grade"], f["text"]) for f in findings if f["check"] in ("hook", "daemon")]


def test_boot_and_shutdown(host, bed):
    """Our units begin before libvirt and its guests, and end after them: all that is told is delivered."""
    subscriber = bed.subscriber()
    host.boot()
    status = host.path("run/virtspool/listen.json")
    wait_until(
        lambda: status.exists() and [c["phase"] for c in json.loads(status.read_text())["connections"]] == ["listening"] * 2,
        30,
        lambda: f"it listens to both: {status.exists() and status.read_text()}",
    )
    wait_until(lambda: "reconciled" in subscriber.operations(), 30, lambda: f"a guest: {subscriber.operations()}")
    times = [
        int(host.run("systemctl", "show", "--value", "-p", "ActiveEnterTimestampMonotonic", unit))
        for unit in ("virtspool", "virtspool-listen", host.daemon)
    ]
    assert 0 < times[0] < times[1] < times[2]

    hook = "/etc/libvirt/hooks/qemu"
    assert doctor(host) == [
        ("ok", f"'{hook}' records the events of qemu"),
        ("ok", f"{host.daemon} started after '{hook}' was installed, and knows it"),
        ("ok", "virtspoold is running and connected"),
    ]
    host.poweroff()
    assert host.names("new") == []
    subscriber.check_complete()
    data = [e["data"] for e in subscriber.events]
    hooks = [(d["operation"], d.get("reason")) for d in data if "origin" not in d]
    assert hooks == [*((o, None) for o in ("prepare", "start", "started", "stopped")), ("release", "shutdown")]
    told = [(d["operation"], d.get("reason")) for d in data if d.get("origin") == "api" and d.get("name") == "vm1"]
    assert told == [("reconciled", "booted"), ("lifecycle-shutdown", "guest"), ("lifecycle-stopped", "shutdown")]
    for end in ("begin", "end"):
        uris = [d["details"]["uri"] for d in data if (d["operation"], d["suboperation"]) == ("listen", end)]
        assert sorted(uris) == ["lxc:///system", "qemu:///system"]
