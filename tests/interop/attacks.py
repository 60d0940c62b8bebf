# SPDX-License-Identifier: LGPL-2.1-or-later
"""A client with a valid certificate that tries what it may not; it says what the broker answered."""

import socket
import ssl
import threading
import uuid

import paho.mqtt.client as mqtt


class Attacker:
    def __init__(self, broker, certificate, client_id=None, will=None, version=None):
        self.answers, self.messages = [], []
        self._event = threading.Event()
        protocol = mqtt.MQTTv5 if (version or broker.version) == "5" else mqtt.MQTTv311
        self.client = mqtt.Client(client_id or f"attacker-{uuid.uuid4().hex[:8]}", protocol=protocol)
        certs = broker.certs
        self.client.tls_set(
            str(certs.ca), str(certs.pem(certificate)), str(certs.key(certificate)), tls_version=ssl.PROTOCOL_TLS_CLIENT
        )
        if will:
            self.client.will_set(*will)
        self.client.on_connect = lambda c, u, f, code, p=None: self._note("connect", code)
        self.client.on_disconnect = lambda *a: self._note("disconnect", a[2])
        self.client.on_subscribe = lambda *a: self._note("subscribe", a[3])
        self.client.on_publish = lambda *a: self._note("publish", None)
        self.client.on_message = lambda c, u, m: self.messages.append(m.topic)
        self.client.connect(broker.host, broker.port)
        self.client.loop_start()
        self.wait("connect", "disconnect")

    def _note(self, what, code):
        self.answers.append((what, code))
        self._event.set()

    def wait(self, *kinds, seconds=10):
        """Until the broker answered with one of these."""
        while not any(kind in kinds for kind, _ in self.answers):
            assert self._event.wait(seconds), f"no answer: {self.answers}"
            self._event.clear()
        return self.answers

    def publish(self, topic, retain=False):
        self.answers.clear()
        self.client.publish(topic, b"{}", qos=1, retain=retain)
        return self.wait("publish", "disconnect")

    def subscribe(self, topic):
        self.answers.clear()
        self.client.subscribe(topic, 1)
        return self.wait("subscribe", "disconnect")

    def vanish(self):
        """Cuts the connection, so that the will is sent."""
        self.client.loop_stop()
        self.client.socket().shutdown(socket.SHUT_RDWR)
        self.client._reset_sockets()

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()
