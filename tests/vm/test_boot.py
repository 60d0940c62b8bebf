# SPDX-License-Identifier: LGPL-2.1-or-later
"""Boot and shutdown with guests: units and their order, watchdog, confinement, clean reboots, clocks, the host's name."""

import datetime

import pytest
from lib import wait_until

LIFE = ["prepare", "start", "started"]
DEATH = ["stopped", "release"]


@pytest.fixture(scope="module")
def host(new_host):
    host = new_host("boot", memory=1536)
    host.boot()
    host.settled()
    host.run("define_guest web1; define_guest auto1; virsh -q autostart auto1")
    return host


def test_order_and_confinement(host):
    times = [
        int(host.run(f"systemctl show -P ActiveEnterTimestampMonotonic {unit}")) for unit in ("virtspool", "libvirtd")
    ]
    assert 0 < times[0] < times[1]
    out = host.run("""pid=$(systemctl show -P MainPID virtspool)
        cat /proc/$pid/attr/current
        sed -n 's/^\\(CapEff\\|CapBnd\\|NoNewPrivs\\|Seccomp\\):\\t//p' /proc/$pid/status
        stat -c %U /proc/$pid""").split("\n")
    assert out[:6] == ["virtspoold (enforce)", "0" * 16, "0" * 16, "1", "2", "virtspool"]
    assert host.run("systemd-analyze verify --man=no virtspool.service virtspool-listen.service 2>&1") == ""
    host.check()


def test_listener(host):
    host.run("""systemctl enable --now virtspool-listen
        virsh -q start web1
        virsh -q suspend web1
        virsh -q resume web1
        virsh -q destroy web1""")
    wait_until(lambda: host.operations("web1") == LIFE + DEATH, 60, lambda: str(host.operations("web1")))

    def from_api():
        return [e["data"]["operation"] for e in host.received() if e["data"].get("origin") == "api"]

    wait_until(lambda: {"lifecycle-suspended", "lifecycle-resumed"} <= set(from_api()), 60, lambda: str(from_api()))
    host.check()
    host.run("systemctl disable --now virtspool-listen")


def test_watchdog(host):
    host.run("""mkdir -p /run/systemd/system/virtspool.service.d
        printf '[Service]\\nWatchdogSec=10s\\n' >/run/systemd/system/virtspool.service.d/test.conf
        systemctl daemon-reload
        systemctl restart virtspool
        systemctl kill --signal=STOP virtspool""")
    wait_until(lambda: host.run("systemctl show -P NRestarts virtspool").strip() == "1", 120, "started again", 1)
    host.hook("after-the-watchdog")
    host.delivered("after-the-watchdog")
    host.run("""rm -r /run/systemd/system/virtspool.service.d
        systemctl daemon-reload
        systemctl restart virtspool
        systemctl reset-failed virtspool""")
    host.healthy()


def test_a_killed_guest(host):
    host.run("virsh -q start web1; kill -9 $(cat /run/libvirt/qemu/web1.pid)")
    wait_until(lambda: host.operations("web1") == 2 * (LIFE + DEATH), 60, lambda: str(host.operations("web1")))


def test_an_idle_libvirtd(host):
    """Its socket starts it: the command of README's step 5 does nothing, and the hook is called."""
    host.run("systemctl stop libvirtd; systemctl try-reload-or-restart libvirtd; virsh -q start web1; virsh -q destroy web1")
    wait_until(lambda: host.operations("web1") == 3 * (LIFE + DEATH), 60, lambda: str(host.operations("web1")))
    host.check()


def start_web1(host):
    host.run("virsh -q start web1")
    wait_until(lambda: host.operations("web1")[-3:] == LIFE, 60, "the guest's start")


def test_a_clean_reboot_reports_the_guests_that_it_ends(host):
    """Guests that do not answer the power button, with libvirt-guests that runs into its time-out."""
    host.run("echo SHUTDOWN_TIMEOUT=10 >>/etc/default/libvirt-guests")
    start_web1(host)
    lives = len(host.operations("web1"))
    host.reboot()
    host.settled()
    wait_until(lambda: host.operations("auto1")[-3:] == LIFE, 120, lambda: str(host.operations("auto1")))
    wait_until(lambda: host.operations("web1")[lives:] == DEATH, 60, lambda: str(host.operations("web1")))
    host.check()


def ended_by_boot(host, name):
    """Ids of the events that report, after a boot of the host, that the guest ended with the boot before it."""
    return {e["id"] for e in host.received() if e["data"].get("name") == name and e["data"].get("reason") == "host booted"}


def test_a_reboot_that_gives_up_on_a_guest(host):
    """Without our drop-in systemd kills the guest while libvirtd stops, too: no hook may be called for it."""
    host.run("""mkdir -p /etc/systemd/system/libvirt-guests.service.d
        ln -s /dev/null /etc/systemd/system/libvirt-guests.service.d/virtspool.conf
        systemctl daemon-reload""")
    start_web1(host)
    lives = len(host.operations("web1"))
    host.reboot()
    host.settled()
    wait_until(
        lambda: "stopped" in host.operations("web1")[lives:] or len(ended_by_boot(host, "web1")) == 1,
        60,
        lambda: str(host.operations("web1")[lives:]),
    )
    host.run("rm -r /etc/systemd/system/libvirt-guests.service.d; systemctl daemon-reload")
    host.check()


def test_a_power_cut_while_a_guest_runs(host):
    """The guest's end is reported after the boot, once, without the listener."""
    start_web1(host)
    before = ended_by_boot(host, "web1")
    host.cut()
    host.boot()
    host.settled()
    wait_until(lambda: ended_by_boot(host, "web1") > before, 60, lambda: str(host.operations("web1")))
    host.run("systemctl restart virtspool")
    host.hook("after-the-cut")
    host.delivered("after-the-cut")
    assert len(ended_by_boot(host, "web1") - before) == 1
    host.check()


def test_boot_in_1970(host):
    """A clock that starts in the past: nothing is lost or reordered, and all arrives once the time is set."""
    before = max(e["id"] for e in host.received())
    host.poweroff()
    host.clock = "1970-01-02T00:00:00"
    host.boot()
    host.settled()
    host.run("systemctl stop virtspool; date -s '1970-01-02'; systemctl start virtspool")
    host.hook("in-1970")
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    host.run(f"date -s '{now}'")
    host.hook("after-1970")
    host.delivered("in-1970", "after-1970", deadline=180)
    ids = [e["id"] for e in host.received() if e["data"].get("name") in ("in-1970", "after-1970")]
    assert [before, *ids] == sorted([before, *ids])
    host.clock = None
    host.healthy()
    assert host.run("denials") == "" and host.holes() == []


def test_the_host_name_changes(host):
    """`show` says what is published: the name that the daemon has, and the new one after its restart."""
    host.run("hostnamectl set-hostname other || hostname other")
    host.hook("renamed")
    host.delivered("renamed")

    def sources():
        return {e["source"] for e in host.received() if e["data"].get("name") == "renamed"}

    shown = host.run("""id=$(virtspool list --json --all | jq -r 'select(.name == "renamed") | .id' | tail -n 1)
        virtspool show --json $id
        virtspool test >/dev/null""")
    assert all(source in shown for source in sources()), (sources(), shown)
    host.run("hostnamectl set-hostname vhost || hostname vhost")
    host.healthy()
