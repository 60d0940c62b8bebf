# SPDX-License-Identifier: LGPL-2.1-or-later
"""Events that cannot be delivered, and events that may not be: neither is in the way of the others, neither is lost."""

import os
import stat
import time

import pytest

from lib import Ledger, Traffic, wait_until
from lib.documents import domain_uuid
from lib.programs import sanitized, tool

STATUS = "topic write virtspool/v1/node1/status"
FORBIDDEN, GRANTED = "forbidden", "granted"


def refused(bed):
    return bed.broker.output().count("Denied PUBLISH from virtspool-node1")


def rights(*domains):
    topics = [f"topic write virtspool/v1/node1/qemu/{domain_uuid(d)}/#" for d in domains]
    return ["user host", STATUS, *topics, "user consumer", "topic read virtspool/#"]


@pytest.mark.parametrize(
    "domains, queue, longest", [(1, 1000, 1), (20, 1000, 4), (1, 0, 8)], ids=["one", "many", "connection-ends"]
)
def test_want_of_rights_deletes_nothing_spins_nowhere_and_heals(bed, domains, queue, longest):
    """mosquitto refuses with PUBACK 0x87, and with max_queued_messages 0 it ends the connection after that. The others
    pass at once, unless so many domains are refused that perhaps all are, or there is no connection for a while."""
    bed.broker.options += [f"max_queued_messages {queue}"]
    bed.broker.acl = rights(GRANTED)
    bed.broker.start()
    subscriber = bed.subscriber()
    ledger = Ledger(bed.hook)
    ledger.configure(bed.daemon)
    bed.daemon.config["mqtt"]["window"] = 10
    for i in range(30):
        ledger.call(f"{FORBIDDEN}{i % domains}")
    bed.daemon.start()
    wait_until(lambda: refused(bed) > 0, 10, "the broker refuses")

    # The others pass, each soon, and nothing of the refused is deleted.
    start, seconds, waited = time.monotonic(), 8.0, []
    while time.monotonic() < start + seconds:
        ledger.call(GRANTED)
        called = time.monotonic()
        wait_until(lambda: len(ledger.missing(subscriber)) == 30, 8, "what may be published is")
        waited.append(time.monotonic() - called)
        time.sleep(0.3)
    kept = [r for r in bed.spool.records("new") if r["object"].startswith(FORBIDDEN)]
    assert len(kept) == 30, f"failed: {bed.spool.names('failed')}, sent: {len(bed.spool.names('sent'))}\n{bed.daemon.output()}"
    attempts = refused(bed)
    # One window before the first answer, then 20 a minute.
    assert attempts <= 10 + 20 + seconds / 3 + 2, f"{attempts} attempts in {seconds:g} s"
    usual = sorted(waited)[len(waited) // 2]  # one may take long on a busy machine
    assert usual < longest, f"the others waited {usual:.2f} s"
    status = bed.daemon.status()
    assert bed.daemon.process.running and status["events"]["refused"]["0x87"] > 0 and status["last_error"]
    assert bed.daemon.output().count("refuses event") <= domains, "one line for each domain"

    bed.broker.acl = rights(GRANTED, *[f"{FORBIDDEN}{i}" for i in range(domains)])
    if queue:
        bed.broker.reload()
    else:  # mosquitto 2.0.11 may crash some events after a reload, and lose what it has acknowledged
        bed.broker.stop()
        bed.broker.start()
    granted = time.monotonic()
    wait_until(lambda: not ledger.missing(subscriber), 15, lambda: f"{len(ledger.missing(subscriber))} are missing")
    print(f"{attempts} attempts in {seconds:g} s, the others took {usual:.2f} s, healed in "
          f"{time.monotonic() - granted:.2f} s")
    ledger.check(subscriber)
    bed.spool.wait_empty()


def poison(new, original, ids):
    """Everything that is no record, under names of events: {name: why}."""
    header, _, body = original.partition(b"\n\n")
    made = {
        "empty": b"",
        "cut in the header": original[:100],
        "cut in the document": original[:-7],
        "longer than it says": original + b"x",
        "one bit": original[:-9] + bytes([original[-9] ^ 4]) + original[-8:],
        "another version": original.replace(b"virtspool-record 1", b"virtspool-record 9", 1),
        "another's name": original,
        "zeros": bytes(4096),
        "no checksum": header.rpartition(b"\n")[0] + b"\n\n" + body,
        "too large": bytes(9 << 20),
    }
    secret = new.parent / "secret"  # somebody else's
    secret.write_text("root:x:0:0")
    why = {}
    for text, data in made.items():
        why[ids.pop()] = text
        (new / list(why)[-1]).write_bytes(data)
    for text, make in {
        "a directory": lambda p: p.mkdir(),
        "a link": lambda p: p.symlink_to("/etc/passwd"),
        "a dangling link": lambda p: p.symlink_to("nowhere"),
        "a fifo": os.mkfifo,
        "a socket": lambda p: os.mknod(p, stat.S_IFSOCK | 0o600),
        "a hard link": lambda p: os.link(secret, p),
        "a hole of a tebibyte": lambda p: (p.touch(), os.truncate(p, 1 << 40)),
        **({"a device": lambda p: os.mknod(p, stat.S_IFCHR | 0o600, os.makedev(1, 5))} if os.geteuid() == 0 else {}),
    }.items():
        why[ids.pop()] = text
        make(new / list(why)[-1])
    for name in ("readme.txt", "-rf", ".hidden", "x" * 200, "a b\nc"):
        why[name] = "a foreign name"
        (new / name).write_bytes(original)
    return why


def test_poison_goes_to_failed_and_blocks_nobody(bed):
    bed.broker.start()
    subscriber = bed.subscriber()
    ledger = Ledger(bed.hook)
    ledger.configure(bed.daemon)
    ledger.call()
    first = bed.spool.names()[0]
    original = bed.spool.read("new", first)
    # Older than every event: all of it stands in the way.
    ids = [f"01000000-0000-7000-8000-{i:012x}" for i in range(30)]
    why = poison(bed.spool.spooldir / "new", original, ids)
    ledger.calls(5)
    bed.daemon.start()
    wait_until(lambda: not ledger.missing(subscriber), 10, "the events pass")
    ledger.check(subscriber, failed=why)
    wait_until(lambda: not os.listdir(bed.spool.spooldir / "new"), 10, "new/ is empty")
    failed = os.listdir(bed.spool.spooldir / "failed")
    assert {n for n in failed if not n.endswith(".reason")} == set(why)
    for name, text in why.items():
        reason = (bed.spool.spooldir / "failed" / f"{name}.reason").read_text()
        assert reason.strip() and len(reason.splitlines()) == 1, f"{text}: {reason!r}"
    assert bed.spool.read("failed", list(why)[6]) == original, "what is refused is kept as it is"
    assert len(ledger.received(subscriber)) == 6, "nothing of it was published"
    assert (bed.spool.spooldir / "secret").read_text() == "root:x:0:0", "what a link leads to is left alone"
    if not sanitized("virtspoold"):
        assert bed.daemon.process.memory_kib("VmHWM") < 40 * 1024


def test_file_system_that_cannot_be_told_not_to_replace(bed):
    """NFS refuses renameat2() with a flag: what is delivered is archived all the same, and poison is put away."""
    bed.daemon.prefix = [tool("strace"), "-D", "-f", "-o", "/dev/null"]
    bed.daemon.prefix += ["-e", "trace=renameat2", "-e", "inject=renameat2:error=EINVAL", "--"]
    bed.broker.start()
    subscriber = bed.subscriber()
    ledger = Ledger(bed.hook)
    ledger.configure(bed.daemon)
    ledger.calls(5)
    torn = f"01000000-0000-7000-8000-{1:012x}"
    for name, directory in ((torn, "new"), ("foreign", "new"), ("taken", "new"), ("taken", "failed")):
        (bed.spool.path(directory) / name).write_text(f"{name} in {directory}")
    bed.daemon.start()
    ledger.check(subscriber, failed=[torn, "foreign", "taken", "taken.1"])
    bed.spool.wait_count(5, "sent")
    wait_until(lambda: not bed.spool.names("new"), 10, lambda: f"all are gone: {bed.spool.names('new')}")
    assert bed.spool.read("failed", "taken") == b"taken in failed"
    assert bed.spool.read("failed", "taken.1") == b"taken in new"
    assert bed.spool.read("failed", "foreign") == b"foreign in new"


def test_event_larger_than_the_broker_takes(bed):
    bed.broker.options += ["max_packet_size 4200"]
    bed.broker.start()
    subscriber = bed.subscriber()
    ledger = Ledger(bed.hook)
    ledger.configure(bed.daemon)
    ledger.calls(2)
    bed.hook("started", "begin", "x" * 7000)  # not its document, which would be left out
    large = bed.spool.names()[-1]
    ledger.calls(2)
    bed.daemon.start()
    ledger.check(subscriber, holes_allowed=True, failed=[large])
    wait_until(lambda: large in bed.spool.failed(), 10, "failed/")
    assert "packet" in bed.spool.failed()[large]


def test_spool_that_the_daemon_may_not_archive_in(bed):
    """sent/ is gone, or a file, or full: delivered all the same, and once."""
    bed.broker.start()
    subscriber = bed.subscriber()
    ledger = Ledger(bed.hook)
    ledger.configure(bed.daemon)
    sent = bed.spool.spooldir / "sent"
    sent.rmdir()
    bed.daemon.start()
    with Traffic(ledger, pause=0.01):
        wait_until(lambda: len(subscriber.events) > 20, 10, "events arrive without sent/")
        os.rename(sent, bed.directory / "taken away")
        arrived = len(subscriber.events)
        wait_until(lambda: len(subscriber.events) > arrived + 20, 10, "events arrive when it was taken away")
        wait_until(lambda: sent.exists(), 10, "made again")
    counts = ledger.check(subscriber)
    bed.spool.wait_empty()
    assert counts["duplicated"] == 0
