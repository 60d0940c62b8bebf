# SPDX-License-Identifier: LGPL-2.1-or-later
"""virtspool config: the configuration in force, as a file that reads back as the same."""

import re
import signal

from lib import wait_until

CONFIG = """
host: node1
brokers: ['mqtts://broker.example:8884', 'mqtt://[::1]']
mqtt: {password_file: PASSWORD, username: "a: # 'b' \\\\ \\u202e"}
spool: {sent_age: 14d, sent_size: 3000M, queue_size: 1500}
events: {skip_domains: ['*', '- x', yes], metadata: [urn:x]}
"""


def test_every_key_with_its_value(bed):
    (bed.directory / "password").write_text("hunter2")
    (bed.directory / "password").chmod(0o600)
    bed.daemon.write_config(CONFIG.replace("PASSWORD", str(bed.directory / "password")))
    done = bed.run("virtspool", "config", "-c", bed.daemon.config_file, check=True)
    assert "hunter2" not in done.stdout and done.stderr == ""
    keys = re.findall(r"^\s*#?([a-z_]+):", done.stdout, re.M)
    help_ = bed.run("virtspoold", "--help-config", check=True).stdout
    paths = re.findall(r"^([a-z_.]+) \(", help_, re.M)
    assert len(paths) > 40 and [p.rpartition(".")[2] for p in paths] == [k for k in keys if k not in {p.partition(".")[0] for p in paths if "." in p}]
    for line in (
        "host: node1",
        'brokers: ["mqtts://broker.example:8884", "mqtt://[::1]"]',
        f"  password_file: {bed.directory}/password",
        "  username: \"a: # 'b' \\\\ \\u202e\"",
        "  sent_age: 14d",
        "  sent_size: 3000M",
        "  queue_size: 1500",
        '  skip_domains: ["*", "- x", yes]',
    ):
        assert line in done.stdout.splitlines(), line
    assert re.search(r"^  window: 100 +# default$", done.stdout, re.M)
    assert re.search(r"^  #ca_file: +# default: the system's trust store$", done.stdout, re.M)
    # It reads back as the same.
    copy = bed.directory / "copy.yaml"
    copy.write_text(done.stdout)
    again = bed.run("virtspool", "config", "-c", copy, check=True).stdout
    assert [re.sub(" +# default.*", "", line) for line in again.splitlines()[1:]] == [
        re.sub(" +# default.*", "", line) for line in done.stdout.splitlines()[1:]
    ]


def test_the_running_daemons_file(running):
    bed = running
    text = bed.run("virtspool", "config", check=True).stdout
    assert text.startswith(f"# {bed.daemon.config_file}\n") and f'brokers: ["{bed.broker.url}"]' in text
    bed.daemon.write_config("brokers: []\n")
    bed.daemon.process.signal(signal.SIGHUP)
    wait_until(lambda: bed.daemon.status().get("reload_error"), what=lambda: f"the reload was refused: {bed.daemon.status()}")
    done = bed.run("virtspool", "config")
    assert done.returncode == 78 and "goes on with the previous one" in done.stderr and "brokers" in done.stderr
