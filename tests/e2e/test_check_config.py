# SPDX-License-Identifier: LGPL-2.1-or-later
"""virtspoold --check-config as root: what the daemon's user may read counts, and not what root may."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from lib import program
from lib.programs import missing, tool

UID = 64321


def check(bed, user=True):
    """In a mount namespace with a user virtspool, or without: exit status, stdout, stderr."""
    for name, line in (("passwd", f"virtspool:x:{UID}:{UID}::/:/bin/false"), ("group", f"virtspool:x:{UID}:")):
        lines = [x for x in Path(f"/etc/{name}").read_text().splitlines(keepends=True) if not x.startswith("virtspool:")]
        (bed.directory / name).write_text("".join(lines) + (line + "\n" if user else ""))
    script = 'mount --bind "$1/passwd" /etc/passwd && mount --bind "$1/group" /etc/group && exec "$2" --check-config -c "$3"'
    done = subprocess.run(
        [tool("unshare"), "--mount", "--propagation", "private", "sh", "-c", script, "sh", bed.directory]
        + [program("virtspoold"), bed.daemon.config_file],
        capture_output=True,
        text=True,
        timeout=20,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **bed.spool.environment},
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def configured(bed):
    """A configuration that everybody can read, below directories that everybody can pass."""
    if os.geteuid() != 0:
        missing("root is needed to take an identity")
    for directory in [bed.directory, *bed.directory.parents]:
        if directory.stat().st_mode & 0o001 == 0:
            directory.chmod(directory.stat().st_mode | 0o011)
    key = bed.directory / "host.key"
    shutil.copy(bed.certs.key("host"), key)
    for name in ("ca.pem", "host.pem"):
        shutil.copy(bed.certs.ca if name == "ca.pem" else bed.certs.pem("host"), bed.directory / name)
        (bed.directory / name).chmod(0o644)
    bed.daemon.config["tls"] = {
        "ca_file": bed.directory / "ca.pem",
        "certificate_file": bed.directory / "host.pem",
        "key_file": key,
    }
    bed.daemon.config["brokers"] = ["mqtts://localhost"]
    bed.daemon.write_config()
    return bed, key


def test_as_the_daemons_user(configured):
    bed, key = configured
    key.chmod(0o600)
    code, out, err = check(bed)
    assert code == 78 and str(key) in err and "valid" not in out and "(checked as the user virtspool" in out
    os.chown(key, UID, UID)
    code, out, err = check(bed)
    assert code == 0 and out.splitlines()[0] == f"{bed.daemon.config_file}: valid" and err == ""
    assert "(checked as the user virtspool" in out


def test_without_that_user(configured):
    bed, key = configured
    key.chmod(0o600)
    code, out, _ = check(bed, user=False)
    assert code == 0 and "(checked as root: there is no user virtspool)" in out
