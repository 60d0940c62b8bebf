# SPDX-License-Identifier: LGPL-2.1-or-later
"""The first minute with RabbitMQ: init's files as they are (only port and directory are ours), join, the first event."""

import pytest
from brokers import RabbitMQ
from lib import wait_until
from lib.site import Site


class Made(RabbitMQ):
    """On what `virtspool-recorder init --broker-kind rabbitmq` made."""

    def __init__(self, site):
        super().__init__(site.bed.directory / "rabbitmq", site.bed.certs)
        self.files, self.wanted = site.mgmt / "broker", site.port

    def prepare(self):
        self.port = self.wanted
        super().prepare()
        text = (self.files / "rabbitmq.conf").read_text()
        assert text.count("ssl.1 = 8883") == 1 and text.count("/etc/rabbitmq/virtspool/") == 4
        text = text.replace("ssl.1 = 8883", f"ssl.1 = 127.0.0.1:{self.port}").replace("/etc/rabbitmq/virtspool", str(self.files))
        (self.directory / "rabbitmq.conf").write_text(text + "log.console = true\nlog.file = false\n")


@pytest.fixture
def site(bed):
    site = Site(bed)
    yield site
    site.close()


def test_from_init_to_the_first_event(site, bed):
    done = site.init("--broker", site.broker_url, "--broker-kind", "rabbitmq", "node1", "node2")
    assert "rabbitmq" in done.stdout
    broker = Made(site).start()
    try:
        recorder = site.start_recorder()
        done = site.join(site.bundle())
        assert done.returncode == 0, done.stdout + done.stderr + broker.output()[-3000:]
        assert "node1 reports." in done.stdout
        bed.hook.start(domain="web1")
        wait_until(lambda: [g["state"] for g in recorder.rows("guests", "--vm", "web1")] == ["running"], 30, "the guest is recorded")
    finally:
        broker.kill()
