# SPDX-License-Identifier: LGPL-2.1-or-later
"""virtspool doctor: each fault of an installation, and its remedy."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from lib import Behaviour, Namespaces, program, wait_until
from lib.admin import move
from lib.disk import Disk
from lib.programs import missing, tool
from lib.spool import DIRECTORIES


def doctor(bed, *arguments, config=None):
    done = bed.run(
        "virtspool", "doctor", "--json", "-c", config or bed.daemon.config_file, "--hooksdir", bed.hook.directory, *arguments
    )
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == (1 if any(f["grade"] == "bad" for f in findings) else 0)
    assert all("how" in f for f in findings)
    return findings


def found(findings, check, text):
    """The grade and the remedy of the finding that says this."""
    (f,) = [f for f in findings if f["check"] == check and text in f["text"]] or [{"grade": None, "how": findings}]
    return f["grade"], f["how"]


def test_doctor_of_what_is_well(running):
    bed = running
    bed.hook.start()
    wait_until(lambda: bed.daemon.status().get("last_delivered"), what="the status says that they were delivered")
    findings = doctor(bed)
    assert found(findings, "configuration", "is valid")[0] == "ok"
    assert found(findings, "certificates", "certificate and key match")[0] == "ok"
    # The tests' certificates are made for a month, and this is their first day.
    assert found(findings, "certificates", "our certificate is valid until")[0] == "ok"
    assert found(findings, "certificates", "the broker's certificate is valid until")[0] == "ok"
    assert found(findings, "broker", "verified; the daemon is connected, and its events are taken")[0] == "ok"
    assert found(findings, "spool", "was written, synced and removed")[0] == "ok" or os.geteuid() != 0
    assert bed.spool.names("tmp") == []
    assert found(findings, "daemon", "running and connected")[0] == "ok"
    assert found(findings, "hook", "records the events of qemu")[0] == "ok"
    text = bed.run("virtspool", "doctor", "-c", bed.daemon.config_file, "--hooksdir", bed.hook.directory).stdout
    assert re.search(r"^\d+ bad, \d+ warnings?$", text, re.M)


def test_doctor_of_brokers_and_certificates(bed):
    bed.broker.start()
    bed.daemon.config["mqtt"]["version"] = "3.1.1"
    bed.daemon.config["tls"]["server_name"] = "elsewhere.example"
    bed.daemon.write_config()
    findings = doctor(bed)
    assert found(findings, "mqtt", "3.1.1")[0] == "warning"
    (broker,) = [f for f in findings if f["check"] == "broker"]
    assert broker["grade"] == "bad" and "elsewhere.example" in broker["text"] and "tls.ca_file" in broker["how"]
    assert found(findings, "daemon", "not running")[0] == "bad"
    bed.broker.stop()
    (broker,) = [f for f in doctor(bed) if f["check"] == "broker"]
    assert broker["grade"] == "bad" and "refused" in broker["text"]

    bed.daemon.config["tls"]["key_file"] = bed.certs.key("consumer")
    bed.daemon.write_config()
    (finding,) = [f for f in doctor(bed) if f["check"] == "certificates"]
    assert finding["grade"] == "bad" and "is not the one of the certificate" in finding["text"]
    name = bed.certs.client("ended", expired=True)
    bed.daemon.config["tls"]["certificate_file"] = bed.certs.pem(name)
    bed.daemon.config["tls"]["key_file"] = bed.certs.key(name)
    bed.daemon.write_config()
    grade, how = found(doctor(bed), "certificates", "our certificate expired")
    assert grade == "bad" and "renew" in how

    bed.daemon.write_config("brokers: [mqtts://localhost]\nmqqt: {}\n")
    findings = doctor(bed)
    assert any(f["check"] == "configuration" and f["grade"] == "bad" and ":2:1:" in f["text"] for f in findings)


def test_doctor_of_hooks(bed):
    bed.daemon.write_config("brokers: [mqtt://127.0.0.1:1]\n")
    bed.hook.directory.mkdir()
    main = bed.hook.directory / "qemu"
    grade, how = found(doctor(bed), "hook", "not recorded")
    assert grade == "bad" and how == "virtspool hooks install"
    main.write_text("#!/bin/sh\n")
    grade, how = found(doctor(bed), "hook", "is another hook")
    assert grade == "bad" and how == "virtspool hooks install"
    ours = bed.hook.directory / "qemu.d" / "virtspool"
    ours.parent.mkdir()
    shutil.copy(program("virtspool-hook"), ours)
    assert found(doctor(bed), "hook", f"'{ours}' records the events of qemu")[0] == "ok"
    other = ours.parent / "virtspool.bak"
    shutil.copy(main, other)
    other.chmod(0o755)
    assert found(doctor(bed), "hook", str(other))[0] == "warning"
    (ours.parent / "directory").mkdir(mode=0o755)  # libvirt runs files only
    assert not any("directory'" in f["text"] for f in doctor(bed))
    ours.chmod(0o644)
    grade, how = found(doctor(bed), "hook", "not executable")
    assert grade == "bad" and "chmod" in how
    ours.chmod(0o757)
    assert found(doctor(bed), "hook", "can be written by others")[0] == "bad"


def test_doctor_of_hooks_that_are_not_as_they_should_be(bed):
    if os.geteuid() != 0:
        missing("root is needed for another's file")
    bed.daemon.write_config("brokers: [mqtt://127.0.0.1:1]\n")
    hook = Path(bed.hook.installed("qemu"))
    member = bed.hook.directory / "qemu.d" / "virtspool"
    member.parent.mkdir()
    shutil.copy(hook, member)
    grade, how = found(doctor(bed), "hook", "both record each event")
    assert grade == "warning" and how == "virtspool hooks install"
    member.unlink()
    os.chown(hook, 65534, 0)
    grade, how = found(doctor(bed), "hook", "belongs to uid 65534, and runs as root")
    assert grade == "bad" and "chown" in how
    os.chown(hook, 0, 0)
    # What was installed is another file than what lies in /usr/libexec, as after an upgrade that did not reach it.
    script = """
        mount -t tmpfs none /usr/libexec && mkdir /usr/libexec/virtspool && cp "$1" /usr/libexec/virtspool/virtspool-hook
        [ "$2" = same ] || echo more >>/usr/libexec/virtspool/virtspool-hook
        exec "$V" doctor --json -c "$C" --hooksdir "$H" """
    for case, grade in (("same", None), ("other", "warning")):
        done = subprocess.run(
            [tool("unshare"), "--mount", "--propagation", "private", "sh", "-c", script, "sh", hook, case],
            capture_output=True,
            text=True,
            timeout=20,
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "V": program("virtspool"),
                "C": str(bed.daemon.config_file),
                "H": str(bed.hook.directory),
                **bed.spool.environment,
            },
        )
        assert found([json.loads(line) for line in done.stdout.splitlines()], "hook", "is of another version than")[0] == grade


def test_doctor_of_what_lies_in_the_spool(bed):
    bed.daemon.write_config("brokers: [mqtt://127.0.0.1:1]\n")
    findings = doctor(bed)
    assert found(findings, "mqtt", "without encryption")[0] == "warning"
    assert found(findings, "space", " free")[0] == "ok"
    bed.hook.start()
    first, second, third = bed.spool.names("new")
    bed.spool.path("emergency/new").mkdir(parents=True, exist_ok=True)
    shutil.move(bed.spool.path("new") / first, bed.spool.path("emergency/new") / first)
    move(bed, [second], "failed", "made up")
    (bed.spool.path("failed") / "notes.txt").write_text("")
    (bed.spool.path("new") / third).rename(bed.spool.path("sent") / f"0f{third[2:]}")
    findings = doctor(bed)
    assert found(findings, "spool", "the emergency spool in")[0] == "warning"
    assert found(findings, "spool", "1 event could not be delivered")[0] == "warning"
    grade, how = found(findings, "spool", "failed/ holds 1 file that is not an event")
    assert grade == "warning" and "virtspool drop" in how
    grade, how = found(findings, "clock", "dated in the future")
    assert grade == "warning" and "until the clock has caught up" in how


def small_disk(bed, options):
    """A spool on a tmpfs of its own: (the namespaces, the disk, a function that asks doctor for its findings)."""
    if os.geteuid() != 0:
        missing("root is needed for a disk of one's own")
    bed.daemon.write_config("brokers: [mqtt://127.0.0.1:1]\n")
    box = Namespaces(bed.directory, mount=True)
    disk = Disk(bed.directory, box)
    disk.tmpfs(options)

    def findings():
        command = [*box.prefix, program("virtspool"), "doctor", "--json", "-c", bed.daemon.config_file]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **disk.environment}
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, env=environment)
        return [json.loads(line) for line in done.stdout.splitlines()]

    return box, disk, findings


def test_doctor_of_space(bed):
    """A disk that is nearly full, has nearly no inodes, is read-only."""
    box, disk, findings = small_disk(bed, "size=4m,nr_inodes=200")

    def space():
        (finding,) = [f for f in findings() if f["check"] == "space"]
        return finding

    assert space()["grade"] == "ok"
    ballast = disk.path("sent") / "ballast"
    ballast.write_bytes(bytes(3900 * 1024))
    assert space()["grade"] == "bad" and "KiB are left" in space()["text"] and "virtspool purge" in space()["how"]
    ballast.unlink()
    for i in range(185):
        (disk.path("sent") / str(i)).write_text("")
    assert space()["grade"] == "bad" and "inodes are left" in space()["text"]
    box.run("mount", "-o", "remount,ro", disk.point)
    assert space()["grade"] == "bad" and "read-only" in space()["text"] and "remount,rw" in space()["how"]


def test_doctor_of_confinement(bed):
    """What AppArmor and SELinux would forbid a hook, in a mount namespace whose /sys says that they are on."""
    if os.geteuid() != 0:
        missing("root is needed for a /sys of one's own")
    bed.daemon.write_config("brokers: [mqtt://127.0.0.1:1]\n")
    hook = bed.hook.installed("qemu")
    script = """
        mount -t tmpfs none /sys && mkdir -p /sys/module/apparmor/parameters /sys/fs/selinux/booleans /etc/libvirt
        echo "$APPARMOR" >/sys/module/apparmor/parameters/enabled; echo "$SELINUX" >/sys/fs/selinux/enforce
        echo "$BOOLEAN" >/sys/fs/selinux/booleans/virt_hooks_unconfined
        mount -t tmpfs none /etc/libvirt && mkdir /etc/libvirt/hooks && cp "$HOOK" /etc/libvirt/hooks/qemu
        ln -s "$HOOK" /etc/libvirt/hooks/lxc
        [ -z "$LABEL" ] || /usr/bin/python3 -c 'import os; os.setxattr("/etc/libvirt/hooks/qemu", "security.selinux", os.environ["LABEL"].encode())'
        exec "$V" doctor --json -c "$C" --hooksdir "$DIRECTORY" """

    def warnings(directory="/etc/libvirt/hooks", apparmor="N", selinux="0", label="", boolean="1 1"):
        done = subprocess.run(
            [tool("unshare"), "--mount", "--propagation", "private", "sh", "-c", script],
            capture_output=True,
            text=True,
            timeout=20,
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "V": program("virtspool"),
                "C": str(bed.daemon.config_file),
                "HOOK": hook,
                "DIRECTORY": str(directory),
                "APPARMOR": apparmor,
                "SELINUX": selinux,
                "LABEL": label,
                "BOOLEAN": boolean,
                **bed.spool.environment,
            },
        )
        findings = [json.loads(line) for line in done.stdout.splitlines()]
        return [(f["text"], f["how"]) for f in findings if "AppArmor" in f["text"] or "SELinux" in f["text"]]

    assert warnings() == []
    ((text, how),) = warnings(apparmor="Y")  # the file is where it may be, the link leads out
    assert f"not '{hook}'" in text and "not as a link" in how
    assert len(warnings(bed.hook.directory, apparmor="Y")) == 1
    assert warnings(bed.hook.directory) == []
    ((text, how),) = warnings(selinux="1", label="system_u:object_r:etc_t:s0")
    assert "'/etc/libvirt/hooks/qemu' has the label system_u:object_r:etc_t:s0" in text
    assert "restorecon -R /etc/libvirt/hooks" in how
    assert warnings(selinux="1", label="system_u:object_r:virt_hook_t:s0") == []
    ((text, how),) = warnings(selinux="1", label="system_u:object_r:virt_hook_t:s0", boolean="0 0")
    assert "boolean virt_hooks_unconfined is off" in text and how.startswith("setsebool -P virt_hooks_unconfined on")
    assert warnings(boolean="0 0") == []
    assert warnings(selinux="0", label="system_u:object_r:etc_t:s0") == []


def test_doctor_of_owners_and_modes(bed):
    """In a mount namespace with a user virtspool."""
    if os.geteuid() != 0:
        missing("root is needed for a user that is none")
    uid = 64321
    for name, line in (("passwd", f"virtspool:x:{uid}:{uid}::/:/bin/false"), ("group", f"virtspool:x:{uid}:")):
        lines = Path(f"/etc/{name}").read_text().splitlines(keepends=True)
        text = "".join(x for x in lines if not x.startswith("virtspool:"))
        (bed.directory / name).write_text(text + line + "\n")
    key = bed.directory / "host.key"
    shutil.copy(bed.certs.key("host"), key)
    key.chmod(0o600)
    bed.daemon.config["tls"]["key_file"] = key
    bed.daemon.config["brokers"] = ["mqtts://127.0.0.1:1"]
    bed.daemon.write_config()
    for d in [bed.spool.spooldir, *bed.spool.spooldir.iterdir()]:
        os.chown(d, 0, uid)
        d.chmod(0o2770)
    bed.spool.spooldir.chmod(0o3770)
    os.chown(bed.spool.rundir, 0, uid)
    bed.spool.rundir.chmod(0o1775)

    def examine():
        script = 'mount --bind "$1/passwd" /etc/passwd && mount --bind "$1/group" /etc/group && "$2" doctor --json -c "$3"'
        done = subprocess.run(
            [tool("unshare"), "--mount", "--propagation", "private", "sh", "-c", script, "sh", bed.directory]
            + [program("virtspool"), bed.daemon.config_file],
            capture_output=True,
            text=True,
            timeout=20,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **bed.spool.environment},
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    findings = examine()
    assert found(findings, "spool", "its directories are there")[0] == "ok"
    grade, how = found(findings, "certificates", f"cannot read '{key}'")
    assert grade == "bad" and "chgrp virtspool" in how
    os.chown(key, 0, uid)
    key.chmod(0o640)
    new = bed.spool.path("new")
    new.chmod(0o700)
    bed.spool.path("failed").rmdir()
    (bed.spool.rundir / "hook").mkdir()
    os.chown(bed.spool.rundir / "hook", uid, uid)
    findings = examine()
    grade, how = found(findings, "spool", "users other than root can write to")
    assert grade == "bad" and "systemd-tmpfiles" in how
    assert not any(str(key) in f["text"] for f in findings)
    grade, how = found(findings, "spool", f"'{new}' belongs to")
    assert grade == "bad" and how == f"chown root:virtspool '{new}'; chmod 2770 '{new}'"
    grade, how = found(findings, "spool", "failed': No such file")
    assert grade == "bad" and "systemd-tmpfiles" in how


def test_doctor_sees_that_libvirt_does_not_know_the_hook(bed, no_cgroup_left):
    """With a real libvirtd: a hook that came after its start is not called until it looks again, and doctor knows."""
    bed.daemon.write_config("brokers: [mqtt://127.0.0.1:1]\n")
    node = bed.node()
    container = node.container()
    hook = node.directory / "etc/hooks/lxc"
    libvirt = "libvirtd" if node.daemon == "libvirtd" else "virtlxcd"
    # It sees the node's processes.
    command = [
        *(tool("nsenter"), "--pid", "-t", node.first, tool("unshare"), "--mount", "--propagation", "private"),
        *("sh", "-c", 'mount -t proc proc /proc && exec "$0" "$@"', program("virtspool"), "doctor", "--json"),
        *("-c", bed.daemon.config_file, "--hooksdir", hook.parent),
    ]

    def told(text):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=30, env={"PATH": "/usr/bin:/bin", **bed.spool.environment}
        )
        return found([json.loads(line) for line in done.stdout.splitlines() if "/lxc'" in line], "hook", text)

    def is_called():
        container.destroy()
        container.start()
        return bed.spool.names()

    shutil.copy(program("virtspool-hook"), hook)
    container.start()
    assert not is_called()
    # One that came later, but does not call this hook.
    node.execute("sh", "-c", "cp /bin/sleep /run/virtqemud && exec setsid /run/virtqemud 600 >/dev/null 2>&1 &")
    wait_until(lambda: "/run/virtqemud" in node.execute("ps", "-ewwo", "args"), what="it runs")
    grade, how = told("was not called since: if it was new then, it is not known")
    assert grade == "warning" and how == f"systemctl restart {libvirt} (guests go on), or reload it"
    node.libvirtd("reload")
    wait_until(is_called, 20, "the hook is called")
    assert told("has been called since it was installed")[0] == "ok"
    container.destroy()
    node.libvirtd("stop")
    assert told("no libvirt daemon that would call")[0] == "warning"
    node.libvirtd("start")
    assert told(f"{libvirt} started after")[0] == "ok"


def test_doctor_connects_as_the_daemon_does(bed):
    """A host whose certificate has another name: the broker's ACL takes nothing of it. And a broker that refuses the connection."""
    bed.broker.acl = ["pattern write virtspool/v1/%u/#"]
    bed.broker.start()
    bed.daemon.write_config()
    grade, how = found(doctor(bed), "broker", "does not take events of this host on topic virtspool/v1/node1/qemu/-/probe: Not authorized")
    assert grade == "bad" and how.startswith("our certificate is for 'host', but `host` is 'node1'")
    bed.daemon.config["host"] = "host"
    bed.daemon.write_config()
    assert found(doctor(bed), "broker", "it takes events on virtspool/v1/host/qemu/-/probe")[0] == "ok"
    bed.broker.acl = ["pattern read virtspool/v1/%u/#"]
    bed.broker.restart()
    grade, how = found(doctor(bed), "broker", "does not take events of this host on topic virtspool/v1/host/qemu/-/probe")
    assert grade == "bad" and how.startswith("grant this host (certificate 'host') the right to publish virtspool/v1/host/")
    bed.daemon.config["host"] = "node1"
    bed.daemon.config["mqtt"]["version"] = "3.1.1"
    bed.daemon.write_config()
    assert found(doctor(bed), "certificates", "our certificate is for 'host', but `host` is 'node1'")[0] == "warning"

    class Unavailable(Behaviour):
        connack_code = 0x88

    broker = bed.scripted_broker(Unavailable())
    bed.daemon.config["mqtt"].pop("version")
    bed.daemon.config["brokers"] = [broker.url]
    bed.daemon.write_config()
    grade, how = found(doctor(bed), "broker", "0x88")
    assert grade == "bad" and "the broker's log" in how


def test_doctor_names_what_the_broker_refuses(bed):
    """The daemon is connected, and not one of its events is taken."""
    bed.broker.acl = ["pattern write virtspool/v1/%u/#"]
    bed.broker.start()
    bed.daemon.start()
    bed.hook("started")
    wait_until(lambda: bed.daemon.status().get("retried"), what="it was refused")
    findings = doctor(bed)
    text = "waits because the broker refuses them: Not authorized (0x87) on topic virtspool/v1/node1/qemu/"
    grade, how = found(findings, "broker", text)
    assert grade == "bad" and "grant this host" in how
    assert found(findings, "broker", "does not take events of this host on topic")[0] == "bad"


def test_doctor_writes_to_the_spool(bed):
    """A read-only spool is found by writing, and reported once."""
    box, disk, findings = small_disk(bed, "size=4m")

    def written():
        (finding,) = [f for f in findings() if "a file was written" in f["text"] or "cannot write" in f["text"]]
        return finding

    assert written()["grade"] == "ok" and not list(disk.path("tmp").iterdir())
    (disk.path("sent") / "ballast").write_bytes(b"x")
    with open(disk.path("sent") / "ballast", "wb", buffering=0) as f, contextlib.suppress(OSError):
        while f.write(bytes(65536)):
            pass
    assert written()["grade"] == "bad" and "No space left" in written()["text"] and "purge" in written()["how"]
    box.run("mount", "-o", "remount,ro", disk.point)
    assert written()["grade"] == "bad" and "Read-only file system" in written()["text"]


def test_doctor_waits_less_for_a_disk_that_is_known_to_hang(bed, mounts):
    """Without a hook's mark it waits for five seconds, as the hook would, and with it for less than one, whatever else it does."""
    mounts.ext4(bed.spool.spooldir)
    for name in DIRECTORIES:
        (bed.spool.spooldir / name).mkdir(exist_ok=True)
    bed.daemon.write_config("brokers: [mqtt://127.0.0.1:1]\n")

    def took():
        begin = time.monotonic()
        done = bed.run("virtspool", "doctor", "-c", bed.daemon.config_file)
        assert "cannot write to the spool" in done.stdout, done.stdout
        return time.monotonic() - begin

    with mounts.frozen(bed.spool.spooldir, limit=90):
        without = took()
        (bed.spool.rundir / "hook").mkdir(mode=0o755, exist_ok=True)
        (bed.spool.rundir / "hook/hung").touch()
        assert took() < without - 2
