# SPDX-License-Identifier: LGPL-2.1-or-later
"""`make install`: what it puts where, what systemd says to it, and libvirt's hooks directory, where others live too."""

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from lib import BUILD, ROOT, program
from lib.programs import missing, tool

DRIVERS = ("qemu", "lxc", "libxl", "bhyve", "network", "daemon")
ANOTHER = "#!/bin/sh\n# another's hook\nexit 0\n"
MODES = {
    "etc/libvirt/hooks/qemu": 0o755,
    "usr/bin/virtspool": 0o755,
    "usr/sbin/virtspoold": 0o755,
    "usr/libexec/virtspool/virtspool-hook": 0o755,
    "usr/libexec/virtspool/install-hook": 0o755,
    "usr/lib/systemd/system/virtspool.service": 0o644,
    "usr/lib/sysusers.d/virtspool.conf": 0o644,
    "usr/lib/tmpfiles.d/virtspool.conf": 0o644,
    "usr/share/doc/virtspool/recipes/README.md": 0o644,
    "usr/share/doc/virtspool/recipes/crash-alert": 0o755,
    "usr/share/doc/virtspool/recipes/fleet-size": 0o755,
    "usr/share/doc/virtspool/recipes/verify-event.js": 0o755,
    "usr/share/doc/virtspool/recipes/verify-event.py": 0o755,
    "usr/share/man/man8/virtspoold.8": 0o644,
    "usr/share/man/man8/virtspool-hook.8": 0o644,
    "usr/share/man/man5/virtspool-spool.5": 0o644,
}
if (BUILD / "virtspool-listen").exists():
    MODES["usr/sbin/virtspool-listen"] = 0o755
    MODES["usr/lib/systemd/system/virtspool-listen.service"] = MODES["usr/share/man/man8/virtspool-listen.8"] = 0o644
if (BUILD / "virtspool-recorder").exists():
    MODES["usr/bin/virtspool-recorder"] = 0o755
    MODES["usr/lib/systemd/system/virtspool-recorder.service"] = 0o644
    MODES["usr/lib/sysusers.d/virtspool-recorder.conf"] = MODES["usr/share/man/man8/virtspool-recorder.8"] = 0o644


def run(*command, check=True, **options):
    done = subprocess.run(
        [str(c) for c in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, **options
    )
    assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done


def make(target, root):
    return run("make", "-s", "-C", BUILD, target, f"DESTDIR={root}")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Where the build tree was installed. Belongs to all tests here: they change only what they made."""
    if not (BUILD / "Makefile").exists():
        missing("no build tree")
    root = tmp_path_factory.mktemp("root")
    make("install", root)
    return root


def unit_text(root, name="virtspool.service"):
    return (root / "usr/lib/systemd/system" / name).read_text()


def test_files_and_modes(root):
    for name, mode in MODES.items():
        path = root / name
        assert path.is_file() and not path.is_symlink(), name
        assert stat.S_IMODE(path.stat().st_mode) == mode, name
    for path in root.rglob("*"):
        assert not path.stat().st_mode & stat.S_IWOTH, f"{path} is open to everybody"
        if path.is_file() and b"@spooldir@" in path.read_bytes():
            pytest.fail(f"{path}: not filled in")


def test_the_installed_programs_tell_their_version(root):
    version = re.search(r"[0-9.]+$", run(root / "usr/bin/virtspool", "--version").stdout.strip())[0]
    for name in ("usr/sbin/virtspoold", "usr/libexec/virtspool/virtspool-hook"):
        assert run(root / name, "--version").stdout.split()[-1] == version, name


def test_uninstall_leaves_nothing_but_what_others_put_there(tmp_path):
    make("install", tmp_path)
    other = tmp_path / "etc/libvirt/hooks/network"
    other.write_text(ANOTHER)
    make("uninstall", tmp_path)
    assert [p for p in tmp_path.rglob("*") if not p.is_dir()] == [other]
    assert other.read_text() == ANOTHER


def test_another_hook_is_left_alone(tmp_path):
    hooks = tmp_path / "etc/libvirt/hooks"
    hooks.mkdir(parents=True)
    (hooks / "qemu").write_text(ANOTHER)
    (hooks / "qemu").chmod(0o755)
    said = make("install", tmp_path).stdout
    assert "is another hook and stays" in said
    assert (hooks / "qemu").read_text() == ANOTHER
    assert (hooks / "qemu.d/virtspool").read_bytes() == Path(program("virtspool-hook")).read_bytes()
    make("uninstall", tmp_path)
    assert (hooks / "qemu").read_text() == ANOTHER
    assert not (hooks / "qemu.d").exists()


@pytest.mark.parametrize("kind", ["link", "dangling link", "directory"])
def test_what_only_looks_like_ours_is_left_alone(tmp_path, kind):
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    ours = tmp_path / "ours"
    shutil.copy(program("virtspool-hook"), ours)
    {
        "link": lambda: (hooks / "qemu").symlink_to(ours),
        "dangling link": lambda: (hooks / "qemu").symlink_to("/nonexistent"),
        "directory": lambda: (hooks / "qemu").mkdir(),
    }[kind]()
    before = os.lstat(hooks / "qemu").st_ino
    script = ROOT / "scripts/install-hook"
    run("sh", script, "--program", program("virtspool-hook"), "--hooksdir", hooks, "qemu")
    run("sh", script, "--remove", "--hooksdir", hooks)
    assert os.lstat(hooks / "qemu").st_ino == before
    assert not (hooks / "qemu.d").exists()


def hooks_command(root, hooks, *arguments):
    """`virtspool hooks` as installed: with what lies below root seen at its place, in a mount namespace of its own."""
    if os.geteuid() != 0:
        missing("needs root: a mount namespace")
    script = 'mount -t tmpfs tmpfs /usr/libexec && cp -a "$1" /usr/libexec/ && shift && exec "$@"'
    return run(
        *("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", root / "usr/libexec/virtspool"),
        *(root / "usr/bin/virtspool", "hooks", *arguments, "--hooksdir", hooks),
        check=False,
    )


def test_the_hooks_command(root, tmp_path):
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "lxc").write_text(ANOTHER)

    def status():
        said = hooks_command(root, hooks, "status")
        return said.returncode, dict(line.split(None, 1) for line in said.stdout.splitlines())

    code, states = status()
    assert code == 1 and sorted(states) == sorted(DRIVERS)
    assert states["qemu"] == "not installed" and "is another hook" in states["lxc"]

    said = hooks_command(root, hooks, "install", "qemu", "lxc", "network")
    assert said.returncode == 0, said
    assert "reload" in said.stdout or "restart" in said.stdout
    code, states = status()
    assert code == 0
    assert states["qemu"] == str(hooks / "qemu") and states["network"] == str(hooks / "network")
    assert states["lxc"].startswith(str(hooks / "lxc.d/virtspool")) and states["daemon"] == "not installed"
    assert hooks_command(root, hooks, "status", "daemon").returncode == 1

    # The same once more changes nothing that libvirt has to be told.
    assert "reload" not in hooks_command(root, hooks, "install", "qemu").stdout

    assert hooks_command(root, hooks, "remove").returncode == 0
    assert [p for p in hooks.rglob("*")] == [hooks / "lxc"] and (hooks / "lxc").read_text() == ANOTHER

    for wrong in (["install", "xen"], ["put"], []):
        assert hooks_command(root, hooks, *wrong).returncode != 0
    assert list(hooks.iterdir()) == [hooks / "lxc"]


def test_an_update_touches_only_what_is_installed(tmp_path):
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    script = ROOT / "scripts/install-hook"
    old = tmp_path / "old"
    old.write_bytes(Path(program("virtspool-hook")).read_bytes() + b"older")
    run("sh", script, "--program", old, "--hooksdir", hooks, "lxc")
    said = run("sh", script, "--status", "--program", program("virtspool-hook"), "--hooksdir", hooks, "lxc").stdout
    assert "another version" in said
    run("sh", script, "--update", "--program", program("virtspool-hook"), "--hooksdir", hooks)
    assert [p.name for p in hooks.iterdir()] == ["lxc"]
    assert (hooks / "lxc").read_bytes() == Path(program("virtspool-hook")).read_bytes()


def units(root):
    return sorted((root / "usr/lib/systemd/system").glob("*.service"))


def test_systemd_accepts_the_units(root, tmp_path):
    for unit in units(root):
        (tmp_path / unit.name).write_text(re.sub("=(/usr/s?bin/)", f"={root}\\1", unit.read_text()))
    said = run(tool("systemd-analyze"), "verify", "--man=no", *tmp_path.glob("*.service"))
    assert said.stdout + said.stderr == ""


def test_exposure(root):
    for unit in units(root):
        said = run(tool("systemd-analyze"), "security", "--offline=true", "--no-pager", unit).stdout
        exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
        assert exposure and float(exposure[1]) <= 1.5, said


def test_before_libvirt_and_after_it(root):
    before = " ".join(re.findall(r"^Before=(.*)$", unit_text(root), re.M)).split()
    for unit in ("libvirtd", "virtqemud", "virtlxcd", "virtxend", "virtnetworkd", "virtstoraged", "libvirt-guests"):
        assert f"{unit}.service" in before


def test_user_and_directories(root, tmp_path):
    if os.geteuid() != 0:
        missing("needs root: owners")
    for name in ("sysusers.d", "tmpfiles.d"):
        shutil.copytree(root / "usr/lib" / name, tmp_path / "usr/lib" / name)
    (tmp_path / "etc").mkdir()
    run(tool("systemd-sysusers"), f"--root={tmp_path}", "virtspool.conf")
    users = {u[0]: u for u in (line.split(":") for line in (tmp_path / "etc/passwd").read_text().splitlines())}
    assert all(users[u][6].endswith("nologin") for u in ("virtspool", "virtspool-listen"))
    gid, (listen_uid, listen_gid) = int(users["virtspool"][3]), map(int, users["virtspool-listen"][2:4])
    assert listen_gid != gid
    groups = {g[0]: g[3].split(",") for g in
              (line.split(":") for line in (tmp_path / "etc/group").read_text().splitlines())}
    assert groups["virtspool"] == ["virtspool-listen"] and groups["virtspool-listen"] == [""]
    run(tool("systemd-tmpfiles"), f"--root={tmp_path}", "--create", "virtspool.conf")
    expected = {f"var/spool/virtspool/{d}": (0o2770, 0, gid) for d in
                ("tmp", "new", "replay", "sent", "failed", "skipped")}
    expected |= {"var/spool/virtspool": (0o3770, 0, gid)}
    expected |= {"var/spool/virtspool/high-water.listen": (0o600, listen_uid, gid)}
    expected |= {"run/virtspool": (0o1775, 0, gid), "run/virtspool/hook": (0o751, 0, listen_gid)}
    expected |= {f"run/virtspool/emergency{d}": (0o2770, 0, gid) for d in ("", "/tmp", "/new")}
    for name, wanted in expected.items():
        st = (tmp_path / name).stat()
        assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == wanted, name


@pytest.mark.parametrize("state, ended", [("running", []), ("stopping", ["default", "lxc:///system"])])
def test_end_guests_ends_guests_only_at_shutdown(tmp_path, state, ended):
    programs = {
        "systemctl": f"echo {state}",
        "virsh": f"""case "$*" in
            *list*) echo 6ba7b810-9dad-11d1-80b4-00c04fd430c8 ;;
            *) echo "$*" >>{tmp_path}/called ;;
            esac""",
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "URIS": "default lxc:///system"}
    run(ROOT / "scripts/end-guests", env=environment)
    called = (tmp_path / "called").read_text().splitlines() if ended else []
    assert (tmp_path / "called").exists() == bool(ended)
    assert called == [
        f"--quiet {'' if uri == 'default' else f'--connect {uri} '}destroy --graceful 6ba7b810-9dad-11d1-80b4-00c04fd430c8"
        for uri in ended
    ]
