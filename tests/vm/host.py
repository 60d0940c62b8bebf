# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A machine (vm.py) that is a host with virtspool, with a broker and a consumer beside it.

    host.install(packages)      packages, broker, consumer, configuration, services; or install_packages() alone
    host.hook("vm1")            runs the hook as libvirt does: within five seconds, exit status 0
    host.received()             the events that the consumer has
    host.delivered("vm1")       waits until the consumer has all events that hooks recorded
    host.status()               (exit status, what `virtspool status` says)
    host.check()                no denial, no unit of ours or libvirt's failed, no daemon started again, nothing lost, the status is healthy
"""

import json
import shutil
from collections import defaultdict

from lib import wait_until
from vm import VM

CONSUMER = """[Unit]
After=mosquitto.service
[Service]
ExecStart=/bin/bash -c '. /share/rig/host; consume /share/received'
Restart=always
RestartSec=1s
[Install]
WantedBy=multi-user.target
"""


class Host(VM):
    hooks = ()

    def install_packages(self, packages):
        (self.share / "debs").mkdir(exist_ok=True)
        for package in packages:
            shutil.copy(package, self.share / "debs")
        self.settled()
        self.run("install_packages /share/debs/*.deb")

    def install(self, packages):
        self.install_packages(packages)
        (self.share / "consumer.service").write_text(CONSUMER)
        self.run("quietly set_up_broker vhost; configure_host vhost")
        self.run(
            """cp /share/consumer.service /etc/systemd/system
            systemctl enable --now consumer
            systemctl enable --now virtspool
            systemctl restart libvirtd
            systemctl enable --now libvirt-guests
            virtspool test"""
        )

    def settled(self):
        """The boot is over."""
        self.run("systemctl is-system-running --wait || systemctl --failed")

    def hook(self, name, operation="started", suboperation="begin"):
        """Returns how long it took, in seconds."""
        status, milliseconds = map(int, self.run(f"timed_hook {name} {operation} {suboperation} -").split())
        assert status == 0 and milliseconds < 10000, (status, milliseconds)  # emulation: twice five seconds
        self.hooks = (*self.hooks, name)
        return milliseconds / 1000

    def received(self):
        try:
            lines = (self.share / "received").read_text(errors="replace").split("\n")[:-1]
        except FileNotFoundError:
            return []
        events = (json.loads(line) for line in lines)
        return [e for e in events if "sequence" in e]

    def names(self):
        return {e["data"].get("name") or e["data"].get("object") for e in self.received()}

    def delivered(self, *names, deadline=60):
        wanted = set(names or self.hooks)
        wait_until(lambda: wanted <= self.names(), deadline, lambda: f"received: {wanted - self.names()} {self.status()}")

    def operations(self, name):
        """Those that hooks recorded, without repetitions, in the order of their ids."""
        events = {e["id"]: e["data"] for e in self.received()}
        return [d["operation"] for _, d in sorted(events.items()) if d.get("name") == name and "origin" not in d]

    def holes(self):
        """[(epoch, first missing number)] of what was received."""
        numbers = defaultdict(set)
        for e in self.received():
            numbers[e["epoch"]].add(int(e["sequence"]))
        return [(e, n) for e, seen in numbers.items() for n in range(1, max(seen)) if n not in seen]

    def status(self):
        out = self.run("status=0; timeout 20 virtspool status || status=$?; echo $status")
        text, status = out.rstrip().rsplit("\n", 1)
        return int(status), text

    def healthy(self, deadline=90):
        wait_until(lambda: self.status()[0] == 0, deadline, lambda: self.status()[1], interval=1)

    def check(self):
        assert self.run("denials") == ""
        # Others may fail for reasons of their own: emulation is slow, and their starts have time-outs.
        assert self.run("systemctl list-units --failed --no-legend --plain 'virt*' 'libvirt*' 'mosquitto*'") == ""
        assert self.run("systemctl show -P NRestarts virtspool virtspool-listen").split() == ["0", "0"]
        assert self.holes() == []
        assert self.run("journalctl -b -q -o cat -u virtspool --grep 'lost on this host' || true") == ""
        self.healthy()
