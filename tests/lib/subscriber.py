# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A consumer that is none of ours: paho over OpenSSL, MQTT 5, QoS 1, with a persistent session.

    subscriber.events            CloudEvents (dictionaries) in the order of arrival, duplicates included
    subscriber.messages          the same as paho messages (topic, payload, properties), status messages included
    subscriber.event_messages    without these
    subscriber.wait_for(n)       waits until n different events are there, returns them without duplicates
    subscriber.check_complete()  no hole in any (source, epoch), first arrivals in order
    subscriber.errors            what was no event by the schema, and refused connections
    subscriber.duplicates        how many arrivals were repetitions (same id)
"""

import json
import ssl
import threading
import time
import uuid

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from . import schema
from .waiting import wait_until


def unique(events):
    """The first arrival of each id."""
    seen = {}
    for e in events:
        seen.setdefault(e["id"], e)
    return list(seen.values())


def holes(events):
    """[(source, epoch, missing sequence number)] below the highest that was seen, counted from 1."""
    seen = {}
    for e in events:
        seen.setdefault((e["source"], e["epoch"]), set()).add(int(e["sequence"]))
    return [(s, ep, n) for (s, ep), have in seen.items() for n in range(1, max(have) + 1) if n not in have]


def disorder(events):
    """Pairs of events of one epoch that arrived in the wrong order (first arrivals, replays left out)."""
    last, wrong = {}, []
    for e in unique(x for x in events if not x.get("replayed")):
        before = last.get((e["source"], e["epoch"]))
        if before is not None and int(before["sequence"]) > int(e["sequence"]):
            wrong.append((before["sequence"], e["sequence"]))
        last[(e["source"], e["epoch"])] = e
    return wrong


def by_subject(events):
    subjects = {}
    for e in events:
        subjects.setdefault(e.get("subject"), []).append(e)
    return list(subjects.values())


# What paho 1.6 lets through when a connection ends under it; the last, when another thread has just closed its socket.
LOST = (OSError, ValueError, AttributeError)


class Subscriber:
    def __init__(self, broker, topic="virtspool/#", certificate="consumer", client_id=None, qos=1):
        self.broker, self.topic, self.qos = broker, topic, qos
        self.messages, self.events, self.errors = [], [], []
        self._subscribed = threading.Event()
        self._thread, self._stopping = None, False
        self.client = mqtt.Client(client_id or f"test-{uuid.uuid4().hex[:12]}", protocol=mqtt.MQTTv5)
        if broker.tls:
            certs = broker.certs
            self.client.tls_set(
                str(certs.ca), str(certs.pem(certificate)), str(certs.key(certificate)), tls_version=ssl.PROTOCOL_TLS_CLIENT
            )
        self.client.reconnect_delay_set(0.05, 0.5)
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = lambda *a: self._subscribed.set()
        self.client.on_disconnect = lambda *a: self._subscribed.clear()
        self.client.on_message = self._on_message

    def start(self, deadline=10):
        """Connects and returns when subscribed."""
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600
        self.client.connect(self.broker.host, self.broker.port, keepalive=30, clean_start=False, properties=properties)
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()
        self.wait_subscribed(deadline)
        return self

    def _loop(self):
        """As paho's own thread, but an error of TLS, which it does not expect, is a lost connection like others."""
        while not self._stopping:
            try:
                self.client.loop_forever(retry_first_connection=True)
            except LOST:
                time.sleep(0.05)
                try:
                    self.client.reconnect()
                except LOST:
                    pass

    def wait_subscribed(self, deadline=10):
        """Also after the broker went away and came back."""
        wait_until(self._subscribed.is_set, deadline, "the subscriber is subscribed")

    def stop(self):
        self._stopping = True
        try:
            self.client.disconnect()
        except LOST:  # its broker is gone already
            pass
        if self._thread:
            self._thread.join(10)
        else:  # somebody runs paho's own loop
            self.client.loop_stop()

    def wait_for(self, n, deadline=15.0):
        wait_until(
            lambda: len(unique(list(self.events))) >= n,
            deadline,
            lambda: f"{n} events: {len(unique(list(self.events)))} arrived",
        )
        return unique(list(self.events))

    @property
    def duplicates(self):
        return len(self.events) - len(unique(self.events))

    def operations(self, domain=None):
        """The operations of first arrivals, in order: ["prepare", "start", ...]."""
        return [
            e["data"].get("operation")
            for e in unique(list(self.events))
            if domain is None or e["data"].get("name", e.get("subject")) == domain
        ]

    def check_complete(self, n=None, concurrent=False):
        """
        Every event from the first of each epoch on is here, and they came in order; concurrent: in the order of each
        domain, for hooks of different domains that run at once overtake each other between their stamp and the disk.
        """
        events = list(self.events)
        assert not self.errors, self.errors
        assert holes(events) == [], f"holes: {holes(events)}"
        for some in by_subject(events) if concurrent else [events]:
            assert disorder(some) == [], f"out of order: {disorder(some)}"
        if n is not None:
            assert len(unique(events)) == n

    def _on_connect(self, client, userdata, flags, reason, properties=None):
        if reason == 0:
            client.subscribe(self.topic, options=SubscribeOptions(qos=self.qos))
        else:
            self.errors.append(f"connect refused: {reason}")

    @property
    def event_messages(self):
        return [m for m in list(self.messages) if b'"org.virtspool.status.' not in m.payload]

    def _on_message(self, client, userdata, message):
        self.messages.append(message)
        try:
            event = json.loads(message.payload)
        except ValueError as e:
            self.errors.append(f"{message.topic}: no JSON: {e}: {message.payload[:200]!r}")
            return
        self.errors += [f"{message.topic}: {e}" for e in schema.errors(event)]
        if isinstance(event, dict) and "specversion" in event and "sequence" in event and "id" in event:
            self.events.append(event)
