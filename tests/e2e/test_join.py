# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The first minute: `virtspool-recorder init`, the shipped mosquitto.conf with what init made for it, and `virtspool join`, up
to the first event in the record.
"""

import json
import os
import pty
import re
import shutil
import stat
import subprocess
import time

import pytest

from lib import ROOT, program, wait_until
from lib.site import Site
from lib.verify import verify


@pytest.fixture
def site(bed):
    site = Site(bed)
    yield site
    site.close()


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_from_init_to_the_first_event(site, bed):
    done = site.init("--broker", site.broker_url, "node1", "node2")
    assert "ssh root@node1 virtspool join node1.bundle" in done.stdout and "systemctl enable --now virtspool-recorder" in done.stdout
    broker = site.start_broker()
    recorder = site.start_recorder()
    before = site.config.read_text()
    done = site.join(site.bundle())
    assert done.returncode == 0, done.stdout + done.stderr + broker.process.output()
    assert "proved      a probe went from the hook to" in done.stdout and "node1 reports." in done.stdout
    recorder.wait_for(1)
    bed.hook.start(domain="web1")
    wait_until(lambda: [g["state"] for g in recorder.rows("guests", "--vm", "web1")] == ["running"], 20, "the guest is recorded")
    assert {h["host"] if "host" in h else h["name"] for h in recorder.rows("hosts")} == {"node1"}
    calls = site.log.read_text()
    assert "enable --quiet virtspool.service" in calls and "reload --quiet libvirtd.service" in calls
    # What else stood in the configuration stands there still, and the old one beside it.
    assert (site.host / "virtspool.yaml.before-join").read_text() == before
    kept = [line for line in before.splitlines() if line.startswith("#") or "topic" in line]
    assert [line for line in kept if line not in site.config.read_text() and not line.startswith(("#host", "#  -"))] == []


def test_a_host_with_an_rsa_key_gets_a_key_for_signatures(site, bed):
    """It reports already, with the certificates of another authority; these stay."""
    bed.broker.start()
    key, pem = bed.certs.signing_key("node1-rsa", "rsa")
    tls = f"tls:\n  ca_file: {bed.certs.ca}\n  certificate_file: {pem}\n  key_file: {key}\n"
    site.config.write_text(f"host: node1\nbrokers: [{bed.broker.url}]\n{tls}\nevents:\n  #sign: false\n  xml: true\n")
    subscriber = bed.subscriber()
    site.init("--broker", site.broker_url, "node1", "node2")
    refused = site.join(site.bundle("node2"), "--sign-only")
    assert refused.returncode == 78 and "not a configuration of the bundle's host, 'node2'" in refused.stderr, refused
    assert not (site.host / "sign.key").exists()
    done = site.join(site.bundle(), "--sign-only")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "events of host node1 are signed" in done.stdout and mode(site.host / "sign.key") == 0o640
    assert tls in site.config.read_text() and "  xml: true\n" in site.config.read_text()
    bed.hook("started")
    started = lambda: [m.payload for m in subscriber.messages if b'"operation":"started"' in m.payload]
    (signed,) = wait_until(started, 20, "the event arrives, after join's probe")
    assert verify(signed, (site.host / "sign.pem").read_bytes())


def test_join_can_sign(site, bed):
    """With the bundle's key, which init makes for that."""
    site.init("--broker", site.broker_url, "node1")
    done = site.join(site.bundle(), "--sign", "--no-start")
    assert done.returncode == 0 and "events are signed" in done.stdout, done
    done = bed.run("virtspool", "config", "--config", site.config)
    assert re.search(r"^ +sign: true$", done.stdout, re.M) and "sign_key_file: " + str(site.host) not in done.stdout
    assert bed.run("virtspoold", "--check-config", "-c", site.config).returncode == 0


def test_the_packages_configuration_is_an_example(site):
    """What the package installs names files that do not exist; init takes its place, and keeps what an admin wrote."""
    shutil.copy(ROOT / "etc/recorder.yaml", site.mgmt / "recorder.yaml")
    done = site.init("--broker", site.broker_url, "node1")
    assert "systemctl enable --now virtspool-recorder" in done.stdout
    text = (site.mgmt / "recorder.yaml").read_text()
    assert site.broker_url in text
    (site.mgmt / "recorder.yaml").write_text(text + "retention: 3d\n")
    site.init("node2")
    assert (site.mgmt / "recorder.yaml").read_text() == text + "retention: 3d\n"


def test_secrets_are_closed(site):
    site.init("--broker", site.broker_url, "node1")
    for path in ("authority/ca.key", "bundles/node1.bundle", "broker/broker.key"):
        assert mode(site.mgmt / path) == 0o600, path
    assert mode(site.mgmt / "recorder.key") == 0o640
    assert mode(site.mgmt / "authority") == mode(site.mgmt / "bundles") == 0o700
    assert site.join(site.bundle(), "--no-start").returncode == 0
    assert mode(site.host / "host.key") == 0o640 and mode(site.host / "host.pem") == 0o644
    if os.geteuid() == 0:
        assert ((site.host / "host.key").stat().st_uid, (site.host / "host.key").stat().st_gid) == (0, 64321)
    site.bundle().chmod(0o644)
    done = site.join(site.bundle())
    assert done.returncode == 1 and "others may read it (mode 0644)" in done.stderr and len(done.stderr.splitlines()) == 1


def test_hosts_are_added_and_nothing_else_changes(site):
    site.init("--broker", site.broker_url, "node1")
    kept = ("authority/ca.key", "authority/ca.pem", "recorder.key", "recorder.pem", "recorder.yaml", "broker/broker.pem", "bundles/node1.bundle")
    before = {f: (site.mgmt / f).read_bytes() for f in kept}
    done = site.init("node2")
    assert before == {f: (site.mgmt / f).read_bytes() for f in kept}
    acl = (site.mgmt / "broker/acl").read_text()
    assert re.findall(r"^user (\w+)\ntopic (.*)$", acl, re.M) == [
        ("recorder", "read virtspool/v1/#"), ("node1", "write virtspool/v1/node1/#"), ("node2", "write virtspool/v1/node2/#"),
    ]  # fmt: skip
    assert "systemctl reload mosquitto" in done.stdout and site.bundle("node2").exists()


def test_an_authority_that_exists_is_used(site, bed):
    site.init("--broker", site.broker_url, "--ca-certificate", bed.certs.ca, "--ca-key", bed.certs.directory / "ca.key", "node1")
    assert not (site.mgmt / "authority/ca.key").exists()
    assert bed.certs.ca.read_text().strip() in site.bundle().read_text() if hasattr(bed.certs.ca, "read_text") else True
    assert site.join(site.bundle(), "--no-start").returncode == 0


def test_other_brokers_lists(site):
    site.init("--broker", site.broker_url, "--broker-kind", "rabbitmq", "node1")
    definitions = json.loads((site.mgmt / "broker/definitions.json").read_text())
    shipped = json.loads((ROOT / "etc/brokers/rabbitmq-definitions.json").read_text())
    assert definitions.keys() == shipped.keys() and definitions["policies"] == shipped["policies"]
    for part in ("permissions", "topic_permissions"):
        of = lambda d, user: next(p for p in d[part] if p["user"] == user)
        assert of(definitions, "node1") == of(shipped, "node1")
        renamed = json.loads(json.dumps(of(shipped, "consumer")).replace("consumer", "recorder"))
        assert of(definitions, "recorder") == renamed
    assert "version: 3.1.1" in (site.mgmt / "recorder.yaml").read_text()
    site.join(site.bundle(), "--no-start")
    assert "\n  version: 3.1.1\n" in site.config.read_text()
    assert site.init("node1.example", check=False).returncode == 64, "RabbitMQ takes a dot for a slash"


@pytest.mark.parametrize("kind", ["mosquitto", "rabbitmq", "emqx"])
def test_the_broker_gets_every_file_that_its_configuration_names(site, kind):
    done = site.init("--broker", site.broker_url, "--broker-kind", kind, "node1")
    made = site.mgmt / "broker"
    steps = done.stdout.partition("On the broker's machine")[2].partition("Here:")[0]
    directory = re.search(r"install -d -g \S+ -m 750 (\S+)\n", steps)[1]
    named = [p.rpartition("/")[2] for p in re.findall(rf"(?:{re.escape(directory)}|{re.escape(str(made))})/[\w.-]+", steps)]
    examples = [f for f in sorted((ROOT / "etc/brokers").glob(f"{kind}*")) if f.suffix in (".conf", ".hocon") and "acl" not in f.name]
    assert sorted(named) == [f.name for f in examples], "each example is put in its place"
    for example in examples:
        text = example.read_text()
        assert (made / example.name).read_text() == text
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        named += re.findall(rf"{re.escape(directory)}/([\w.-]+)", "\n".join(lines))
    assert len(named) > 4 and not [f for f in named if not (made / f).is_file()]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda text: "x" + text, "is not a bundle"),
        (lambda text: text.replace("host: node1\n", ""), "must name a host and a broker"),
        (lambda text: text.replace("host: node1", "hots: node1"), "must name a host and a broker"),
        (lambda text: re.sub(r"-----BEGIN PRIVATE KEY-----.*?-----END PRIVATE KEY-----\n", "", text, flags=re.S), "there is no key in it"),
        (lambda text: text[: text.rindex("-----BEGIN CERTIFICATE")], "an authority is missing"),
        (lambda text: text[: len(text) // 2], ""),
        (lambda text: text.replace("MII", "MIJ", 1), ""),
    ],
)
def test_a_bundle_that_is_not_whole_changes_nothing(site, spoil, says):
    site.init("--broker", site.broker_url, "node1")
    bundle = site.bundle()
    bundle.write_text(spoil(bundle.read_text()))
    before = sorted(p.name for p in site.host.iterdir()), site.config.read_text()
    done = site.join(bundle)
    assert done.returncode == 1 and says in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert before == (sorted(p.name for p in site.host.iterdir()), site.config.read_text())


def test_another_authoritys_bundle_is_refused(site, bed):
    site.init("--broker", site.broker_url, "node1")
    bed.certs.authority("other") if hasattr(bed.certs, "authority") else None
    text = site.bundle().read_text()
    mine = text[text.rindex("-----BEGIN CERTIFICATE") :]
    second = Site.__new__(Site)
    second.bed, second.mgmt = bed, bed.directory / "second"
    second.mgmt.mkdir()
    second.init("--broker", site.broker_url, "x")
    site.bundle().write_text(text.replace(mine, (second.mgmt / "ca.pem").read_text()))
    done = site.join(site.bundle())
    assert done.returncode == 1 and "its certificate is not valid" in done.stderr


def test_what_is_wrong_is_one_line(site):
    """No broker is there: everything is installed, and the probe says where it ended."""
    site.init("--broker", site.broker_url, "node1")
    done = site.join(site.bundle())
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and "the probe failed at 'broker'" in done.stderr, done.stderr
    # The same command goes on when it has been mended.
    site.start_broker()
    wait_until(lambda: site.join(site.bundle()).returncode == 0, 40, "it joins")


def test_a_configuration_in_another_style_is_left_alone(site):
    site.init("--broker", site.broker_url, "node1")
    text = '{"brokers": ["mqtts://old.example.org"], "host": "old"}\n'
    site.config.write_text(text)
    done = site.join(site.bundle())
    assert done.returncode == 78 and "cannot edit" in done.stderr and site.config.read_text() == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "brokers: [mqtts://a, mqtts://b]\nhost: old\n",
        "brokers:\n- mqtts://a\n- mqtts://b\nmqtt:\n  window: 7\nlog:\n  level: debug\n",
        "host: old # why\nbrokers:\n  # the old one\n  - mqtts://a\ntls:\n  minimum_version: '1.3'\n",
    ],
)
def test_configurations_of_people_are_edited(site, bed, text):
    site.init("--broker", site.broker_url, "node1")
    site.config.write_text(text)
    done = site.join(site.bundle(), "--no-start")
    assert done.returncode == 0, done.stderr
    new = site.config.read_text()
    for kept in re.findall(r"window: 7|level: debug|minimum_version: '1.3'", text):
        assert kept in new
    assert "old" not in new.replace("# the old one", "") and "mqtts://a" not in new
    assert bed.run("virtspoold", "--check-config", "-c", site.config).returncode == 0


def test_init_asks_on_a_terminal(site):
    main, terminal = pty.openpty()
    command = [program("virtspool-recorder"), "init", "--directory", str(site.mgmt)]
    process = subprocess.Popen(command, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    os.close(terminal)
    os.write(main, f"{site.broker_url}\n".encode())
    time.sleep(0.2)
    os.write(main, b"node1 node2\n")
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 0, output
    assert "The broker, as hosts reach it [mqtts://" in output and site.bundle("node1").exists() and site.bundle("node2").exists()


@pytest.mark.parametrize("arguments", [["node1"], ["--broker", "mqtt://b", "node1"], ["--broker", "mqtts://b", "../x"], ["--broker", "mqtts://b", "recorder"]])
def test_init_refuses_what_it_cannot_do(site, arguments):
    done = site.init(*arguments, check=False)
    assert done.returncode == 64 and done.stderr
    assert not (site.mgmt / "bundles").exists() or not list((site.mgmt / "bundles").iterdir())
