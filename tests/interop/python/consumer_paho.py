# SPDX-License-Identifier: LGPL-2.1-or-later
"""
consumer_paho.py HOST PORT CA CERTIFICATE KEY - paho-mqtt 1.6 or 2.x, and the CloudEvents SDK 1.x: "ready", then one line of JSON
for each event as the SDK understood it. A message that the SDK does not accept ends it.
"""

import os
import sys

import paho.mqtt.client as mqtt
from cloudevents.conversion import to_json
from cloudevents.http import from_json
from paho.mqtt.subscribeoptions import SubscribeOptions

host, port, ca, certificate, key = sys.argv[1:]
version = [mqtt.CallbackAPIVersion.VERSION2] if hasattr(mqtt, "CallbackAPIVersion") else []


def on_message(client, userdata, message):
    try:
        assert message.properties.ContentType == "application/cloudevents+json"
        print(to_json(from_json(message.payload)).decode(), flush=True)
    except Exception as e:  # noqa: BLE001 - paho would swallow it
        print(message.topic, repr(e), file=sys.stderr, flush=True)
        os._exit(1)


client = mqtt.Client(*version, client_id="paho", protocol=mqtt.MQTTv5)
client.tls_set(ca, certificate, key)
client.on_connect = lambda client, *_: client.subscribe("virtspool/v1/#", options=SubscribeOptions(qos=1))
client.on_subscribe = lambda *_: print("ready", flush=True)
client.on_message = on_message
client.connect(host, int(port))
client.loop_forever()
