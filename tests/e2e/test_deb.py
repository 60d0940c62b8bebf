# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The Debian package that scripts/deb builds: install, upgrade, remove, purge, with dpkg itself, in a copy of this system
(an overlay in a mount namespace of its own, so the system is neither changed nor seen by libvirt). Nothing is started.
"""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from lib import ROOT, Process, wait_until
from lib.programs import missing, tool

HOOKS = "etc/libvirt/hooks"
SPOOL = "var/spool/virtspool"
ANOTHER = "#!/bin/sh\n# another's hook\nexit 0\n"
MOUNTS = """
set -e
cd "$1"
mount -t tmpfs -o mode=755 tmpfs .
mkdir upper work root
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
mount --rbind /proc root/proc
mount --rbind /dev root/dev
mount -t tmpfs -o mode=755 tmpfs root/run
mount -t tmpfs -o mode=1777 tmpfs root/tmp
rm -rf root/etc/libvirt root/etc/virtspool root/var/spool/virtspool
printf '#!/bin/sh\\nexit 101\\n' >root/usr/sbin/policy-rc.d
chmod 755 root/usr/sbin/policy-rc.d
touch ready
exec sleep infinity
"""


class System:
    """system.run(COMMAND...) inside; system.path("etc/...") from outside."""

    def __init__(self, directory):
        directory.mkdir()
        self.holder = Process(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", MOUNTS, "sh", directory],
            directory.with_suffix(".log"),
        )
        # Seen from outside, the directory of the holder is that of its namespace.
        self.root = f"/proc/{self.holder.pid}/cwd/root"
        ready = f"/proc/{self.holder.pid}/cwd/ready"
        wait_until(lambda: os.path.exists(ready) or not self.holder.running, 20, "the copy of the system")
        assert self.holder.running, self.holder.output()

    def path(self, name):
        return Path(self.root) / name

    def command(self, *command):
        return ["nsenter", "--mount", "-t", str(self.holder.pid), "chroot", self.root, *map(str, command)]

    def run(self, *command, check=True, input=None):
        done = subprocess.run(
            self.command("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", *command),
            capture_output=True,
            text=True,
            timeout=120,
            **({"stdin": subprocess.DEVNULL} if input is None else {"input": input}),
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def install(self, package):
        shutil.copy(package, self.path("tmp"))
        return self.run("dpkg", "--install", f"/tmp/{package.name}")

    def event(self, operation):
        """As libvirt runs the hook."""
        xml = "<domain><name>vm1</name><uuid>6ba7b810-9dad-11d1-80b4-00c04fd430c8</uuid></domain>"
        return self.run("/etc/libvirt/hooks/qemu", "vm1", operation, "begin", "-", input=xml)

    def names(self, directory):
        return sorted(os.listdir(self.path(f"{SPOOL}/{directory}")))


@pytest.fixture(scope="module")
def package(tmp_path_factory):
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
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search("^E: ", done.stdout, re.M), done.stdout
    return next(directory.glob("virtspool_*.deb"))


@pytest.fixture(scope="module")
def newer(package):
    """The same as the next version, with another hook."""
    directory = package.parent / "newer"
    subprocess.run(["dpkg-deb", "--raw-extract", package, directory], check=True, timeout=60)
    control = directory / "DEBIAN/control"
    control.write_text(re.sub("^Version: .*", "Version: 99.0-1", control.read_text(), flags=re.M))
    with open(directory / "usr/libexec/virtspool/virtspool-hook", "ab") as f:
        f.write(b"newer")
    result = package.parent / f"virtspool_99.0-1_{platform.machine()}.deb"
    subprocess.run(["dpkg-deb", "--build", directory, result], check=True, timeout=60, stdout=subprocess.DEVNULL)
    return result


@pytest.fixture
def system(tmp_path):
    system = System(tmp_path / "system")
    yield system
    system.holder.kill()


def test_install(system, package):
    system.install(package)
    for name in (
        *("usr/bin/virtspool", "usr/sbin/virtspoold", "lib/systemd/system/virtspool.service", f"{HOOKS}/qemu"),
        *("usr/lib/sysusers.d/virtspool.conf", "usr/lib/tmpfiles.d/virtspool.conf", "etc/virtspool/virtspool.yaml"),
        *("etc/apparmor.d/usr.sbin.virtspoold", "usr/share/man/man8/virtspoold.8.gz"),
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

    # What the admin does: the certificates, and the broker's name.
    bed.broker.start()
    for name in ("ca.pem", "host.pem", "host.key"):
        target = system.path(f"etc/virtspool/{name}")
        shutil.copy(bed.certs.directory / name, target)
    system.run("chown", "root:virtspool", "/etc/virtspool/host.key")
    system.run("chmod", "640", "/etc/virtspool/host.key")
    yaml = system.path("etc/virtspool/virtspool.yaml")
    yaml.write_text(yaml.read_text().replace("mqtts://broker.example.org:8883", bed.broker.url))
    system.run("virtspoold", "--check-config")

    system.install(newer)
    assert system.names("new") == waiting
    assert bed.broker.url in yaml.read_text()
    for driver in ("qemu", "lxc"):
        assert system.path(f"{HOOKS}/{driver}").read_bytes().endswith(b"newer")
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


def test_a_hook_that_the_admin_removed_stays_away(system, package, newer):
    system.install(package)
    system.run("virtspool", "hooks", "remove")
    system.install(newer)
    assert list(system.path(HOOKS).iterdir()) == []
