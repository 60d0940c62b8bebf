# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the programs under test are."""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _build():
    if os.environ.get("VIRTSPOOL_BUILD"):
        return Path(os.environ["VIRTSPOOL_BUILD"]).resolve()
    return ROOT / "build" if (ROOT / "build" / "Makefile").exists() else ROOT


BUILD = _build()


def missing(what):
    """A test that cannot run is skipped on a developer's machine, and fails where everything must be there."""
    if os.environ.get("VIRTSPOOL_REQUIRE") == "1":
        pytest.fail(what)
    pytest.skip(what)


def program(name):
    """The path of a program that we built, e.g. program("virtspoold")."""
    path = BUILD / name
    if not path.exists():
        missing(f"{path} is not built")
    return str(path)


def sanitized(name):
    """Was this program built with AddressSanitizer? Then its memory is not its own, and some system calls neither."""
    return b"__asan_init" in Path(program(name)).read_bytes()


def tool(name):
    """The path of somebody else's program."""
    path = shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    if not path:
        missing(f"{name} is not installed (scripts/setup)")
    return path
