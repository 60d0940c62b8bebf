# SPDX-License-Identifier: LGPL-2.1-or-later
"""virtspool on a terminal: colours, limits, questions, progress."""

import re

from lib.admin import EVIL, move


def test_terminal_colours_and_limit(at_rest, terminal):
    bed = at_rest
    bed.hook("start", domain=EVIL)
    bed.hook.many(110)
    t = terminal()
    t.type("$V list new; echo end-$((1+1))")
    t.wait("end-2")
    screen = t.screen("-S", "-200")
    assert sum(" new " in line for line in screen.splitlines()) == 100 and "see --limit and --all" in screen
    assert "\x1b[" in t.screen("-e")
    t.type("clear; $V list new --vm 'a*' --all; echo end-$((1+2))")
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
