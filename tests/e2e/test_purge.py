# SPDX-License-Identifier: LGPL-2.1-or-later
"""virtspool purge: thins out the archive by age and size."""

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
