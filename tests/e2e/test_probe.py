# SPDX-License-Identifier: LGPL-2.1-or-later
"""virtspool test: a test event from the hook to the broker and back."""

import json

from lib import wait_until


def probe(bed, *arguments):
    config = ["-c", bed.daemon.config_file, "--hook", bed.hook.installed("qemu")]
    done = bed.run("virtspool", "test", "--json", *config, *arguments)
    legs = json.loads(done.stdout)
    assert list(legs) == ["hook", "spool", "broker", "back"]
    return done.returncode, legs


def test_probe_times_each_leg(running):
    bed = running
    code, legs = probe(bed, "--back")
    assert code == 0 and all(leg["ok"] for leg in legs.values()), legs
    times = [leg["milliseconds"] for leg in legs.values()]
    assert times[0] <= times[1] and 0 < min(times) and max(times) < 5000
    (event,) = bed.subscribed.wait_for(1)
    assert event["data"]["operation"] == "probe" and legs["spool"]["text"] == event["id"]
    done = bed.run("virtspool", "test", "-c", bed.daemon.config_file, "--hooksdir", bed.hook.directory)
    assert done.returncode == 0 and done.stdout.count(" ok ") == 3 and "left out" in done.stdout and done.stderr == ""


def test_probe_leaves_the_daemons_connection_alone(bed):
    """The broker takes client ids from certificates, as the shipped mosquitto.conf has it."""
    bed.broker.options += ["use_username_as_clientid true"]
    bed.broker.start()
    bed.daemon.start()
    bed.daemon.wait_connected()
    code, legs = probe(bed)
    assert code == 0 and legs["broker"]["ok"] is True and legs["back"]["ok"] is None
    assert bed.daemon.status()["events"]["connection_losses"] == 0 and bed.daemon.output().count("connected to broker") == 1


def test_probe_without_the_right_to_read(bed):
    bed.broker.acl = ["user host", "topic write virtspool/#"]
    bed.broker.start()
    bed.daemon.start()
    bed.daemon.wait_connected()
    code, legs = probe(bed, "--back")
    assert code == 0 and legs["broker"]["ok"] is True and legs["back"]["ok"] is None and "ACL" in legs["back"]["text"]


def test_probe_finds_a_silent_refusal(bed):
    """MQTT 3.1.1: acknowledged, and dropped by the broker's ACL."""
    bed.broker.acl = ["user host", "topic read virtspool/#"]
    bed.broker.start()
    bed.daemon.config["mqtt"]["version"] = "3.1.1"
    bed.daemon.start()
    bed.daemon.wait_connected()
    code, legs = probe(bed)
    assert code == 1 and legs["broker"]["ok"] is True and legs["back"]["ok"] is False
    assert "3.1.1" in legs["back"]["how"]


def test_probe_says_which_leg_fails(bed):
    bed.daemon.config["events"] = {"skip_operations": ["probe"]}
    bed.broker.start()
    bed.daemon.start()
    bed.daemon.wait_connected()
    code, legs = probe(bed)
    assert code == 1 and legs["spool"]["ok"] and not legs["broker"]["ok"] and "filters it out" in legs["broker"]["text"]
    bed.broker.stop()
    wait_until(lambda: bed.daemon.status().get("connected") is False, what="the daemon noticed")
    code, legs = probe(bed, "--timeout", "1")
    assert code == 1 and legs["broker"]["ok"] is False and "not connected" in legs["broker"]["text"]
    assert "doctor" in legs["broker"]["how"] and legs["back"]["ok"] is None
    bed.daemon.stop()
    code, legs = probe(bed, "--timeout", "1")
    assert code == 1 and "not running" in legs["broker"]["text"] and "systemctl start" in legs["broker"]["how"]
    code, legs = probe(bed, "--hook", "/bin/false")
    assert code == 1 and legs["hook"]["ok"] is False and "hooks install" in legs["hook"]["how"]
    code, legs = probe(bed, "--hook", "/bin/true", "--timeout", "1")
    assert code == 1 and legs["hook"]["ok"] is True and legs["spool"]["ok"] is False and "how" in legs["spool"]
    done = bed.run("virtspool", "test", "-c", bed.daemon.config_file, "--hooksdir", bed.directory / "nowhere")
    assert done.returncode == 1 and "hooks install" in done.stderr


def test_probe_names_the_topic_that_is_refused(bed):
    """The certificate is another host's: the broker's ACL takes nothing, and the daemon is connected all the same."""
    bed.broker.acl = ["pattern write virtspool/v1/%u/#"]
    bed.broker.options += ["max_queued_messages 1000"]  # with 0, mosquitto 2.0.11 disconnects whom it refuses something
    bed.broker.start()
    bed.daemon.start()
    bed.daemon.wait_connected()
    code, legs = probe(bed, "--timeout", "6")
    assert code == 1 and legs["spool"]["ok"] and legs["broker"]["ok"] is False
    assert "Not authorized (0x87) on topic virtspool/v1/node1/qemu/" in legs["broker"]["text"]
    assert legs["broker"]["how"].startswith("our certificate is for 'host', but `host` is 'node1'")
