# SPDX-License-Identifier: LGPL-2.1-or-later
"""virtspool, the admin's tool, as a whole: pipes, usage, permissions, hostile names, links in the spool."""

import json
import os
import re
import shutil
import signal
import subprocess
import time

import pytest
from lib import program, wait_until
from lib.admin import COMMANDS, EVIL, listed, move, unsafe
from lib.documents import domain_xml
from lib.programs import missing, tool


def shell(bed, script, **options):
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "V": program("virtspool"), **bed.spool.environment}
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, env=environment, **options
    )


def test_pipes(at_rest):
    bed = at_rest
    tool("jq")
    done = shell(bed, "set -o pipefail; $V list --json | jq -r .name | sort | uniq -c | tr -s ' '")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout == " 3 db1\n 5 web1\n"
    bed.hook.many(300)
    for command in ("$V list | head -1", "$V list --json | head -1", "$V replay --from failed --all --dry-run | head -1", "$V show --raw $($V list -n 1 --json | jq -r .id) | head -1"):
        done = shell(bed, command)
        noise = done.stderr.replace("0 events would be replayed\n", "")
        assert (done.returncode, noise) == (0, ""), command
    # Also where SIGPIPE is ignored, as below some supervisors.
    done = shell(bed, "trap '' PIPE; $V list --json --all | head -1")
    assert done.stderr == "" and len(done.stdout.splitlines()) == 1
    id_ = bed.spool.names("new")[0]
    for command in ("list", "status", f"show {id_}", "purge --keep 0 --dry-run", "doctor", "--help", "--version"):
        for where, why in (("> /dev/full", "No space left"), (">&-", "Bad file descriptor")):
            done = shell(bed, f"$V {command} {where}")
            assert done.returncode == 1 and f"cannot write the output: {why}" in done.stderr, (command, done.stderr)


def test_usage(bed):
    for command in COMMANDS:
        done = bed.run("virtspool", command, "--help")
        assert done.returncode == 0 and done.stdout.startswith(f"Usage: virtspool {command}") and done.stderr == ""
        done = bed.run("virtspool", command, "--no-such-option")
        assert done.returncode == 64 and done.stdout == "" and "--no-such-option" in done.stderr
    assert bed.run("virtspool").returncode == 64
    assert bed.run("virtspool", "no-such-command").returncode == 64
    assert bed.run("virtspool", "--version").stdout.startswith("virtspool ")
    done = bed.run("virtspool", "list", "--since", "soon")
    assert done.returncode == 64 and "yesterday" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "--limit"],
        ["replay", "--all", "--rate"],
        ["test", "--timeout"],
        ["watch", "--count"],
        ["list", "--since"],
    ],
)
@pytest.mark.parametrize("number", ["0x10", "-1", "99999999999999999999", "18446744073709551616"])
def test_a_number_that_does_not_fit_is_refused(bed, arguments, number):
    done = bed.run("virtspool", *arguments, number)
    assert done.returncode == 64 and f"'{number}' is not a" in done.stderr


def test_rights_are_named_in_one_line(at_rest):
    bed = at_rest
    if os.geteuid() != 0:
        missing("root is needed to be somebody else")
    bed.daemon.config["brokers"] = ["mqtts://127.0.0.1:1"]
    bed.daemon.write_config()
    config = ["-c", bed.daemon.config_file]
    # The way there is open, the spool is not; and the program has to be where nobody may look.
    copy = f"/tmp/virtspool-copy-{os.getpid()}-{time.monotonic_ns()}"
    shutil.copy(program("virtspool"), copy)
    bed.spool.spooldir.chmod(0o700)
    bed.daemon.config_file.chmod(0o600)

    def as_nobody(*command):
        return subprocess.run(
            [tool("setpriv"), "--reuid", "65534", "--clear-groups", copy, *command],
            capture_output=True,
            text=True,
            env={"PATH": "/usr/bin:/bin", **bed.spool.environment},
            timeout=10,
        )

    try:
        commands = [["list"], ["show", "0"], ["replay", "--all"], ["drop", "--all"], ["purge", "--keep", "0"], ["status"]]
        for command in [*commands, ["test", *config], ["watch", *config]]:
            done = as_nobody(*command)
            assert done.returncode == 77 and done.stdout == "", (command, done)
            assert len(done.stderr.splitlines()) == 1 and "this needs root, or the group virtspool" in done.stderr, done.stderr
        # What it was not let look at is no fault of the installation.
        done = as_nobody("doctor", "--json", *config)
        findings = [json.loads(line) for line in done.stdout.splitlines()]
        hidden = [f for f in findings if "ermission denied" in f["text"]]
        odd = [f for f in hidden if (f["grade"], f["how"]) != ("warning", "run this as root")]
        assert len(hidden) > 3 and not odd, odd
    finally:
        os.unlink(copy)


def test_names_do_not_drive_the_terminal(bed):
    bed.hook("start", domain=EVIL, document=domain_xml("x").replace(b"<name>x", "<name>\u009bx\x1b[2J".encode()))
    name = bed.spool.names("new")[0]
    move(bed, [name], "failed", "because of \x1b[2J this")
    for arguments in (["list"], ["list", "--json"], ["show", name], ["show", "--json", name], ["replay", "--all", "--dry-run"]):
        done = bed.run("virtspool", *arguments)
        for stream in (done.stdout, done.stderr):
            assert not unsafe(stream), (arguments, stream)
    shown = r"a\x1b[31mred\x1b]0;title\x07\u009b\u009b2J\r\n\t\x7f\u202e\u2066\u200b\u061c\ufeff\U000e0041b"
    assert shown in bed.run("virtspool", "show", name).stdout
    assert listed(bed)[0]["name"] == EVIL
    # --raw and --xml give the bytes, but not to a terminal.
    assert bed.run("virtspool", "show", "--xml", name).stdout.count("\x1b[2J") == 1
    done = bed.run("virtspool", "drop", "--yes", name)
    assert "\x1b" not in done.stderr and bed.spool.names("failed") == []


@pytest.mark.parametrize("place", ["failed", "sent", "new"])
def test_a_directory_that_is_a_link_leads_root_nowhere(bed, place):
    """It belongs to virtspool, who could put a link there; who asks is root."""
    name = "01a1fcec-a57a-77cf-8000-0000000007cf"
    elsewhere = bed.directory / "elsewhere"
    bed.spool.path(place).rename(elsewhere)
    bed.spool.path(place).symlink_to(elsewhere)
    for file in (name, f"{name}.reason", "passwd"):
        (elsewhere / file).write_text("somebody else's")
    for command in (["purge", "--keep", "0", "--yes"], ["drop", "--yes", name], ["drop", "--yes", "passwd"],
                    ["replay", "--from", "sent" if place == "new" else place, "--all", "--yes"]):  # fmt: skip
        bed.run("virtspool", *command)
    assert sorted(os.listdir(elsewhere)) == [name, f"{name}.reason", "passwd"]


def test_an_empty_id_is_none(bed):
    """drop --yes "$ID" of a script in which ID is not set, where there is one event only."""
    bed.hook("start")
    for command in (["show", ""], ["drop", "--yes", ""]):
        assert bed.run("virtspool", *command).returncode == 1
    assert len(bed.spool.names("new")) == 1


def test_what_is_no_event_is_listed_shown_and_dropped(running):
    """The daemon moves it to failed/; there it is seen, and goes when it is told to, by the name that is shown."""
    bed = running
    bed.hook("start")
    bed.spool.wait_count(1, "sent")
    name, shown = "evil\x1b[2J\nö name", "evil%1B[2J%0A%C3%B6 name"
    (bed.spool.path("tmp") / "x").write_text("hello")
    (bed.spool.path("tmp") / "x").rename(bed.spool.path("new") / name)
    bed.spool.wait_count(2, "failed")
    (line,) = [line for line in bed.daemon.output().splitlines() if shown in line]
    assert "moved to failed/" in line
    (bed.spool.path("failed") / ".hidden").write_text("")
    (bed.spool.path("failed") / "directory").mkdir()
    (bed.spool.path("failed") / "directory" / "full").write_text("")
    expected = {shown, ".hidden", "directory"}

    assert {e["file"] for e in listed(bed, "failed")} == expected
    assert len(listed(bed)) == 4 and len(listed(bed, "--limit", "2")) == 2
    assert [e["id"] for e in listed(bed, "--vm", "*")] == bed.spool.names("sent")
    assert len(listed(bed, "failed", "--since", "1h")) == 3 and listed(bed, "failed", "--until", "1h") == []
    assert shown in bed.run("virtspool", "list", "failed", check=True).stdout
    done = bed.run("virtspool", "status")
    assert done.returncode == 1 and "failed/ holds 3 files that are not events" in done.stdout
    assert json.loads(bed.run("virtspool", "status", "--json").stdout)["failed"] == {
        "events": 0,
        "bytes": 0,
        "estimated": False,
        "foreign": 3,
    }

    text = bed.run("virtspool", "show", shown, check=True).stdout
    assert re.search(r"^failure +not a record: its name is not an event's id$", text, re.M) and "5 bytes" in text
    assert bed.run("virtspool", "show", "--raw", shown, check=True).stdout == "hello"
    assert json.loads(bed.run("virtspool", "show", "--json", shown, check=True).stdout)["file"] == shown
    for arguments in (["--xml", shown], ["--raw", "directory"], ["evil"], [name]):
        done = bed.run("virtspool", "show", *arguments)
        assert done.returncode == 1 and done.stdout == "", arguments

    done = bed.run("virtspool", "replay", "--all", "--from", "failed")
    assert done.returncode == 0 and "0 events put back" in done.stderr
    assert bed.run("virtspool", "replay", shown).returncode == 1
    done = bed.run("virtspool", "drop", "--all", "--dry-run", "--json", check=True)
    assert {json.loads(line)["file"] for line in done.stdout.splitlines()} == expected
    assert "3 files that are not events would be dropped" in done.stderr
    bed.run("virtspool", "drop", "--yes", "--op", "*", check=True)
    done = bed.run("virtspool", "drop", shown)
    assert done.returncode == 1 and "Drop 1 file that is not an event?" in done.stderr and len(bed.spool.names("failed")) == 3
    assert bed.run("virtspool", "drop", "--yes", "evil").returncode == 1
    bed.run("virtspool", "drop", "--yes", shown, check=True)
    assert set(os.listdir(bed.spool.path("failed"))) == {".hidden", "directory"}
    done = bed.run("virtspool", "drop", "--yes", "--all", "--from", "failed")
    assert done.returncode == 1 and "'directory' in failed/: Directory not empty" in done.stderr
    (bed.spool.path("failed") / "directory" / "full").unlink()
    bed.run("virtspool", "drop", "--yes", "--all", "--from", "failed", check=True)
    assert os.listdir(bed.spool.path("failed")) == []
    done = bed.run("virtspool", "drop", "--yes", "--all", "--from", "failed", check=True)
    assert done.stderr == "nothing to drop\n"


def test_the_daemons_status_does_not_drive_the_terminal(running):
    """Whoever took over virtspoold writes status.json, and root reads it."""
    bed = running
    bed.broker.stop()
    bed.hook("start")
    (name,) = bed.spool.names("new")
    path = bed.spool.rundir / "status.json"
    wait_until(lambda: bed.daemon.status().get("connected") is False, what="the daemon noticed")
    os.kill(bed.daemon.pid, signal.SIGSTOP)  # it writes no other
    try:
        status = json.loads(path.read_text())
        status.update({key: EVIL for key in ("version", "broker", "peer", "protocol", "last_error", "config", "host")})
        status["retried"] = [{"id": name, "attempts": 3, "why": EVIL}]
        path.write_text(json.dumps(status, ensure_ascii=False, default=str), errors="replace")
        for arguments in (["status"], ["status", "--json"], ["show", name], ["show", "--json", name], ["list"], ["doctor"]):
            done = bed.run("virtspool", *arguments)
            assert not unsafe(done.stdout + done.stderr), (arguments, done)
        assert "\\u202e" in bed.run("virtspool", "status", "--json").stdout
    finally:
        os.kill(bed.daemon.pid, signal.SIGCONT)
