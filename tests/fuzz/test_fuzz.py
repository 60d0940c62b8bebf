# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Each fuzzer for a few seconds under AddressSanitizer and UBSan, from its seeds. scripts/fuzz runs them for longer.
"""

import subprocess

import pytest
from lib.programs import ROOT, tool

SECONDS = 3
NAMES = sorted(p.stem.removeprefix("fuzz-") for p in (ROOT / "tests" / "fuzz").glob("fuzz-*.c"))


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    tool("clang")
    made = subprocess.run([ROOT / "scripts" / "fuzz", "--build"], capture_output=True, text=True, timeout=600)
    assert made.returncode == 0, made.stderr
    return ROOT / "build-fuzz"


@pytest.mark.parametrize("name", NAMES)
def test_finds_nothing(build, tmp_path, name):
    """What it finds stands in the message, as base64; what widens the coverage is kept by nobody."""
    seeds = ROOT / "tests" / "fuzz" / f"corpus-{name}"
    assert any(seeds.iterdir())
    found, grown = tmp_path / "found", tmp_path / "grown"
    found.mkdir()
    grown.mkdir()
    run = subprocess.run(
        [
            build / f"fuzz-{name}",
            f"-max_total_time={SECONDS}",
            "-timeout=10",
            "-rss_limit_mb=1024",
            "-max_len=65536",
            f"-artifact_prefix={found}/",
            grown,
            seeds,
        ],
        capture_output=True,
        timeout=120,
    )
    text = run.stderr.decode(errors="replace")
    assert run.returncode == 0, text[-4000:]
    assert "Done " in text
