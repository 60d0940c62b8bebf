# SPDX-License-Identifier: LGPL-2.1-or-later
"""The RPM's spec file, as far as a Debian can check it: rpmlint, and a build with stand-ins for Fedora's macros."""

import re
import subprocess

import pytest
from lib import BUILD, ROOT
from lib.programs import missing, tool

SPEC = ROOT / "etc/rpm/virtspool.spec"
MACROS = {
    "_unitdir": "/usr/lib/systemd/system",
    "_sysusersdir": "/usr/lib/sysusers.d",
    "_tmpfilesdir": "/usr/lib/tmpfiles.d",
    "_libexecdir": "/usr/libexec",
    "systemd_post()": "echo posted %{*}",
    "systemd_preun()": "echo preun %{*}",
    "systemd_postun_with_restart()": "echo postun %{*}",
    "tmpfiles_create()": "systemd-tmpfiles --create %{*}",
    "optflags": "-O0",  # what is in the packages is looked at, and not how fast it is
}
# What Fedora's build system adds, or what is meant so.
EXPECTED = ("statically-linked-binary", "no-signature", "no-packager-tag", "no-group-tag", "bad-manual-page-folder")


def run(*command, check=True):
    done = subprocess.run(
        [str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300
    )
    text = done.stdout.decode(errors="replace")
    assert not check or done.returncode == 0, f"{command}: {text[-4000:]}"
    return text


def errors(said):
    return [line for line in said.splitlines() if ": E: " in line and not any(e in line for e in EXPECTED)]


def test_rpmlint_accepts_the_spec():
    said = run(tool("rpmlint"), SPEC, check=False)
    assert re.search(r"\b0 errors", said), said


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    if not (BUILD / "Makefile").exists():
        missing("no build tree")
    top = tmp_path_factory.mktemp("rpm")
    (top / "SOURCES").mkdir()
    run("make", "-s", "-C", BUILD, "dist")
    run("mv", next(BUILD.glob("virtspool-*.tar.xz")), top / "SOURCES")
    defines = [x for name, value in MACROS.items() for x in ("--define", f"{name} {value}")]
    run(tool("rpmbuild"), "-bb", "--nodeps", "--nocheck", "--define", f"_topdir {top}", *defines, SPEC)
    return top.glob("RPMS/*/virtspool*.rpm")


@pytest.fixture(scope="module")
def packages(built):
    """All of them, by name, without those for debugging."""
    names = {re.match("[a-z-]+[a-z]", p.name)[0]: p for p in built}
    return {name: path for name, path in names.items() if "-debug" not in name}


@pytest.fixture(scope="module")
def package(packages):
    return packages["virtspool"]


def test_the_packages_hold_what_make_install_puts_there(packages, tmp_path):
    run("make", "-s", "-C", BUILD, "install", f"DESTDIR={tmp_path}")
    installed = {f"/{p.relative_to(tmp_path)}" for p in tmp_path.rglob("*") if p.is_file()}
    listed = {line for p in packages.values() for line in run("rpm", "-qlp", p).split()}
    assert installed - listed == {"/etc/libvirt/hooks/qemu"}  # the scriptlets put it there
    for name, file in (("virtspool", "virtspool.yaml"), ("virtspool-recorder", "recorder.yaml")):
        assert run("rpm", "-qp", "--configfiles", packages[name]).split() == [f"/etc/virtspool/{file}"]
    control = (ROOT / "etc/debian/control").read_text()
    assert set(packages) == set(re.findall("^Package: (.*)", control, re.M))  # as Debian's


def test_the_scriptlets_look_after_the_hook(package):
    scripts = run("rpm", "-qp", "--scripts", package)
    for option in ("install-hook qemu", "install-hook --update", "install-hook --remove"):
        assert option in scripts
    assert "posted virtspool.service" in scripts and "postun virtspool.service" in scripts


def test_rpmlint_accepts_the_packages(packages):
    said = run(tool("rpmlint"), *packages.values(), check=False)
    assert errors(said) == [], said
