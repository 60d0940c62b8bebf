# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The spool on disks that hang, fail, lie, fill up or vanish. The hook returns in time with exit status 0, the event is
delivered all the same, and status says what is wrong while it is wrong and nothing afterwards.
"""

import subprocess

import pytest
from lib import wait_until

SPOOL = "/var/spool/virtspool"


@pytest.fixture(scope="module")
def host(work, new_host):
    host = new_host("disks", memory=1024)
    for name in ("full", "dm"):
        disk = host.directory / f"{name}.disk"
        subprocess.run(["truncate", "-s", "64M", disk], check=True)
        host.drives.append(f"file={disk},format=raw,if=virtio,cache=unsafe")
    host.boot()
    host.settled()
    # Deadlines here are for the kernel, and errors on purpose would flood the console.
    host.run("sysctl -q -w kernel.printk='1 4 1 7'; modprobe -a dm-mod dm-delay dm-flakey")
    yield host
    host.check()


@pytest.fixture
def mounted(host):
    """mounted(DEVICE): the spool is there, until the end of the test."""

    def mount(device, *options):
        host.run(f"mkfs.ext4 -q -F -m 0 {device}; spool_on {device} {' '.join(options)}")
        host.healthy()

    yield mount
    host.run("spool_back")
    host.healthy()


def degraded(host, deadline=30):
    """Waits until status says that something is wrong; returns what it says. It answers at once, whatever the disk does."""
    said = {}

    def says():
        said["status"], said["text"] = host.status()
        assert said["status"] != 124, "status hangs"
        return said["status"] != 0

    wait_until(says, deadline, lambda: said["text"], interval=1)
    return said["text"]


COMMANDS = ("status", "list", "list failed", "list sent", "show 0", "doctor")


def answers(host):
    """({command: what it says}, milliseconds for all of them). None hangs."""
    said, total = {}, 0
    for command in COMMANDS:
        status, milliseconds, said[command] = host.run(f"""begin=$(date +%s%N) status=0
            timeout 60 virtspool {command} >/tmp/said 2>&1 || status=$?
            echo $status $((($(date +%s%N) - begin) / 1000000)) "$(cat /tmp/said)" """).split(" ", 2)
        assert status != "124", f"{command} hangs"
        total += int(milliseconds)
        with open(host.directory.parent / "figures.txt", "a", encoding="ascii") as f:
            print(f"disks: {command}: {milliseconds} ms, exit status {status}", file=f)
    return said, total


def check_answers(host, usual):
    """None waits for the disk for longer than a second; `usual` is what they take on a disk that works."""
    said, total = answers(host)
    assert total < 2 * usual + 1000 * len(COMMANDS), (total, usual)
    return said


@pytest.fixture
def spool_on_dm(host, mounted):
    host.run("""echo "0 $(blockdev --getsz /dev/vdc) linear /dev/vdc 0" | dmsetup create spool""")
    mounted("/dev/mapper/spool")
    yield
    host.run(f"table linear; systemctl stop virtspool; umount -l {SPOOL}; dmsetup remove --retry --force spool")


def test_full(host, mounted):
    mounted("/dev/vdb")
    # A write that does not fit leaves some blocks; smaller ones take them.
    host.run(f"for size in 1M 64K 4K 1K; do dd if=/dev/zero of={SPOOL}/fill.$size bs=$size 2>/dev/null || sync; done")
    host.hook("full-1")
    host.delivered("full-1")
    degraded(host)
    host.run(f"rm {SPOOL}/fill.*")
    host.hook("full-2")
    host.delivered("full-2")
    host.healthy()


def test_no_inodes(host, mounted):
    mounted("/dev/vdb")
    host.run(f"mkdir {SPOOL}/x; cd {SPOOL}/x; seq 1 40000 | xargs touch 2>/dev/null || true; df -i {SPOOL}")
    host.hook("inodes-1")
    host.delivered("inodes-1")
    degraded(host)
    host.run(f"rm -r {SPOOL}/x")
    host.hook("inodes-2")
    host.delivered("inodes-2")
    host.healthy()


def test_read_only(host, mounted):
    mounted("/dev/vdb")
    host.run(f"mount -o remount,ro {SPOOL}")
    host.hook("ro-1")
    host.delivered("ro-1")
    degraded(host)
    host.run(f"mount -o remount,rw {SPOOL}")
    host.hook("ro-2")
    host.delivered("ro-2")
    host.healthy()


def test_suspended_device(host, spool_on_dm):
    _, usual = answers(host)
    host.run("dmsetup suspend --noflush --nolockfs spool")
    for n in range(3):
        host.hook(f"suspended-{n}")
    host.delivered()
    degraded(host)
    check_answers(host, usual)
    host.run("dmsetup resume spool")
    host.healthy()
    host.hook("resumed")
    host.delivered("resumed")


def test_slow_device(host, spool_on_dm):
    host.run("table delay 1500")
    for n in range(2):
        host.hook(f"slow-{n}")
    host.delivered()
    host.run("table linear")
    host.healthy()


def test_failing_device(host, spool_on_dm):
    host.run("table error")
    for n in range(3):
        host.hook(f"error-{n}")
    host.delivered()
    degraded(host)
    # The device is mended, and the file system is checked and mounted anew, under a running daemon.
    host.run(f"""table linear
        umount {SPOOL} || umount -l {SPOOL}
        e2fsck -fy /dev/mapper/spool >/tmp/e2fsck 2>&1 || [ $? -le 1 ] || {{ cat /tmp/e2fsck; exit 1; }}
        mount /dev/mapper/spool {SPOOL}""")
    host.healthy()
    host.hook("mended")
    host.delivered("mended")


def test_flaky_device(host, spool_on_dm):
    host.run("table flakey 2 3")
    for n in range(6):
        host.hook(f"flaky-{n}")
    host.run("table linear")
    host.delivered()
    # Nothing that was torn is taken for an event: sent/ has whole ones only.
    host.run(f"""systemctl stop virtspool
        umount {SPOOL} || umount -l {SPOOL}
        e2fsck -fy /dev/mapper/spool >/tmp/e2fsck 2>&1 || [ $? -le 1 ] || true
        mount /dev/mapper/spool {SPOOL}
        systemd-tmpfiles --create virtspool.conf
        systemctl start virtspool""")
    host.healthy()
    torn = host.run("virtspool list --json --all sent | jq -c 'select(.id == null or .error or .damaged)'")
    assert torn == ""


def test_no_inotify(host):
    """What comes is found without it, by looking now and then."""
    host.run("""systemctl stop virtspool
        sysctl -q -w fs.inotify.max_user_instances=0 fs.inotify.max_user_watches=0
        systemctl start virtspool""")
    host.hook("inotify-1")
    host.delivered("inotify-1", deadline=120)
    host.run("sysctl -q -w fs.inotify.max_user_instances=128 fs.inotify.max_user_watches=8192; systemctl restart virtspool")
    host.healthy()


def test_dead_nfs_server(host):
    host.run(f"""mkdir -p /srv/spool
        chown virtspool: /srv/spool
        chmod 2770 /srv/spool
        echo '/srv/spool 127.0.0.1(rw,sync,no_subtree_check,no_root_squash)' >/etc/exports
        systemctl start nfs-server
        exportfs -ra
        spool_on 127.0.0.1:/srv/spool -t nfs -o vers=4.2,hard""")
    host.healthy()
    host.hook("nfs-1")
    host.delivered("nfs-1")
    _, usual = answers(host)
    host.run("systemctl stop nfs-server")
    for n in range(3):
        host.hook(f"nfs-dead-{n}")
    host.delivered()
    degraded(host)
    for command, text in check_answers(host, usual).items():
        assert "does not answer" in text, (command, text)
    host.run("systemctl start nfs-server; exportfs -ra")
    host.healthy(deadline=240)
    # Root has no more rights there than nobody: the disk takes nothing.
    host.run("sed -i 's/no_root_squash/root_squash/' /etc/exports; exportfs -ra")
    host.hook("squash-1")
    host.delivered("squash-1")
    degraded(host)
    # The client remembers for a while that root may not write.
    host.run(f"sed -i 's/root_squash/no_root_squash/' /etc/exports; exportfs -ra; wait_for 300 test -w {SPOOL}/new")
    host.hook("squash-2")
    host.delivered("squash-2")
    host.healthy()
    host.run("spool_back; systemctl stop nfs-server")
    host.healthy()
