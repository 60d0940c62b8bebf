# SPDX-License-Identifier: LGPL-2.1-or-later
"""amqtt_broker.py PORT CA CERTIFICATE KEY - amqtt on 127.0.0.1 over TLS; nobody may publish to a topic that ends with /denied."""

import asyncio
import logging
import sys

from amqtt.broker import Broker
from amqtt.contexts import Action
from amqtt.plugins.base import BaseTopicPlugin


class Rights(BaseTopicPlugin):
    async def topic_filtering(self, *, session=None, topic=None, action=None):
        return action != Action.PUBLISH or not topic.endswith("/denied")


async def main(port, ca, certificate, key):
    logging.basicConfig(level=logging.INFO)
    tls = {"ssl": True, "cafile": ca, "certfile": certificate, "keyfile": key}
    broker = Broker({
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}", **tls}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}, "__main__.Rights": {}},
    })
    await broker.start()
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
