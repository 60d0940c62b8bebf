# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The recorder as its package has it, beside a host and a broker: its own user, the unit's sandbox, the AppArmor profile, and
a key that only root can read.
"""

import json

import pytest
from lib import wait_until

DROP_IN = "[Service]\nLoadCredential=recorder.key:/etc/virtspool/recorder.key\n"


@pytest.fixture(scope="module")
def host(new_host):
    host = new_host("recorder")
    host.boot()
    host.settled()
    (host.share / "drop-in.conf").write_text(DROP_IN)
    host.run("""$doc/make-certs $certs client viewer
        install -m 644 $certs/viewer.pem /etc/virtspool/recorder.pem
        install -m 600 $certs/viewer.key /etc/virtspool/recorder.key
        sed -i 's|//broker.example.org|//localhost:8883|; s|/etc/virtspool/recorder.key$|recorder.key|' /etc/virtspool/recorder.yaml
        install -D -m 644 /share/drop-in.conf /etc/systemd/system/virtspool-recorder.service.d/key.conf
        systemctl daemon-reload
        systemctl enable --now virtspool-recorder""")
    return host


def guests(host):
    lines = host.run("virtspool-recorder guests --json").splitlines()
    return {g["name"]: (g["host"], g["state"]) for g in map(json.loads, lines)}


def recorded(host, expected, deadline=120):
    wait_until(lambda: guests(host) == expected, deadline, lambda: f"recorded: {guests(host)} {host.status()}", interval=1)


def test_what_libvirt_does_is_recorded(host):
    """By a service that is not root, and cannot read its own key's file."""
    host.run("define_guest web1; virsh -q start web1")
    recorded(host, {"web1": ("vhost", "running")})
    host.run("virsh -q destroy web1")
    recorded(host, {"web1": ("vhost", "stopped")})
    assert host.run("ps -o user= -p $(systemctl show -P MainPID virtspool-recorder)").strip() in ("virtspool-recorder", "virtspo+")
    assert host.run("stat -c '%U %a' /etc/virtspool/recorder.key").split() == ["root", "600"]
    assert host.run("stat -c '%U:%G %a' /var/lib/virtspool/recorder.db").split() == ["virtspool-recorder:virtspool-recorder", "640"]
    assert "virtspool-recorder (enforce)" in host.run("cat /proc/$(systemctl show -P MainPID virtspool-recorder)/attr/current")


def test_the_page_and_the_metrics_are_served(host):
    assert "<title" in host.run("http_get 8480 /")
    assert [g["name"] for g in json.loads(host.run("http_get 8480 /api/v1/guests"))["guests"]] == ["web1"]
    assert "virtspool_recorder_" in host.run("http_get 8480 /metrics")


def test_reload_and_sigkill_lose_nothing(host):
    host.run("systemctl reload virtspool-recorder; systemctl kill -s KILL virtspool-recorder")
    host.run("define_guest db1; virsh -q start db1; virsh -q destroy db1")
    recorded(host, {"web1": ("vhost", "stopped"), "db1": ("vhost", "stopped")})
    assert host.run("systemctl show -P NRestarts virtspool-recorder").strip() == "1"
    assert host.run("virtspool-recorder holes --json") == ""
    host.run("virtspool-recorder check")


def test_stopping_keeps_the_session(host):
    host.run("systemctl stop virtspool-recorder; define_guest db2; virsh -q start db2; virsh -q destroy db2")
    host.run("systemctl start virtspool-recorder")
    recorded(host, {n: ("vhost", "stopped") for n in ("web1", "db1", "db2")})


def test_nothing_was_denied(host):
    host.check()
    assert host.run("journalctl -b -q -o cat -p warning -t virtspool-recorder || true") == ""
