# SPDX-License-Identifier: LGPL-2.1-or-later
"""virtspool watch: events as they arrive at the broker."""

import os
import subprocess

from lib import program


def test_watch_on_a_full_disk(running):
    bed = running
    script = 'exec "$V" watch -c "$1" >/dev/full'
    watch = subprocess.Popen(
        ["sh", "-c", script, "sh", bed.daemon.config_file],
        env={**os.environ, "V": program("virtspool"), **bed.spool.environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "watching" in watch.stderr.readline()
    bed.hook("start")
    rest = watch.communicate(timeout=20)[1]
    assert watch.returncode == 1 and "cannot write the output: No space left" in rest
