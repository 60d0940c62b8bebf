# SPDX-License-Identifier: LGPL-2.1-or-later
"""virtspool purge: thins out the archive by age and size."""

import pytest

from lib.admin import listed, move


def test_purge_by_age_and_size(at_rest):
    bed = at_rest
    names = bed.spool.names("new")
    move(bed, names, "sent")
    assert "0 events" in bed.run("virtspool", "purge", "--older-than", "1h", "--dry-run", check=True).stdout
    last_time = listed(bed, "--limit", "1")[0]["time"]
    bed.run("virtspool", "purge", "--older-than", last_time, "--yes", check=True)
    kept = [n for n in names if n[:13] == names[-1][:13]]  # an id tells its time to the millisecond
    assert bed.spool.names("sent") == kept
    bed.run("virtspool", "purge", "--keep", "0", "--yes", check=True)
    assert bed.spool.names("sent") == []
    assert bed.run("virtspool", "purge").returncode == 64


def test_a_directory_named_like_an_id_does_not_stop_purge(at_rest):
    """The user virtspool can make one; the rest is removed, and it is reported at the end."""
    bed = at_rest
    move(bed, bed.spool.names("new"), "sent")
    blocking = [f"00000000-0001-7000-8000-{i:012}" for i in range(7)]
    for name in blocking:
        (bed.spool.path("sent") / name).mkdir()
    done = bed.run("virtspool", "purge", "--keep", "0", "--yes")
    assert done.returncode == 1 and bed.spool.names("sent") == blocking
    lines = done.stderr.splitlines()
    assert lines[0] == "8 events removed" and len(lines) == 7
    assert f"cannot remove event {blocking[-1]} in sent/: Is a directory" in lines[1] or blocking[0] in done.stderr
    assert "cannot remove 2 more events" in lines[-1]


@pytest.mark.parametrize(
    "size", ["", "x", "-1", "1.5G", "1GG", "99999999999999999999", "18446744073709551616", "18446744073709551615K", "16777216T"]
)
def test_a_size_that_is_not_one_is_refused(bed, size):
    done = bed.run("virtspool", "purge", f"--keep={size}", "--yes")
    assert done.returncode == 64 and f"'{size}' is not a size" in done.stderr


@pytest.mark.parametrize("size", ["0", "500M", "2g", "1GiB", "18446744073709551615", "16777215T"])
def test_sizes(bed, size):
    assert bed.run("virtspool", "purge", "--keep", size, "--yes", check=True).stderr == "0 events removed\n"
