# SPDX-License-Identifier: LGPL-2.1-or-later
"""The shell's completion knows each command and option."""

import re
import subprocess

from lib import ROOT, program
from lib.admin import COMMANDS, move


def complete(bed, *words):
    """What bash offers for the last word."""
    script = """
        PATH=$(dirname "$V"):$PATH; source "$COMPLETION"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        _virtspool; printf '%s\\n' "${COMPREPLY[@]}" """
    done = subprocess.run(
        ["bash", "-c", script, "bash", "virtspool", *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "V": program("virtspool"),
            "COMPLETION": str(ROOT / "etc/bash-completion/virtspool"),
            **bed.spool.environment,
        },
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completion(at_rest):
    bed = at_rest
    offered = complete(bed, "")
    help_ = bed.run("virtspool", "--help", check=True).stdout
    assert set(re.findall(r"^  ([a-z]+) ", help_, re.M)) == {w for w in offered if not w.startswith("-")} >= set(COMMANDS)
    for command in COMMANDS + ["hooks"]:
        options = set(re.findall(r"--[a-z-]+", bed.run("virtspool", command, "--help", check=True).stdout.split("Mandatory")[0]))
        assert options <= set(complete(bed, command, "--")), command
    assert complete(bed, "list", "f") == ["failed"]
    assert complete(bed, "list", "--vm", "") == ["db1", "web1"]
    assert complete(bed, "replay", "--from", "s") == ["sent", "skipped"]
    name = bed.spool.names("new")[0]
    assert name in complete(bed, "show", name[:8])
    assert complete(bed, "replay", "") == []
    (bed.spool.path("failed") / "notes.txt").write_text("")
    assert complete(bed, "drop", "no") == ["notes.txt"]
    move(bed, [name], "sent")
    assert complete(bed, "replay", "") == [name]
