# SPDX-License-Identifier: LGPL-2.1-or-later
"""virtspool-recorder: from the hook through a real broker over TLS into the store, and what its commands say of it."""

import json
import os
import pty
import re
import sqlite3
import ssl
import subprocess
import time
import uuid

import paho.mqtt.client as mqtt
import pytest

from lib import Spool, program, wait_until
from lib.process import Process

EPOCH = "0123456789abcdef0123456789abcdef"


def life(bed, domain, *operations, reason="-", **options):
    """Calls of the hook for one domain, each with libvirt's arguments."""
    sub = {"stopped": "end", "release": "end"}
    for o in operations:
        bed.hook(o, sub.get(o, "begin"), reason if o == "release" else "-", domain=domain, **options)


START = ("prepare", "start", "started")
STOP = ("stopped", "release")


@pytest.fixture
def live(bed):
    """A recorder and a daemon, both connected."""
    bed.broker.start()
    bed.record = bed.recorder().start()
    bed.daemon.config["mqtt"]["status_topic"] = "virtspool/v1/{host}/status"
    bed.daemon.start()
    return bed


class Publisher:
    """Messages that virtspoold would not send, as somebody with a certificate may."""

    def __init__(self, bed, name="host"):
        self.client = mqtt.Client(client_id=f"publisher-{uuid.uuid4()}", protocol=mqtt.MQTTv5)
        self.client.tls_set(bed.certs.ca, bed.certs.pem(name), bed.certs.key(name), tls_version=ssl.PROTOCOL_TLS_CLIENT)
        self.client.connect("localhost", bed.broker.port)
        self.client.loop_start()

    def send(self, topic, payload):
        self.client.publish(topic, payload, qos=1).wait_for_publish(10)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


def event(host="node1", sequence=1, operation="started", guest="c7a5fdbd-edaf-9455-926a-d65c16db1809", epoch=EPOCH, ms=None, **data):
    ms = ms or int(time.time() * 1000)
    return {
        "specversion": "1.0",
        "id": f"{ms >> 16:08x}-{ms & 0xFFFF:04x}-7000-8000-{sequence:012x}",
        "source": f"/virtspool/{host}",
        "type": f"org.virtspool.qemu.{operation}.begin",
        "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms / 1000)) + f".{ms % 1000:03d}000Z",
        "datacontenttype": "application/json",
        "sequence": f"{sequence:020d}",
        "epoch": epoch,
        "replayed": False,
        "data": {"host": host, "driver": "qemu", "operation": operation, "name": "web1", "uuid": guest, **data},
    }


def topic(host="node1", operation="started"):
    return f"virtspool/v1/{host}/qemu/c7a5fdbd-edaf-9455-926a-d65c16db1809/{operation}"


# --- what it records


def test_a_guest_from_hook_to_commands(live):
    life(live, "web1", *START)
    life(live, "web1", *STOP, reason="destroyed")
    events = live.record.wait_for(5)
    assert [e["operation"] for e in events] == [*START, *STOP]
    (guest,) = live.record.rows("guests")
    assert (guest["name"], guest["host"], guest["state"], guest["reason"]) == ("web1", "node1", "stopped", "destroyed")
    operations = live.record.rows("timeline", "web1")
    assert [(o["operation"], o["outcome"], o["reason"]) for o in operations] == [
        ("start", "success", None),
        ("stop", "success", "destroyed"),
    ]
    assert all(o["begin"] < o["end"] for o in operations)
    wait_until(lambda: live.record.rows("hosts")[0]["state"] == "online", what="the host's report is recorded")
    (host,) = live.record.rows("hosts")
    assert (host["host"], host["missing"], host["guests"]) == ("node1", 0, 0)
    assert live.record.rows("holes") == []


def test_the_payload_is_kept_as_it_was_sent(live):
    subscriber = live.subscriber()
    life(live, "web1", "started")
    live.record.wait_for(1)
    subscriber.wait_for(1)
    sent = [m.payload for m in subscriber.messages if b'"started"' in m.payload]
    assert [row[0].encode() for row in live.record.sql("SELECT payload FROM events")] == sent


def test_nothing_is_missed_while_it_is_stopped(live):
    life(live, "web1", *START)
    live.record.wait_for(3)
    live.record.stop()
    life(live, "web1", *STOP)
    live.spool.wait_empty()
    live.record.start()
    assert [e["operation"] for e in live.record.wait_for(5)] == [*START, *STOP]
    assert live.record.rows("holes") == []


def test_a_host_that_goes_and_comes(live):
    def state():
        return [h["state"] for h in live.record.rows("hosts")]

    wait_until(lambda: state() == ["online"], what="the host is online")
    live.daemon.stop()
    wait_until(lambda: state() == ["offline"], what="the host is offline")
    live.daemon.start()
    wait_until(lambda: state() == ["online"], what="the host is online again")


def test_a_hole_is_found_and_filled(live):
    publisher = Publisher(live)
    for n in (1, 2, 5):
        publisher.send(topic(), json.dumps(event(sequence=n, operation="started")))
    live.record.wait_for(3)
    (hole,) = live.record.rows("holes")
    assert (hole["host"], hole["first"], hole["last"], hole["state"]) == ("node1", 3, 4, "open")
    publisher.send(topic(), json.dumps(event(sequence=4)))
    live.record.wait_for(4)
    assert [(h["first"], h["last"]) for h in live.record.rows("holes")] == [(3, 3)]
    publisher.send(topic(), json.dumps(event(sequence=3)))
    live.record.wait_for(5)
    assert live.record.rows("holes") == []
    publisher.close()


def test_a_host_says_what_it_has_lost(live):
    """Its report names the number of a record that vanished from the spool, and of one that was dropped."""
    life(live, "web1", "prepare")
    live.record.wait_for(1)
    live.daemon.stop()
    life(live, "web1", "start", "started", "stopped")
    os.unlink(live.spool.path("new") / live.spool.names()[0])
    live.daemon.start()
    wait_until(lambda: [h["state"] for h in live.record.rows("holes")] == ["lost on the host"], 30, "the hole is one of the host's")
    (hole,) = live.record.rows("holes")
    assert (hole["host"], hole["first"], hole["last"]) == ("node1", 2, 2)
    live.broker.stop()
    life(live, "web1", "release", "prepare")
    live.run("virtspool", "drop", "--yes", live.spool.names()[0], check=True)
    live.broker.start()
    wait_until(lambda: len(live.record.rows("holes")) == 2, 30, "the second hole is found")
    wait_until(lambda: all(h["state"] == "lost on the host" for h in live.record.rows("holes")), 30, "it is one of the host's as well")
    assert [h["first"] for h in live.record.rows("holes")] == [2, 5]
    assert live.record.rows("hosts")[0]["missing"] == 2


def test_an_event_in_failed_is_missing_until_it_is_dropped_as_lost(live):
    """It can be retried while it is in failed/; once an administrator has dropped it, the host says so."""
    life(live, "web1", "prepare")
    live.record.wait_for(1)
    live.daemon.stop()
    life(live, "web1", "start", "started")
    (name, *_) = live.spool.names()
    os.rename(live.spool.path("new") / name, live.spool.path("failed") / name)
    live.daemon.start()
    wait_until(lambda: [h["state"] for h in live.record.rows("holes")] == ["open"], 30, "the hole is found")
    live.run("virtspool", "drop", "--from", "failed", "--yes", name, check=True)
    wait_until(lambda: [h["state"] for h in live.record.rows("holes")] == ["lost on the host"], 30, "the host has said so")
    assert [(h["first"], h["last"]) for h in live.record.rows("holes")] == [(2, 2)]


def test_guests_of_a_host_that_booted_are_unknown(live):
    publisher = Publisher(live)
    now = int(time.time() * 1000)
    other = "c7a5fdbd-edaf-9455-926a-000000000000"
    publisher.send(topic(), json.dumps(event(sequence=1, ms=now - 5000)))
    publisher.send(topic(), json.dumps(event(sequence=1, ms=now, epoch=EPOCH[::-1], guest=other, name="web2")))
    live.record.wait_for(2)
    assert {g["name"]: g["state"] for g in live.record.rows("guests")} == {"web1": "unknown", "web2": "running"}
    publisher.close()


def test_a_guest_on_two_hosts(live):
    publisher = Publisher(live)
    now = int(time.time() * 1000)
    for n, host in enumerate(("node1", "node2")):
        publisher.send(topic(host), json.dumps(event(host, ms=now + n)))
    live.record.wait_for(2)
    (guest,) = live.record.rows("guests")
    assert (guest["host"], guest["state"], guest["also_on"]) == ("node2", "running", "node1")
    publisher.close()


# A guest's calls: "host operation", and what the view says then: host, state, where it is going to.
GUESTS = {
    "being-started": (["a prepare", "a start"], ("a", "starting", None)),
    "started": (["a prepare", "a start", "a started"], ("a", "running", None)),
    "stopped": (["a prepare", "a start", "a started", "a stopped", "a release"], ("a", "stopped", None)),
    "failed-start": (["a prepare", "a stopped", "a release"], ("a", "stopped", None)),
    "found-alive": (["a reconnect"], ("a", "running", None)),
    "restored": (["a restore", "a prepare", "a start", "a started"], ("a", "running", None)),
    "migrating": (["a started", "b migrate", "b prepare", "b start", "b started"], ("a", "running", "b")),
    "migrated": (["a started", "b migrate", "b started", "a stopped", "a release"], ("b", "running", None)),
    "migration-failed": (["a started", "b migrate", "b started", "b stopped", "b release"], ("a", "running", None)),
    "and-back": (["a started", "b migrate", "b started", "a stopped", "a migrate", "a started", "b stopped"], ("a", "running", None)),
    "and-on": (["a started", "b migrate", "b started", "a stopped", "a release", "c migrate", "c started"], ("b", "running", "c")),
    "stopped-there": (["a started", "b migrate", "b started", "a stopped", "b stopped"], ("b", "stopped", None)),
    "from-nowhere": (["b migrate", "b prepare", "b start", "b started"], ("b", "incoming", None)),
    "elsewhere-later": (["a started", "a stopped", "a release", "b started"], ("b", "running", None)),
    "operation-of-tomorrow": (["a started", "a hibernated"], ("a", "running", None)),
    # Host d is booted after these.
    "lost-its-host": (["d started"], ("d", "unknown", None)),
    "restarted-elsewhere": (["a started", "a stopped", "d started", "a started"], ("a", "running", None)),
    "restarted": (["d started", "BOOT", "d started"], ("d", "running", None)),
}



def test_where_guests_are(bed):
    """Four hosts, each with a hook and a daemon of its own; one is booted."""
    bed.broker.start()
    recorder = bed.recorder().start()
    hooks = {}
    for host in "abcd":
        spool = Spool(bed.directory / host)
        hooks[host] = type(bed.hook)(spool)
        bed.new_daemon(f"daemon-{host}", spool=spool, host=host).start()
    calls = 0
    for late in (False, True):
        if late:
            hooks["d"].spool.wait_empty()
            hooks["d"].spool.boot()
            hooks["d"]("start", "-", "start", domain="-", driver="daemon", document=b"")
            calls += 1
        for guest, (history, _) in GUESTS.items():
            boot = history.index("BOOT") if "BOOT" in history else len(history)
            for call in history[boot + 1 :] if late else history[:boot]:
                host, operation = call.split()
                hooks[host](operation, "end" if operation in ("stopped", "release") else "begin", domain=guest)
                calls += 1
    recorder.wait_for(calls, deadline=60)
    seen = {}
    for g in recorder.rows("guests"):
        going = g["migration"]["to"] if g["migration"] and g["migration"]["outcome"] == "running" else None
        seen[g["name"]] = (g["host"], g["state"], going)
    seen["from-nowhere"] = (*seen["from-nowhere"][:2], None)
    assert seen == {guest: place for guest, (_, place) in GUESTS.items()}


# --- what it refuses


REFUSED = {
    "not JSON": (topic(), b"\x00\xff hello"),
    "not a JSON object": (topic(), b"[]"),
    "of another host than the topic": (topic("node2"), json.dumps(event("node1")).encode()),
    "'host' is another one": (topic(), json.dumps({**event(), "data": {**event()["data"], "host": "node9"}}).encode()),
    "'sequence'": (topic(), json.dumps({**event(), "sequence": 5}).encode()),
    "'data'": (topic(), json.dumps({**event(), "data": []}).encode()),
    "longer than": (topic(), json.dumps(event(name="x" * 5000)).encode()),
    "deep": (topic(), b'{"a":' * 5000),
}


def test_hostile_messages_are_rejects_and_the_rest_goes_on(live):
    publisher = Publisher(live)
    for t, payload in REFUSED.values():
        publisher.send(t, payload)
    publisher.send(topic(), json.dumps(event()))
    live.record.wait_for(1)
    rejects = live.record.rows("rejects")
    assert len(rejects) == len(REFUSED)
    for why in list(REFUSED)[:-1]:
        assert any(why in r["reason"] for r in rejects), (why, rejects)
    # The same again is the same row.
    publisher.send(*REFUSED["'data'"])
    publisher.send(topic(), json.dumps(event(sequence=2)))
    live.record.wait_for(2)
    assert sorted(r["times"] for r in live.record.rows("rejects"))[-1] == 2
    publisher.close()


def test_many_different_hosts_are_bounded(live):
    """A publisher that invents hosts fills neither memory nor the list of rejects."""
    publisher = Publisher(live)
    for n in range(3000):
        publisher.client.publish(f"virtspool/v1/made-up-{n}/qemu/u/started", b"{}", qos=1)
    publisher.send(topic(), json.dumps(event()))
    live.record.wait_for(1, deadline=60)
    assert len(live.record.rows("hosts")) == 1
    assert live.record.sql("SELECT count(*) FROM rejects") == [(3000,)]
    publisher.close()


def test_a_large_event(live):
    publisher = Publisher(live)
    publisher.send(topic(), json.dumps(event(xml="<domain>" + "x" * 9_000_000 + "</domain>")))
    publisher.send(topic(), json.dumps(event(sequence=2)))
    wait_until(lambda: live.record.sql("SELECT count(*) FROM events") == [(2,)], 30, "both are recorded")
    assert live.record.sql("SELECT max(length(payload)) FROM events")[0][0] > 9_000_000
    publisher.close()


# --- the session


def test_only_forget_ends_the_session(live):
    life(live, "web1", "started")
    live.record.wait_for(1)
    live.record.stop()
    done = live.record.command("forget", "--yes", options=["-c", live.record.config_file])
    assert "ended" in done.stdout
    life(live, "web1", "stopped")
    live.spool.wait_empty()
    live.record.start()
    life(live, "web1", "release")
    wait_until(lambda: len(live.record.ids()) >= 2, what="the last event is recorded")
    assert [e["operation"] for e in live.record.rows("log", "--oldest")] == ["started", "release"]
    assert [(h["first"], h["last"]) for h in live.record.rows("holes")] == [(2, 2)]


def test_forget_asks(live):
    live.record.stop()
    done = live.record.command("forget", options=["-c", live.record.config_file], check=False)
    assert done.returncode == 64 and "--yes" in done.stderr


def test_reload(live):
    live.record.config["log"]["level"] = "info"
    live.record.write_config()
    live.record.process.signal(1)
    live.record.process.wait_output("loaded configuration")
    wait_until(lambda: live.record.output().count("subscribed to") == 2, what="it is subscribed again")
    live.record.config_file.write_text("brokers: nonsense\n")
    live.record.process.signal(1)
    live.record.process.wait_output("is refused")
    life(live, "web1", "started")
    live.record.wait_for(1)


# --- bad input


@pytest.mark.parametrize(
    "text, error",
    [
        ("brokers: [mqtts://h]\nstroe: x\n", ":2:1: unknown key 'stroe'; did you mean 'store'?"),
        ("brokers: [mqtts://h]\nstore: mysql://x\n", ":2:8: store: 'mysql://x': allowed: sqlite:///PATH or postgresql"),
        ("brokers: [mqtts://h]\nstore: postgresql://u:secret@h/d\n", ":2:8: store: secrets do not belong here"),
        ("brokers: [mqtts://h]\nstore: postgresql://h/d?password=secret\n", ":2:8: store: secrets do not belong here"),
        ("brokers: [mqtts://h]\nretention: long\n", ":2:12: retention: 'long'"),
        ("brokers: [mqtts://h]\nretention: 90\n", ":2:12: retention: '90': write a unit"),
        ("brokers: [mqtts://h]\nstore: sqlite:///\n", ":2:8: store: 'sqlite:///': allowed: sqlite:///PATH"),
        ("brokers: [mqtts://h]\nstore: [sqlite:///x]\n", ":2:8: store: wrong type; allowed: text"),
        ("brokers: [mqtts://h]\nretention: 1h\nretention: 2h\n", ":3:1: duplicate key 'retention'; first set on line 2"),
        ("brokers: [mqtts://h]\nmqtt: {share: a/b}\n", ":2:15: mqtt.share: 'a/b'"),
        ("brokers: [mqtts://h]\nspool: {sent_age: 1d}\n", ":2:1: unknown key 'spool'"),
        ("store: sqlite:///x\n", "brokers is missing"),
    ],
)
def test_a_wrong_configuration_is_refused_with_its_place(bed, text, error):
    recorder = bed.recorder(brokers=[])
    recorder.config_file.write_text(text)
    for command in ("check", "run", "hosts"):
        done = recorder.command(command, options=["-c", recorder.config_file], check=False)
        assert done.returncode == 78 and error in done.stderr and "=secret" not in done.stderr and ":secret" not in done.stderr, done.stderr


def test_a_store_that_cannot_be_opened(bed):
    bed.broker.start()
    recorder = bed.recorder()
    recorder.config["store"] = "sqlite:///nonexistent/recorder.db"
    recorder.write_config()
    for command in ("run", "check"):
        done = recorder.command(command, options=["-c", recorder.config_file], check=False)
        assert done.returncode != 0 and "directory '/nonexistent'" in done.stderr, done.stderr
    recorder.database.write_text("this is no database, but a text of some length" * 100)
    done = recorder.command("hosts", options=["--store", f"sqlite://{recorder.database}"], check=False)
    assert done.returncode != 0 and "not an SQLite database" in done.stderr


def test_a_newer_store_is_refused_by_name(live):
    live.record.stop()
    with sqlite3.connect(live.record.database) as db:
        db.execute("UPDATE meta SET number = 99")
    for command in ("run", "check"):
        done = live.record.command(command, options=["-c", live.record.config_file], check=False)
        assert done.returncode != 0 and "schema version 99" in done.stderr


def test_check(live):
    done = live.record.command("check", options=["-c", live.record.config_file])
    assert "valid" in done.stdout


# --- the commands


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    path = tmp_path_factory.mktemp("filled") / "recorder.db"
    subprocess.run([program("tests/bench/fill-store"), f"sqlite://{path}", "20", "60", "3000", "3"], check=True, stdout=subprocess.DEVNULL)
    return f"sqlite://{path}"


def lines(filled, *arguments):
    done = subprocess.run(
        [program("virtspool-recorder"), *arguments, "--store", filled], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.splitlines()


def test_filters(filled):
    def log(*arguments):
        return [json.loads(line) for line in lines(filled, "log", "--json", *arguments)]

    everything = log()
    assert len(everything) == 3000
    assert log("--oldest") == everything[::-1]
    assert log("-n", "7") == everything[:7]
    for option, key in (("--vm", "name"), ("--host", "host"), ("--op", "operation")):
        value = everything[0][key]
        assert log(option, value) == [e for e in everything if e[key] == value]
        glob = value[:-1] + "[" + value[-1] + "]"
        assert log(option, glob) == [e for e in everything if e[key] == value]
    assert log("--vm", everything[0]["uuid"]) == [e for e in everything if e["uuid"] == everything[0]["uuid"]]
    assert log("--vm", "guest1*") == [e for e in everything if e["name"].startswith("guest1")]
    middle = everything[1500]["time"][:23] + "Z"
    assert log("--since", middle) == everything[:1501]
    assert log("--until", middle) == everything[1501:]
    assert log("--vm", "nobody") == []


def test_terminal_of_80_columns(filled):
    """Nothing is wider, and nothing drives the terminal."""
    for command in (["hosts"], ["guests"], ["log"], ["timeline", "guest7"], ["holes"], ["rejects"], ["--help"]):
        pid, fd = pty.fork()
        if pid == 0:
            os.environ.update(LC_ALL="C.UTF-8", TERM="xterm", NO_COLOR="1")
            arguments = [*command, "--store", filled] if command != ["--help"] else command
            os.execv(program("virtspool-recorder"), ["virtspool-recorder", *arguments])
        import fcntl
        import struct
        import termios

        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        out = b""
        while True:
            try:
                data = os.read(fd, 65536)
            except OSError:
                break
            if not data:
                break
            out += data
        os.waitpid(pid, 0)
        text = out.decode()
        assert text.strip(), command
        assert "\x1b" not in text
        wide = [line for line in text.replace("\r", "").split("\n") if len(line) > 80]
        assert not wide, f"{command}: {wide[:3]}"


def test_hostile_names_do_not_drive_the_terminal(live):
    publisher = Publisher(live)
    publisher.send(topic(), json.dumps(event(name="\x1b[31mred\u202eevil")))
    live.record.wait_for(1)
    for command in (["guests"], ["log"], ["timeline", "c7a5fdbd-edaf-9455-926a-d65c16db1809"]):
        out = live.record.command(*command).stdout
        assert "\x1b" not in out and "\u202e" not in out and "\\x1b[31mred\\u202eevil" in out
    publisher.close()


def test_follow(live):
    out = live.directory / "follow"
    follower = Process([program("virtspool-recorder"), "log", "-f", "--json", "--store", live.record.store], out, live.record.environment)
    wait_until(lambda: follower.running, what="it runs")
    time.sleep(0.5)
    life(live, "web1", *START)
    wait_until(lambda: out.read_text().count("\n") >= 3, 15, "three events are shown")
    assert [json.loads(line)["operation"] for line in out.read_text().splitlines()] == list(START)
    follower.kill()


def test_rebuild_and_prune(live):
    life(live, "web1", *START)
    life(live, "web2", *START)
    life(live, "web2", *STOP)
    live.record.wait_for(8)
    before = live.record.rows("guests"), live.record.rows("timeline", "web2")
    assert live.record.command("rebuild").stdout == "rebuilt\n"
    assert (live.record.rows("guests"), live.record.rows("timeline", "web2")) == before
    # A time is one of whole seconds: in the next one, all of these events are old.
    assert "events removed" in live.record.command("prune", "--before", f"@{int(time.time()) + 1}").stdout
    # web1 runs: what its state rests on stays. web2 has stopped: nothing of it does.
    assert [g["name"] for g in live.record.rows("guests")] == ["web1"]
    assert live.record.rows("log", "--vm", "web2") == []
    assert live.record.rows("log", "--vm", "web1") != []
    assert live.record.command("rebuild").stdout == "rebuilt\n"
    assert [(g["name"], g["state"]) for g in live.record.rows("guests")] == [("web1", "running")]


def test_retention(bed):
    bed.broker.start()
    recorder = bed.recorder()
    recorder.config["retention"] = "1h"
    recorder.start()
    publisher = Publisher(bed)
    old = int(time.time() * 1000) - 2 * 3600 * 1000
    for n, operation in enumerate((*START, *STOP)):
        publisher.send(topic(operation=operation), json.dumps(event(sequence=n + 1, operation=operation, ms=old + n)))
    recorder.wait_for(5)
    publisher.send(topic(), json.dumps(event(sequence=6, guest="c7a5fdbd-edaf-9455-926a-000000000000")))
    recorder.wait_for(6)
    recorder.stop()
    recorder.start()
    wait_until(lambda: len(recorder.ids()) == 1, 30, "what is old is gone")
    publisher.close()


def test_import_of_the_recipes_database(bed, tmp_path):
    path = tmp_path / "tasks.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE events (source TEXT, id TEXT, event TEXT)")
        for n, operation in enumerate(START):
            e = event("kvm1", sequence=n + 1, operation=operation)
            db.execute("INSERT INTO events VALUES (?, ?, ?)", (e["source"], e["id"], json.dumps(e)))
    recorder = bed.recorder(brokers=[])
    for imported in (3, 0):
        done = recorder.command("import-task-log", path)
        assert re.match(rf"{imported} events imported, {3 - imported} there already, 0 rejected", done.stdout), done.stdout
    assert [g["state"] for g in recorder.rows("guests")] == ["running"]
    assert [e["operation"] for e in recorder.rows("log", "--oldest")] == list(START)


@pytest.mark.parametrize("number", ["99999999999999999999", "0", "-2", " 5", "+5", "5x", ""])
def test_a_number_that_does_not_fit_is_refused(bed, number):
    for option in ("--after", "--limit"):
        done = bed.run("virtspool-recorder", "log", f"{option}={number}")
        assert done.returncode == 64 and option in done.stderr, done


def test_commands_and_options_are_in_the_manual():
    from lib import ROOT

    manual = (ROOT / "spooler/recorder/virtspool-recorder.8").read_text()
    helped = subprocess.run([program("virtspool-recorder"), "--help"], capture_output=True, text=True, check=True).stdout
    commands = re.findall(r"^  ([a-z-]+) ", helped, re.M)
    assert len(commands) > 10
    for command in commands:
        assert re.search(rf"^\.It Cm {command}\b", manual, re.M), command
        text = subprocess.run([program("virtspool-recorder"), command, "--help"], capture_output=True, text=True).stdout
        for option in re.findall(r"^\s+(?:-\w, )?--([a-z-]+)", text, re.M):
            if option not in ("help", "usage", "version"):
                assert re.search(rf"(Fl|,) -{option}\b", manual), f"{command} --{option}"
