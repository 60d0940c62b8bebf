# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What somebody who may define domains can hand to us, from the hook to the subscriber: names, arguments and documents.
Every call becomes an event that keeps to the schema, in its topic, soon, and in bounded memory.
"""

import json
import socket
from pathlib import Path

import pytest

from lib import wait_until
from lib.documents import domain_uuid, domain_xml
from lib.programs import sanitized
from lib.waiting import PATIENCE

NAME = b"<name>vm1</name>"
MEMORY_KIB = 64 * 1024  # the largest document is 8 MiB, and 2 MiB of it are parsed


def bomb():
    entities = "".join(f"<!ENTITY e{i} '{f'&e{i - 1};' * 10}'>" for i in range(1, 12))
    return f"<!DOCTYPE domain [<!ENTITY e0 'xxxxxxxxxx'>{entities}]><domain><name>&e11;</name></domain>".encode()


def external(uri):
    return (
        f'<!DOCTYPE domain SYSTEM "{uri}/d.dtd" [<!ENTITY a SYSTEM "{uri}/a"><!ENTITY b SYSTEM "file:///etc/passwd">'
        f'<!ENTITY % c SYSTEM "{uri}/c"> %c;]><domain xmlns:xi="http://www.w3.org/2001/XInclude"><title>&a;&b;</title>'
        f'<xi:include href="{uri}/x"/><xi:include href="file:///etc/passwd" parse="text"/></domain>'
    ).encode()


DOCUMENTS = {
    "entity bomb": bomb(),
    "nested": b"<domain>" + NAME + b"<a>" * 100_000,
    "nested and closed": b"<domain>" + NAME + b"<a>" * 100_000 + b"</a>" * 100_000 + b"</domain>",
    "attributes": b"<domain>" + NAME + b"<x" + b"".join(b" a%d=''" % i for i in range(600_000)) + b"/></domain>",
    "a huge attribute": b"<domain>" + NAME + b"<x a='" + b"a" * 8_000_000 + b"'/></domain>",
    "a huge text": b"<domain><title>" + b"a" * 8_000_000 + b"</title></domain>",
    "namespaces": b"<domain" + b"".join(b" xmlns:a%d='u'" % i for i in range(300_000)) + b"/>",
    "names": b"<domain>" + NAME + b"".join(b"<a%d/>" % i for i in range(700_000)) + b"</domain>",
    "larger than is kept": domain_xml("vm1", devices="<!-- " + "x" * 12_000_000 + " -->"),
    "no UTF-8": b"<domain><name>\xff\xfe</name></domain>",
    "UTF-16": "<domain><name>vm1</name></domain>".encode("utf-16"),
    "zeros": b"\0" * 10_000,
    "not XML": b"{}",
}


BLANKED = ("UTF-16", "zeros")  # cannot be scanned for secrets, so nothing of them is kept


@pytest.fixture
def running(bed):
    bed.daemon.config["events"] = {"metadata": ["urn:x"]}
    bed.broker.start()
    bed.subscribed = bed.subscriber()
    bed.daemon.start()
    bed.daemon.wait_connected()
    return bed


def peak_kib(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1])


def test_documents(running):
    bed = running
    for name, document in DOCUMENTS.items():
        took = bed.hook("started", document=document)
        assert took < 4 * PATIENCE, name
        n = bed.hook.calls
        event = bed.subscribed.wait_for(n, 60 if sanitized("virtspoold") else 10)[-1]
        assert event["data"]["name"] == "vm1", name
        assert event["data"].get("document_error") or name in ("larger than is kept", *BLANKED), name
        assert len(event["data"].get("title", "")) <= 4096
    bed.hook("stopped", "end", document=domain_xml("vm1"))
    last = bed.subscribed.wait_for(len(DOCUMENTS) + 1)[-1]
    assert last["data"]["uuid"] == domain_uuid("vm1") and "document_error" not in last["data"]
    bed.subscribed.check_complete(len(DOCUMENTS) + 1)
    assert bed.spool.failed() == {}
    peak = peak_kib(bed.daemon.pid)
    assert peak <= MEMORY_KIB or sanitized("virtspoold"), f"{peak} KiB"


def test_documents_published_as_they_are(bed):
    """With events.xml: a document of any bytes is a JSON string."""
    bed.daemon.config["events"] = {"xml": True}
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    documents = [d for name, d in DOCUMENTS.items() if len(d) < 1_000_000 and name not in BLANKED]
    for document in documents:
        bed.hook("started", document=document)
    for document, event in zip(documents, subscriber.wait_for(len(documents))):
        expected = document.decode(errors="replace").replace("\0", "\ufffd")
        assert event["data"].get("xml") == expected or event["data"].get("redacted") or b"\xff" in document
    subscriber.check_complete(len(documents))


def test_nothing_is_fetched(running):
    bed = running
    with socket.create_server(("127.0.0.1", 0)) as listener:
        bed.hook("started", document=external(f"http://127.0.0.1:{listener.getsockname()[1]}"))
        (event,) = bed.subscribed.wait_for(1)
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert "root:" not in json.dumps(event)
    assert "document type" in event["data"]["document_error"]


NAMES = [
    "a/b",
    "+",
    "#",
    "$SYS/broker",
    "../../etc/passwd",
    "-",
    "a\nb",
    "\x1b[31mred\x1b]0;title\x07",
    "a\x7f\x01",
    b"\xff\xfe",
    b"\xc2\x9b31m",
    '","source":"/virtspool/node2","x":"',
    "{uuid}",
    "%2F%s%n",
    "x" * 1000,
    "\u202egnp.exe",
]


def test_names(bed):
    bed.daemon.config["mqtt"]["topic"] = "virtspool/v1/{host}/{driver}/{name}/{operation}/{suboperation}"
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    for name in NAMES:
        bed.hook.raw([name, "started", "begin", "-"], document=domain_xml("vm1"))
    events = subscriber.wait_for(len(NAMES))
    subscriber.check_complete(len(NAMES))
    for name, event, message in zip(NAMES, events, subscriber.event_messages):
        raw = name if isinstance(name, bytes) else name.encode()
        levels = message.topic.split("/")
        assert levels[:4] == ["virtspool", "v1", "node1", "qemu"] and levels[5:] == ["started", "begin"], name
        assert not set(message.topic) & set("+#$ ") and message.topic.isascii() and message.topic.isprintable()
        assert event["source"] == "/virtspool/node1" and event["type"] == "org.virtspool.qemu.started.begin"
        assert event["subject"].isprintable() or "\u202e" in event["subject"], name
        try:
            assert event["data"]["name"] == raw.decode() and "exact" not in event["data"]
        except UnicodeDecodeError:
            assert "\ufffd" in event["data"]["name"] and "%FF" in event["data"]["exact"]["name"]
    log = bed.daemon.log.read_text()
    assert all(line.isprintable() for line in log.splitlines())


def test_arguments(running):
    """Operations, sub-operations and reasons of any bytes, and more arguments than libvirt gives."""
    bed = running
    calls = [
        ["vm1", "a/b", "c#", "d\ne"],
        ["vm1", b"\xff", b"\xfe", b"\xfd"],
        ["vm1", "started.begin", "x", "y" * 5000],
        ["vm1", "started", "begin", "-", *("more",) * 40],
        ["vm1"],
        [],
    ]
    for arguments in calls:
        bed.hook.raw(arguments, document=domain_xml("vm1"))
    events = bed.subscribed.wait_for(len(calls))
    bed.subscribed.check_complete(len(calls))
    types = [e["type"].removeprefix("org.virtspool.qemu.") for e in events]
    assert types == ["a%2Fb.c%23", "%FF.%FE", "started%2Ebegin.x", "started.begin", "unknown", "unknown"]
    assert events[1]["data"]["exact"] == {"operation": "%FF", "suboperation": "%FE", "reason": "%FD"}
    assert events[2]["data"]["truncated"] == ["arguments"]
    assert events[3]["data"]["argument_count"] == 44 and len(events[3]["data"]["arguments"]) == 16
    assert [e["data"].get("argument_count") for e in events[4:]] == [1, 0]
    assert all(m.topic.count("/") == 5 for m in bed.subscribed.event_messages)


def test_metadata(running):
    bed = running
    metadata = (
        "<a:x xmlns:a='urn:x' k='&quot;v&amp;'><a:y>1 &lt; 2</a:y></a:x>"
        "<b:secret xmlns:b='urn:other'>not asked for</b:secret>"
    )
    bed.hook("started", document=domain_xml("vm1", metadata=metadata, title="T\u00fcr <1>"))
    (event,) = bed.subscribed.wait_for(1)
    assert event["data"]["title"] == "T\u00fcr <1>"
    assert list(event["data"]["metadata"]) == ["urn:x"]
    text = event["data"]["metadata"]["urn:x"]
    assert text == '<a:x xmlns:a="urn:x" k="&#34;v&#38;"><a:y>1 &lt; 2</a:y></a:x>'
    bed.hook("started", document=domain_xml("vm1", metadata=f"<x xmlns='urn:x'>{'z' * 100_000}</x>"))
    event = bed.subscribed.wait_for(2)[-1]
    assert event["data"]["metadata_truncated"] is True and "metadata" not in event["data"]
    wait_until(lambda: not bed.subscribed.errors, 1, lambda: bed.subscribed.errors)
