# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Power cuts at any write: hooks, and the daemon with a broker, run in a machine without systemd whose spool is on a disk
with a volatile write cache (lossydisk.py). After the next boot each event whose hook had returned is in the spool, whole,
or has been received.
"""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lib import Process, wait_until

LOSSY = Path(__file__).resolve().parent / "lossydisk.py"
CUTS = int(os.environ.get("VIRTSPOOL_VM_CUTS") or 3)
RECORDER = """
brokers: [mqtts://10.0.2.2:{port}]
mqtt:
  client_id: recorder
  retry_max: 1s
tls:
  ca_file: /share/ca.pem
  certificate_file: /share/pem
  key_file: /run/recorder.key
  server_name: localhost
"""
MKFS = {"ext4": "mkfs.ext4 -q -F", "xfs": "mkfs.xfs -q -f", "btrfs": "mkfs.btrfs -q -f"}


class Rig:
    def __init__(self, new_host, name, fs, mount="defaults", daemon=False, lies=(), recorder=False):
        self.fs, self.mount, self.daemon, self.lies, self.recorder = fs, mount, daemon, list(lies), recorder
        self.vm = new_host(
            name,
            memory=768,
            cpus=1,
            throw_away=True,
            network=recorder,
            kernel="init=/usr/local/sbin/rig panic=5 hostname=vhost",
        )
        self.disk, self.socket = self.vm.directory / "spool.disk", self.vm.directory / "nbd"
        # A socket's name is short, and that of this directory may not be.
        self.vm.drives = [f"file=nbd+unix:///?socket={self.socket},format=raw,if=virtio,cache=writeback"]
        subprocess.run(["truncate", "-s", "400M", self.disk], check=True)
        self.round = 0
        self.cuts = 0

    def lines(self, name):
        try:
            return (self.vm.share / name).read_text(errors="replace").split("\n")[:-1]
        except FileNotFoundError:
            return []

    def returned(self):
        return dict(line.split() for line in self.lines("returned"))

    def boot(self, work=True):
        """Boots with the disk as it is, and reads what is in the spool; then hooks run, if there is to be work."""
        words = {
            "ROUND": self.round,
            "FS": self.fs,
            "MOUNT": self.mount,
            "MKFS": MKFS[self.fs] if self.round == 0 else "",
            "WORKERS": 2 if work else 0,
            "DAEMON": "yes" if self.daemon else "",
            "CHURN": "yes" if work else "",
            "RECORDER": "yes" if self.recorder else "",
        }
        (self.vm.share / "cut").write_text("".join(f"{k}='{v}'\n" for k, v in words.items()))
        self.lossy = Process(
            [sys.executable, LOSSY, self.disk, self.socket, *(self.lies if work else ())], self.vm.directory / "lossy.log"
        )
        wait_until(self.socket.exists, 20, "the disk")
        self.vm.start()
        Path(f"{self.socket}.pid").write_text(str(self.vm.process.pid))
        self.out = self.vm.share / f"round.{self.round}"
        wait_until((self.out / "list").exists, 200, lambda: f"the spool of boot {self.round}; see {self.vm.console}", 0.3)
        self.round += 1

    def cut_at_work(self):
        wait_until((self.out / "running").exists, 100, "work", 0.3)
        before = len(self.returned())
        wait_until(lambda: len(self.returned()) > before + random.randrange(2, 12), 100, "hooks", 0.1)
        self.cut()

    def cut(self):
        self.lossy.signal(signal.SIGUSR2)
        try:
            self.lossy.wait(30)
        except AssertionError:  # hardly any writes: now, then, while nothing moves
            self.vm.process.signal(signal.SIGSTOP)
            self.lossy.signal(signal.SIGUSR1)
            self.lossy.wait()
        self.vm.cut()
        self.socket.unlink()
        self.cuts += 1

    def found(self):
        """Names of the events in the spool; fails if one is torn."""
        events = [json.loads(line) for line in (self.out / "list").read_text().splitlines()]
        torn = [e for e in events if "id" not in e or e.get("error") or e.get("damaged")]
        assert torn == [] and (self.out / "empty").read_text() == ""
        return {e["name"] for e in events}

    def note(self, figures):
        """For whoever wants to know how much was tried: figures.txt."""
        with open(self.vm.directory.parent / "figures.txt", "a", encoding="ascii") as f:
            print(f"{self.vm.directory.name}: {self.cuts} cuts, {figures}", file=f)

    def close(self):
        self.vm.cut()
        self.lossy.stop()
        self.socket.unlink(missing_ok=True)


def lost_after_cuts(rig, cuts):
    """The names of events that are lost. The figures are in figures.txt."""
    lost = set()
    received = set()
    for n in range(cuts + 1):
        returned = {name for name, status in rig.returned().items() if status == "0"}
        assert len(returned) == len(rig.returned()), "a hook did not exit with 0"
        rig.boot(work=n < cuts)
        received = {json.loads(x)["data"].get("name") for x in rig.lines("received") if x.endswith("}")}
        lost |= returned - rig.found() - received
        if n < cuts:
            rig.cut_at_work()
    rig.close()
    begun = len(rig.lines("begun"))
    rig.note(f"{begun} begun, {len(rig.returned())} returned, {len(received)} received, {len(lost)} lost")
    assert len(rig.returned()) > 2 * cuts
    return lost


@pytest.mark.parametrize(
    "fs, mount, daemon",
    [("ext4", "defaults", True), ("ext4", "data=writeback", False), ("xfs", "defaults", True), ("btrfs", "defaults", False)],
)
def test_power_cuts(new_host, fs, mount, daemon):
    rig = Rig(new_host, f"cuts-{fs}-{mount.replace('=', '-')}", fs, mount, daemon)
    assert lost_after_cuts(rig, CUTS) == set()


def test_a_disk_that_lies_is_found_out(new_host):
    """The same with a disk that ignores flushes loses events, so the tests above can fail."""
    rig = Rig(new_host, "cuts-lies", "ext4", lies=("--no-flush", "--lose-all"))
    rig.boot(work=False)  # mkfs, still on an honest disk
    rig.close()
    assert lost_after_cuts(rig, 1) == set(rig.returned())


def test_power_cuts_of_the_recorder(new_host, bed):
    """It acknowledges an event to the broker after its commit: none is lost, though the power goes at any write."""
    rig = Rig(new_host, "cuts-recorder", "ext4", recorder=True)
    bed.broker.start()
    bed.daemon.start()
    for name, path in (("ca.pem", bed.certs.ca), ("pem", bed.certs.pem("consumer")), ("key", bed.certs.key("consumer"))):
        (rig.vm.share / name).write_bytes(Path(path).read_bytes())
        (rig.vm.share / name).chmod(0o644)
    (rig.vm.share / "recorder.yaml").write_text(RECORDER.format(port=bed.broker.port))

    def subscribed():
        path = rig.out / "recorder"
        return path.exists() and "subscribed" in path.read_text()

    def recorded():
        try:
            return {json.loads(line)["id"] for line in (rig.out / "recorded").read_text().splitlines()}
        except FileNotFoundError:
            return set()

    published = 0
    for n in range(CUTS + 1):
        rig.boot()
        assert n == 0 or (rig.out / "integrity").read_text() == "ok\n"
        wait_until(lambda: len(bed.spool.names("sent")) == published, 60, "the daemon")
        # Once it has subscribed, the broker keeps what the recorder has not acknowledged.
        if n == 0:
            wait_until(subscribed, 200, "the subscription", 0.5)
        wait_until(lambda: recorded() >= set(bed.spool.names("sent")[:published]), 200, lambda: str(len(recorded())), 0.5)
        if n == CUTS:
            break
        rig.lossy.signal(signal.SIGUSR2)
        for i in range(300):
            bed.hook("started", domain=f"cut-{n}-{i}")
            published += 1
            if not rig.lossy.running:
                break
        rig.cut()
    names = set(bed.spool.names("sent"))
    rig.note(f"{published} published, {len(names - recorded())} lost")
    rig.close()
    assert published > CUTS
