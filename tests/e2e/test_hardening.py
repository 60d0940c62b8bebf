# SPDX-License-Identifier: LGPL-2.1-or-later
"""What compiler and linker were asked to do against attackers, seen in the programs that were built."""

import platform
import re
import subprocess

import pytest
from lib import program
from lib.programs import BUILD, sanitized, tool

PROGRAMS = [p for p in ("virtspoold", "virtspool", "virtspool-listen", "virtspool-hook") if (BUILD / p).exists()]


def read(path, *options):
    return subprocess.run([tool("readelf"), "-W", *options, path], capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.parametrize("name", PROGRAMS)
def test_hardened(name):
    if sanitized(name):
        pytest.skip("a sanitizer's program is laid out as the sanitizer wants it")
    path = program(name)
    segments, dynamic, symbols = read(path, "-l"), read(path, "-d"), read(path, "-s")
    assert "DYN (Position-Independent" in read(path, "-h"), "any address: PIE, the static hook too"
    assert "GNU_RELRO" in segments and re.search(r"FLAGS.*\bBIND_NOW\b|FLAGS_1.*\bNOW\b", dynamic), "full RELRO"
    assert re.search(r"GNU_STACK.* RW ", segments) and " RWE " not in segments, "nothing is writable and executable"
    assert "TEXTREL" not in dynamic and "RPATH" not in dynamic and "RUNPATH" not in dynamic
    if platform.machine() == "x86_64":
        code = subprocess.run([tool("objdump"), "-d", path], capture_output=True, text=True, check=True, timeout=60).stdout
        ours = code.split("<record_format_header>:")[1].split("\n\n")[0] if name == "virtspool-hook" else code  # musl has its own
        assert re.search(r"call .*<__stack_chk_fail", ours), "stack protector"
        assert re.search(r"<main>:\n[^\n]*endbr64", code), "control flow is checked (-fcf-protection)"
    if name == "virtspool-hook":
        assert "INTERP" not in segments and "NEEDED" not in dynamic, "no loader and no library"
    else:
        assert re.search(r"__\w+_chk@", symbols), "_FORTIFY_SOURCE"
