# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon's log: on stderr, and in the journal with fields of its own."""

import contextlib
import os
import re
import socket

import pytest
from lib import ROOT, Namespaces, wait_until
from lib.documents import domain_uuid
from lib.programs import missing


def test_log_has_no_line_per_event(bed):
    bed.daemon.config["log"] = {"level": "info"}
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    bed.hook.many(50)
    subscriber.wait_for(50)
    bed.spool.wait_empty()
    assert len(bed.daemon.output().splitlines()) < 10, bed.daemon.output()


def test_at_debug_each_delivered_event_has_a_line(running):
    bed = running
    bed.hook("start", domain="web1")
    bed.spool.wait_count(1, "sent")
    (name,) = bed.spool.names("sent")
    topic = f"virtspool/v1/node1/qemu/{domain_uuid('web1')}/start"
    assert f"virtspoold: event {name} delivered on topic {topic}: Success (0x00)" in bed.daemon.output()


def stderr_is_the_journal(bed):
    bed.daemon.directory.mkdir()
    bed.daemon.log.touch()
    st = bed.daemon.log.stat()
    bed.daemon.environment["JOURNAL_STREAM"] = f"{st.st_dev}:{st.st_ino}"


def put_torn(bed):
    name = "01a1fcec-a57a-77cf-8000-0000000007cf"
    (bed.spool.path("tmp") / "torn").write_text("x")
    (bed.spool.path("tmp") / "torn").rename(bed.spool.path("new") / name)
    bed.spool.wait_count(2, "failed")
    return name


def test_priorities_where_the_journals_socket_is_missing(bed):
    stderr_is_the_journal(bed)
    bed.broker.start()
    bed.daemon.start()
    bed.daemon.wait_connected()
    name = put_torn(bed)
    bed.daemon.stop()
    lines = bed.daemon.output().splitlines()
    assert all(re.match(r"<[3-7]>\S", line) for line in lines), lines
    (line,) = [line for line in lines if name in line and "moved" in line]
    assert line.startswith("<4>") and "failed/" in line


def test_an_inherited_journal_stream_is_not_ours(bed):
    """sd-daemon(3): device and inode have to be those of stderr."""
    bed.daemon.environment["JOURNAL_STREAM"] = "1:1"
    bed.broker.start()
    bed.daemon.start()
    bed.daemon.wait_connected()
    bed.daemon.stop()
    assert all(line.startswith("virtspoold: ") for line in bed.daemon.output().splitlines()), bed.daemon.output()
    # Set for a service whose child writes elsewhere.
    st = bed.daemon.log.stat()
    done = bed.run("virtspoold", "--check-config", "-c", "/nowhere", environment={"JOURNAL_STREAM": f"{st.st_dev}:{st.st_ino}"})
    assert done.returncode == 78 and not done.stderr.startswith("<"), done.stderr


class Journal:
    """journald's socket in a mount namespace: what is sent there, as dictionaries."""

    def __init__(self, bed):
        self.directory = bed.directory / "journal"
        self.directory.mkdir()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        home = os.open(".", os.O_RDONLY)
        os.chdir(self.directory)  # pytest's directories may be too long for a socket's address
        self.socket.bind("socket")
        os.fchdir(home)
        os.close(home)
        box = Namespaces(bed.directory, mount=True)
        box.run("mount", "-t", "tmpfs", "none", "/run")
        box.run("mkdir", "-p", "/run/systemd/journal")
        box.run("mount", "--bind", self.directory, "/run/systemd/journal")
        bed.daemon.prefix = box.prefix
        self.received = []

    def entries(self):
        while True:
            try:
                data = self.socket.recv(1 << 16)
            except BlockingIOError:
                return self.received
            self.received.append(self.parse(data))

    @staticmethod
    def parse(data):
        """https://systemd.io/JOURNAL_NATIVE_PROTOCOL/"""
        fields = {}
        while data:
            line, _, data = data.partition(b"\n")
            name, equals, value = line.partition(b"=")
            if not equals:
                size = int.from_bytes(data[:8], "little")
                value, data = data[8 : 8 + size], data[8 + size + 1 :]
            fields[name.decode()] = value.decode()
        return fields

    def wait(self, text):
        def found():
            return [e for e in self.entries() if text in e["MESSAGE"]]

        return wait_until(found, what=lambda: f"'{text}' in {self.entries()}")[0]

    def close(self):
        self.socket.close()


@pytest.fixture
def journal(bed):
    if os.geteuid() != 0:
        missing("root is needed for a journal's socket of one's own")
    with contextlib.closing(Journal(bed)) as journal:
        yield journal


def test_fields_of_the_journal(bed, journal):
    """So that journalctl VIRTSPOOL_UUID=... works; and no name forges a field."""
    name, uuid = "web1\nVIRTSPOOL_TOPIC=forged", domain_uuid("web1")
    bed.broker.acl = ["user host", f"topic write virtspool/v1/node1/qemu/{uuid}/start", "topic write virtspool/v1/node1/status"]
    bed.broker.options += ["max_queued_messages 1000"]
    bed.broker.start()
    stderr_is_the_journal(bed)
    bed.daemon.start()
    connected = journal.wait("connected to broker")
    assert connected["PRIORITY"] == "5" and connected["VIRTSPOOL_BROKER"] == bed.broker.url
    assert connected["SYSLOG_IDENTIFIER"] == "virtspoold"
    document = f"<domain><uuid>{uuid}</uuid></domain>".encode()
    bed.hook("start", domain=name, document=document)
    delivered = journal.wait("delivered on topic")
    bed.spool.wait_count(1, "sent")
    (id_,) = bed.spool.names("sent")
    topic = f"virtspool/v1/node1/qemu/{uuid}/start"
    assert {k: v for k, v in delivered.items() if k.startswith("VIRTSPOOL_")} == {
        "VIRTSPOOL_EVENT": id_,
        "VIRTSPOOL_VM": name.replace("\n", "\ufffd"),  # as in the event's subject
        "VIRTSPOOL_UUID": uuid,
        "VIRTSPOOL_TOPIC": topic,
        "VIRTSPOOL_BROKER": bed.broker.url,
        "VIRTSPOOL_REASON_CODE": "0x10",
    }
    bed.hook("started", domain=name, document=document)
    refused = journal.wait("refuses event")
    assert refused["PRIORITY"] == "4" and refused["VIRTSPOOL_REASON_CODE"] == "0x87" and refused["VIRTSPOOL_UUID"] == uuid
    bed.daemon.stop()
    journal.wait("stopped")
    assert bed.daemon.output() == ""
    ids = {e["MESSAGE_ID"] for e in journal.entries() if "MESSAGE_ID" in e}
    assert len(ids) >= 5 and ids <= message_ids()


def message_ids():
    source = (ROOT / "spooler/base/log.c").read_text()
    return set(re.findall(r'\[LOG_MESSAGE_\w+\] = "([0-9a-f]{32})"', source))


def test_the_catalog_explains_every_message():
    catalog = (ROOT / "etc/journal/virtspool.catalog").read_text()
    entries = re.findall(r"^-- ([0-9a-f]{32})\nSubject: .+\nDefined-By: virtspool\n\n\S", catalog, re.M)
    header = (ROOT / "spooler/base/log.h").read_text()
    kinds = set(re.findall(r"\bLOG_MESSAGE_\w+", header)) - {"LOG_MESSAGE_OTHER"}
    assert set(entries) == message_ids() and len(entries) == len(set(entries)) == len(kinds)
    fields = set(re.findall(r"\b(VIRTSPOOL_[A-Z_]+)\b", header))
    assert set(re.findall(r"@(\w+)@", catalog)) <= fields
    manual = (ROOT / "spooler/daemon/virtspoold.8").read_text()
    assert fields == set(re.findall(r"^\.It Va (VIRTSPOOL_\w+)$", manual, re.M))
