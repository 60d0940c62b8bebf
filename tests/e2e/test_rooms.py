# SPDX-License-Identifier: LGPL-2.1-or-later
"""The rooms of the source tree: who may include whom. README's map says the same in words."""

import re

from lib.programs import ROOT

# A room, and the rooms that it may include beside itself.
MAY_INCLUDE = {
    "hook": set(),
    "base": set(),
    "config": {"hook", "base"},
    "spool": {"hook", "base"},
    "event": {"hook", "base", "config"},
    "mqtt": {"base", "config"},
}
PROGRAMS = {"daemon", "admin", "listener", "recorder"}
LIBRARIES = set(MAY_INCLUDE)


def room(path):
    parts = path.split("/")
    return parts[0] if parts[0] == "hook" else parts[1]


def sources():
    return [*ROOT.glob("hook/*.[ch]"), *ROOT.glob("spooler/*/*.[ch]")]


def arrows():
    for file in sources():
        name = str(file.relative_to(ROOT))
        for included in re.findall(r'^#include "([^"]+)"', file.read_text(), re.M):
            assert (ROOT / included).exists(), f"{name} includes '{included}' without naming its room"
            yield room(name), room(included), name, included


def test_dependencies_run_one_way():
    wrong = [
        f"{name} includes {included}"
        for source, target, name, included in arrows()
        if target != source and target not in (LIBRARIES if source in PROGRAMS else MAY_INCLUDE[source])
    ]
    assert not wrong


def test_the_top_level_has_no_other_source_folder():
    folders = {p.parent.relative_to(ROOT).parts[0] for p in ROOT.glob("*/**/*.c") if "build" not in str(p.relative_to(ROOT))}
    assert folders <= {"hook", "spooler", "tests"}
    assert not list(ROOT.glob("spooler/*.[ch]"))


# Which rooms know which library: its header's folder or name.
LIBRARY_ROOMS = {
    "mosquitto": {"mqtt"},
    "gnutls": {"mqtt", "event", "recorder"},
    "openssl": {"event"},
    "yaml": {"config"},
    "libxml": {"event"},
    "libvirt": {"listener"},
    "sqlite3": {"recorder"},
    "libpq-fe": {"recorder"},
    "microhttpd": {"recorder"},
}


# Of some libraries, the files that know them: a source and its header have one name here.
LIBRARY_FILES = {
    "mosquitto": {"client", "connect"},
    "openssl": {"p256"},
    "sqlite3": {"db-sqlite", "sqlite-checkpoint"},
    "libpq-fe": {"db-postgresql"},
    "microhttpd": {"http", "live", "access"},
    "yaml": {"config-value"},
    "libxml": {"domain"},
}


def test_libraries_are_known_to_their_files_only():
    for library, files in LIBRARY_FILES.items():
        pattern = re.compile(rf"^#include <{library}[./]", re.M)
        assert {f.stem for f in sources() if pattern.search(f.read_text())} == files, library


def test_libraries_are_known_in_their_rooms_only():
    for library, rooms in LIBRARY_ROOMS.items():
        pattern = re.compile(rf"^#include <{library}[./]", re.M)
        found = {room(str(f.relative_to(ROOT))) for f in sources() if pattern.search(f.read_text())}
        assert found <= rooms, library



def test_the_files_of_the_map_are_where_it_says():
    """README's map names a room at the beginning of a line, and files of it up to the next room."""
    text = (ROOT / "README.md").read_text()
    rooms = text.partition("## Map of the code")[2].partition("    etc/ ")[0]
    current, named = None, 0
    for line in rooms.splitlines():
        start = re.match(r" {4}(hook)/|      (\w+)/ ", line)
        if start:
            current = "hook" if start[1] else f"spooler/{start[2]}"
        for name in re.findall(r"[\w-]+\.c\b", line):
            assert current and (ROOT / current / name).exists(), f"README's map: {current}/{name}"
            named += 1
    assert named > 20
