# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of the subcommands share."""

import json
import unicodedata

COMMANDS = [
    "status",
    "list",
    "show",
    "flush",
    "replay",
    "drop",
    "purge",
    "config",
    "hooks",
    "join",
    "test",
    "doctor",
    "watch",
]

# A guest's name that tries to drive the terminal, and to look like another.
EVIL = "a\x1b[31mred\x1b]0;title\x07\x9b\u009b2J\r\n\t\x7f\u202e\u2066\u200b\u061c\ufeff\U000e0041b"


def unsafe(text):
    """The characters of a text that no terminal may get: controls, and format characters without a glyph."""
    return [c for c in text if c != "\n" and (unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") or c == "\ufffe")]


def listed(bed, *arguments, **options):
    """The objects that `virtspool list --json` prints."""
    done = bed.run("virtspool", "list", "--json", *arguments, check=True, **options)
    return [json.loads(line) for line in done.stdout.splitlines()]


def move(bed, names, to, reason=None):
    """As the daemon moves events out of new/: the reason of a failure comes first."""
    for n in names:
        if reason:
            (bed.spool.path(to) / f"{n}.reason").write_text(reason + "\n")
        (bed.spool.path("new") / n).rename(bed.spool.path(to) / n)
