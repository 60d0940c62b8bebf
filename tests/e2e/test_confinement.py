# SPDX-License-Identifier: LGPL-2.1-or-later
"""
AppArmor, without a kernel that has it: what the programs do, as strace sees it, against what the profiles allow. Ours for
the daemon, and for the hook the one that libvirtd, and so its hooks, run under on Debian (a copy: lib/usr.sbin.libvirtd).
SELinux: the rules that we ship are compiled, against as much of a policy as they name.
"""

import os
import re
import shutil
import subprocess

import pytest
from lib import BUILD, ROOT, wait_until
from lib.apparmor import Profile, accesses
from lib.programs import missing, program, sanitized, tool
from lib.trace import tracing

OURS = BUILD / "etc/apparmor.d/usr.sbin.virtspoold"
SPOOL, RUN, CONFIG, HOOKS = "/var/spool/virtspool", "/run/virtspool", "/etc/virtspool", "/etc/libvirt/hooks"


@pytest.fixture(scope="module")
def daemon_profile():
    if not os.path.isdir("/etc/apparmor.d/abstractions"):
        missing("AppArmor's abstractions are not installed (scripts/setup)")
    return Profile(OURS)


@pytest.fixture(scope="module")
def libvirtd_profile(tmp_path_factory):
    include = tmp_path_factory.mktemp("apparmor")
    (include / "local").mkdir()
    (include / "local/usr.sbin.libvirtd").touch()
    return Profile(ROOT / "tests/lib/usr.sbin.libvirtd", include)


def places(bed):
    return {
        str(bed.spool.spooldir): SPOOL,
        str(bed.spool.rundir): RUN,
        str(bed.certs.directory): CONFIG,
        str(bed.daemon.config_file): f"{CONFIG}/virtspool.yaml",
        str(bed.hook.directory): HOOKS,
        program("virtspoold"): "/usr/sbin/virtspoold",
    }


def check(profile, done):
    assert not [(p, a) for p, a in sorted(done) if not profile.allows(p, a)]


def test_the_daemon_does_nothing_that_its_profile_forbids(bed, daemon_profile):
    """A whole life of it: backlog, poison, archive and its bounds, replay, emergency spool, reload, another broker."""
    if sanitized("virtspoold"):
        pytest.skip("AddressSanitizer reads more")
    trace = bed.directory / "trace"
    config = bed.daemon.config
    config["brokers"] = ["mqtts://localhost:1", bed.broker.start().url]
    config["mqtt"]["status_topic"] = "virtspool/v1/{host}/status"
    config["metrics"] = {"file": bed.spool.rundir / "virtspool.prom"}
    subscriber = bed.subscriber()
    bed.hook.many(20)
    (bed.spool.spooldir / "new" / "01000000-0000-7000-8000-000000000001").write_bytes(b"no record")
    bed.daemon.prefix = tracing(trace)
    bed.daemon.environment["RUNTIME_DIRECTORY"] = "/tmp"
    bed.daemon.start(deadline=30)
    subscriber.wait_for(20, 30)
    wait_until(lambda: bed.spool.failed(), 20, "the poison is put aside")
    bed.hook.environment["VIRTSPOOL_SPOOLDIR"] = "/nonexistent"
    bed.hook("started")
    bed.hook.environment.update(bed.spool.environment)
    subscriber.wait_for(21, 30)
    wait_until(lambda: len(bed.spool.names("sent")) == 21, 20, "the archive is complete")
    # A replay puts them back, as the admin's tool does; some go for the archive's size; a domain is left out.
    for name in bed.spool.names("sent")[:3]:
        copy = shutil.copy(bed.spool.spooldir / "sent" / name, bed.spool.spooldir / "tmp")
        os.rename(copy, bed.spool.spooldir / "replay" / name)
    wait_until(lambda: not bed.spool.names("replay"), 20, "the replay is done")
    config["spool"] = {"sent_size": "4K"}
    config["events"] = {"skip_domains": ["vm2"]}
    shutil.rmtree(bed.spool.spooldir / "skipped")
    bed.daemon.reload(30)
    bed.hook("started", domain="vm2")
    wait_until(lambda: bed.spool.names("skipped"), 20, "it is skipped")
    wait_until(lambda: len(bed.spool.names("sent")) < 21, 20, "the archive is bounded")
    bed.broker.kill()
    wait_until(lambda: "connect" in bed.daemon.status().get("last_error", "connect"), 20, "the loss is seen")
    del config["tls"]["ca_file"]  # the system's store instead
    bed.broker.start()
    bed.daemon.reload(30)
    wait_until(lambda: "not signed by a CA in the system's trust store" in bed.daemon.output(), 20, bed.daemon.output)
    assert bed.daemon.stop() == 0
    done = accesses(trace, {**places(bed), bed.daemon.notifications.path: "/run/systemd/notify"})

    done.remove(("/usr/sbin/virtspoold", "x"))  # the service manager's
    done.add(("/usr/libexec/virtspool/virtspool-hook", "r"))  # where it is installed, the hook is compared with it
    check(daemon_profile, done)
    # It has seen all kinds, and every directory.
    seen = {(re.sub("/[^/]+$", "", p), a) for p, a in done}
    for directory, access in (("new", "r"), ("new", "w"), ("replay", "w"), ("sent", "w"), ("failed", "w"), ("skipped", "w")):
        assert (f"{SPOOL}/{directory}", access) in seen
    for path, access in ((f"{RUN}/status.json", "w"), (f"{CONFIG}/host.key", "r"), ("/run/systemd/notify", "w")):
        assert (path, access) in done
    assert (f"{SPOOL}/skipped/", "w") in done and any(a == "m" for _, a in done)
    assert any(re.fullmatch(r"/tmp/\.virtspool-\w+/s", p) for p, _ in done), "the bridge"
    assert any(p.startswith("/etc/ssl/") for p, _ in done) and ("/etc/hosts", "r") in done


def test_the_daemon_may_do_no_more_than_it_must(daemon_profile):
    forbidden = [
        *[("/etc/shadow", "r"), ("/etc/ssl/private/host.key", "r"), ("/root/.ssh/id_ed25519", "r"), ("/home/a/x", "r")],
        *[(f"{CONFIG}/virtspool.yaml", "w"), (f"{HOOKS}/qemu", "w"), ("/usr/sbin/virtspoold", "w"), ("/etc/passwd", "w")],
        *[("/bin/sh", "x"), ("/usr/bin/sh", "x"), (f"{SPOOL}/new/x", "x"), (f"{SPOOL}/new/x", "m"), ("/tmp/x", "m")],
        *[(f"{SPOOL}/new/x", "l"), ("/var/lib/libvirt/images/a", "r"), ("/run/libvirt/libvirt-sock", "w"), ("/dev/kvm", "r")],
        *[("/var/spool/cron/crontabs/root", "w"), ("/run/systemd/private", "w"), ("/etc/libvirt/qemu/vm1.xml", "r")],
    ]
    assert [f for f in forbidden if daemon_profile.allows(*f)] == []
    # net_bind_service: of <abstractions/nis>; the others: --check-config as root takes the daemon's identity.
    assert set(daemon_profile.capabilities) <= {"net_bind_service", "setuid", "setgid"}, "the unit leaves it none"


@pytest.mark.parametrize("way", ["usual", "boot", "emergency", "lost"])
def test_the_hook_under_libvirtds_profile(bed, libvirtd_profile, way):
    """Also what it does where libvirt's own profile does not let it in: it is not executed, see virtspool-hook(8)."""
    if way == "boot":
        shutil.rmtree(bed.spool.rundir)
    if way in ("emergency", "lost"):
        shutil.rmtree(bed.spool.spooldir)
    if way == "lost":
        bed.spool.rundir.rmdir()
        bed.hook.environment["VIRTSPOOL_RUNDIR"] = "/proc/nowhere"
    trace = bed.directory / "trace"
    bed.hook.prefix = tracing(trace)
    bed.hook.environment["ASAN_OPTIONS"] = "detect_leaks=0"
    bed.hook("started", timeout=30)
    wait_until(lambda: "+++ exited" in trace.read_text(errors="replace").splitlines()[-1], 10, "the trace is written")
    done = accesses(trace, places(bed))
    check(libvirtd_profile, done)
    assert (f"{HOOKS}/qemu", "x") in done
    target = {"usual": f"{SPOOL}/new", "boot": f"{SPOOL}/new", "emergency": f"{RUN}/emergency/new"}.get(way)
    assert not target or any(p.startswith(f"{target}/") and a == "w" for p, a in done), sorted(done)
    for path in ("/usr/libexec/virtspool/virtspool-hook", "/usr/local/libexec/x", "/opt/virtspool/hook"):
        assert not libvirtd_profile.allows(path, "x")


def test_the_hook_with_the_capabilities_of_libvirtds_profile(bed, libvirtd_profile):
    """Root's rights are enough that the profile leaves: a spool that is another user's, a run directory to be made."""
    if os.geteuid() != 0:
        missing("needs root: another user's spool")
    uid = 61234
    for path in (bed.spool.spooldir, *bed.spool.spooldir.iterdir()):
        os.chown(path, uid, uid)
        path.chmod(0o2770)
    shutil.rmtree(bed.spool.rundir)
    kept = ",".join(["-all", *(f"+{c}" for c in libvirtd_profile.capabilities)])
    bed.hook.prefix = [tool("setpriv"), f"--bounding-set={kept}", "--"]
    bed.hook("started")
    (name,) = bed.spool.names("new")
    assert (bed.spool.spooldir / "new" / name).stat().st_gid == uid
    assert (bed.spool.rundir / "emergency/new").stat().st_gid == uid
    # Without them it would not be: the emergency spool, which it makes itself, takes the event.
    bed.hook.prefix = [tool("setpriv"), "--bounding-set=-all", "--"]
    shutil.rmtree(bed.spool.rundir)
    subprocess.run([*bed.hook.prefix, bed.hook.installed(), "vm1", "started", "begin", "-"], env=bed.hook.environment,
                   stdin=subprocess.DEVNULL, check=True, timeout=30)
    assert bed.spool.names("new") == [name] and len(bed.spool.names("emergency/new")) == 1


POLICY = """
(handleunknown allow) (mls false) (sid kernel) (sidorder (kernel)) (user u) (role r) (userrole u r)
(sensitivity s0) (sensitivityorder (s0)) (category c0) (categoryorder (c0)) (userlevel u (s0)) (userrange u ((s0) (s0)))
(class file (getattr open read execute map ioctl)) (class process (transition sigchld)) (class fd (use))
(class fifo_file (getattr read write ioctl)) (classorder (file process fd fifo_file))
(type virtqemud_t) (type virt_hook_t) (type virt_hook_unconfined_t) (boolean virt_hooks_unconfined false)
(roletype r virtqemud_t) (roletype r virt_hook_unconfined_t) (sidcontext kernel (u r virtqemud_t ((s0) (s0))))
(allow virtqemud_t virt_hook_t (file (getattr)))
"""


def test_the_selinux_rules_compile(tmp_path):
    (tmp_path / "policy.cil").write_text(POLICY)
    command = [tool("secilc"), "-o", tmp_path / "policy", "-f", tmp_path / "contexts", tmp_path / "policy.cil"]
    done = subprocess.run([*command, ROOT / "etc/selinux/virtspool-hook.cil"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and (tmp_path / "policy").stat().st_size > 0, done.stdout + done.stderr
