# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The fleet: many real virtspoolds on private spools, one real broker, over TLS.

What is measured: the memory of each, and the storm when the broker comes back with events waiting on every host. It is
measured with the back-off's jitter and without (steady.c). The broker is mosquitto, or one of tests/interop/brokers.py.
"""

import datetime
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from lib import BUILD, ROOT, Broker, Process, Spool, wait_until
from lib.daemon import to_yaml

PROGRAMS = BUILD / "tests/bench"
WAITING = 3 # events on each host
AWAY = 20 # seconds


def accept_queue(port):
    """Connections that the kernel has established and the broker has not taken yet."""
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].split(":")[1], 16) == port:
                return int(fields[4].split(":")[1], 16)
    return 0


def pss_kib(pid):
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


class Host:
    def __init__(self, bed, n):
        self.name = f"host{n}"
        self.directory = bed.directory / self.name
        self.spool = Spool(self.directory)
        self.log = self.directory / "log"
        self.config = self.directory / "virtspool.yaml"
        certificates = bed.certs_directory
        self.config.write_text(to_yaml({
            "host": self.name,
            "brokers": [bed.broker.url],
            "tls": {"ca_file": f"{certificates}/ca.pem", "certificate_file": f"{certificates}/host.pem",
                    "key_file": f"{certificates}/host.key"},
            "mqtt": {"version": bed.broker.version},
            "metrics": {"file": self.directory / "metrics"},
            "log": {"level": "debug"},
        }))
        self.process = None
        self.read, self.text = 0, ""

    def start(self, environment):
        self.process = Process([BUILD / "virtspoold", "-c", self.config], self.log,
                               {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "RUNTIME_DIRECTORY": str(self.directory),
                                **self.spool.environment, **environment})

    def listen(self):
        """What it says from now on is in .text."""
        self.read, self.text = self.log.stat().st_size if self.log.exists() else 0, ""

    def is_connected(self):
        """Has it connected since?"""
        if self.log.stat().st_size > self.read:
            with open(self.log, errors="replace") as f:
                f.seek(self.read)
                self.text += f.read()
                self.read = f.tell()
        return "connected to broker" in self.text

    def connected_since(self):
        """By its own status, seconds since the epoch; 0: it is not connected, or has not said so yet."""
        try:
            status = json.loads((self.spool.rundir / "status.json").read_text())
        except OSError:
            return 0
        return datetime.datetime.fromisoformat(status["connected_since"]).timestamp() if status.get("connected_since") else 0

    def attempts(self):
        """To connect, since it was listened to, those left out at which nobody listened."""
        return self.text.count("connecting to broker") - self.text.count("Connection refused")


class Fleet:
    def __init__(self, bed, size, environment):
        self.bed = bed
        # A session that is kept while the broker is away: the subscriber misses nothing.
        if isinstance(bed.broker, Broker):
            bed.broker.options += ["persistence true", f"persistence_location {bed.directory}/", "autosave_interval 0",
                                   "max_inflight_messages 0"]
        bed.broker.start()
        self.subscriber = None
        self.subscribe()
        self.environment = environment
        self.hosts = [Host(bed, n) for n in range(size)]

    def subscribe(self):
        d = self.bed.certs_directory
        self.subscriber = Process(
            ["mosquitto_sub", "-h", "localhost", "-p", self.bed.broker.port, "--cafile", f"{d}/ca.pem", "--cert",
             f"{d}/consumer.pem", "--key", f"{d}/consumer.key", "-q", "1", "-c", "-i", "consumer",
             *(["-V", "mqttv5", "-x", "3600"] if self.bed.broker.version == "5" else ["-V", "mqttv311"]),
             "-t", "virtspool/v1/+/qemu/#", "-F", "%t %p"], self.bed.directory / "arrived")

    def arrived(self):
        """Different events."""
        text = (self.bed.directory / "arrived").read_text(errors="replace")
        return len(set(re.findall(r'^virtspool/v1/(host\d+)/\S+ .*?"id": ?"([^"]+)"', text, re.M)))

    def start(self):
        begin = time.monotonic()
        for host in self.hosts:
            host.start(self.environment)
        self.wait_all(lambda: None)
        return time.monotonic() - begin

    def wait_all(self, look):
        left = self.hosts

        def all_connected():
            nonlocal left
            look()
            left = [host for host in left if not host.is_connected()]
            return not left

        wait_until(all_connected, 60 + len(self.hosts), lambda: f"all are connected, not {len(left)} of them", interval=0.05)

    def cpu_seconds(self):
        return sum(h.process.cpu_seconds() for h in self.hosts)

    def memory(self):
        return sum(pss_kib(h.process.pid) for h in self.hosts) / 1024 / len(self.hosts)

    def storm(self, document):
        """The broker is away, events are made, and it comes back. A dictionary of figures."""
        bed = self.bed
        bed.broker.stop()
        gone = time.monotonic()
        for host in self.hosts:
            subprocess.run([PROGRAMS / "generate", host.spool.spooldir / "new", str(WAITING), document], check=True)
        wait_until(lambda: time.monotonic() > gone + AWAY, AWAY + len(self.hosts), "the broker was away for long enough")
        for host in self.hosts:
            host.listen()
        before = self.cpu_seconds()
        bed.broker.start()
        begin, back, longest = time.time(), False, 0

        def look():
            nonlocal longest, back
            longest = max(longest, accept_queue(bed.broker.port))
            if not back and not self.subscriber.running:
                self.subscribe()
                back = True

        self.wait_all(look)
        wait_until(lambda: self.arrived() >= WAITING * len(self.hosts), 120, lambda: f"all events arrive: {self.arrived()}")
        last = time.time()
        wait_until(lambda: all(h.connected_since() for h in self.hosts), 60, "all say in their status since when they are connected")
        times = sorted(h.connected_since() for h in self.hosts)
        begin = min(begin, times[0])  # RabbitMQ takes connections before it says that it has started
        return {
            "half": times[len(times) // 2] - begin,
            "all": times[-1] - begin,
            "events": last - begin,
            "lost": WAITING * len(self.hosts) - self.arrived(),
            "attempts": max(h.attempts() for h in self.hosts),
            "queue": longest,
            "broker": bed.broker.process.cpu_seconds(),
            "ours": self.cpu_seconds() - before,
        }

    def close(self):
        for host in self.hosts:
            if host.process:
                host.process.kill()
            shutil.rmtree(host.directory, ignore_errors=True)
        self.subscriber.kill()


def limit(bed, count):
    """Seconds that the broker needs for this many connections at best."""
    done = subprocess.run([PROGRAMS / "handshakes", str(count), "8", str(bed.broker.port), bed.certs_directory, bed.broker.version],
                          check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def other_broker(name):
    """The class of tests/interop/brokers.py."""
    sys.path.insert(0, str(ROOT / "tests/interop"))
    from brokers import ALL

    if name not in ALL:
        sys.exit(f"bench: unknown broker '{name}'; there are: mosquitto; {'; '.join(ALL)}")
    if ALL[name].login:
        sys.exit(f"bench: {name} asks for a password, and the fleet's hosts have certificates")
    return ALL[name]


def section_fleet(report, arguments, new_bed):
    size = 50 if arguments.quick else arguments.fleet
    report.say(f"## The fleet: {size:,} hosts, one {arguments.broker}, all on this machine")
    report.say()
    rows, bars, figures = [], [], {}
    for name, environment in (("with jitter", {}), ("without", {"LD_PRELOAD": str(PROGRAMS / "steady.so")})):
        with new_bed("/var/tmp") as bed:
            if arguments.broker != "mosquitto":
                bed.broker = other_broker(arguments.broker)(bed.directory / "broker", bed.certs)
            fleet = Fleet(bed, size, environment)
            try:
                least = limit(bed, size)
                started = fleet.start()
                memory = fleet.memory()
                s = figures[name] = fleet.storm(bed.document(600)) | {"limit": least, "memory": memory}
            finally:
                fleet.close()
        rows.append([name, f"{memory:.2f}", f"{started:.1f}", f"{least:.1f}", f"{s['half']:.1f}", f"{s['all']:.1f}",
                     f"{s['events']:.1f}", s["attempts"], s["queue"], f"{s['broker']:.1f}", f"{s['ours']:.1f}", s["lost"]])
        bars += [(f"{name}: half", s["half"]), (f"{name}: all", s["all"]), (f"{name}: events", s["events"]), ("limit", least)]
    report.table(["back-off", "MiB each", "started s", "limit s", "half s", "all s", "events s", "attempts", "queue",
                  "broker CPU s", "hosts' CPU s", "lost"], rows)
    report.say(f"The broker was away for {AWAY} s, and {WAITING} events waited on each host. Half, all: of the hosts are connected; "
               "events: the last one has arrived; attempts: most of any host; queue: connections that waited to be taken, at most; "
               "limit: as many connections by a client that does nothing else.")
    if arguments.broker != "mosquitto":
        return
    s = figures["with jitter"]
    report.figure("fleet: all hosts are back / limit", s["all"] / s["limit"], "<=", 1.5)
    report.figure("fleet: attempts of a host", s["attempts"], "<=", 3)
    report.figure("fleet: MiB of each daemon", s["memory"], "<=", 2)
    report.figure("fleet: events lost", s["lost"], "<=", 0)
    report.say()
    report.plot("fleet", "seconds after the broker's return", "s", bars)
