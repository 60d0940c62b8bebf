# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A management node and a host, each a directory, for `virtspool-recorder init` and `virtspool join`.

    site.init("--broker", site.broker_url, "node1")     what init makes is in site.mgmt
    site.start_broker()                                 mosquitto with the shipped configuration on these files
    site.start_recorder()                               with the configuration that init made
    site.join(site.bundle("node1"))                     as root of a host whose configuration is site.config
    site.close()                                        stops what join has started

systemctl is a stand-in that starts virtspoold and writes down how it was called, into site.log.
"""

import os
import shutil
import signal
import subprocess
from pathlib import Path

from .broker import Broker
from .programs import ROOT, program
from .recorder import Recorder
from .waiting import free_port

SYSTEMCTL = """#!/bin/sh
echo "$*" >>{log}
case "$*" in
*restart*virtspool.service*)
	[ ! -e {pid} ] || kill $(cat {pid})
	setsid {virtspoold} -c {config} >{directory}/virtspoold.log 2>&1 </dev/null &
	echo $! >{pid} ;;
*is-active*libvirtd*) exit 0 ;;
*is-active*) exit 3 ;;
esac
"""


class Shipped(Broker):
    """etc/brokers/mosquitto.conf, with paths and port of ours, on what init made."""

    files = None

    def _write_config(self):
        text = (self.files / "mosquitto.conf").read_text()
        assert text == (ROOT / "etc/brokers/mosquitto.conf").read_text()
        text = text.replace("listener 8883", f"listener {self.port} 127.0.0.1").replace("/etc/mosquitto/virtspool", str(self.files))
        user = "user root\n" if os.geteuid() == 0 else ""
        self._config.write_text(f"persistence true\npersistence_location {self.directory}/\nlog_dest stderr\nlog_type all\n{user}{text}")


class Site:
    """A management node and a host, below one directory."""

    def __init__(self, bed):
        self.bed = bed
        self.mgmt = bed.directory / "mgmt"
        self.host = bed.directory / "host"
        self.bin = bed.directory / "bin"
        self.config = self.host / "virtspool.yaml"
        self.log = bed.directory / "systemctl.log"
        self.pid = bed.directory / "virtspoold.pid"
        self.port = free_port()
        for d in (self.mgmt, self.host, self.bin):
            d.mkdir()
        (self.host / "hooks").mkdir()
        shutil.copy(program("virtspool-hook"), self.host / "hooks/qemu")
        text = SYSTEMCTL.format(log=self.log, pid=self.pid, virtspoold=program("virtspoold"), config=self.config, directory=self.bed.directory)
        (self.bin / "systemctl").write_text(text)
        (self.bin / "systemctl").chmod(0o755)
        shutil.copy(ROOT / "etc/virtspool.yaml", self.config)
        # Metrics go to the system's /run by default.
        self.config.write_text(self.config.read_text().replace("#file: /run/virtspool/virtspool.prom", f"file: {bed.spool.rundir}/virtspool.prom"))

    @property
    def broker_url(self):
        return f"mqtts://localhost:{self.port}"

    def init(self, *arguments, check=True):
        done = self.bed.run("virtspool-recorder", "init", "--directory", self.mgmt, *arguments)
        assert not check or done.returncode == 0, done.stderr
        return done

    def bundle(self, host="node1"):
        return self.mgmt / f"bundles/{host}.bundle"

    def join(self, bundle, *arguments):
        """As root of a machine that has the user virtspool."""
        prefix = []
        if os.geteuid() == 0:
            for name, line in (("passwd", "virtspool:x:64321:64321::/:/bin/false\n"), ("group", "virtspool:x:64321:\n")):
                (self.bin / name).write_text(Path(f"/etc/{name}").read_text() + line)
            script = 'mount --bind "$0/passwd" /etc/passwd && mount --bind "$0/group" /etc/group && exec "$@"'
            prefix = ["unshare", "-m", "sh", "-c", script, self.bin]
        command = [*prefix, program("virtspool"), "join", "-c", self.config, "--hooksdir", self.host / "hooks", *arguments, bundle]
        environment = {"PATH": f"{self.bin}:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", **self.bed.spool.environment}
        environment["RUNTIME_DIRECTORY"] = str(self.bed.directory)
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, env=environment, stdin=subprocess.DEVNULL)

    def start_broker(self):
        """mosquitto, with what init left for it."""
        broker = Shipped(self.bed.directory / "broker", self.bed.certs, port=self.port)
        broker.files = self.mgmt / "broker"
        return broker.start()

    def start_recorder(self):
        """With what init configured."""
        store = f"sqlite://{self.bed.directory}/recorder.db"
        recorder = Recorder(self.bed.directory / "recorder", [], self.bed.certs, store=store)
        text = (self.mgmt / "recorder.yaml").read_text() + f"\nstore: {store}\nhttp:\n  listen: 127.0.0.1:{free_port()}\n"
        recorder.write_config = lambda: recorder.config_file.write_text(text)
        self.bed._closing.append(recorder.close)
        return recorder.start()

    def close(self):
        if self.pid.exists():
            os.kill(int(self.pid.read_text()), signal.SIGKILL)
