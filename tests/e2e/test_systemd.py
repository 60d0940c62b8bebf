# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The unit under a real systemd: the package in a copy of this system that is booted as a container, with all that the unit
takes away from the daemon taken away. Skipped where systemd cannot be run in a container.
"""

import json

import pytest
from lib import wait_until

# In libvirt's place: its start tells of a guest that came with the boot, its end of one that went with the shutdown.
LIBVIRTD = """[Unit]
Description=In the place of libvirtd
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/etc/libvirt/hooks/qemu vm1 started begin -
ExecStop=/etc/libvirt/hooks/qemu vm1 stopped end -
[Install]
WantedBy=multi-user.target
"""


# In the places of libvirt-guests, which gives up on a guest, and of virsh, which says what is asked of it and when.
LIBVIRT_GUESTS = """[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/bin/sh -c 'echo gave up >>/root/order'
[Install]
WantedBy=multi-user.target
"""
VIRSH = """#!/bin/sh
case "$*" in
*list*) echo 6ba7b810-9dad-11d1-80b4-00c04fd430c8 ;;
*) echo "${3-} while libvirtd is $(systemctl is-active libvirtd)" >>/root/order ;;
esac
"""


@pytest.fixture
def booted(bed, system, packages):
    """Installed, configured and booted; the daemon is enabled and started."""
    bed.broker.start()
    system.install(*packages)
    system.configure(bed)
    system.boot()
    system.run("systemctl", "enable", "--now", "virtspool")
    return system


def show(system, name):
    return system.run("systemctl", "show", "--value", "-p", name, "virtspool").strip()


def drop_in(system, text):
    directory = system.path("etc/systemd/system/virtspool.service.d")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "test.conf").write_text(text)
    system.run("systemctl", "daemon-reload")
    system.run("systemctl", "restart", "virtspool")


def test_enable_and_all_is_done(booted, bed):
    subscriber = bed.subscriber()
    booted.event("start")
    booted.event("started")
    subscriber.wait_for(2)
    wait_until(lambda: not booted.names("new"), what="the spool is empty")
    assert len(booted.names("sent")) == 2
    wait_until(lambda: show(booted, "StatusText").startswith("Connected to"), what="the status")

    # As the unit says: no capability, the filter is on, and it is another user.
    status = booted.path(f"proc/{show(booted, 'MainPID')}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert all(int(fields[f"Cap{kind}"], 16) == 0 for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb"))
    assert fields["NoNewPrivs"] == "1" and fields["Seccomp"] == "2"
    assert booted.run("stat", "-c", "%U", f"/proc/{show(booted, 'MainPID')}").strip() == "virtspool"

    # Only what is its own can be written where it lives, by root as little as by itself.
    try_all = "for d; do touch $d/x && rm -f $d/x && echo $d; done 2>/dev/null"
    places = ["/", "/etc", "/etc/virtspool", "/usr", "/var/lib", "/var/spool", "/root", "/home", "/boot", "/sys", "/dev/shm",
              "/var/spool/virtspool", "/var/spool/virtspool/new", "/run/virtspool", "/tmp"]  # fmt: skip
    inside = ("nsenter", "--target", show(booted, "MainPID"), "--mount", "sh", "-c", try_all, "sh")
    written = booted.run(*inside, *places).split()
    assert written == places[-4:], written

    # The broker away and back, a reload, a killed daemon: nothing is lost.
    bed.broker.kill()
    booted.event("stopped", "end")
    bed.broker.start()
    subscriber.wait_subscribed()
    subscriber.wait_for(3, 30)
    booted.run("systemctl", "reload", "virtspool")
    booted.run("systemctl", "kill", "--signal=KILL", "virtspool")
    booted.event("release", "end")
    subscriber.wait_for(4, 30)
    assert show(booted, "NRestarts") == "1"
    subscriber.check_complete(4)

    booted.run("systemctl", "stop", "virtspool")
    assert show(booted, "Result") == "success"
    booted.event("start")
    assert len(booted.names("new")) == 1


def test_boot_and_shutdown_are_delivered(booted, bed):
    booted.path("etc/systemd/system/libvirtd.service").write_text(LIBVIRTD)
    booted.run("systemctl", "enable", "libvirtd", "virtspool-listen")
    booted.poweroff()
    subscriber = bed.subscriber()
    booted.boot()
    started = subscriber.wait_for(1, 30)[0]
    assert started["data"]["operation"] == "started"
    times = [
        int(booted.run("systemctl", "show", "--value", "-p", "ActiveEnterTimestampMonotonic", unit))
        for unit in ("virtspool", "virtspool-listen", "libvirtd")
    ]
    assert 0 < times[0] < times[1] < times[2]
    # Not by chance: at shutdown systemd goes the other way.
    for unit, after in (("libvirtd", ("virtspool", "virtspool-listen")), ("virtspool-listen", ("virtspool",))):
        order = booted.run("systemctl", "show", "--value", "-p", "After", unit).split()
        assert {f"{a}.service" for a in after} <= set(order)
    booted.poweroff()
    stopped = subscriber.wait_for(2, 10)[1]
    assert stopped["data"]["operation"] == "stopped"
    subscriber.check_complete(2)
    assert booted.names("new") == []


def test_at_shutdown_guests_end_while_libvirt_is_there(booted):
    """Those that libvirt-guests gave up on, through libvirt; stopped by hand, libvirt-guests ends none of them."""
    booted.path("etc/systemd/system/libvirtd.service").write_text(LIBVIRTD)
    booted.path("etc/systemd/system/libvirt-guests.service").write_text(LIBVIRT_GUESTS)
    virsh = booted.path("usr/local/bin/virsh")
    virsh.write_text(VIRSH)
    virsh.chmod(0o755)
    booted.run("systemctl", "daemon-reload")
    booted.run("systemctl", "start", "libvirtd", "libvirt-guests")
    booted.run("systemctl", "restart", "libvirt-guests")
    assert booted.path("root/order").read_text() == "gave up\n"
    booted.poweroff()
    assert booted.path("root/order").read_text().splitlines()[1:] == ["gave up", "--graceful while libvirtd is active"]


def test_doctor_of_the_units(booted):
    def told(*expected):
        """What is wrong with the units, with how to mend it."""

        def findings():
            lines = booted.run("virtspool", "doctor", "--json", check=False).splitlines()
            return [f for f in map(json.loads, lines) if f["check"] == "daemon" and f["grade"] != "ok"]

        # The daemon's own status comes some moments after its start.
        wait_until(lambda: {(f["grade"], f["text"], f["how"]) for f in findings()} == set(expected), 20, findings)

    told()
    booted.run("systemctl", "disable", "virtspool")
    off = "virtspool.service is not enabled: it will not run after the next boot"
    told(("warning", off, "systemctl enable virtspool.service"))
    booted.run("systemctl", "stop", "virtspool")
    told(
        ("warning", off, "systemctl enable virtspool.service"),
        (
            "bad",
            "virtspoold is not running; events wait in the spool",
            "systemctl start virtspool; journalctl -u virtspool says why it stopped",
        ),
    )
    booted.run("systemctl", "enable", "--now", "virtspool")
    told()
    booted.run("systemctl", "enable", "virtspool-listen")
    listen = "virtspool-listen.service"
    told(("bad", f"{listen} is enabled and not running", f"systemctl start {listen}; journalctl -u {listen}"))
    booted.run("systemctl", "start", "virtspool-listen")
    told()


def test_the_watchdog_ends_a_daemon_that_hangs(booted, bed):
    drop_in(booted, "[Service]\nWatchdogSec=2s\nRestartSec=100ms\n")
    booted.run("systemctl", "kill", "--signal=STOP", "virtspool")
    wait_until(lambda: show(booted, "NRestarts") == "1", 30, "started again", interval=0.2)
    subscriber = bed.subscriber()
    booted.event("start")
    subscriber.wait_for(1, 30)


def test_a_key_that_only_root_can_read(booted, bed):
    yaml = booted.path("etc/virtspool/virtspool.yaml")
    yaml.write_text(yaml.read_text().replace("/etc/virtspool/host.key", "host.key"))
    booted.run("chown", "root:root", "/etc/virtspool/host.key")
    booted.run("chmod", "600", "/etc/virtspool/host.key")
    drop_in(booted, "[Service]\nLoadCredential=host.key:/etc/virtspool/host.key\n")
    subscriber = bed.subscriber()
    booted.event("start")
    subscriber.wait_for(1)


def test_a_broken_configuration_is_not_tried_for_ever(booted):
    yaml = booted.path("etc/virtspool/virtspool.yaml")
    yaml.write_text("brokres: []\n")
    booted.run("systemctl", "restart", "virtspool", check=False)
    wait_until(lambda: show(booted, "ActiveState") == "failed", 20, "it has failed")
    assert show(booted, "ExecMainStatus") == "78" and show(booted, "NRestarts") == "0"
    assert "did you mean 'brokers'" in booted.run("journalctl", "--no-pager", "-u", "virtspool")


def test_an_upgrade_restarts_the_services_and_a_removal_stops_them(booted, packages):
    services = ("virtspool", "virtspool-listen")

    def pids():
        return [booted.run("systemctl", "show", "--value", "-p", "MainPID", s).strip() for s in services]

    booted.run("systemctl", "enable", "--now", "virtspool-listen")
    before = pids()
    booted.install(*packages)  # a reinstallation goes the same way
    after = pids()
    assert "0" not in before + after and not set(before) & set(after), (before, after)

    booted.run("dpkg", "--remove", "virtspool-listen", "virtspool")
    running = [p for p in after if booted.path(f"proc/{p}").exists()]
    assert not running, running
    booted.run("dpkg", "--purge", "virtspool-listen", "virtspool", "virtspool-recorder")
    assert "virtspool" not in booted.run("getent", "passwd") + booted.run("getent", "group")


def test_a_service_that_is_off_stays_off(booted, packages):
    booted.run("systemctl", "disable", "--now", "virtspool")
    booted.install(*packages)
    assert show(booted, "ActiveState") == "inactive"
    assert booted.run("systemctl", "show", "--value", "-p", "ActiveState", "virtspool-listen").strip() == "inactive"
