# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A host in QEMU: software emulation, driven over a serial line and a directory that both sides see (9p).

    vm = VM(image, directory, disk)     image: from build-image; disk: the qcow2 of the host's system, which keeps changes
    vm.boot()                           returns when the rig's shell runs, early in the boot
    vm.run("script")                    bash -e in the machine, as root; its output; fails the test if it fails
    vm.share                            /share in the machine
    vm.cut()                            the power goes: what only the machine's memory has is lost
    vm.boot(), vm.reboot(), vm.poweroff()

Scripts begin with the functions of guest/host.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from lib import ROOT, Process
from lib.programs import tool

RIG = Path(__file__).resolve().parent / "guest"
KERNEL = "root=/dev/vda rw console=ttyS0 apparmor=1 security=apparmor net.ifnames=0 mitigations=off"


def qcow2(path, base, of):
    """A new disk that begins as `base`."""
    subprocess.run([tool("qemu-img"), "create", "-q", "-f", "qcow2", "-b", base, "-F", of, path], check=True, timeout=60)


class VM:
    """
    memory in MiB; drives: values for QEMU's -drive; kernel: more for the kernel's command line; clock: time at boot, e.g.
    "1970-01-02T00:00:00"; throw_away: the changes of the disk are lost when it ends; network: reaches this machine's
    loopback as 10.0.2.2, otherwise nothing.
    """

    def __init__(self, image, directory, disk, memory=1024, cpus=2, drives=(), kernel="", throw_away=False,
                 network=False):  # fmt: skip
        self.image, self.directory, self.disk = Path(image), Path(directory), Path(disk)
        self.memory, self.cpus, self.drives, self.kernel, self.throw_away = memory, cpus, list(drives), kernel, throw_away
        self.clock, self.network = None, network
        self.share = self.directory / "share"
        self.boots = self.scripts = 0
        self.process = self.serial = None
        (self.share / "run").mkdir(parents=True, exist_ok=True)
        shutil.copytree(RIG, self.share / "rig", dirs_exist_ok=True)
        shutil.copy(ROOT / "etc/debian/tests/host", self.share / "rig/debian-host")

    def command(self, serial):
        options = {
            "-machine": "q35",
            "-accel": "tcg,thread=multi,tb-size=256",
            "-cpu": "max,la57=off",
            "-smp": self.cpus,
            "-m": self.memory,
            "-kernel": self.image / "vmlinuz",
            "-initrd": self.image / "initrd.img",
            "-append": f"{KERNEL} {self.kernel}",
            "-virtfs": f"local,path={self.share},mount_tag=share,security_model=none,id=share",
            "-netdev": f"user,id=n0,restrict={'off' if self.network else 'on'}",
            "-monitor": "none",
        }
        if self.clock:
            options["-rtc"] = f"base={self.clock}"
        devices = ["-device", "virtio-rng-pci", "-device", "virtio-net-pci,netdev=n0"]
        serials = ["-serial", f"file:{self.console}", "-serial", f"unix:{serial},server=on,wait=off"]
        snapshot = "on" if self.throw_away else "off"
        root = f"file={self.disk},format=qcow2,if=virtio,cache=unsafe,discard=unmap,snapshot={snapshot}"
        drives = [x for d in (root, *self.drives) for x in ("-drive", d)]
        return [
            *("nice", "-n", "5", tool("qemu-system-x86_64"), "-nodefaults", "-no-user-config", "-display", "none"),
            *(str(x) for option in options.items() for x in option),
            *devices,
            *serials,
            *drives,
        ]

    @property
    def console(self):
        """What kernel and boot said, of the present boot."""
        return self.directory / f"console.{self.boots}"

    def start(self):
        """Powers it on, and does not wait."""
        self.boots += 1
        path = self.directory / "serial"
        path.unlink(missing_ok=True)
        self.process = Process(self.command(path), self.directory / "qemu.log", environment=dict(os.environ))
        end = time.monotonic() + 60
        self.serial = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.serial.connect(os.path.relpath(path))
                break
            except OSError:
                assert self.process.running and time.monotonic() < end, self.process.output()
                time.sleep(0.05)
        self.said = b""

    def boot(self, deadline=600):
        self.start()
        self.expect("ready", deadline)

    def expect(self, line, deadline):
        """Reads from the serial line until `line` begins one; returns it."""
        end = time.monotonic() + deadline
        while True:
            while b"\n" in self.said:
                got, self.said = self.said.split(b"\n", 1)
                got = got.decode(errors="replace").strip()
                if got.startswith(line):
                    return got
            self.serial.settimeout(5)
            with contextlib.suppress(TimeoutError):
                more = self.serial.recv(65536)
                assert more, f"the machine is gone; see {self.console}"
                self.said += more
            assert time.monotonic() < end, f"no '{line}' within {deadline} s; see {self.console}"

    def run(self, script, deadline=900, check=True):
        self.scripts += 1
        name = f"{self.boots}.{self.scripts}"
        (self.share / "run" / name).write_text(f". /share/rig/host\nset -eo pipefail\n{script}\n")
        self.serial.sendall(f"run {name}\n".encode())
        status = int(self.expect(f"done {name} ", deadline).split()[2])
        out = (self.share / "run" / f"{name}.out").read_text(errors="replace")
        assert status == 0 or not check, f"{script}\nexit status {status}:\n{out}"
        return out

    def order(self, script):
        """Runs it and does not wait: it may end the machine."""
        self.scripts += 1
        name = f"{self.boots}.{self.scripts}"
        (self.share / "run" / name).write_text(f". /share/rig/host\n{script}\n")
        self.serial.sendall(f"run {name}\n".encode())

    def cut(self):
        if self.process:
            self.process.kill()
            self.serial.close()
            self.process = None

    def reboot(self, deadline=900):
        self.order("systemctl --no-block reboot")
        self.expect("ready", deadline)

    def poweroff(self, deadline=300):
        self.order("systemctl --no-block poweroff")
        self.process.wait(deadline)
        self.serial.close()
        self.process = None
