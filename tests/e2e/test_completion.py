# SPDX-License-Identifier: LGPL-2.1-or-later
"""The completions of bash, zsh and fish offer every command and option, and values that make sense, in the real shells."""

import os
import re
import subprocess

import pytest
from lib import ROOT, program
from lib.admin import COMMANDS, move
from lib.programs import tool


def environment(bed):
    path = f"{os.path.dirname(program('virtspool'))}:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "LC_ALL": "C.UTF-8", "HOME": str(bed.directory), "TERM": "xterm", **bed.spool.environment}


def run(bed, *command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment(bed))
    assert done.stderr == ""
    return done.stdout


def bash(bed, *words):
    script = """
        source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _virtspool; printf '%s\\n' "${COMPREPLY[@]}" """
    return run(bed, "bash", "-c", script, "bash", ROOT / "etc/bash-completion/virtspool", "virtspool", *words).split()


def fish(bed, *words):
    script = f"source {ROOT}/etc/fish/virtspool.fish; complete -C '{' '.join(['virtspool', *words])}'"
    return [line.split("\t")[0] for line in run(bed, tool("fish"), "--no-config", "-c", script).splitlines()]


# zsh completes in its line editor only, so one runs in a pseudo-terminal; what its completion functions add is noted.
ZSH = r"""
    zmodload zsh/zpty
    zpty z zsh -f -i
    zpty -w z "source $1"
    zpty -r -m z x '*ready-2*'
    zpty -w -n z "$2"$'\t'
    zpty -r -m z x '*offered-2*'
"""
ZSH_SETUP = r"""
    fpath=({directory} $fpath)
    autoload -Uz compinit && compinit -C -d {dump}
    compadd() {{
        local -a added
        case "$*" in *-[OAD]*) ;; *) builtin compadd -O added "$@"; print -rl -- $added >>{offered} ;; esac
        builtin compadd "$@"
    }}
    after() {{ print offered-$((1+1)) >/dev/tty }}
    comppostfuncs=(after)
    print ready-$((1+1))
"""


def zsh(bed, *words):
    offered, setup = bed.directory / "offered", bed.directory / "setup.zsh"
    offered.write_text("")
    setup.write_text(ZSH_SETUP.format(directory=ROOT / "etc/zsh", offered=offered, dump=bed.directory / "dump"))
    run(bed, tool("zsh"), "-f", "-c", ZSH, "zsh", setup, " ".join(["virtspool", *words]))
    return offered.read_text().split()


SHELLS = pytest.mark.parametrize("complete", [bash, zsh, fish])


def options(bed, command):
    help_ = bed.run("virtspool", command, "--help", check=True).stdout
    return set(re.findall(r"^  (?:-.,|   ) (--[a-z0-9-]+)", help_, re.M))


@SHELLS
def test_commands_and_options(at_rest, complete):
    bed = at_rest
    help_ = bed.run("virtspool", "--help", check=True).stdout
    assert set(re.findall(r"^  ([a-z]+) ", help_, re.M)) == set(COMMANDS)
    assert set(COMMANDS) <= set(complete(bed, ""))
    for command in COMMANDS:
        expected = options(bed, command)
        assert {"--help", "--usage"} < expected
        assert expected <= set(complete(bed, command, "--")), command


@SHELLS
def test_values(at_rest, complete):
    bed = at_rest
    assert "failed" in complete(bed, "list", "f")
    assert {"db1", "web1"} <= set(complete(bed, "list", "--vm", ""))
    offered = complete(bed, "replay", "--from", "s")
    assert {"sent", "skipped"} <= set(offered) and "failed" not in offered
    name = bed.spool.names("new")[0]
    assert name in complete(bed, "show", name[:8])
    assert name not in complete(bed, "replay", "")
    (bed.spool.path("failed") / "notes.txt").write_text("")
    assert "notes.txt" in complete(bed, "drop", "no")
    move(bed, [name], "sent")
    assert name in complete(bed, "replay", "")
