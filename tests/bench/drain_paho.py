# SPDX-License-Identifier: LGPL-2.1-or-later
"""The drainer that one writes in an afternoon, in Python: drain_paho.py DIRECTORY PORT CERTS WINDOW"""
import os
import ssl
import sys
import threading

import paho.mqtt.client as mqtt

directory, port, certs, window = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
room = threading.Semaphore(window)
names, early, lock = {}, set(), threading.Lock()


def on_publish(client, userdata, mid):
    with lock:
        name = names.pop(mid, None)
        if name is None:
            early.add(mid)
    if name is not None:
        os.unlink(name)
    room.release()


client = mqtt.Client(client_id="paho", protocol=mqtt.MQTTv5)
client.tls_set(f"{certs}/ca.pem", f"{certs}/host.pem", f"{certs}/host.key", tls_version=ssl.PROTOCOL_TLS_CLIENT)
client.max_inflight_messages_set(window)
client.on_publish = on_publish
client.connect("localhost", port)
client.loop_start()
for name in sorted(os.listdir(directory)):
    path = f"{directory}/{name}"
    room.acquire()
    with open(path, "rb") as f:
        mid = client.publish("virtspool/v1/host/qemu/uuid/started", f.read(), qos=1).mid
    with lock:
        known = mid in early
        if known:
            early.discard(mid)
        else:
            names[mid] = path
    if known:
        os.unlink(path)
for _ in range(window):
    room.acquire()
client.disconnect()
client.loop_stop()
