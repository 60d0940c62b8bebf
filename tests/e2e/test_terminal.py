# SPDX-License-Identifier: LGPL-2.1-or-later
"""virtspool on a terminal: colours, limits, questions, progress."""

import os
import re
import subprocess

from lib import program
from lib.admin import EVIL, move
from lib.programs import missing, tool


def test_terminal_colours_and_limit(at_rest, terminal):
    bed = at_rest
    bed.hook("start", domain=EVIL)
    bed.hook.many(110)
    t = terminal()
    t.type("$V list new --no-pager; echo end-$((1+1))")
    t.wait("end-2")
    screen = t.screen("-S", "-200")
    assert len(re.findall(r"^[0-9a-f]{8}.* new ", screen, re.M)) == 100 and "see --limit and --all" in screen
    assert "\x1b[" in t.screen("-e")
    t.type("clear; $V list new --no-pager --vm 'a*' --all; echo end-$((1+2))")
    t.wait("end-3")
    assert "title" not in t.run("display-message", "-p", "#{pane_title}")
    t.type("clear; $V status; echo code-$?")
    t.wait("code-2")
    assert "\x1b[31mdown" in t.screen("-e")

    t = terminal({"NO_COLOR": "1"})
    t.type("$V status; $V list -n 3; echo code-$?")
    t.wait("code-0")
    assert not re.search(r"\x1b\[(3\d|1)m", t.screen("-e"))


def test_terminal_that_knows_ascii_only(bed, terminal):
    """Where UTF-8 is not understood, parts of its characters are control characters (here CSI); a pipe gets it whole."""
    bed.hook("start", domain="müller-\u66db")
    t = terminal()
    t.type("LC_ALL=C $V list; LC_ALL=C $V list --json; LC_ALL=C $V list | cat; echo end-$((1+1))")
    screen = t.wait("end-2")
    assert "start      m?ller-?\n" in screen
    assert '"name":"m\\u00fcller-\\u66db"' in screen.replace("\n", "").lower()
    assert screen.count("müller-曛") == 1
    t.type("clear; LANG=de_DE.utf8 LC_ALL= $V list; echo end-$((1+2))")
    assert "müller-曛" in t.wait("end-3")


def test_terminal_asks(at_rest, terminal):
    bed = at_rest
    t = terminal()
    t.type("$V drop --vm web1; echo code-$?")
    t.wait("Drop 5 events? They will never be published; consumers see a hole. [y/N]")
    t.type("n")
    t.wait("code-1")
    assert len(bed.spool.names("new")) == 8
    t.type("clear; echo mark-$((3+4)); $V drop --vm web1; echo code-$?")
    t.wait("mark-7")  # what was asked before is off the screen
    t.wait("[y/N]")
    t.type("y")
    t.wait("code-0")
    assert len(bed.spool.names("new")) == 3


def test_terminal_shows_progress(bed, terminal):
    bed.hook.many(30)
    move(bed, bed.spool.names("new"), "sent")
    t = terminal()
    t.type("$V replay --all --rate 20/s; echo code-$?")
    t.wait("replaying [")
    t.wait("code-0")
    assert "30 of 30" in t.screen() and "30 events put back into the queue" in t.screen()
    for name in bed.spool.names("replay"):
        (bed.spool.path("replay") / name).rename(bed.spool.path("sent") / name)
    t.run("resize-window", "-x", "30")
    t.type("clear; $V replay --all --rate 20/s; echo end-$((3+4))")
    t.wait("end-7")
    assert "30/30" in t.screen().splitlines() and "replaying" not in t.screen(), t.screen()  # on one line


# --- 80 columns


def test_a_list_fits_80_columns(bed, terminal):
    bed.hook.start("a database server with a very long name, and more of it")
    bed.hook("start", domain="\u66db" * 40)
    bed.hook("release", domain="c1", extra="shutdown")
    names = bed.spool.names("new")
    reason = "the broker refused it: Packet too large (0x95) on topic virtspool/v1/node1/qemu/" + "x" * 60
    move(bed, names[:1], "failed", reason)
    (bed.spool.path("failed") / "a note with a name that is longer than an id is").write_text("")
    t = terminal({"TZ": "CET-1CEST,M3.5.0,M10.5.0/3"}, columns=80, rows=40)
    t.type("clear; $V list; echo end-$((1+1))")
    lines = [line for line in t.wait("end-2").splitlines() if line.strip()]
    # tmux would break longer lines, so each is where it was printed.
    assert re.match(r"ID +TIME \+0[12]:00 +WHERE +OPERATION +VM  REASON$", lines[0]), lines
    short = [line.split()[0] for line in lines if re.match(r"[0-9a-f]{8}", line)]
    assert len(short) == 5 == len(set(short)) and all(len(x) < 24 for x in short)
    assert [n for x in short for n in names if n.startswith(x)] == names[::-1], "each is unique, newest first"
    assert "a database server" in t.screen() and "..." in t.screen() and "shutdown" in t.screen()
    rest = "".join(line.strip() + " " for line in lines if line.startswith("    "))
    assert reason.replace(" ", "") in rest.replace(" ", "") and "its name is not an event's id" in rest
    assert lines[lines.index("end-2") - 1] == "events wait: the daemon is not running"
    assert short[0] in t.screen()
    t.type(f"clear; $V show --no-pager {short[1]} | head -n 1; echo end-$((1+2))")
    assert names[-2] in t.wait("end-3")


# --- the pager


def pager(bed, name="pager"):
    """A pager that notes how it was called, and shows its input."""
    path = bed.directory / name
    path.write_text(f'#!/bin/sh\necho "{name} $*" >>{bed.directory}/calls; env >>{bed.directory}/calls; exec cat\n')
    path.chmod(0o755)
    return path


def calls(bed):
    path = bed.directory / "calls"
    text = path.read_text() if path.exists() else ""
    path.unlink(missing_ok=True)
    return text


def test_pager(at_rest, terminal):
    bed = at_rest
    bed.hook.many(60)
    t = terminal(columns=80, rows=24)
    t.type("clear; $V list; echo end-$((1+1))")
    screen = t.wait("made-up-59")
    assert "end-2" not in screen, "less waits, as there is more than a screen"
    t.press("q")
    t.wait("end-2")
    t.type("clear; $V list -n 3; echo end-$((1+2))")  # fits, so less ends by itself
    t.wait("end-3")
    t.type("clear; $V list --no-pager | tail -n 1; $V list --no-pager -n 1; echo end-$((1+3))")
    t.wait("end-4")


def test_the_users_pager(at_rest, terminal):
    bed = at_rest
    one, other = pager(bed, "one"), pager(bed, "other")
    name = bed.spool.names("new")[0]
    t = terminal({"PAGER": f"{one} -x  y"}, columns=80, rows=24)
    t.type(f"clear; $V list; $V show {name}; $V config -c /dev/null; echo end-$((1+1))")
    t.wait("end-2")
    text = calls(bed)
    assert text.count("one -x y\n") == 3 and "LESS=FRSXMK\n" in text
    assert ("LESSSECURE=1\n" in text) == (os.geteuid() == 0)
    t.type(f"clear; VIRTSPOOL_PAGER={other} $V list -n 1; echo end-$((1+2))")
    t.wait("end-3")
    assert calls(bed).startswith("other \n")
    for setting in ("VIRTSPOOL_PAGER=", "VIRTSPOOL_PAGER=cat", "TERM=dumb", "VIRTSPOOL_PAGER=/no/such/program PATH=/nowhere"):
        t.type(f"clear; {setting} $V list -n 1; echo end-$((2+2))")
        assert name[:8] in t.wait("end-4")
        t.type("clear; echo end-$((2+3))")
        t.wait("end-5")
    t.type("clear; $V list --json -n 1; $V list -n 1 | cat; $V show --raw " + name + "; echo end-$((3+3))")
    t.wait("end-6")
    assert len(re.findall("^one ", calls(bed), re.M)) == 1, "the raw record only"


def test_under_sudo_the_environment_does_not_choose_the_pager(at_rest, terminal):
    bed = at_rest
    if os.geteuid() != 0:
        missing("root is needed")
    t = terminal({"PAGER": pager(bed), "VIRTSPOOL_PAGER": pager(bed), "SUDO_UID": "1000"}, columns=80, rows=24)
    t.type("clear; $V list; echo end-$((1+1))")
    t.wait("end-2")
    assert calls(bed) == ""


def test_no_pager_where_nobody_looks(at_rest):
    """A pseudo-terminal of a program has no size; a pager would wait there for ever."""
    bed = at_rest
    bed.hook.many(60)
    for command in ("list", f"show {bed.spool.names('new')[0]}", "config -c /dev/null"):
        done = subprocess.run(
            [tool("script"), "-qec", f"{program('virtspool')} {command}", "/dev/null"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TERM": "xterm", "LC_ALL": "C.UTF-8", **bed.spool.environment},
        )
        assert done.stdout, command
