# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A compute node: a real libvirtd with QEMU in namespaces of its own (node.sh says how), and its guests. Needs root.

    node = Node(spool=bed.spool)        # hook: ours by default; hook=PATH for another one, hook=None for none
    node.boot(); node.power_cut()       # a power cut is SIGKILL to everything in the node
    guest = node.guest("vm1")           # defined, with a disk
    guest.start(); guest.destroy(); guest.virsh("save", "/var/lib/libvirt/vm1.save")
    guest.wait_up(); guest.send("p")    # the boot sector's commands: see guest.S
    guest.kill()                        # SIGKILL to its QEMU
    container = node.container("c1")    # the same with the lxc driver; a test that uses it wants no_cgroup_left
    node.virsh("list", "--all")         # its output; fails the test if it fails
    node.ledger()                       # what libvirt called, written by a second hook: ["vm1 prepare begin -", ...]
    node.remove()                       # ends it and removes its directory

Another libvirt than this system's: Node(root=DIR, daemons="virtqemud virtlxcd virtnetworkd"), or VIRTSPOOL_NODE_ROOT and
VIRTSPOOL_NODE_DAEMONS for all that do not say.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from functools import cached_property
from pathlib import Path

from .process import Process
from .programs import missing, program, tool
from .waiting import wait_until

CONTAINER = """<domain type='lxc'>
  <name>{}</name>
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <os><type>exe</type><init>/bin/sleep</init><initarg>1000</initarg></os>
  <devices><emulator>/usr/lib/libvirt/libvirt_lxc</emulator><console type='pty'/></devices>
</domain>"""
SCRIPT = Path(__file__).resolve().parent / "node.sh"


class Node:
    def __init__(self, spool=None, hook=..., name="node1", images=None, cache=None, root=None, daemons=None):
        if os.geteuid() != 0:
            missing("a node needs root")
        for needed in ("libvirtd", "virsh", "qemu-system-x86_64", "qemu-img", "unshare", "nsenter"):
            tool(needed)
        self.name, self.spool, self.images, self.cache = name, spool, images, cache
        self.root = root or os.environ.get("VIRTSPOOL_NODE_ROOT")
        self.daemons = daemons or os.environ.get("VIRTSPOOL_NODE_DAEMONS", "libvirtd")
        self.hook = program("virtspool-hook") if hook is ... else hook
        # Short, because sockets lie below it.
        self.directory = Path(tempfile.mkdtemp(prefix="node-"))
        self.process = None

    @property
    def running(self):
        return self.process is not None and self.process.running

    def boot(self, deadline=90):
        """Returns self when libvirtd answers."""
        assert not self.running
        command = [SCRIPT, "run", self.directory, "--name", self.name]
        if self.hook:
            command += ["--hook", self.hook]
        if self.spool:
            command += ["--spool", self.spool.spooldir, "--run", self.spool.rundir]
        if self.cache:
            command += ["--cache", self.cache]
        if self.images:
            command += ["--images", self.images]
        if self.root:
            command += ["--root", self.root]
        command += ["--daemons", self.daemons]
        ready = self.directory / "ready"
        ready.unlink(missing_ok=True)
        self.process = Process(command, self.directory / "node.log", os.environ.copy())
        wait_until(lambda: ready.exists() or not self.running, deadline, lambda: f"node: {self.process.output()}")
        assert self.running, self.process.output()
        return self

    def power_cut(self):
        """Returns when nothing of it runs any more."""
        first = self.first
        self.process.kill()
        wait_until(lambda: not os.path.exists(f"/proc/{first}/fd"), what="the node's processes are gone")

    def remove(self):
        if self.running:
            self.process.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def virsh(self, *arguments, check=True, timeout=60):
        return self._call("virsh", "-q", *arguments, check=check, timeout=timeout)

    def execute(self, *command, check=True, timeout=60):
        return self._call("exec", *command, check=check, timeout=timeout)

    def libvirtd(self, action):
        """stop, start, kill (SIGKILL) or reload (SIGHUP)."""
        self._call("libvirtd", action, timeout=90)

    def guest(self, name="vm1", uuid=None):
        self._call("define", name, *([uuid] if uuid else []))
        return Guest(self, name)

    def container(self, name="c1"):
        if not os.path.exists("/usr/lib/libvirt/libvirt_lxc"):
            missing("libvirt's lxc driver is not installed (scripts/setup)")
        self.path(f"/run/{name}.xml").write_text(CONTAINER.format(name))
        self.virsh("-c", "lxc:///system", "define", f"/run/{name}.xml")
        return Container(self, name)

    def path(self, inside):
        """A path of the node as seen from outside."""
        return Path(f"/proc/{self.first}/root") / inside.lstrip("/")

    @property
    def daemon(self):
        """The name of the one that serves QEMU."""
        return self.daemons.split()[0]

    @property
    def first(self):
        """The process id of its first process, seen from outside."""
        return self._call("pid").strip()

    @cached_property
    def libvirt(self):
        """Its version, e.g. (10, 5, 0)."""
        return tuple(map(int, self.execute("virsh", "--version").split(".")))

    @property
    def socket(self):
        """Its socket, as a path outside of the node (also of another node)."""
        return self.directory / f"run/libvirt/{'libvirt' if self.daemon == 'libvirtd' else self.daemon}-sock"

    def ledger(self, domain=None):
        lines = (self.directory / "log/ledger").read_text(errors="replace").splitlines()
        return [line for line in lines if domain is None or line.startswith(domain + " ")]

    def wait_ledger(self, n, deadline=30):
        """Waits until libvirt made n calls in all."""
        wait_until(lambda: len(self.ledger()) >= n, deadline, lambda: f"{n} calls of the hook: {self.ledger()}")
        return self.ledger()

    def output(self):
        path = self.directory / f"log/{self.daemon}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _call(self, command, *arguments, check=True, timeout=60):
        done = subprocess.run(
            [SCRIPT, command, self.directory, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
        )
        text = done.stdout.decode(errors="replace")
        assert not check or done.returncode == 0, f"{command} {arguments}: {text}"
        return text


class Guest:
    def __init__(self, node, name):
        self.node, self.name = node, name

    def virsh(self, command, *arguments, **options):
        return self.node.virsh(command, self.name, *arguments, **options)

    def change(self, old, new):
        """Replaces a piece of its XML (its name, too) and defines it again."""
        xml = self.node.virsh("dumpxml", "--inactive", "--security-info", self.name)
        assert old in xml, xml
        path = self.node.directory / "run" / f"{self.name}.xml"
        path.write_text(xml.replace(old, new))
        self.node.virsh("undefine", self.name)
        self.node.virsh("define", f"/run/{self.name}.xml")
        return self

    def start(self):
        self.virsh("start")
        return self

    def destroy(self):
        self.virsh("destroy")

    @property
    def state(self):
        """"running", "shut off", "paused", ..."""
        return self.virsh("domstate").strip()

    def wait_state(self, state, deadline=30):
        wait_until(lambda: self.state == state, deadline, lambda: f"{self.name} is '{state}': it is '{self.state}'")

    def wait_up(self, deadline=60):
        """Waits until the boot sector runs: it echoes what it does not understand."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(0.2)
            self._connect(s)

            def echoes():
                s.send(b".")
                try:
                    return s.recv(16)
                except TimeoutError:
                    return b""

            wait_until(echoes, deadline, f"the guest {self.name} is up")
        return self

    def send(self, character):
        """One of the boot sector's commands."""
        with socket.socket(socket.AF_UNIX) as s:
            self._connect(s)
            s.sendall(character.encode())

    def _connect(self, s):
        # Through a descriptor, for the path can be longer than a socket's may be.
        directory = os.open(self.node.path("/run"), os.O_PATH)
        try:
            s.connect(f"/proc/self/fd/{directory}/{self.name}.serial")
        finally:
            os.close(directory)

    @property
    def pid(self):
        """Of its QEMU, outside of the node."""
        return int(self.node._call("pid", self.name))

    def kill(self):
        """SIGKILL to its QEMU."""
        os.kill(self.pid, signal.SIGKILL)


class Container(Guest):
    def virsh(self, command, *arguments, **options):
        return self.node.virsh("-c", "lxc:///system", command, self.name, *arguments, **options)
