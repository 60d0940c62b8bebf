# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The fleet: many real virtspoolds on private spools, one real broker, over TLS.

What is measured: the memory of each, and the storm when the broker comes back with events waiting on every host. It is
measured with the back-off's jitter and without (steady.c).
"""

import re
import shutil
import subprocess
import threading
import time
from pathlib import Path

from lib import BUILD, Process, Spool, wait_until
from lib.daemon import to_yaml

PROGRAMS = BUILD / "tests/bench"
WAITING = 3 # events on each host
AWAY = 20 # seconds


class BrokerLog:
    """The broker's log with the time at which each line came: connections taken, and clients accepted."""

    def __init__(self, path):
        self.path = path
        self.taken, self.accepted = [], {}
        self.queue = 0
        self._end = False
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def forget(self):
        self.taken, self.accepted, self.queue = [], {}, 0

    def close(self):
        self._end = True
        self._thread.join()

    def _follow(self):
        wait_until(self.path.exists, 20, "the broker has a log")
        with open(self.path, errors="replace") as f:
            while not self._end:
                line = f.readline()
                if not line:
                    time.sleep(0.005)
                elif "New connection from" in line:
                    self.taken.append(time.monotonic())
                elif match := re.search(r"New client connected from \S+ as virtspool-(\S+) \(", line):
                    self.accepted.setdefault(match[1], time.monotonic())


def accept_queue(port):
    """Connections that the kernel has established and the broker has not taken yet."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
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
            "metrics": {"file": self.directory / "metrics"},
            "log": {"level": "debug"},
        }))
        self.process = None
        self.read = 0

    def start(self, environment):
        self.process = Process([BUILD / "virtspoold", "-c", self.config], self.log,
                               {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "RUNTIME_DIRECTORY": str(self.directory),
                                **self.spool.environment, **environment})

    def said(self):
        """Since the last time."""
        with open(self.log, errors="replace") as f:
            f.seek(self.read)
            text = f.read()
            self.read = f.tell()
        return text

    def attempts(self):
        """To connect, since the last time, those left out at which nobody listened."""
        text = self.said()
        return text.count("connecting to broker") - text.count("Connection refused")


class Fleet:
    def __init__(self, bed, size, environment):
        self.bed = bed
        # A session that is kept while the broker is away: the subscriber misses nothing.
        bed.broker.log_type = "notice"
        bed.broker.options += ["persistence true", f"persistence_location {bed.directory}/", "autosave_interval 0",
                               "max_inflight_messages 0"]
        bed.broker.start()
        self.log = BrokerLog(bed.broker.log)
        self.subscriber = None
        self.subscribe()
        self.environment = environment
        self.hosts = [Host(bed, n) for n in range(size)]

    def subscribe(self):
        d = self.bed.certs_directory
        self.subscriber = Process(
            ["mosquitto_sub", "-h", "localhost", "-p", self.bed.broker.port, "--cafile", f"{d}/ca.pem", "--cert",
             f"{d}/consumer.pem", "--key", f"{d}/consumer.key", "-q", "1", "-c", "-i", "consumer", "-V", "mqttv5", "-x", "3600",
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
        def all_accepted():
            look()
            return len(self.log.accepted) == len(self.hosts)

        wait_until(all_accepted, 60 + len(self.hosts), lambda: f"all are connected: {len(self.log.accepted)}", interval=0.05)

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
            host.said()
        before = self.cpu_seconds()
        self.log.forget()
        bed.broker.start()
        begin, back, longest = time.monotonic(), False, 0

        def look():
            nonlocal longest, back
            longest = max(longest, accept_queue(bed.broker.port))
            if not back and not self.subscriber.running:
                self.subscribe()
                back = True

        self.wait_all(look)
        wait_until(lambda: self.arrived() >= WAITING * len(self.hosts), 120, lambda: f"all events arrive: {self.arrived()}")
        last = time.monotonic()
        times = sorted(t - begin for t in self.log.accepted.values())
        return {
            "half": times[len(times) // 2],
            "all": times[-1],
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
        self.log.close()


def limit(bed, count):
    """Seconds that the broker needs for this many connections at best."""
    done = subprocess.run([PROGRAMS / "handshakes", str(count), "8", str(bed.broker.port), bed.certs_directory], check=True,
                          stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def section_fleet(report, arguments, new_bed):
    size = 50 if arguments.quick else arguments.fleet
    report.say(f"## The fleet: {size:,} hosts, one mosquitto, all on this machine")
    report.say()
    rows, bars, figures = [], [], {}
    for name, environment in (("with jitter", {}), ("without", {"LD_PRELOAD": str(PROGRAMS / "steady.so")})):
        with new_bed("/var/tmp") as bed:
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
    s = figures["with jitter"]
    report.figure("fleet: all hosts are back / limit", s["all"] / s["limit"], "<=", 1.5)
    report.figure("fleet: attempts of a host", s["attempts"], "<=", 3)
    report.figure("fleet: MiB of each daemon", s["memory"], "<=", 2)
    report.figure("fleet: events lost", s["lost"], "<=", 0)
    report.say()
    report.plot("fleet", "seconds after the broker's return", "s", bars)
