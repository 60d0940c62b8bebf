# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A broker with events for a recorder, for tests that break the recorder or its store.

    operation, payload = event(n)     the n-th event of one host and one guest: start, stop, start ...
    rig = Rig(bed, server)            server: a PostgreSQL, or None for SQLite
    recorder = rig.run()              a Recorder, not started, in whose session EVENTS events wait
"""

import json
import ssl
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from .recorder import Recorder
from .waiting import wait_until

EVENTS = 12
EPOCH = "0123456789abcdef0123456789abcdef"


def event(number, host="node1"):
    ms = 1790000000000 + number
    operation = ("prepare", "start", "started", "stopped", "release")[number % 5]
    return operation, json.dumps(
        {
            "specversion": "1.0",
            "id": f"{ms >> 16:08x}-{ms & 0xFFFF:04x}-7000-8000-{number:012x}",
            "source": f"/virtspool/{host}",
            "type": "org.virtspool.qemu.x",
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms / 1000)) + f".{ms % 1000:03d}000Z",
            "sequence": f"{number + 1:020d}",
            "epoch": EPOCH,
            "replayed": False,
            "data": {"driver": "qemu", "operation": operation, "name": "web1", "uuid": "c7a5fdbd-edaf-9455-926a-d65c16db1809"},
        }
    )


class Rig:
    """One broker for all; each run has a session, topics and a store of its own."""

    def __init__(self, bed, server=None):
        self.bed, self.server = bed, server
        bed.broker.start()
        self.runs = 0
        self.publisher = self.client("publisher")

    def client(self, client_id, resume=False):
        client = mqtt.Client(client_id=client_id, protocol=mqtt.MQTTv5)
        certs = self.bed.certs
        client.tls_set(certs.ca, certs.pem("host"), certs.key("host"), tls_version=ssl.PROTOCOL_TLS_CLIENT)
        session = Properties(PacketTypes.CONNECT)
        session.SessionExpiryInterval = 3600 if resume else 0
        client.connect("localhost", self.bed.broker.port, clean_start=not resume, properties=session)
        client.loop_start()
        wait_until(client.is_connected, what="the client is connected")
        return client

    def run(self):
        self.runs += 1
        name = f"run{self.runs}"
        store = self.server.url(name) if self.server else None
        recorder = Recorder(self.bed.directory / name, self.bed.broker, self.bed.certs, store=store)
        recorder.config["mqtt"]["topic"] = f"{name}/{{host}}/{{driver}}/{{uuid}}/{{operation}}"
        recorder.config["mqtt"]["status_topic"] = "none"
        # The session, as an earlier run of the recorder has left it.
        client = self.client(recorder.config["mqtt"]["client_id"], resume=True)
        done = []
        client.on_subscribe = lambda *_: done.append(1)
        client.subscribe(f"{name}/+/+/+/+", qos=1)
        wait_until(lambda: done, what="the session is there")
        client.disconnect()
        client.loop_stop()
        for n in range(EVENTS):
            operation, payload = event(n)
            self.publisher.publish(f"{name}/node1/qemu/u/{operation}", payload, qos=1).wait_for_publish(10)
        return recorder

    def count(self, recorder):
        if self.server:
            return int(self.server.sql(recorder.directory.name, "SELECT count(*) FROM events")[0][0])
        return recorder.sql("SELECT count(*) FROM events")[0][0]

    def is_over(self, recorder):
        try:
            return self.count(recorder) == EVENTS
        except Exception:  # there is no table yet
            return False

    def finish(self, recorder):
        """The recorder as it is takes what is left."""
        recorder.start()
        wait_until(lambda: self.is_over(recorder), 20, lambda: f"all is recorded:\n{recorder.output()}")
        recorder.stop()

    def faults(self, recorder):
        faults = []
        rows = recorder.rows("log", "--oldest")
        if [r["sequence"] for r in rows] != list(range(1, EVENTS + 1)):
            faults.append(f"recorded: {[r['sequence'] for r in rows]}")
        if recorder.rows("holes"):
            faults.append("holes")
        operations = [(o["operation"], o["outcome"]) for o in recorder.rows("timeline", "web1")]
        expected = [("start", "success"), ("stop", "success")] * (EVENTS // 5) + [("start", "running")]
        if operations != expected:
            faults.append(f"operations: {operations}")
        return faults
