# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The Debian package that scripts/deb builds: install, upgrade, remove, purge, with dpkg itself, in a copy of this system
(an overlay in a mount namespace of its own, so the system is neither changed nor seen by libvirt). Nothing is started.
"""

import hashlib
import json
import os
import shutil
import subprocess

import pytest
from lib import BUILD, ROOT, Process, wait_until
from lib.debs import with_version

HOOKS = "etc/libvirt/hooks"
SPOOL = "var/spool/virtspool"
ANOTHER = "#!/bin/sh\n# another's hook\nexit 0\n"

@pytest.fixture(scope="session")
def newer(package):
    """The same as the next version, with another hook."""
    directory = package.parent / "newer"
    directory.mkdir()
    return with_version(package, "99.0-1", directory)


def test_install(system, package):
    system.install(package)
    for name in (
        *("usr/bin/virtspool", "usr/sbin/virtspoold", "lib/systemd/system/virtspool.service", f"{HOOKS}/qemu"),
        *("usr/lib/sysusers.d/virtspool.conf", "usr/lib/tmpfiles.d/virtspool.conf", "etc/virtspool/virtspool.yaml"),
        *("etc/apparmor.d/usr.sbin.virtspoold", "usr/share/man/man8/virtspoold.8.gz"),
        *("usr/share/doc/virtspool/brokers/README.md", "usr/share/doc/virtspool/recipes/crash-alert"),
    ):
        assert system.path(name).is_file(), name
    assert "/etc/virtspool/virtspool.yaml" in system.run("dpkg-query", "-W", "-f", "${Conffiles}", "virtspool")
    system.event("start")
    record = system.path(f"{SPOOL}/new") / system.names("new")[0]
    # The daemon reads what root wrote.
    system.run("setpriv", "--reuid=virtspool", "--regid=virtspool", "--clear-groups",
               "mv", f"/{SPOOL}/new/{record.name}", f"/{SPOOL}/sent/")
    assert system.run("setpriv", "--reuid=virtspool", "--regid=virtspool", "--clear-groups",
                      "cat", f"/{SPOOL}/sent/{record.name}")
    if shutil.which("apparmor_parser"):
        system.run("apparmor_parser", "--skip-kernel-load", "--skip-cache", "/etc/apparmor.d/usr.sbin.virtspoold")


def test_another_hook_is_never_touched(system, package):
    system.path(HOOKS).mkdir(parents=True)
    system.path(f"{HOOKS}/qemu").write_text(ANOTHER)
    system.install(package)
    assert system.path(f"{HOOKS}/qemu.d/virtspool").is_file()
    system.run("dpkg", "--remove", "virtspool")
    assert not system.path(f"{HOOKS}/qemu.d").exists()
    system.run("dpkg", "--purge", "virtspool")
    assert system.path(f"{HOOKS}/qemu").read_text() == ANOTHER


def test_upgrade_with_events_in_the_spool(system, package, newer, bed):
    system.install(package)
    system.run("virtspool", "hooks", "install", "lxc")
    for operation in ("prepare", "start", "started"):
        system.event(operation)
    waiting = system.names("new")
    assert len(waiting) == 3

    bed.broker.start()
    yaml = system.configure(bed)

    system.install(newer)
    assert system.names("new") == waiting
    assert bed.broker.url in yaml.read_text()
    for driver in ("qemu", "lxc"):
        assert system.path(f"{HOOKS}/{driver}").read_bytes().endswith(b"99.0-1")
    assert not system.path(f"{HOOKS}/network").exists()
    system.event("stopped")

    subscriber = bed.subscriber()
    daemon = Process(
        system.command("setpriv", "--reuid=virtspool", "--regid=virtspool", "--clear-groups", "--inh-caps=-all",
                       "env", "-i", "/usr/sbin/virtspoold"),
        bed.directory / "daemon.log",
    )
    events = subscriber.wait_for(4)
    assert [e["data"]["operation"] for e in events] == ["prepare", "start", "started", "stopped"]
    wait_until(lambda: not system.names("new"), 10, "the spool is empty")
    subscriber.check_complete(4)
    assert subscriber.duplicates == 0
    assert daemon.stop() == 0


def test_remove_keeps_the_spool_and_purge_does_not(system, package):
    system.install(package)
    system.run("virtspool", "hooks", "install", "network")
    system.event("start")
    waiting = system.names("new")
    system.run("dpkg", "--remove", "virtspool")
    assert list(system.path(HOOKS).iterdir()) == []
    assert system.names("new") == waiting
    assert system.path("etc/virtspool/virtspool.yaml").exists()

    # Back again: the hooks that were there, and no other.
    system.install(package)
    assert sorted(p.name for p in system.path(HOOKS).iterdir()) == ["network", "qemu"]
    assert system.names("new") == waiting

    system.run("dpkg", "--purge", "virtspool")
    for name in (SPOOL, "etc/virtspool", "var/lib/virtspool", "run/virtspool", "etc/apparmor.d/usr.sbin.virtspoold"):
        assert not system.path(name).exists(), name
    assert "virtspool" not in system.path("etc/passwd").read_text()


def test_a_removal_that_fails_puts_the_hook_back(system, package):
    system.install(package)
    prerm = system.path("var/lib/dpkg/info/virtspool.prerm")
    prerm.write_text(prerm.read_text() + "exit 1\n")
    said = system.run("dpkg", "--remove", "virtspool", check=False)
    assert "returned error exit status 1" in said
    assert system.path(f"{HOOKS}/qemu").is_file()
    assert "installed" in system.run("dpkg-query", "-W", "-f", "${Status}", "virtspool")


def test_a_hook_that_the_admin_removed_stays_away(system, package, newer):
    system.install(package)
    system.run("virtspool", "hooks", "remove")
    system.install(newer)
    assert list(system.path(HOOKS).iterdir()) == []


def test_the_bill_of_materials_lists_what_is_linked(packages, package, tmp_path):
    archive = shutil.copy(next(package.parent.glob("*.orig.tar.xz")), tmp_path / "virtspool-1.0.tar.xz")
    document = json.loads(subprocess.check_output([ROOT / "scripts/sbom", archive, *packages], timeout=120))
    names = {p["SPDXID"]: p["name"] for p in document["packages"]}
    links = {
        (names[r["spdxElementId"]], names[r["relatedSpdxElement"]], r["relationshipType"])
        for r in document["relationships"]
        if r["relationshipType"].endswith("_LINK")
    }
    assert ("virtspool", "musl", "STATIC_LINK") in links
    for p in packages:  # the packages depend on what their programs link
        name, depends = subprocess.check_output(
            ["dpkg-deb", "--showformat", "${Package}\n${Depends}", "--show", p], text=True
        ).split("\n")
        libraries = {d.split()[0] for d in depends.split(", ") if d.startswith("lib")}
        assert {b for a, b, kind in links if a == name and kind == "DYNAMIC_LINK"} == libraries


def test_the_archive_is_the_same_each_time(tmp_path):
    sums = set()
    for _ in range(2):
        subprocess.run(["make", "-s", "-C", BUILD, "dist", f"distdir=virtspool-{os.getpid()}"], check=True, timeout=300)
        archive = BUILD / f"virtspool-{os.getpid()}.tar.xz"
        sums.add(hashlib.sha256(archive.read_bytes()).hexdigest())
        archive.unlink()
    assert len(sums) == 1
