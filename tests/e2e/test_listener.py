# SPDX-License-Identifier: LGPL-2.1-or-later
"""
virtspool-listen against a real libvirtd with QEMU: what its event API tells, beside what the hooks tell.

The tables in virtspool-events(7) are made here: VIRTSPOOL_UPDATE=1 writes them, otherwise they are compared.
"""

import os
import re
import shutil
import signal
import socket
import tempfile
from pathlib import Path

import pytest
from lib import ROOT, Listener, Spool, program, wait_until

MANUAL = ROOT / "spooler/event/virtspool-events.7"
BEGIN, END = '.\\" table of {}: made by tests/e2e/test_listener.py\n.Bd -literal\n', ".Ed\n"
SAVED = "/var/lib/libvirt/vm1.save"

# What a newer libvirt (seen with 11.3) tells before it says that the domain stopped.
NEWER = "lifecycle-shutdown (host)"
NEWER_TELLS = ("save", "managedsave", "snapshot-revert", "panic, on_crash=destroy", "migration: source")

# What QEMU or libvirt does not always tell, and where it stands if it does.
SOMETIMES = {
    "panic, on_crash=destroy": [(0, "lifecycle-suspended (paused)")],
    "panic, on_crash=restart": [(0, "lifecycle-suspended (paused)")],
    "panic, on_crash=preserve": [(0, "lifecycle-suspended (paused)")],
    "dompmwakeup": [(2, "reboot")],
}


def told(record):
    reason = record["suboperation"] if record["operation"] in ("listen", "reconciled") else record["extra"]
    return record["operation"] + ("" if reason == "-" else f" ({reason})")


class Table:
    """Does something, and keeps what both tell of it."""

    def __init__(self, node, listener):
        self.node, self.listener, self.spool = node, listener, listener.spool
        self.rows, self.seen, self.marks = [], set(), 0
        node.guest("marker")
        self.since()

    def mark(self):
        """Events of a connection come in order: when this one is here, all before it are."""
        self.marks += 1
        self.node.virsh("desc", "marker", "--config", str(self.marks))
        self.listener.wait_record("metadata-change", "description", "marker", count=self.marks)

    def since(self):
        """The records that came since the last call, without the marker's."""
        self.mark()
        names = self.spool.names()
        records = [r for n, r in zip(names, self.spool.records()) if n not in self.seen]
        self.seen.update(names)
        return [r for r in records if r.get("object") != "marker"]

    def row(self, action, wait=None):
        """What came since the last call; repetitions are shown once, and a reset may be told again after what follows it."""
        if wait:
            wait()
        cells = hooks, api = [], []
        records = self.since()
        for r in records:
            cell = cells[r.get("origin") == "api"]
            text = told(r) if cell is api else r["operation"]
            if cell[-1:] != [text] and not (text == "reboot" and text in cell):
                cell.append(text)
        for place, text in SOMETIMES.get(action, []):
            if text in api:
                api.remove(text)
            api.insert(place, text + " *")
        if action in NEWER_TELLS:
            assert (NEWER in api) == (self.node.libvirt >= (10, 5)), (action, api)
            api[:] = [text for text in api if text != NEWER]
            api.insert(next(i for i, text in enumerate(api) if text.startswith("lifecycle-stopped")), NEWER + " +")
        self.rows.append((action, hooks, api))
        self.check_pairs(action, records)

    def check_pairs(self, action, records):
        """Of a transition that both tell, both have the same key, and only the hook's is to be counted."""
        ids = {r["id"]: r["operation"] for r in records if "origin" not in r and r["operation"] in ("started", "stopped")}
        pairs = {}
        for r in records:
            if r.get("origin") != "api":
                continue
            both = r["operation"] in ("lifecycle-started", "lifecycle-stopped") and r["extra"] != "wakeup"
            assert both == ("told-by-hook" in r.get("flags", "")), (action, r)
            if both:
                pairs[r.get("transition")] = r["operation"].removeprefix("lifecycle-")
            else:
                assert "transition" not in r
        assert pairs == {i: o for i, o in ids.items() if o in pairs.values()}, (action, pairs, ids)

    def text(self):
        lines = [f"{'action':27} {'hooks':9} event API"]
        for action, hooks, api in self.rows:
            for i in range(max(len(hooks), len(api), 1)):
                cells = action if i == 0 else "", *(x[i] if i < len(x) else "-" if i == 0 else "" for x in (hooks, api))
                lines.append(f"{cells[0]:27} {cells[1]:9} {cells[2]}".rstrip())
        return "".join(line + "\n" for line in lines)

    def check_manual(self, of):
        before, begin, rest = MANUAL.read_text().partition(BEGIN.format(of))
        table, end, after = rest.partition(END)
        assert begin and end
        if os.environ.get("VIRTSPOOL_UPDATE"):
            MANUAL.write_text(before + begin + self.text() + end + after)
        else:
            assert table == self.text(), f"it is now:\n{self.text()}"


def test_table(bed):
    """What the hooks and the listener tell of each action is what virtspool-events(7) says."""
    images = bed.directory / "images"
    images.mkdir()
    node = bed.node(images=images)
    listener = bed.listener(node).start().wait_listening()
    t = Table(node, listener)

    guest = node.guest("vm1")
    t.row("define")
    guest.start().wait_up()
    t.row("start")
    guest.virsh("suspend")
    t.row("suspend")
    guest.virsh("resume")
    t.row("resume")
    guest.virsh("reset")
    guest.wait_up()
    t.row("reset")
    guest.send("r")
    guest.wait_up()
    t.row("reboot by the guest")
    disk(node, "extra")
    guest.virsh("attach-disk", "/var/lib/libvirt/images/extra.img", "vdb")
    t.row("attach-disk")
    guest.virsh("blockcopy", "hda", "/var/lib/libvirt/images/copy.img", "--wait", "--pivot", "--transient-job")
    t.row("blockcopy, pivot")
    guest.virsh("metadata", "urn:x", "--key", "x", "--set", "<a/>", "--live")
    t.row("metadata")
    guest.destroy()
    t.row("destroy", lambda: guest.wait_state("shut off"))
    guest.virsh("start", "--paused")
    t.row("start --paused")
    guest.virsh("resume")
    t.row("resume")
    guest.wait_up()
    guest.virsh("save", SAVED)
    t.row("save")
    node.virsh("restore", SAVED)
    t.row("restore")
    guest.wait_up()
    guest.virsh("managedsave")
    t.row("managedsave")
    guest.start()
    t.row("start after managedsave")
    guest.wait_up()
    guest.virsh("snapshot-create-as", "s1")
    t.row("snapshot-create")
    guest.virsh("snapshot-revert", "s1")
    t.row("snapshot-revert")
    guest.virsh("snapshot-delete", "s1")
    t.since()
    off = lambda: guest.wait_state("shut off")  # noqa: E731
    guest.virsh("shutdown")
    t.row("shutdown", off)

    def again(action, act, wait=off):
        guest.start().wait_up()
        t.since()
        act()
        t.row(action, wait)

    again("power-off by the guest", lambda: guest.send("p"))
    again("QEMU killed", guest.kill)
    again("panic, on_crash=destroy", lambda: guest.send("c"))
    on_crash(node, guest, "restart")
    again("panic, on_crash=restart", lambda: guest.send("c"), guest.wait_up)
    guest.destroy()
    on_crash(node, guest, "preserve")
    again("panic, on_crash=preserve", lambda: guest.send("c"), lambda: guest.wait_state("crashed"))
    guest.destroy()
    t.since()
    guest.virsh("attach-disk", "/nowhere", "vdc", "--config")
    t.since()
    assert "nowhere" in guest.virsh("start", check=False)
    t.row("start fails")
    guest.virsh("detach-disk", "vdc", "--config")
    t.since()
    libvirtd_restarts(node, t, guest)
    migrations(bed, t, guest, images)
    t.check_manual("guests")


DEVICES = """
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/><source file='/var/lib/libvirt/small/disk'/><target dev='hdb' bus='ide'/>
    </disk>
    <disk type='file' device='cdrom'>
      <source file='/var/lib/libvirt/images/cd' startupPolicy='optional'/><target dev='hdc' bus='ide'/>
    </disk>
    <controller type='scsi' model='virtio-scsi'/>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/><source file='/var/lib/libvirt/images/sda.img'/><target dev='sda' bus='scsi'/>
    </disk>
    <watchdog model='ib700' action='pause'/>
    <memballoon model='virtio'><address type='pci' slot='10'/></memballoon>
    <graphics type='vnc' socket='/run/vm1.vnc'/>
    <controller type='virtio-serial'><address type='pci' slot='11'/></controller>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"""
CHANGES = [
    ("</features>", "</features><cpu><numa><cell id='0' cpus='0' memory='32' unit='MiB'/></numa></cpu>"),
    ("<memory ", "<maxMemory slots='1' unit='MiB'>256</maxMemory><memory "),
    ("<devices>", "<pm><suspend-to-mem enabled='yes'/><suspend-to-disk enabled='yes'/></pm><devices>"),
    ("<memballoon model='none'/>", DEVICES),
]
DIMM = "<memory model='dimm'><target><size unit='MiB'>128</size><node>0</node></target><alias name='ua-dimm'/></memory>"


def test_devices(bed):
    """The events of devices and of a guest that asks for more than to run; no hook tells these."""
    node = bed.node()
    listener = bed.listener(node)
    listener.options.append("--balloon")
    listener.start().wait_listening()
    t = Table(node, listener)
    guest = node.guest("vm1")
    disk(node, "sda")
    node.execute("mount", "--mkdir", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/var/lib/libvirt/small")
    node.execute("truncate", "-s", "1M", "/var/lib/libvirt/small/disk")
    node.execute("dd", "if=/dev/zero", "of=/var/lib/libvirt/small/full", check=False)
    for old, new in CHANGES:
        guest.change(old, new)
    t.since()

    def guest_does(character, action, event, reason, wait=None):
        count = listener.records("vm1").count((event, reason))
        guest.send(character)
        listener.wait_record(event, reason, "vm1", count + 1)
        t.row(action, wait)

    guest.start().wait_up()
    t.row("start, a CD's image missing")
    node.execute("touch", "/var/lib/libvirt/images/cd")
    guest.virsh("change-media", "hdc", "/var/lib/libvirt/images/cd", "--insert")
    t.row("change-media --insert")
    guest.virsh("change-media", "hdc", "--eject")
    t.row("change-media --eject")
    guest.virsh("detach-disk", "sda")
    t.row("detach-disk")
    guest.virsh("blkdeviotune", "hda", "--total-iops-sec", "1000")
    t.row("blkdeviotune")
    guest.virsh("domblkthreshold", "hdb", "1")
    guest_does("i", "the disk's space is full", "lifecycle-suspended", "ioerror")
    node.execute("rm", "/var/lib/libvirt/small/full")
    guest.virsh("resume")
    guest.wait_up()
    t.row("resume")
    guest_does("w", "watchdog, action=pause", "lifecycle-suspended", "watchdog")
    guest.virsh("resume")
    t.since()
    guest_does("k", "the guest sets its clock", "rtc-change", "-")
    guest_does("b", "balloon", "balloon-change", "-")
    guest_does("l", "crash kernel loaded", "lifecycle-crashed", "crashloaded")
    listener.stop()
    listener.start().wait_listening()
    assert [told(r) for r in t.since()] == ["listen (end)", "listen (begin)"], "what it keeps of states is what they are"
    vnc(node, "/run/vm1.vnc")
    listener.wait_record("graphics", "disconnect", "vm1")
    t.row("a VNC client")
    guest_does("a", "an agent in the guest", "agent-lifecycle", "connected")
    guest.virsh("reset")
    listener.wait_record("agent-lifecycle", "disconnected", "vm1", count=2)  # the first was at the start
    guest.wait_up()
    t.row("reset, the agent is gone")
    (node.directory / "run/dimm.xml").write_text(DIMM)
    guest.virsh("attach-device", "/run/dimm.xml")
    t.row("attach-device, memory")
    guest.virsh("detach-device-alias", "ua-dimm")
    guest_does("o", "detach, the guest refuses", "device-removal-failed", "-")
    guest_does("s", "suspend to memory", "lifecycle-pmsuspended", "memory")
    guest.virsh("dompmwakeup")
    listener.wait_record("lifecycle-started", "wakeup", "vm1")
    t.row("dompmwakeup")
    guest.virsh("reset")
    guest.wait_up()
    t.since()
    guest_does("z", "suspend to disk", "pm-suspend-disk", "-", lambda: guest.wait_state("shut off"))
    t.check_manual("devices")


def vnc(node, path):
    """A client that says hello and goes."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(20)
        s.connect(str(node.directory / path.lstrip("/")))
        for answer in (b"RFB 003.008\n", b"\x01", b"\x01"):  # version, no authentication, shared
            s.recv(64)
            s.sendall(answer)
        s.recv(64)


def libvirtd_restarts(node, t, guest):
    guest.start()
    t.since()
    for n, action in enumerate(("libvirtd restarts", "libvirtd, and guest dies"), 2):
        node.libvirtd("kill")
        if n == 3:
            guest.kill()
        node.libvirtd("start")
        t.listener.wait_listening(connects=n)
        t.row(action)


def disk(node, name):
    node.execute("qemu-img", "create", "-q", "-f", "raw", f"/var/lib/libvirt/images/{name}.img", "1M")


def on_crash(node, guest, action):
    xml = guest.virsh("dumpxml", "--inactive")
    path = node.directory / "run/on_crash.xml"
    path.write_text(xml.replace("<on_crash>" + xml.split("<on_crash>")[1].split("<")[0], f"<on_crash>{action}"))
    node.virsh("define", "/run/on_crash.xml")


def migrations(bed, t, guest, images):
    spool = Spool(bed.directory / "second")
    two = bed.node(images=images, name="node2", spool=spool)
    listener = Listener(bed.directory / "listener2", spool, two).start().wait_listening()
    there = Table(two, listener)
    guest.start().wait_up()
    t.since()
    uri = f"qemu+unix:///system?socket={two.socket}"
    data = f"unix://{two.directory}/migration.sock"
    guest.virsh("migrate", "--live", "--p2p", "--unsafe", uri, "--migrateuri", data)
    there.row("migration: destination")
    t.row("migration: source")
    t.rows += there.rows
    two.virsh("destroy", "vm1")
    there.since()
    guest.start().wait_up()
    t.since()
    guest.destroy()
    t.since()
    guest.virsh("domrename", "vm2")
    t.row("domrename")
    t.node.virsh("domrename", "vm2", "vm1")
    t.since()
    guest.virsh("undefine", "--snapshots-metadata", "--managed-save")
    t.row("undefine")
    listener.stop()
    listener.close()


def test_one_stream(bed):
    """Hooks and listener make one sequence without a gap, which reaches a consumer; both tell the same transition's key."""
    node = bed.node()
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    listener = bed.listener(node).start().wait_listening()
    guest = node.guest("vm1")
    for _ in range(3):
        guest.start()
        guest.virsh("suspend")
        guest.virsh("resume")
        guest.destroy()
    listener.stop()
    wait_until(lambda: "listen" in subscriber.operations()[1:], what=lambda: f"the end: {subscriber.operations()}")
    bed.spool.wait_empty()
    subscriber.check_complete()
    data = [e["data"] for e in subscriber.events]
    assert [d["operation"] for d in data].count("lifecycle-suspended") == 3
    assert {d["operation"] for d in data if d.get("authoritative") is False} == {"lifecycle-started", "lifecycle-stopped"}
    for hook in ("started", "stopped"):
        keys = [d["transition"] for d in data if d["operation"] == hook]
        assert len(set(keys)) == 3
        assert [d["transition"] for d in data if d["operation"] == f"lifecycle-{hook}"] == keys
    assert "virtspool_listen_events_total{uri=" in (bed.spool.rundir / "listen.prom").read_text()
    assert not (bed.spool.rundir / "listen.json").exists()


def test_reconcile(bed):
    """What changes while nobody listens is told after the next connect, and nothing else is."""
    node = bed.node()
    listener = bed.listener(node).start().wait_listening()
    guests = {name: node.guest(name) for name in ("same", "paused", "off", "gone", "again")}
    for name in ("same", "paused", "off", "again"):
        guests[name].start()
    listener.wait_record("lifecycle-started", "booted", "again")
    wait_until(lambda: len(re.findall("^[0-9a-f-]{36} 1 ", state(bed), re.M)) == 4, what="that four run is saved")
    listener.kill()  # it saves nothing any more
    known = {n for n in bed.spool.names()}
    guests["paused"].virsh("suspend")
    guests["off"].destroy()
    guests["gone"].virsh("undefine")
    guests["again"].destroy()
    guests["again"].start()
    node.guest("new")
    listener.start().wait_listening()
    records = [r for n, r in zip(bed.spool.names(), bed.spool.records()) if n not in known and r.get("origin")]
    told_of = {r["object"]: (r["suboperation"], r["extra"]) for r in records if r["operation"] == "reconciled"}
    assert told_of["paused"] == ("paused", "user")
    assert told_of["off"] == ("shutoff", "destroyed")
    assert told_of["gone"] == ("absent", "unknown")
    assert told_of["again"] == ("running", "booted")
    assert told_of["new"] == ("shutoff", "unknown")
    listener.stop()
    before = len(listener.records())
    listener.start().wait_listening()
    assert listener.records()[before:] == [("listen", "begin")]


def test_unreachable_is_not_stopped(bed):
    """A libvirtd that is gone, then one that hangs: nothing is said of its guests until it can be asked."""
    node = bed.node()
    guest = node.guest("vm1").start()
    listener = bed.listener(node).start().wait_listening()
    listener.wait_record("reconciled", "running", "vm1")
    node.libvirtd("kill")
    listener.wait_record("listen", "end")
    listener.wait_phase("waiting")
    assert listener.connection()["last_error"] and not listener.connection()["listening"]
    node.libvirtd("start")
    listener.wait_listening(connects=2)
    pid = libvirtd_pid(node)
    os.kill(pid, signal.SIGSTOP)
    try:
        listener.wait_record("listen", "end", count=2)
        ends = [r["extra"] for r in bed.spool.records() if (r["operation"], r["suboperation"]) == ("listen", "end")]
        assert ends == ["eof", "keepalive"]
        assert listener.running
    finally:
        os.kill(pid, signal.SIGCONT)
    listener.wait_listening(connects=3)
    assert listener.records("vm1") == [("reconciled", "running")]
    assert guest.state == "running"
    # A hanging libvirtd does not hold the listener at its end.
    os.kill(pid, signal.SIGSTOP)
    try:
        listener.wait_record("listen", "end", count=3)
        listener.stop()
    finally:
        os.kill(pid, signal.SIGCONT)


def libvirtd_pid(node):
    """Seen from outside."""
    inner = node.execute("cat", f"/run/{node.daemon}.pid").strip()
    for p in Path("/proc").glob("[0-9]*"):
        try:
            status = (p / "status").read_text()
        except OSError:
            continue
        pids = next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])
        if status.startswith(f"Name:\t{node.daemon}") and pids[-1:] == [inner] and same_namespace(p, node):
            return int(p.name)
    raise AssertionError("libvirtd does not run")


def same_namespace(p, node):
    return os.readlink(p / "ns/pid") == os.readlink(f"/proc/{node.first}/ns/pid")


def test_power_cut(bed):
    """After a power cut nothing is called for the guests that ran; it is told that they do not run, and no cause."""
    node = bed.node()
    guest = node.guest("vm1").start()
    listener = bed.listener(node).start().wait_listening()
    listener.wait_record("reconciled", "running", "vm1")
    wait_until(lambda: re.search("^[0-9a-f-]{36} 1 .* vm1$", state(bed), re.M), what="that it runs is saved")
    node.power_cut()
    listener.kill()
    node.boot()
    assert guest.state == "shut off"
    listener.start().wait_listening()
    listener.wait_record("reconciled", "shutoff", "vm1")
    record = [r for r in bed.spool.records() if r["operation"] == "reconciled"][-1]
    assert (record["extra"], record["detail"]) == ("unknown", "previous=running")


def state(bed):
    """What the listener keeps on disk of the domains' states."""
    return "".join(p.read_text() for p in bed.spool.spooldir.glob("listen.*") if p.suffix != ".new")


@pytest.fixture
def open_directory():
    """One that another user may reach, unlike pytest's."""
    directory = Path(tempfile.mkdtemp(prefix="listen-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def test_as_an_ordinary_user(bed, open_directory):
    """It needs no group of libvirt's and no password; its group gets at the stamp, as tmpfiles.d arranges it."""
    uid = gid = 65534  # nobody
    spool = Spool(open_directory)
    for path in (spool.spooldir, *spool.spooldir.iterdir()):
        os.chown(path, uid, gid)
        path.chmod(0o2770)
    os.chown(spool.rundir, 0, gid)
    spool.rundir.chmod(0o1775)
    node = bed.node(spool=spool)
    node.directory.chmod(0o755)
    (spool.rundir / "hook").mkdir()  # the boot has emptied the run directory
    os.chown(spool.rundir / "hook", 0, gid)
    (spool.rundir / "hook").chmod(0o751)
    guest = node.guest("vm1").start()  # the hook makes the stamp and the emergency spool
    stamp = (spool.rundir / "hook/stamp").stat()
    assert (stamp.st_uid, stamp.st_gid, stamp.st_mode & 0o777) == (0, gid, 0o664)
    listener = Listener(open_directory / "listener", spool, node)
    listener.directory.mkdir()
    listener.prefix = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--bounding-set=-all", "--"]
    listener.start().wait_listening()
    guest.virsh("suspend")
    listener.wait_record("lifecycle-suspended", "paused", "vm1")
    (spool.spooldir / "tmp").rmdir()  # the disk's spool cannot be written
    guest.virsh("resume")
    wait_until(lambda: spool.names("emergency/new"), what=lambda: f"the emergency spool: {listener.output()}")
    guest.destroy()
    wait_until(lambda: len(spool.names("emergency/new")) >= 4, what="hooks and listener use it")
    records = sorted(spool.records() + spool.records("emergency/new"), key=lambda r: r["id"])
    assert [int(r["sequence"]) for r in records] == list(range(1, len(records) + 1))
    assert len({r["epoch"] for r in records}) == 1 and not any("unordered" in r.get("flags", "") for r in records)
    listener.stop()
    listener.close()


def test_several_libvirts_in_one_process(bed, no_cgroup_left):
    """QEMU and containers, domains of one name among them, and a libvirt that is not there: none hinders the others."""
    node = bed.node(boot=False)
    hooks = node.directory / "etc/hooks"
    hooks.mkdir(parents=True)
    shutil.copy(program("virtspool-hook"), hooks / "lxc")
    node.boot()
    socket = node.socket if node.daemon == "libvirtd" else node.socket.with_name("virtlxcd-sock")
    absent = "lxc+unix:///system?socket=/nowhere/libvirt-sock-ro"
    listener = bed.listener(node, f"lxc+unix:///system?socket={socket}-ro", absent).start()
    wait_until(
        lambda: [c["phase"] == "listening" for c in listener.status().get("connections", [])] == [True, True, False],
        what=lambda: f"two of three: {listener.status()}",
    )
    assert [c["driver"] for c in listener.status()["connections"]] == ["qemu", "lxc", "lxc"]
    assert "cannot connect" in listener.connection(2)["last_error"]
    container, guest = node.container("vm1"), node.guest("vm1")
    for domain in (container, guest):
        domain.start()
    for domain in (container, guest):
        domain.destroy()
    listener.wait_record("lifecycle-stopped", "destroyed", "vm1", count=2)
    records = [r for r in bed.spool.records() if r.get("object") == "vm1"]
    for driver in ("lxc", "qemu"):
        of_driver = [r for r in records if r["driver"] == driver]
        hook = {r["operation"]: r["id"] for r in of_driver if "origin" not in r}
        api = {r["operation"]: r for r in of_driver if "origin" in r}
        assert {f"lifecycle-{o}" for o in ("defined", "started", "stopped")} <= set(api)
        for operation in ("started", "stopped"):
            assert api[f"lifecycle-{operation}"]["transition"] == hook[operation]
        assert f"type='{driver}'" in api["lifecycle-started"]["document"].decode()
    assert [int(r["sequence"]) for r in bed.spool.records()] == list(range(1, len(bed.spool.records()) + 1))
    listener.stop()


def test_a_hook_that_was_replaced(bed):
    """Another package's file takes the hook's place: the listener's event counts, and status reports it."""

    def of(operation):
        return [e["data"] for e in list(subscriber.events) if e["data"].get("operation") == operation]

    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    bed.daemon.wait_connected()
    node = bed.node()
    listener = bed.listener(node).start().wait_listening()
    guest = node.guest("vm1").start()
    wait_until(lambda: of("lifecycle-started"), what="the event")
    assert listener.status()["records"]["without_hook"] == 0
    (node.directory / "etc/hooks/qemu").write_text("#!/bin/sh\ncat >/dev/null\n")
    guest.destroy()
    wait_until(lambda: listener.status()["records"]["without_hook"] == 1, what=lambda: listener.status())
    wait_until(lambda: of("lifecycle-stopped"), what="the event")
    assert of("lifecycle-started")[0]["authoritative"] is False
    assert of("lifecycle-stopped")[0]["authoritative"] is True
    assert "virtspool_listen_transitions_without_hook_total 1" in (bed.spool.rundir / "listen.prom").read_text()
