# SPDX-License-Identifier: LGPL-2.1-or-later
"""
lib - what the tests are made of: real programs in private directories, each gone when its test is.

The pieces, and how they are put together by hand:

    certs = Certs(directory)                    # CA, broker, host, consumer; .server(), .client() for more
    spool = Spool(directory)                    # .spooldir and .rundir with the layout of hook/spool.h
    hook = Hook(spool)                          # hook("start", "begin", domain="vm1") runs virtspool-hook once
    broker = Broker(directory, certs)           # mosquitto over TLS, client certificates demanded
    broker.start()
    subscriber = Subscriber(broker).start()     # collects CloudEvents; .wait_for(n), .check_complete()
    daemon = Daemon(directory, spool, broker, certs)
    daemon.start()                              # virtspoold; returns when it said READY=1

    ledger = Ledger(hook)                       # what hooks accepted against what a subscriber received
    box = Namespaces(directory, mount=True)     # to mount, fill and cut what is nobody else's

    node = Node(spool).boot()                   # libvirtd and QEMU in namespaces of their own (root)
    guest = node.guest("vm1").start()

and with the fixtures (lib/fixtures.py), which also clean up:

    def test_something(bed):
        bed.hook("start", "begin", domain="vm1")
        bed.broker.start()
        subscriber = bed.subscriber()
        bed.daemon.start()
        events = subscriber.wait_for(1)
        bed.spool.wait_empty()
        subscriber.check_complete()

Rules:
  * Wait for a condition with a deadline: wait_until(lambda: ..., deadline=10, what="..."); never sleep and hope.
  * Start programs with lib.process.Process only: they die with the test, also when pytest is killed, and the fixture
    `no_process_left` stops what a failing test left.
  * The programs come from the build tree $VIRTSPOOL_BUILD (default: build/ in the repository, else the repository).
    One that is not there skips the test (or fails it, if VIRTSPOOL_REQUIRE=1, as scripts/test sets it).
  * Changing the daemon's configuration: daemon.config is a dictionary of sections, e.g.
    daemon.config["mqtt"]["window"] = 5, written by daemon.write_config() and by start() and reload().
"""

from .broker import Broker
from .certs import Certs
from .daemon import Daemon
from .documents import domain_xml
from .hook import Hook
from .listener import Listener
from .ledger import Ledger, Traffic
from .namespaces import Namespaces
from .node import Guest, Node
from .process import Process
from .programs import BUILD, ROOT, program
from .recorder import Recorder
from .scripted_broker import Behaviour, ScriptedBroker
from .spool import Spool
from .subscriber import Subscriber
from .waiting import free_port, wait_until

__all__ = [
    "BUILD",
    "ROOT",
    "Behaviour",
    "Broker",
    "Certs",
    "Daemon",
    "Guest",
    "Hook",
    "Listener",
    "Ledger",
    "Namespaces",
    "Node",
    "Process",
    "Recorder",
    "ScriptedBroker",
    "Spool",
    "Subscriber",
    "Traffic",
    "domain_xml",
    "free_port",
    "program",
    "wait_until",
]
