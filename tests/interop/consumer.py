# SPDX-License-Identifier: LGPL-2.1-or-later
"""lib.Subscriber for MQTT 3.1.1 and for brokers that want a user and a password."""

import threading
import uuid

import paho.mqtt.client as mqtt
from lib import Subscriber


class Subscriber3(Subscriber):
    def __init__(self, broker, **options):
        super().__init__(broker, **options)
        five = self.client
        client_id = options.get("client_id") or f"test-{uuid.uuid4().hex[:12]}"
        self.client = mqtt.Client(client_id, clean_session=False, protocol=mqtt.MQTTv311)
        self.client._ssl_context, self.client._ssl = five._ssl_context, five._ssl
        for name in ("on_connect", "on_subscribe", "on_disconnect", "on_message"):
            setattr(self.client, name, getattr(five, name))
        self.client.reconnect_delay_set(0.05, 0.5)

    def start(self, deadline=10):
        self.client.connect(self.broker.host, self.broker.port, keepalive=30)
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()
        self.wait_subscribed(deadline)
        return self

    def _on_connect(self, client, userdata, flags, reason, properties=None):
        if reason == 0:
            client.subscribe(self.topic, qos=self.qos)
        else:
            self.errors.append(f"connect refused: {reason}")


def subscriber_of(broker, **options):
    """A started subscriber that speaks what the broker does."""
    subscriber = (Subscriber if broker.version == "5" else Subscriber3)(broker, **options)
    if broker.login:
        subscriber.client.username_pw_set(*broker.login)
    return subscriber.start(30)
