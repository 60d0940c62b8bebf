# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes the package `lib` importable and its fixtures known to every test below."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from lib.fixtures import *  # noqa: E402,F401,F403 - fixtures are found by name
