# SPDX-License-Identifier: LGPL-2.1-or-later
"""virtspool show: the record, the event, attempts and failures."""

import json
import os
import re
import subprocess

from lib import program, wait_until
from lib.documents import domain_uuid, domain_xml


def test_show(at_rest):
    bed = at_rest
    bed.daemon.write_config("host: node1\nbrokers: [mqtt://127.0.0.1:1]\n")
    names = bed.spool.names("new")
    name = names[4]
    config = ["-c", bed.daemon.config_file]
    text = bed.run("virtspool", "show", name, *config, check=True).stdout
    for expected in (name, "web1", "release", "shutdown", f"virtspool/v1/node1/qemu/{domain_uuid('web1')}/release", '"specversion"'):
        assert expected in text
    shown = json.loads(bed.run("virtspool", "show", "--json", name, *config, check=True).stdout)
    assert shown["event"]["id"] == name and shown["where"] == "new" and shown["wanted"] is True
    # The record is shown without a configuration as well.
    done = bed.run("virtspool", "show", "--json", name, "-c", bed.directory / "nowhere", check=True)
    assert json.loads(done.stdout)["operation"] == "release" and "cannot use" in done.stderr
    raw = subprocess.run(
        [program("virtspool"), "show", "--raw", name], capture_output=True, check=True, env={**os.environ, **bed.spool.environment}
    )
    assert raw.stdout == bed.spool.read("new", name)
    xml = bed.run("virtspool", "show", "--xml", name, check=True).stdout
    assert xml.strip() == domain_xml("web1").decode().strip()
    # Any unique beginning will do.
    n = next(i for i in range(1, 37) if sum(x.startswith(name[:i]) for x in names) == 1)
    assert name in bed.run("virtspool", "show", name[:n], *config, check=True).stdout
    if n > 1:
        done = bed.run("virtspool", "show", name[: n - 1])
        assert done.returncode == 1 and "ambiguous" in done.stderr
    done = bed.run("virtspool", "show", "ffffffff")
    assert done.returncode == 1 and done.stdout == "" and len(done.stderr.splitlines()) <= 2


def test_show_tells_attempts_and_the_reason_of_a_failure(bed):
    bed.broker.acl = ["user consumer", "topic read virtspool/#"]
    bed.broker.options += ["max_queued_messages 1000"]  # with 0, mosquitto 2.0.11 disconnects whom it denies
    bed.broker.start()
    bed.daemon.start()
    bed.hook("start")
    wait_until(lambda: bed.daemon.status().get("retried"), what="the refusal is in the status")
    (name,) = bed.spool.names("new")
    text = bed.run("virtspool", "show", name, "-c", bed.daemon.config_file, check=True).stdout
    assert re.search(r"attempts +\d+ without success; the last: .*0x87", text), text
    done = bed.run("virtspool", "status")
    assert done.returncode == 1 and "0x87" in done.stdout
    # Dropped, it troubles nobody any more.
    bed.run("virtspool", "drop", "--yes", name, check=True)
    assert bed.run("virtspool", "status").returncode == 0


def test_a_renamed_machine(bed):
    """show and test use the name under which the daemon publishes, not the one that it would have after a restart."""
    bed.broker.start()
    bed.daemon.config["host"] = "before"
    bed.daemon.start()
    bed.hook("start")
    wait_until(lambda: bed.spool.names("sent"), what="delivered")
    (name,) = bed.spool.names("sent")
    text = bed.daemon.config_file.read_text()
    assert 'host: "before"' in text
    bed.daemon.config_file.write_text(text.replace('host: "before"', ""))

    def shown():
        out = bed.run("virtspool", "show", "--json", name, "-c", bed.daemon.config_file, check=True).stdout
        event = json.loads(out)
        return event["topic"].split("/")[2], event["event"]["source"].split("/")[-1], event["event"]["data"]["host"]

    assert shown() == ("before",) * 3
    bed.daemon.stop()
    assert set(shown()) != {"before"}


def test_what_stands_in_for_a_record_is_not_followed(bed):
    name = "01a1fcec-a57a-77cf-8000-0000000007cf"
    (bed.spool.path("failed") / name).symlink_to("/etc/passwd")
    done = bed.run("virtspool", "show", "--raw", name)
    assert done.returncode == 1 and done.stdout == "" and "a symbolic link" in done.stderr
    assert "a symbolic link" in bed.run("virtspool", "show", name, check=True).stdout
