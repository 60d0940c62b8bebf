# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What the hooks accepted, and its comparison with what a subscriber received.

    ledger = Ledger(bed.hook)                         # the daemon needs events.xml: true, ledger.configure(daemon) says so
    ledger.call("vm1")                                # one hook; what it was given is noted when it returned
    traffic = Traffic(ledger, ["vm1", "vm2"]).start() # hooks all the time, each domain's in order, until stop()
    ledger.check(subscriber)                          # waits until all is there, then compares

Each call has a number of its own, which travels in the event (data.reason), with a document of its own. check() fails on
  * an event that was accepted and did not arrive                                     (lost)
  * an event whose domain, operation, or any byte of the document is another          (torn)
  * an event with two ids, an id with two events, a sequence number with two ids, two bodies under one id (forged)
  * a hole in a sequence, though every hook was accepted
  * an order of one domain's first arrivals that is not the order of its hooks
  * a record in failed/, unless it was named as expected there
"""

import threading

from .documents import domain_uuid, domain_xml
from .subscriber import holes, unique
from .waiting import wait_until

MARK = "call-"


class Ledger:
    def __init__(self, hook, host="node1"):
        self.hook = hook
        self.host = host
        self.accepted = {}  # mark: (domain, operation, document)
        self.number = 0
        self.lock = threading.Lock()

    @staticmethod
    def configure(daemon):
        """The document travels too, so that torn ones are seen."""
        daemon.config["events"] = {**daemon.config.get("events", {}), "xml": True}

    def call(self, domain="vm1", operation="started", size=0):
        """Returns the seconds that it took."""
        with self.lock:
            self.number += 1
            mark = f"{MARK}{self.number}"
        document = domain_xml(domain, title=f"{mark} {'x' * size}")
        took = self.hook(operation, "begin", mark, domain=domain, document=document)
        with self.lock:
            self.accepted[mark] = (domain, operation, document.decode())
        return took

    def calls(self, n, domain="vm1", **options):
        for _ in range(n):
            self.call(domain, **options)

    def received(self, subscriber):
        return [e for e in list(subscriber.events) if e["source"].endswith("/" + self.host)]

    def missing(self, subscriber):
        marks = {e["data"].get("reason") for e in self.received(subscriber)}
        with self.lock:
            return [m for m in self.accepted if m not in marks]

    def check(self, subscriber, deadline=30.0, holes_allowed=False, failed=()):
        """Waits for the rest, compares, and returns {"made", "delivered", "duplicated", "lost"}."""
        try:
            wait_until(lambda: not self.missing(subscriber), deadline, lambda: f"lost: {self.missing(subscriber)}")
        finally:
            faults = self.compare(self.received(subscriber), holes_allowed)
        spool = self.hook.spool
        faults += [f"in failed/: {n}: {r}" for n, r in spool.failed().items() if n not in failed]
        assert not subscriber.errors, subscriber.errors[:3]
        assert not faults, f"{len(faults)} faults, among them:\n" + "\n".join(faults[:10])
        return self.counts(subscriber)

    def counts(self, subscriber):
        events = self.received(subscriber)
        lost = len(self.missing(subscriber))
        return {
            "made": len(self.accepted),
            "delivered": len(self.accepted) - lost,
            "duplicated": len(events) - len(unique(events)),
            "lost": lost,
        }

    def compare(self, events, holes_allowed=False):
        faults = []
        ids, places, bodies, last = {}, {}, {}, {}
        for e in events:
            mark, data = e["data"].get("reason"), e["data"]
            place = (e["source"], e["epoch"], int(e["sequence"]))
            told = (data.get("name"), data.get("operation"), data.get("xml"))
            if mark not in self.accepted:
                # A hook that runs at this moment has not returned.
                if not (mark or "").startswith(MARK):
                    faults.append(f"nobody made this event: {e}")
            elif told != self.accepted[mark]:
                faults.append(f"torn: {mark}: {told} instead of {self.accepted[mark]}")
            elif data.get("uuid") != domain_uuid(told[0]):
                faults.append(f"torn: {mark}: uuid {data.get('uuid')}")
            if ids.setdefault(mark, e["id"]) != e["id"]:
                faults.append(f"duplicate with another id: {mark}: {ids[mark]} and {e['id']}")
            if places.setdefault(place, e["id"]) != e["id"]:
                faults.append(f"{place} stands for {places[place]} and {e['id']}")
            if bodies.setdefault(e["id"], e) != e:
                faults.append(f"two bodies under {e['id']}: {bodies[e['id']]} and {e}")
        if len(set(ids.values())) != len(ids):
            faults.append("two events share an id")
        for e in unique(events):
            domain = e["data"].get("name")
            place = (e["epoch"], int(e["sequence"]), int(e["data"]["reason"].removeprefix(MARK)))
            before = last.setdefault(domain, place)
            if before[0] == place[0] and (before[1] > place[1] or before[2] > place[2]):
                faults.append(f"order of {domain}: {place} came after {before}")
            last[domain] = place
        if not holes_allowed and self.hook.calls == len(self.accepted):
            faults += [f"hole: {h}" for h in holes(events)]
        return faults


class Traffic:
    """Hooks, from `threads` threads; a domain belongs to one thread, so that its order is known. pause: seconds between
    two hooks of a thread."""

    def __init__(self, ledger, domains=("vm1", "vm2", "vm3", "vm4"), threads=2, pause=0.0, size=0):
        self.ledger, self.pause, self.size = ledger, pause, size
        self.stopping = threading.Event()
        self.errors = []
        shares = [domains[i::threads] for i in range(threads)]
        self.threads = [threading.Thread(target=self._run, args=(s,), daemon=True) for s in shares if s]

    def start(self):
        for t in self.threads:
            t.start()
        return self

    def stop(self):
        self.stopping.set()
        for t in self.threads:
            t.join()
        assert not self.errors, self.errors

    def __enter__(self):
        return self.start()

    def __exit__(self, *exception):
        self.stop()

    def _run(self, domains):
        i = 0
        while not self.stopping.is_set():
            try:
                self.ledger.call(domains[i % len(domains)], size=self.size)
            except Exception as e:  # noqa: BLE001 - told by stop()
                self.errors.append(e)
                return
            i += 1
            if self.pause:
                self.stopping.wait(self.pause)
