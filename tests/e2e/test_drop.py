# SPDX-License-Identifier: LGPL-2.1-or-later
"""virtspool drop: asks, removes, and leaves a line in the system log."""

import os
import socket
import subprocess
import time

from lib import program
from lib.admin import move
from lib.programs import missing, tool


def test_drop_asks_and_removes(at_rest):
    bed = at_rest
    names = bed.spool.names("new")
    move(bed, names[:1], "failed", "made up")
    done = bed.run("virtspool", "drop", names[0])
    assert done.returncode == 1 and "--yes" in done.stderr and names[0] in bed.spool.names("failed")
    assert bed.run("virtspool", "drop").returncode == 64
    done = bed.run("virtspool", "drop", "--yes", names[0], check=True)
    assert f"dropped {names[0]} from failed/: qemu web1 prepare, sequence 1" in done.stderr
    assert bed.spool.names("failed") == []
    bed.run("virtspool", "drop", "--yes", "--from", "new", "--vm", "web*", check=True)
    assert bed.spool.names("new") == names[5:]


def test_drop_is_logged_with_who_and_what(at_rest):
    """In a mount namespace with a /dev of its own, where we are the system log."""
    bed = at_rest
    if os.geteuid() != 0:
        missing("root is needed for a /dev/log of one's own")
    name = bed.spool.names("new")[0]
    path = f"/tmp/virtspool-log-{os.getpid()}-{time.monotonic_ns()}"
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.bind(path)
    log.settimeout(10)
    try:
        script = 'mount -t tmpfs none /dev && touch /dev/log && mount --bind "$1" /dev/log && exec "$2" drop --yes "$3"'
        subprocess.run(
            [tool("unshare"), "--mount", "--propagation", "private", "sh", "-c", script, "sh", path, program("virtspool"), name],
            check=True,
            stdin=subprocess.DEVNULL,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **bed.spool.environment},
            timeout=20,
        )
        line = log.recv(4096).decode()
    finally:
        log.close()
        os.unlink(path)
    assert "virtspool[" in line and f"root dropped event {name} from new/: qemu web1 prepare" in line
    assert name not in bed.spool.names("new")


def test_a_directory_named_like_an_id_does_not_stop_drop(at_rest):
    bed = at_rest
    blocking = bed.spool.path("new") / "00000000-0001-7000-8000-000000000001"
    blocking.mkdir()
    (blocking / "full").write_text("")
    done = bed.run("virtspool", "drop", "--yes", "--all")
    assert done.returncode == 1 and bed.spool.names("new") == [blocking.name]
    assert "8 dropped" in done.stderr and f"cannot remove event {blocking.name} in new/: Directory not empty" in done.stderr
