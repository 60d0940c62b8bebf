# SPDX-License-Identifier: LGPL-2.1-or-later
"""The main job, end to end: hook, spool, virtspoold, a real broker over TLS with client certificates, a subscriber."""

import json
import re
import shutil
import signal
import time

import pytest

from lib import Process, program, wait_until
from lib.documents import domain_uuid, domain_xml
from lib.waiting import PATIENCE

START = ["prepare", "start", "started"]
STOP = ["stopped", "release"]


# --- what arrives


def test_a_start_and_a_stop_arrive(running):
    bed = running
    bed.hook.start("vm1")
    bed.hook.stop("vm1", extra="shutdown")
    bed.subscribed.wait_for(5)
    bed.subscribed.check_complete(5)
    assert bed.subscribed.operations("vm1") == START + STOP
    bed.spool.wait_empty()
    bed.spool.wait_count(5, "sent")
    assert bed.spool.failed() == {}


def test_the_event_is_a_cloud_event(running):
    bed = running
    document = domain_xml("web 1", title="Front <end>", vcpus=3, memory_mib=64, domain_id=7)
    bed.hook("release", "end", "shutdown", domain="web 1", document=document)
    (event,) = bed.subscribed.wait_for(1)
    bed.spool.wait_count(1, "sent")
    (record,) = bed.spool.records("sent")
    assert event["specversion"] == "1.0"
    assert event["id"] == record["id"] and event["epoch"] == record["epoch"]
    assert int(event["sequence"]) == 1 and event["replayed"] is False
    assert event["source"] == "/virtspool/node1"
    assert event["type"] == "org.virtspool.qemu.release.end"
    assert event["subject"] == "web 1"
    assert event["datacontenttype"] == "application/json"
    data = event["data"]
    expected = {
        "driver": "qemu",
        "operation": "release",
        "suboperation": "end",
        "reason": "shutdown",
        "name": "web 1",
        "uuid": domain_uuid("web 1"),
        "title": "Front <end>",
        "vcpus": 3,
        "memory_kib": 64 * 1024,
    }
    assert {k: data.get(k) for k in expected} == expected
    assert "xml" not in data
    (message,) = bed.subscribed.event_messages
    assert message.topic == f"virtspool/v1/node1/qemu/{domain_uuid('web 1')}/release"
    assert message.qos == 1 and not message.retain
    assert message.properties.ContentType == "application/cloudevents+json"


def test_a_name_cannot_choose_its_topic(bed):
    bed.daemon.config["mqtt"]["topic"] = "virtspool/v1/{host}/{name}/{operation}"
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    bed.hook("start", domain="../a/#/+/$SYS")
    subscriber.wait_for(1)
    topic = subscriber.event_messages[-1].topic
    assert topic.startswith("virtspool/v1/node1/") and topic.count("/") == 4 and not set(topic) & set("#+$")


def test_every_driver_and_unknown_operations(running):
    bed = running
    for driver in ("qemu", "lxc", "network", "daemon", "qemu.d/50-virtspool"):
        bed.hook("tomorrow's", "new", driver=driver, domain="vm1")
    events = bed.subscribed.wait_for(5)
    assert [e["data"]["driver"] for e in events] == ["qemu", "lxc", "network", "daemon", "qemu"]
    assert {e["data"]["operation"] for e in events} == {"tomorrow's"}


def test_a_document_that_is_no_xml_still_goes_out(running):
    bed = running
    bed.hook("start", domain="broken", document=b"<domain><name>x")
    bed.hook("stopped", domain=b"\xff\xfe".decode("utf-8", "surrogateescape"), document=b"")
    first, second = bed.subscribed.wait_for(2)
    assert first["data"]["name"] == "broken" and "document_error" in first["data"]
    assert second["data"]["operation"] == "stopped"
    assert bed.spool.failed() == {}


def test_the_document_goes_out_where_asked_and_without_its_password(bed):
    bed.daemon.config["events"] = {"xml": True}
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    bed.hook("restore", domain="vm1", document=domain_xml("vm1", password="s3cr&t"))
    (event,) = subscriber.wait_for(1)
    assert "<name>vm1</name>" in event["data"]["xml"] and event["data"]["redacted"] == 1
    assert "s3cr" not in json.dumps(event)
    bed.spool.wait_count(1, "sent")
    (record,) = bed.spool.records("sent")
    assert b"s3cr" not in record["document"]


def test_many_events_keep_their_order(running):
    bed = running
    bed.hook.many(150)
    bed.subscribed.wait_for(150)
    bed.subscribed.check_complete(150)
    assert bed.subscribed.duplicates == 0


def test_mqtt_3_1_1(bed):
    bed.daemon.config["mqtt"]["version"] = "3.1.1"
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    bed.hook.start()
    subscriber.wait_for(3)
    subscriber.check_complete(3)


def test_a_record_that_is_torn_goes_to_failed_and_blocks_nothing(running):
    bed = running
    bed.hook("start", domain="vm1")
    bed.spool.wait_count(1, "sent")
    name = bed.spool.names("sent")[0][:-1] + "0"
    (bed.spool.path("tmp") / name).write_bytes(b"virtspool-record 1\nid: x\n")
    (bed.spool.path("tmp") / name).rename(bed.spool.path("new") / name)
    bed.hook("started", domain="vm1")
    bed.subscribed.wait_for(2)
    wait_until(lambda: bed.spool.failed().get(name), what="the torn record is in failed/, with its reason")
    assert list(bed.spool.failed()) == [name]
    bed.spool.wait_empty()


# --- what breaks


def test_what_happened_while_no_daemon_ran(bed):
    bed.hook.start()
    bed.hook.stop()
    assert len(bed.spool.names()) == 5
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    subscriber.wait_for(5)
    subscriber.check_complete(5)


def test_a_broker_outage(running):
    bed = running
    bed.hook.start()
    bed.subscribed.wait_for(3)
    bed.spool.wait_empty()
    bed.broker.kill()
    took = sorted(bed.hook(f"during-{i}") for i in range(40))
    assert took[20] < 1 * PATIENCE, "the hook does not wait for a broker"  # the slowest may have waited for the disk
    assert len(bed.spool.waiting()) == 40
    assert bed.daemon.running
    bed.broker.start()
    bed.hook.stop()
    bed.subscribed.wait_for(45)
    bed.subscribed.check_complete(45)
    bed.spool.wait_empty()


def test_a_broker_that_hangs(bed):
    bed.daemon.config["mqtt"].update({"ack_timeout": "2s", "connect_timeout": "2s", "keep_alive": "5s"})
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    bed.hook.start()
    subscriber.wait_for(3)
    bed.spool.wait_empty()
    bed.broker.pause()
    bed.hook.stop()
    wait_until(lambda: f"broker {bed.broker.url}: " in bed.daemon.output(), 20, bed.daemon.output)
    assert len(bed.spool.waiting()) == 2
    bed.broker.resume()
    subscriber.wait_for(5, deadline=30)
    subscriber.check_complete(5)
    bed.spool.wait_empty(30)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_daemon_that_ends_and_comes_back(running, end):
    bed = running
    bed.hook.start()
    getattr(bed.daemon, end)()
    bed.hook.many(20)
    assert len(bed.spool.names()) >= 20
    bed.daemon.start()
    bed.hook.stop()
    bed.subscribed.wait_for(25)
    bed.subscribed.check_complete(25)
    bed.spool.wait_empty()
    if end == "stop":
        assert bed.subscribed.duplicates == 0


def test_brokers_in_order_of_preference(bed):
    second = bed.new_broker("second").start()
    bed.broker.start()
    port = bed.broker.port
    bed.broker.kill()
    daemon = bed.new_daemon(brokers=[bed.broker, second])
    on_second = bed.subscriber(second)
    daemon.start()
    bed.hook.start()
    on_second.wait_for(3)
    assert bed.broker.start().port == port
    on_first = bed.subscriber(bed.broker)
    second.kill()
    bed.hook.stop()
    events = on_first.wait_for(2)
    assert [e["data"]["operation"] for e in events] == STOP
    bed.spool.wait_empty()


def test_an_acl_that_denies_and_then_grants(bed):
    bed.broker.acl = ["user consumer", "topic read virtspool/#"]
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    bed.hook.start()
    wait_until(lambda: "Not authorized" in bed.daemon.output(), 15, bed.daemon.output)
    assert len(bed.spool.waiting()) == 3 and bed.spool.failed() == {}
    bed.broker.acl += ["user host", "topic write virtspool/#"]
    bed.broker.reload()
    subscriber.wait_for(3, deadline=30)
    subscriber.check_complete(3)
    bed.spool.wait_empty()
    assert bed.daemon.output().count("Not authorized") < 20, "it does not spin"


@pytest.mark.parametrize(
    "fault, says",
    [
        ("name", "its certificate is for 'elsewhere.example', not for 'localhost'"),
        ("expired", "its certificate expired on 2020-12-31"),
        ("authority", "its certificate is not signed by a CA in"),
        ("no client certificate", "it demands a client certificate"),
        ("client's authority", "it does not know the CA of our client certificate"),
    ],
)
def test_who_cannot_be_verified_gets_nothing(bed, tmp_path, fault, says):
    from lib import Certs

    certs = Certs(tmp_path / "own-certs")
    broker = bed.new_broker("broker2")
    broker.certs = certs
    daemon = bed.new_daemon(brokers=broker)
    daemon.config["tls"] = {"ca_file": certs.ca}
    client = "host"
    if fault == "name":
        broker.certificate = certs.server("elsewhere", "elsewhere.example")
    elif fault == "expired":
        broker.certificate = certs.server("old", "localhost", expired=True)
    elif fault == "authority":
        certs.authority("other")
        broker.certificate = certs.server("impostor", "localhost", ca="other")
    elif fault == "client's authority":
        certs.authority("other")
        client = certs.client("eve", ca="other")
    if fault != "no client certificate":
        daemon.config["tls"].update({"certificate_file": certs.pem(client), "key_file": certs.key(client)})
    broker.start()
    bed.hook.start()
    daemon.start()
    wait_until(lambda: daemon.output().count(f"connecting to broker {broker.url}") >= 3, 15, daemon.output)
    assert says in daemon.output()
    assert "connected to broker" not in daemon.output()
    assert len(bed.spool.waiting()) == 3
    assert "New client connected" not in broker.output()
    assert daemon.stop() == 0


# --- the emergency spool and order


def test_the_emergency_spool_is_drained_in_order(bed):
    bed.hook("first")
    new = bed.spool.path("new")
    new.rename(new.with_name("unmounted"))
    bed.hook("second")
    assert bed.spool.names("emergency/new")
    new.with_name("unmounted").rename(new)
    bed.hook("third")
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    subscriber.wait_for(3)
    assert subscriber.operations() == ["first", "second", "third"]
    subscriber.check_complete(3)
    bed.spool.wait_empty()


def test_a_boot_begins_a_new_epoch_and_keeps_the_order(bed):
    bed.hook("before")
    bed.spool.boot()
    bed.hook("after")
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    first, second = subscriber.wait_for(2)
    assert subscriber.operations() == ["before", "after"]
    assert first["epoch"] != second["epoch"] and int(first["sequence"]) == int(second["sequence"]) == 1
    assert first["time"] < second["time"]


# --- the daemon as a service


def test_readiness_and_stopping_are_told(running):
    bed = running
    assert "READY=1" in bed.daemon.notified
    wait_until(lambda: any(n.startswith("STATUS=Connected") for n in bed.daemon.notified), 5, "STATUS= is told")
    notifications = bed.daemon.notifications
    assert bed.daemon.stop() == 0
    assert "STOPPING=1" in notifications.lines


def test_the_watchdog_is_fed(bed):
    bed.broker.start()
    bed.daemon.environment["WATCHDOG_USEC"] = "400000"
    bed.daemon.start()
    wait_until(lambda: bed.daemon.notified.count("WATCHDOG=1") >= 3, 5, "WATCHDOG=1 is sent")


def test_sigterm_is_bounded_while_the_broker_hangs(running):
    bed = running
    bed.daemon.config["spool"] = {"stop_timeout": "1s"}
    bed.daemon.reload()
    bed.daemon.wait_connected()
    bed.broker.pause()
    bed.hook.many(10)
    start = time.monotonic()
    assert bed.daemon.stop() == 0
    assert time.monotonic() - start < 4 * PATIENCE
    assert len(bed.spool.waiting()) == 10
    bed.broker.resume()
    bed.daemon.start()
    bed.subscribed.wait_for(10)
    bed.subscribed.check_complete(10)


def test_a_reload_takes_a_new_configuration(running):
    bed = running
    bed.hook("one")
    bed.subscribed.wait_for(1)
    bed.daemon.config["mqtt"]["topic"] = "virtspool/v2/{host}/{operation}"
    bed.daemon.reload()
    bed.hook("two")
    bed.subscribed.wait_for(2)
    topics = [m.topic for m in bed.subscribed.event_messages]
    assert topics[-1] == "virtspool/v2/node1/two"


def test_a_reload_takes_a_new_broker_and_new_certificates(running):
    bed = running
    bed.broker.acl = ["user renewed", "topic write virtspool/#", "user consumer", "topic read virtspool/#"]
    bed.broker.reload()
    second = bed.new_broker("second")
    second.acl = bed.broker.acl
    second.start()
    on_second = bed.subscriber(second)
    name = bed.certs.client("renewed")
    bed.daemon.brokers = [second]
    bed.daemon.config["tls"].update({"certificate_file": bed.certs.pem(name), "key_file": bed.certs.key(name)})
    bed.daemon.reload()
    bed.hook("two")
    on_second.wait_for(1)
    bed.spool.wait_empty()


def test_a_broken_configuration_is_refused_and_the_old_one_goes_on(running):
    bed = running
    bed.hook("one")
    bed.subscribed.wait_for(1)
    good = bed.daemon.config_file.read_text()
    bed.daemon.config_file.write_text(good + "nonsense: 1\n")
    bed.daemon.process.signal(signal.SIGHUP)
    wait_until(lambda: "nonsense" in bed.daemon.output(), 10, bed.daemon.output)
    bed.hook("two")
    bed.subscribed.wait_for(2)
    assert bed.daemon.running


def test_a_configuration_that_cannot_work_ends_the_start(bed):
    bed.broker.start()
    bed.daemon.config["mqtt"]["window"] = "many"
    bed.daemon.start(ready=False)
    assert bed.daemon.process.wait() == 78  # EX_CONFIG
    assert "virtspool.yaml:" in bed.daemon.output() and "READY=1" not in bed.daemon.notified


BROKERS = "brokers: [mqtts://localhost]\n"


@pytest.mark.parametrize(
    "text, where, says",
    [
        (BROKERS, None, "valid"),
        ("", "1:1", "brokers"),
        (BROKERS + "mqtt:\n  windw: 5\n", "3:3", "window"),
        (BROKERS + "mqtt:\n  window: lots\n", "3:11", "window"),
        (BROKERS + "mqtt:\n  window: 0\n", "3:11", "1"),
        (BROKERS + "mqtt:\n  qos: 0\n", "3:8", "qos"),
        (BROKERS + "mqtt:\n  password: geheim\n", "3:3", "password_file"),
        (BROKERS + "tls:\n  ca_file: /nonexistent/ca.pem\n", None, "/nonexistent/ca.pem"),
        (BROKERS + "host: [a\n", "3:1", ""),
        ("brokers: localhost\n", "1:10", "mqtts://"),
    ],
)
def test_check_config(bed, text, where, says):
    bed.broker.port = 1  # is not contacted
    status, output = bed.daemon.check(text)
    assert (status == 0) == (says == "valid"), output
    assert says in output
    if where:
        assert f"{bed.daemon.config_file}:{where}:" in output, output


def test_a_missing_configuration_is_one_clear_line(bed):
    done = bed.run("virtspoold", "-t", "-c", bed.directory / "none.yaml")
    assert done.returncode == 78
    assert "none.yaml" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_secret_that_others_may_read_is_refused(bed):
    bed.broker.port = 1
    key = bed.directory / "open.key"
    key.write_bytes(bed.certs.key("host").read_bytes())
    key.chmod(0o644)
    bed.daemon.config["tls"]["key_file"] = key
    status, output = bed.daemon.check()
    assert status == 78 and str(key) in output, output


# --- virtspool watch


class Watch:
    def __init__(self, bed, *options):
        self.out, self.log = bed.directory / "watch.out", bed.directory / "watch.log"
        watch_config = bed.new_daemon("watch", certificate="consumer")
        watch_config.write_config()
        command = [program("virtspool"), "watch", "-c", watch_config.config_file, *options]
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", **bed.spool.environment}
        with open(self.out, "wb") as out:
            self.process = Process(command, self.log, environment, stdout=out)
        self.process.wait_output("watching")

    def lines(self):
        """Of events, not of the hosts' status."""
        return [x for x in self.out.read_text().splitlines() if not re.search(r" (on|off)line |status\.(on|off)line", x)]

    def wait_for(self, n, deadline=15):
        wait_until(lambda: len(self.lines()) >= n, deadline, lambda: f"{n} lines: {self.lines()}")
        return self.lines()


def test_watch_shows_a_line_for_each_event_and_ends_on_ctrl_c(running):
    bed = running
    watch = Watch(bed)
    bed.hook.start("vm1")
    bed.hook("release", "end", "shutdown", domain="vm2")
    lines = watch.wait_for(4)
    assert len(lines) == 4
    assert all("node1" in line for line in lines)
    assert "vm1" in lines[0] and "prepare" in lines[0]
    assert "vm2" in lines[3] and "release" in lines[3] and "shutdown" in lines[3]
    watch.process.signal(signal.SIGINT)
    assert watch.process.wait() == 0


def test_watch_json_is_the_event_as_it_came(running):
    bed = running
    watch = Watch(bed, "--json")
    bed.hook.start("vm1")
    bed.subscribed.wait_for(3)
    assert [json.loads(line) for line in watch.wait_for(3)] == bed.subscribed.events


def test_watch_misses_nothing_when_the_broker_is_killed(running):
    bed = running
    watch = Watch(bed)
    bed.hook.start("vm1")
    watch.wait_for(3)
    bed.broker.kill()
    bed.hook.many(10)
    bed.broker.start()
    assert len(watch.wait_for(13)) == 13
    assert "HOLE" not in watch.process.output()


def test_watch_warns_of_a_hole_and_leaves_out_repetitions(running):
    bed = running
    watch = Watch(bed)
    bed.hook("one")
    watch.wait_for(1)
    bed.daemon.stop()
    bed.hook("lost")
    (lost,) = bed.spool.names()
    (bed.spool.path("new") / lost).unlink()
    bed.hook("three")
    bed.daemon.start()
    watch.wait_for(2)
    wait_until(lambda: "HOLE" in watch.process.output(), 5, watch.process.output)
    bed.subscribed.wait_for(2)
    event = next(m for m in bed.subscribed.messages if b'"three"' in m.payload)
    sender = bed.subscriber(topic="none")
    sender.client.publish(event.topic, event.payload, qos=1).wait_for_publish(5)
    bed.hook("four")
    lines = watch.wait_for(3)
    assert len(lines) == 3 and "four" in lines[2]


def test_two_watches_do_not_disturb_each_other(running):
    bed = running
    first, second = Watch(bed), Watch(bed)
    bed.hook.start()
    second.wait_for(3)
    assert first.process.running and second.process.running


def test_nothing_is_polled_while_idle(running):
    """Nor while a part of the spool, or all of it, is missing: when it comes, that wakes the daemon."""
    bed = running
    bed.hook.start()
    bed.spool.wait_empty()
    bed.daemon.wait_quiet()

    (bed.spool.spooldir / "replay").rmdir()
    shutil.rmtree(bed.spool.rundir / "emergency")
    bed.daemon.wait_quiet()
    bed.spool.spooldir.rename(bed.spool.directory / "away")
    bed.daemon.wait_quiet()
    bed.hook("started")  # makes the emergency spool
    bed.subscribed.wait_for(4)
    bed.daemon.wait_quiet()

    (bed.spool.directory / "away" / "replay").mkdir()
    (bed.spool.directory / "away").rename(bed.spool.spooldir)
    bed.hook("stopped")
    bed.subscribed.wait_for(5)
    sent = bed.spool.names("sent")[0]
    (bed.spool.path("sent") / sent).rename(bed.spool.path("replay") / sent)
    wait_until(lambda: not bed.spool.names("replay"), 10, "the replay is seen")
    bed.spool.path("new").rename(bed.spool.directory / "taken away")
    bed.spool.path("new").mkdir()
    bed.hook("prepare")
    bed.subscribed.wait_for(6)
    bed.subscribed.check_complete(6)
