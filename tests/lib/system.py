# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A copy of this system, or of another one that lies in a directory, to install packages in: an overlay in a mount namespace
of its own, in memory. What happens in it does not touch the system. Nothing runs in it until it is booted, with systemd,
as a container. Needs root.

    system.run(COMMAND...)          inside; its output; fails the test if it fails
    system.path("etc/...")          a file inside, seen from outside
    system.install(package, ...)    dpkg --install
    system.configure(bed)           what the admin does: certificates, and the broker's host name
    system.event("started")         runs the installed hook as libvirt does
    system.names("new")             files in the spool's directory
    system.boot(); system.poweroff()  systemd; skips the test where it cannot be run
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .process import Process
from .programs import missing, tool
from .waiting import wait_until

SPOOL = "var/spool/virtspool"
MOUNTS = """
set -e
mount -t tmpfs -o mode=755 tmpfs "$1"
cd "$1"
mkdir upper work root
mount -t overlay -o lowerdir="$2",upperdir=upper,workdir=work overlay root
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
# Of this system's services none shall run in the copy.
UNITS = """
set -e
cd "$1"
umount -R root/run root/tmp root/proc root/dev
rm -rf root/etc/systemd/system/*.wants root/etc/systemd/system/*.service root/etc/rc?.d/S* root/usr/sbin/policy-rc.d
echo 0123456789abcdef0123456789abcdef >root/etc/machine-id
"""


class System:
    def __init__(self, directory, of="/"):
        if os.geteuid() != 0:
            missing("needs root: a mount namespace")
        directory.mkdir()
        self.directory = directory
        self.container = self.leader = None
        self.prepared = False
        self.holder = Process(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", MOUNTS, "sh", directory, of],
            directory.with_suffix(".log"),
        )
        # Only its own processes see what it has mounted.
        self.top = f"/proc/{self.holder.pid}/cwd"
        wait_until(lambda: os.path.exists(f"{self.top}/ready") or not self.holder.running, 20, "the copy of the system")
        assert self.holder.running, self.holder.output()

    def path(self, name):
        if self.leader:
            return Path(f"/proc/{self.leader}/root") / name
        return Path(self.top) / "root" / name

    def outside(self, *command):
        """In the mount namespace, not in the copy."""
        return ["nsenter", "--mount", "-t", str(self.holder.pid), *map(str, command)]

    def command(self, *command):
        if self.leader:
            return ["nsenter", "--all", "-t", str(self.leader), *map(str, command)]
        return self.outside("chroot", f"{self.top}/root", *command)

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

    def install(self, *packages):
        for package in packages:
            shutil.copy(package, self.path("root"))
        return self.run("dpkg", "--install", *(f"/root/{p.name}" for p in packages))

    def configure(self, bed):
        """Returns the configuration file's path."""
        for name in ("ca.pem", "host.pem", "host.key"):
            shutil.copy(bed.certs.directory / name, self.path(f"etc/virtspool/{name}"))
        self.run("chown", "root:virtspool", "/etc/virtspool/host.key")
        self.run("chmod", "640", "/etc/virtspool/host.key")
        yaml = self.path("etc/virtspool/virtspool.yaml")
        yaml.write_text(yaml.read_text().replace("mqtts://broker.example.org:8883", bed.broker.url))
        self.run("virtspoold", "--check-config")
        return yaml

    def event(self, operation, suboperation="begin"):
        xml = "<domain><name>vm1</name><uuid>6ba7b810-9dad-11d1-80b4-00c04fd430c8</uuid></domain>"
        return self.run("/etc/libvirt/hooks/qemu", "vm1", operation, suboperation, "-", input=xml)

    def names(self, directory):
        return sorted(os.listdir(self.path(f"{SPOOL}/{directory}")))

    def boot(self, deadline=60):
        nspawn = tool("systemd-nspawn")
        if not self.prepared:
            subprocess.run(self.outside("sh", "-c", UNITS, "sh", self.directory), check=True, timeout=30)
            self.prepared = True
        self.container = Process(
            self.outside(nspawn, "-D", self.directory / "root", "--boot", "--register=no", "--keep-unit", "--console=pipe",
                         f"--machine=virtspool-{os.getpid()}", "systemd.unit=multi-user.target"),
            self.directory.with_suffix(".log"),
        )

        def leader():
            try:
                children = Path(f"/proc/{self.container.pid}/task/{self.container.pid}/children").read_text().split()
                self.leader = next(p for p in children if Path(f"/proc/{p}/comm").read_text() == "systemd\n")
            except (OSError, StopIteration):
                return not self.container.running
            return self.run("systemctl", "is-system-running", check=False).strip() in ("running", "degraded")

        try:
            wait_until(leader, deadline, interval=0.2)
        except AssertionError:
            self.container.kill()
        if not self.container.running:
            self.leader = None
            pytest.skip(f"systemd cannot be booted as a container here: {self.container.output()[-500:]}")

    def poweroff(self):
        """Returns when it has shut down."""
        self.run("systemctl", "poweroff", check=False)
        self.container.wait(60)
        self.leader = None

    def close(self):
        if self.leader:
            os.kill(int(self.leader), 9)
            self.container.wait(20)
        self.holder.kill()
