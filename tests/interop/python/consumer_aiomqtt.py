# SPDX-License-Identifier: LGPL-2.1-or-later
"""
consumer_aiomqtt.py HOST PORT CA CERTIFICATE KEY - aiomqtt, and the CloudEvents SDK 2.x: "ready", then one line of JSON for each
event as the SDK understood it. A message that the SDK does not accept ends it.
"""

import asyncio
import sys

import aiomqtt
from cloudevents.core.formats.json import JSONFormat


async def main(host, port, ca, certificate, key):
    tls = aiomqtt.TLSParameters(ca_certs=ca, certfile=certificate, keyfile=key)
    async with aiomqtt.Client(host, int(port), protocol=aiomqtt.ProtocolVersion.V5, tls_params=tls) as client:
        await client.subscribe("virtspool/v1/#", qos=1)
        print("ready", flush=True)
        async for message in client.messages:
            assert message.properties.ContentType == "application/cloudevents+json"
            json = JSONFormat()
            print(json.write(json.read(None, message.payload)).decode(), flush=True)


asyncio.run(main(*sys.argv[1:]))
