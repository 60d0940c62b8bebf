# SPDX-License-Identifier: LGPL-2.1-or-later
"""The packages on a host that works: upgrade, downgrade, removal, purge; and an installation from source, as README says."""

import os
import subprocess
from pathlib import Path

import pytest
from lib.debs import with_version

HOOKS = "/etc/libvirt/hooks"


@pytest.fixture(scope="module")
def host(new_host):
    """With hooks of others beside ours."""
    host = new_host("packages")
    host.boot()
    host.settled()
    host.run(f"""systemctl enable --now virtspool-listen
        mkdir -p {HOOKS}/qemu.d {HOOKS}/network.d
        printf '#!/bin/sh\\necho "$1" >>/root/foreign.log\\n' >{HOOKS}/qemu.d/zz-foreign
        printf '#!/bin/sh\\nexit 0\\n' >{HOOKS}/network
        chmod +x {HOOKS}/qemu.d/zz-foreign {HOOKS}/network
        sha256sum {HOOKS}/qemu.d/zz-foreign {HOOKS}/network >/root/foreign.sums""")
    return host


@pytest.fixture(scope="module")
def newer(host, packages, tmp_path_factory):
    """Installs the same packages as the next version, each in the machine."""
    directory = host.share / "newer"
    directory.mkdir()
    for p in packages:
        with_version(p, "99.0-1", directory)
    subprocess.run(["rm", "-r", directory / "tree"], check=True)
    return "/share/newer/*.deb"


def services(host):
    return host.run("systemctl is-active virtspool virtspool-listen || true").split()


@pytest.fixture(scope="module")
def debs(host, packages):
    directory = host.share / "debs"
    directory.mkdir(exist_ok=True)
    for p in packages:
        subprocess.run(["cp", p, directory], check=True)
    return "/share/debs/*.deb"


def test_upgrade_and_downgrade_while_hooks_run_and_the_broker_is_down(host, newer, debs):
    """With a configuration that the admin changed."""
    host.run("""echo '# changed by the admin' >>/etc/virtspool/virtspool.yaml
        systemctl stop mosquitto""")
    host.run("""pids() { systemctl show -P MainPID virtspool virtspool-listen | paste -sd' '; }
        before=$(pids)
        (while [ ! -e /root/stop ]; do n=$((n + 1)); echo "loop-$n $(timed_hook loop-$n started begin -)"; done >/root/loop) &
        sleep 2
        install_packages /share/newer/*.deb
        upgraded=$(pids)
        sleep 2
        install_packages /share/debs/*.deb
        downgraded=$(pids)
        sleep 2
        touch /root/stop
        wait
        printf '%s\\n' "$before" "$upgraded" "$downgraded" | tee /root/pids
        [ "$(sort -u /root/pids | wc -l)" = 3 ]
        ! grep -qw 0 /root/pids""")
    hooks = [line.split() for line in host.run("cat /root/loop").splitlines()]
    assert len(hooks) > 10 and all(status == "0" for _, status, _ in hooks)
    assert services(host) == ["active", "active"]
    host.run(f"""cmp /usr/libexec/virtspool/virtspool-hook {HOOKS}/qemu
        sha256sum -c --quiet /root/foreign.sums
        grep -q 'changed by the admin' /etc/virtspool/virtspool.yaml""")
    host.run("systemctl start mosquitto")
    host.delivered(*(name for name, _, _ in hooks), deadline=120)
    host.healthy()
    host.check()


def test_removal_stops_everything_and_keeps_the_spool(host, debs):
    host.run("systemctl stop mosquitto")
    host.hook("kept")
    out = host.run("""quietly apt-get remove -y virtspool
        pgrep -a virtspool || true
        find /etc/libvirt/hooks -name qemu -o -name virtspool""")
    assert out == ""
    host.run("define_guest web1; virsh -q start web1; virsh -q destroy web1")  # libvirt goes on without a hook
    assert host.run("systemctl list-units --failed --no-legend --plain 'virt*' 'libvirt*'") == ""
    host.run("install_packages /share/debs/*.deb; systemctl start mosquitto")
    assert services(host) == ["active", "active"]
    host.delivered("kept", deadline=120)
    host.healthy()


def test_purge_leaves_nothing(host):
    out = host.run("""quietly apt-get purge -y virtspool virtspool-listen virtspool-recorder
        pgrep -a virtspool || true
        getent passwd virtspool || getent group virtspool || true
        find / -xdev -name '*virtspool*' -not -path '/share/*' -not -path '/proc/*' -not -path '/etc/mosquitto/*' \\
            -not -path '/var/log/*' -not -path '/var/cache/*' -not -path '/root/*' -not -path '/usr/share/doc/*'""")
    assert out == ""
    host.run("sha256sum -c --quiet /root/foreign.sums")


def test_another_main_hook_is_left_alone(host, debs):
    host.run(f"""printf '#!/bin/sh\\nexit 0\\n' >{HOOKS}/qemu
        chmod +x {HOOKS}/qemu
        sha256sum {HOOKS}/qemu >/root/main.sum
        install_packages /share/debs/*.deb
        [ -x {HOOKS}/qemu.d/virtspool ]
        quietly apt-get purge -y virtspool virtspool-listen virtspool-recorder
        sha256sum -c --quiet /root/main.sum
        [ ! -e {HOOKS}/qemu.d/virtspool ]
        rm {HOOKS}/qemu""")


@pytest.fixture(scope="module")
def source(host):
    """The release's archive, built; on this machine, since emulation would take long. The host has no headers: make must
    not look whether they have changed."""
    build = Path(os.environ["VIRTSPOOL_BUILD"])
    subprocess.run(["make", "-s", "-C", build, "dist"], check=True, timeout=300, stdout=subprocess.DEVNULL)
    archive = next(build.glob("virtspool-*.tar.xz"))
    source = host.share / "source"
    source.mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", source, "--strip-components=1"], check=True)
    for command in ("./configure -q --disable-dependency-tracking --prefix=/usr --sysconfdir=/etc --localstatedir=/var", "make -s -j2"):
        subprocess.run(command.split(), cwd=source, check=True, timeout=900, stdout=subprocess.DEVNULL)
    return "/share/source"


def test_installation_from_source(host, source):
    """As README says, step by step."""
    host.run(f"""cd {source}
        quietly make install
        configure_host vhost
        systemctl enable --now virtspool
        systemctl stop libvirtd
        systemctl try-reload-or-restart libvirtd""")  # idle: its sockets start it
    host.healthy()
    host.run("define_guest db1; virsh -q start db1; virsh -q destroy db1")
    host.delivered("db1")
    host.run("virtspool doctor || [ $? = 1 ]")
