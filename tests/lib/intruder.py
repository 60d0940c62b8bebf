# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A client with a valid certificate and bad manners: paho, no session, and nothing is held against it when it fails.

    with Intruder(broker, "node2", version=5) as evil:
        evil.connected                        None before the broker's answer, then True or False
        evil.publish("virtspool/v1/node1/x")  its own payload is evil.payload; waits for the PUBACK or the end
        evil.subscribe("#")                   waits for the SUBACK or the end; True if it was granted
        evil.received                         topics of what arrived
        evil.lost                             the connection has ended, and not by us
        evil.drop()                           ends the connection without DISCONNECT, so that its will is told
"""

import socket
import ssl
import threading
import uuid

import paho.mqtt.client as mqtt

from .waiting import wait_until


class Intruder:
    def __init__(self, broker, certificate, version=5, client_id=None, will=None, will_retained=False, username=None):
        self.broker = broker
        self.payload = f"forged-{uuid.uuid4().hex}"
        self.connected, self.lost, self.received = None, False, []
        self._answers, self._acknowledged = {}, set()
        protocol = mqtt.MQTTv5 if version == 5 else mqtt.MQTTv311
        clean = {} if version == 5 else {"clean_session": True}
        self.client = mqtt.Client(client_id or f"intruder-{uuid.uuid4().hex[:8]}", protocol=protocol, **clean)
        certs = broker.certs
        self.client.tls_set(
            str(certs.ca), str(certs.pem(certificate)), str(certs.key(certificate)), tls_version=ssl.PROTOCOL_TLS_CLIENT
        )
        if username:
            self.client.username_pw_set(username, "")
        if will:
            self.client.will_set(will, self.payload, qos=1, retain=will_retained)
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_message = lambda client, data, message: self.received.append(message.topic)
        self.client.on_publish = lambda client, data, mid: self._acknowledged.add(mid)
        self.client.on_subscribe = lambda client, data, mid, answer, *properties: self._answers.update({mid: answer})
        self._thread = None

    def __enter__(self):
        """Returns when the broker has answered."""
        try:
            self.client.connect(self.broker.host, self.broker.port, keepalive=60)
        except OSError:  # TLS, or a broker that just closes
            self.connected, self.lost = False, True
            return self
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()
        wait_until(lambda: self.connected is not None or self.lost, 15, "the broker answers")
        self.connected = bool(self.connected)
        return self

    def __exit__(self, *_):
        try:
            self.client.disconnect()
        except (OSError, ValueError):  # TLS has ended before us
            pass
        if self._thread:
            self._thread.join(5)

    def _loop(self):
        try:
            while self.client.loop(0.1) == mqtt.MQTT_ERR_SUCCESS:
                pass
        except (OSError, ValueError):
            pass
        self.lost = True

    def publish(self, topic, retain=False):
        info = self.client.publish(topic, self.payload, qos=1, retain=retain)
        wait_until(lambda: info.mid in self._acknowledged or self.lost, 15, "a PUBACK, or the end")

    def subscribe(self, topic):
        _, mid = self.client.subscribe(topic, qos=1)
        wait_until(lambda: mid in self._answers or self.lost, 15, "a SUBACK, or the end")
        return mid in self._answers and int(getattr(self._answers[mid][0], "value", self._answers[mid][0])) < 0x80

    def drop(self):
        """TCP's end, without a word."""
        try:
            self.client.socket().shutdown(socket.SHUT_RDWR)
        except (AttributeError, OSError):
            pass
        wait_until(lambda: self.lost, 15, "the connection is gone")

    def _on_connect(self, client, userdata, flags, reason, properties=None):
        self.connected = int(getattr(reason, "value", reason)) == 0

    def _on_disconnect(self, *_):
        self.lost = True
