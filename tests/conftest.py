# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes the package `lib` importable and its fixtures known to every test below."""

import functools
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from lib.fixtures import *  # noqa: E402,F401,F403 - fixtures are found by name
from lib.waiting import PATIENCE  # noqa: E402


def patient(run):
    """Time-outs are deadlines as well, for a machine that has nothing else to do."""

    @functools.wraps(run)
    def patiently(*arguments, timeout=None, **options):
        return run(*arguments, timeout=timeout and timeout * PATIENCE, **options)

    return patiently


subprocess.run = patient(subprocess.run)
