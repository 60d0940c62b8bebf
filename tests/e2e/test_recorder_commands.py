# SPDX-License-Identifier: LGPL-2.1-or-later
"""virtspool-recorder's commands, as somebody at a terminal or in a pipe meets them, on a store that nobody writes."""

import fcntl
import json
import os
import pty
import re
import shutil
import sqlite3
import struct
import subprocess
import tempfile
import termios
import time
import unicodedata
from datetime import datetime, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from lib import program, wait_until
from lib.postgresql import PostgreSQL
from lib.process import Process
from lib.programs import tool

EPOCH = "0123456789abcdef0123456789abcdef"
BOOT = "fedcba9876543210fedcba9876543210"
GUEST = "c7a5fdbd-edaf-9455-926a-d65c16db18{:02x}"
T0 = 1790000000000  # 2026-09-21T14:13:20Z
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TERM": "xterm", "NO_COLOR": "1", "TZ": "UTC"}


def event(ms, operation, name="web1", guest=0, host="kvm1", sequence=None, epoch=EPOCH, reason="-", **data):
    event.count += 1
    number = sequence or event.count
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms / 1000)) + f".{ms % 1000:03d}Z"
    data = {"host": host, "driver": "qemu", "operation": operation, "name": name, "uuid": GUEST.format(guest), "reason": reason, **data}
    return {
        "specversion": "1.0",
        "id": f"{ms >> 16:08x}-{ms & 0xFFFF:04x}-7000-8000-{event.count:012x}",
        "source": f"/virtspool/{host}",
        "type": "org.virtspool.qemu.x",
        "time": stamp,
        "sequence": f"{number:020d}",
        "epoch": epoch,
        "data": data,
    }


event.count = 0


def run(*arguments, store=None, environment=None, prefix=(), binary=None, **options):
    command = [*prefix, binary or program("virtspool-recorder"), *map(str, arguments), *(["--store", store] if store else [])]
    environment = {**ENVIRONMENT, **(environment or {})}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, stdin=subprocess.DEVNULL, **options)


def rows(store, *arguments):
    done = run(*arguments, "--json", store=store)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def fill(store, directory, events):
    """By way of the recipe's database."""
    path = directory / f"tasks{event.count}.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE events (source TEXT, id TEXT, event TEXT)")
    db.executemany("INSERT INTO events VALUES (?, ?, ?)", [(e["source"], e["id"], json.dumps(e)) for e in events])
    db.commit()
    db.close()
    done = run("import-task-log", path, store=store)
    assert done.returncode == 0, done.stderr
    return done.stdout


def life(begin, end=None, **options):
    calls = [event(begin + n, o, **options) for n, o in enumerate(("prepare", "start", "started"))]
    if end:
        calls += [event(end, "stopped", **options), event(end + 1, "release", **{"reason": "shutdown", **options})]
    return calls


@pytest.fixture
def store(tmp_path):
    return f"sqlite://{tmp_path}/recorder.db"


@pytest.fixture
def server():
    server = PostgreSQL().start()
    yield server
    server.close()


def on_terminal(columns, *arguments, store=None, environment=None):
    """What it writes to a terminal of so many columns, as lines."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    command = [program("virtspool-recorder"), *map(str, arguments), *(["--store", store] if store else [])]
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env={**ENVIRONMENT, **(environment or {})})
    os.close(slave)
    out = b""
    while True:
        try:
            data = os.read(master, 65536)
        except OSError:
            break
        if not data:
            break
        out += data
    os.close(master)
    assert process.wait(30) == 0, out
    return out.decode().replace("\r", "").splitlines()


def width(line):
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)


# --- on a terminal


LONG_HOST = "kvm-node-0017.rack-12.dc-frankfurt.example.org"


@pytest.fixture
def varied(store, tmp_path):
    """Long, wide, right-to-left, combining and hostile names; a hole, a reject, a migration."""
    names = ["web1", "仮想マシンの名前はとても長いです", "מכונה-וירטואלית", "e\u0301" * 30, "\x1b[31mred\u202eevil", "a" * 200]
    events = []
    for n, name in enumerate(names):
        events += life(T0 + n * 60000, T0 + n * 60000 + 30000, name=name, guest=n, host=LONG_HOST if n % 2 else "ホスト", reason="r" * 90)
    events += [event(T0 + 500000, "started", guest=0, host=LONG_HOST, sequence=500)]
    wrong = event(T0 + 600000, "started")
    wrong["epoch"] = "short"
    fill(store, tmp_path, [*events, wrong])
    return store


@pytest.mark.parametrize("columns", [40, 66, 80, 200])
def test_every_table_fits_the_terminal(varied, columns):
    commands = [["hosts"], ["guests"], ["log"], ["holes"], ["holes", "--all"], ["rejects"]]
    commands += [["timeline", GUEST.format(n)] for n in range(6)]
    for command in commands:
        lines = on_terminal(columns, *command, store=varied)
        assert len(lines) > 1, command
        assert not [line for line in lines if width(line) > columns], (command, lines)
        assert not [line for line in lines if "\x1b" in line or "\u202e" in line], command


def test_a_wide_terminal_is_used(varied):
    assert any(LONG_HOST[:38] in line for line in on_terminal(200, "log", store=varied))
    assert any(LONG_HOST in line for line in on_terminal(200, "hosts", store=varied))
    assert not any(LONG_HOST[:38] in line for line in on_terminal(80, "log", store=varied))


def test_columns_stand_below_their_heading(varied):
    """Wide and combining characters take the room that they take on the screen."""
    heading, *lines = on_terminal(120, "guests", store=varied)
    begin = heading.index("STATE")
    for line in (line for line in lines if "2026-" in line):
        at = next(i for i in range(len(line)) if width(line[:i]) == begin)
        assert line[at:].startswith(("running", "stopped")), line


def test_a_reason_that_has_no_room_follows_as_a_whole(varied):
    (reject,) = rows(varied, "rejects")
    text = " ".join(line.strip() for line in on_terminal(80, "rejects", store=varied))
    assert reject["reason"] in text


@pytest.mark.parametrize("columns", [80, 120])
def test_times_are_local_with_the_offset_in_the_heading(store, tmp_path, columns):
    """The offset is today's; a time with another one has its own."""
    now = int(time.time() * 1000)
    half_a_year = now - 182 * 86400 * 1000
    fill(store, tmp_path, [event(now - 1000, "started"), event(half_a_year, "prepare")])
    heading, new, old = on_terminal(columns, "log", store=store, environment={"TZ": "Europe/Berlin"})
    offsets = ("+01:00", "+02:00")
    today = next(o for o in offsets if f"TIME {o}" in heading)
    assert "~" not in new and "~" not in old
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{3})? +kvm1", new), new
    local = datetime.fromtimestamp(now / 1000 - 1, timezone.utc).timestamp()
    assert time.strftime("%Y-%m-%d ", time.localtime(local))[:5] == new[:5]
    if columns == 80:
        other = offsets[today == offsets[0]]
        assert re.match(rf"\d{{4}}-\d\d-\d\d \d\d:\d\d{re.escape(other[:3])} +kvm1", old), old


def test_in_a_pipe_nothing_is_cut_and_each_time_has_its_offset(varied):
    out = run("log", store=varied, environment={"TZ": "Asia/Kolkata"}).stdout
    assert LONG_HOST in out and "a" * 200 in out and "r" * 90 in out and "~" not in out
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\+05:30 ", line) for line in out.splitlines()[1:])
    out = run("guests", store=varied).stdout
    assert re.search(r" 2026-\d\d-\d\d \d\d:\d\d:\d\d\+00:00 ", out)


def local(text, zone):
    """A time of the JSON as tables have it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(ZoneInfo(zone)).isoformat(" ", "seconds")


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Australia/Lord_Howe"])
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_line_says_of_a_guest_what_the_json_says(two_kinds, tmp_path, kind, zone):
    """Names of all widths, times before and after a change of the clocks, and what a line says instead of the reason."""
    store = two_kinds(kind)
    names = ["", "a", "b" * 20, "c" * 21, "d" * 600, "仮想", "é" * 20, "e\u0301x", "web1", "web2", "web3", "web4", "web5", "web6"]
    change = {"Europe/Berlin": 1792890000000, "Australia/Lord_Howe": 1791041400000}[zone]
    events = []
    for n, name in enumerate(names):
        begin = change + (n - len(names) // 2) * 1000
        events += life(begin, begin + 900 if name < "web2" else None, name=name, guest=n, host=["kvm1", "ホスト", "k" * 30][n % 3])
    last = change + 60000
    events += life(last, name="web3", guest=names.index("web3"), host="kvm8")  # has not stopped on the other
    events += [event(last, "migrate", name="web4", guest=names.index("web4"), host="kvm9")]
    events += [event(last + 1, "started", name="web5", guest=names.index("web5"), host="kvm8", epoch=BOOT, boot=BOOT)]
    fill(store, tmp_path, events)
    expected = []
    for g in rows(store, "guests"):
        moving = g["migration"] and g["migration"]["outcome"] == "running"
        note = f"also on {g['also_on']}!" if g["also_on"] else f"going to {g['migration']['to']}" if moving else g["reason"] or ""
        cells = [(g["name"] or g["uuid"], 20), (g["host"], 16), (g["state"], 8), (local(g["since"], zone), 25), (note, 0)]
        expected.append(" ".join(text + " " * (room - width(text)) for text, room in cells).rstrip())
    assert sum("also on " in line for line in expected) == 2 and sum("going to kvm9" in line for line in expected) == 1, expected
    out = run("guests", store=store, environment={"TZ": zone}).stdout.splitlines()
    assert out[1:] == expected and len(expected) == len(names)
    assert len({re.search(r"\d\d:\d\d:\d\d([+-]\d\d:\d\d)", line)[1] for line in expected}) == 2, expected
    for limit in (1, 6, 13, 99):
        assert run("guests", "--limit", limit, store=store, environment={"TZ": zone}).stdout.splitlines() == out[: limit + 1]


def test_all_guests_come_in_the_order_of_their_names(store, tmp_path):
    """Few are sorted by the command; of more than 100,000 the store is asked for them in order."""
    names = ["web1", "web10", "web2", "web", "", "Web", "ä", "a" * 16 + "b", "a" * 16, "a" * 17, "仮想"]
    fill(store, tmp_path, [e for n, name in enumerate(names) for e in life(T0 + n, name=name, guest=n)])
    lines = run("guests", store=store).stdout.splitlines()
    order = sorted(names, key=str.encode)
    assert [line.split()[0] for line in lines[1:]] == [name or GUEST.format(names.index("")) for name in order]
    for n in (100_000, 100_001):
        with sqlite3.connect(tmp_path / "recorder.db") as db:
            columns = [row[1] for row in db.execute("PRAGMA table_info(guests)")]
            copied = ", ".join({"uuid": "randomblob(16)", "name": "printf('n%d', random())"}.get(c, c) for c in columns)
            have = db.execute("SELECT count(*) FROM guests").fetchone()[0]
            series = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {n - have})"
            db.execute(f"INSERT INTO guests {series} SELECT {copied} FROM n, (SELECT * FROM guests WHERE name = 'web')")
            expected = [row[0] for row in db.execute("SELECT name FROM guests WHERE name <> '' ORDER BY name")]
        lines = run("guests", store=store).stdout.splitlines()
        assert lines[0].startswith("VM ") and len(lines) == n + 1
        assert [line.split()[0] for line in lines[2:]] == expected


# --- what a command line says


@pytest.mark.parametrize(
    "arguments, error",
    [
        (["log", "--vm", "web1", "--vm", "web2"], "--vm is given twice"),
        (["log", "--host", ""], "--host: '' matches nothing"),
        (["guests", "--state", "runing"], "'runing' is not a state"),
        (["log", "--since", "2026-11-02", "--until", "2026-11-01"], "--since is not before --until"),
        (["log", "--follow", "--until", "1h"], "does not go with --until"),
        (["log", "--since", "soon"], "--since: 'soon' is not a time"),
        (["log", "--since", "2026-02-30"], "is not a time"),
        (["timeline"], "missing VM"),
        (["timeline", "a", "b"], "takes one VM"),
        (["hosts", "x"], "takes no arguments"),
    ],
)
def test_a_wrong_command_line(arguments, error):
    done = run(*arguments)
    assert done.returncode == 64 and error in done.stderr and done.stdout == "", done


def test_the_first_moment_is_a_time(store, tmp_path):
    """@0 is not the same as no time at all."""
    fill(store, tmp_path, life(T0))
    assert rows(store, "log", "--until", "@0") == []
    assert run("prune", "--before", "@0", store=store).stdout == "0 events removed\n"
    assert len(rows(store, "log", "--since", "@0")) == 3


@pytest.fixture
def two_kinds(tmp_path, request):
    def make(kind):
        return request.getfixturevalue("server").url("record") if kind == "postgresql" else f"sqlite://{tmp_path}/recorder.db"

    return make


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_globs_are_those_of_virtspool_list(two_kinds, tmp_path, kind):
    """Of names and UUIDs, with sets and backslashes; a glob matches itself as well."""
    store = two_kinds(kind)
    names = ["web1", "web2", "a[1]", "a1", "x*y", "xzy", "]", "w^b"]
    fill(store, tmp_path, [e for n, name in enumerate(names) for e in life(T0 + n, guest=n, name=name)])
    expected = {
        "web?": {"web1", "web2"},
        "web[!1]": {"web2"},
        "web[^1]": {"web2"},
        "web[1-2]": {"web1", "web2"},
        "a[1]": {"a[1]", "a1"},
        "x\\*y": {"x*y"},
        "x*y": {"x*y", "xzy"},
        "[]]": {"]"},
        "[!]x]*": {"web1", "web2", "a[1]", "a1", "w^b"},
        "w[e^]b*": {"web1", "web2", "w^b"},
        "c7a5fdbd-*-d65c16db180[1-2]": {"web2", "a[1]"},
        "C7A5FDBD-EDAF-*01": {"web2"},
        "[": set(),
    }
    for glob, wanted in expected.items():
        assert {g["name"] for g in rows(store, "guests", "--vm", glob)} == wanted, glob
        assert {e["name"] for e in rows(store, "log", "--vm", glob)} == wanted, glob


def test_every_help_fits_80_columns():
    commands = re.findall(r"^  ([a-z-]+) ", run("--help").stdout, re.M)
    assert len(commands) > 10
    for command in [[], *([c] for c in commands)]:
        text = run(*command, "--help").stdout
        assert text and not [line for line in text.splitlines() if len(line) > 80], (command, text)


# --- stores that cannot be used


def test_what_is_not_a_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    (tmp_path / "text").write_text("not a database\n" * 200)
    (tmp_path / "recorder.yaml").write_text(f"brokers: [mqtts://localhost:1]\nstore: sqlite://{tmp_path}/pipe\n")
    for name, error in (("pipe", "it is a pipe"), ("directory", "it is a directory"), ("text", "it is not an SQLite database")):
        for command in (["hosts"], ["prune", "--before", "1h"], ["rebuild"]):
            done = run(*command, store=f"sqlite://{tmp_path}/{name}")
            assert done.returncode == 1 and f"'{tmp_path}/{name}': {error}" in done.stderr, done
    for command in ("check", "run"):
        done = run(command, "-c", tmp_path / "recorder.yaml")
        assert done.returncode in (1, 78) and "it is a pipe" in done.stderr, done
    assert run("hosts", store="sqlite:///dev/null").stderr.count("it is a device") == 1


def test_a_store_that_is_not_there(tmp_path):
    done = run("hosts", store=f"sqlite://{tmp_path}/none.db")
    assert done.returncode == 69 and f"'{tmp_path}/none.db': it does not exist" in done.stderr
    assert not (tmp_path / "none.db").exists()
    done = run("hosts", store=f"sqlite://{tmp_path}/none/recorder.db")
    assert done.returncode == 69 and f"directory '{tmp_path}/none'" in done.stderr
    done = run("import-task-log", tmp_path / "none", store=f"sqlite://{tmp_path}/recorder.db")
    assert done.returncode == 1 and f"'{tmp_path}/none': No such file" in done.stderr


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
OWNER, GROUP, NOBODY = 54321, 12345, 65534


def run_as(user, group, directory, *arguments, **options):
    """With a copy of the program, as what was built may lie where other users cannot go."""
    copy = directory / "virtspool-recorder"
    shutil.copy(program("virtspool-recorder"), copy)
    for parent in copy.parents:
        if str(parent).startswith(tempfile.gettempdir() + "/") and parent.stat().st_uid == os.getuid():
            os.chmod(parent, parent.stat().st_mode | 0o011)
    prefix = [tool("setpriv"), "--reuid", str(user), "--regid", str(group), "--clear-groups"]
    return run(*arguments, prefix=prefix, binary=copy, **options)


@pytest.fixture
def owned(tmp_path, store):
    """A store as the service has it: of another user, readable by a group."""
    if os.geteuid() != 0:
        pytest.skip("needs a second user")
    os.chmod(tmp_path, 0o750)
    os.chown(tmp_path, OWNER, GROUP)
    fill(store, tmp_path.parent, life(T0))
    return store


def test_what_root_makes_belongs_to_the_directorys_owner(owned, tmp_path):
    """Else the service could not write a store that was made by `check` or by an import."""
    file = (tmp_path / "recorder.db").stat()
    assert (file.st_uid, file.st_gid, file.st_mode & 0o777) == (OWNER, GROUP, 0o640)
    for name in ("recorder.db-wal", "recorder.db-shm"):
        assert (tmp_path / name).stat().st_uid == OWNER
    done = run_as(OWNER, GROUP, tmp_path.parent, "rebuild", store=owned)
    assert done.returncode == 0, done.stderr


def test_the_group_may_read_also_while_nobody_writes(owned, tmp_path):
    done = run_as(NOBODY, GROUP, tmp_path.parent, "guests", "--json", store=owned)
    assert done.returncode == 0 and json.loads(done.stdout)["name"] == "web1", done.stderr


def test_who_may_not_is_told_who_may(owned, tmp_path):
    done = run_as(NOBODY, NOBODY, tmp_path.parent, "guests", store=owned)
    assert done.returncode == 77 and "Permission denied; this needs root" in done.stderr, done
    for command in (["rebuild"], ["prune", "--before", "1h"]):
        done = run_as(NOBODY, GROUP, tmp_path.parent, *command, store=owned)
        assert done.returncode == 77 and "not writable for this user: Permission denied; this needs root" in done.stderr, done
    config = tmp_path / "recorder.yaml"
    config.write_text("brokers: [mqtts://localhost:1]\n")
    config.chmod(0o600)
    done = run_as(NOBODY, GROUP, tmp_path.parent, "guests", "-c", config)
    assert done.returncode == 77 and str(config) in done.stderr, done


@needs_root
def test_a_copy_can_be_read_wherever_it_lies(store, tmp_path):
    """On a read-only disk, and for somebody who may write nothing there."""
    fill(store, tmp_path, life(T0))
    copy = tmp_path / "copy %41?#"
    copy.mkdir()
    with sqlite3.connect(tmp_path / "recorder.db") as db:
        db.execute("VACUUM INTO ?", (str(copy / "recorder.db"),))
    with sqlite3.connect(copy / "recorder.db") as db:
        db.execute("PRAGMA journal_mode = WAL")
    db.close()
    for path in (copy, copy / "recorder.db"):
        path.chmod(0o755)
    done = run_as(NOBODY, NOBODY, tmp_path, "guests", "--json", store=f"sqlite://{copy}/recorder.db")
    assert done.returncode == 0 and json.loads(done.stdout)["name"] == "web1", done.stderr
    assert os.listdir(copy) == ["recorder.db"]


def test_a_link_is_followed(store, tmp_path):
    fill(store, tmp_path, life(T0))
    (tmp_path / "link.db").symlink_to("recorder.db")
    assert rows(f"sqlite://{tmp_path}/link.db", "guests") == rows(store, "guests")
    assert run("rebuild", store=f"sqlite://{tmp_path}/link.db").returncode == 0
    assert not list(tmp_path.glob("link.db-*"))


def test_a_server_that_refuses_says_why(server, tmp_path):
    store = server.url("refuses")
    fill(store, tmp_path, life(T0))
    done = run("guests", store=store.replace("/refuses?", "/nope?"))
    assert done.returncode == 69 and 'database "nope" does not exist' in done.stderr, done
    done = run("guests", store="postgresql://127.0.0.1:1,127.0.0.2:1/x")
    assert done.returncode == 69 and '"127.0.0.1", port 1' in done.stderr and '"127.0.0.2", port 1' in done.stderr, done
    assert done.stderr.count("\n") == 1 and "'127.0.0.1:1,127.0.0.2:1/x'" in done.stderr
    server.sql("refuses", "CREATE ROLE reader LOGIN")
    reader = re.sub("user=.*", "user=reader", store)
    done = run("guests", store=reader)
    assert done.returncode == 77 and "permission denied" in done.stderr, done
    server.sql("refuses", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    assert rows(reader, "guests") == rows(store, "guests")
    done = run("rebuild", store=reader)
    assert done.returncode == 77 and "permission denied" in done.stderr, done
    server.sql("refuses", "UPDATE meta SET number = 99")
    for command in ("guests", "rebuild"):
        done = run(command, store=store)
        assert done.returncode == 78 and "schema version 99" in done.stderr, done


def test_a_wrong_password_is_named(server):
    store = server.url("secret")
    server.sql("secret", "CREATE ROLE guarded LOGIN PASSWORD 'right'")
    hba = server.data / "pg_hba.conf"
    hba.write_text("local all guarded scram-sha-256\n" + hba.read_text())
    server.sql("secret", "SELECT pg_reload_conf()")
    guarded = re.sub("user=.*", "user=guarded", store)
    wait_until(
        lambda: "authentication failed" in run("guests", store=guarded, environment={"PGPASSWORD": "wrong"}).stderr,
        what="the server asks for a password",
    )
    done = run("guests", store=guarded, environment={"PGPASSWORD": "wrong"})
    assert done.returncode == 69 and 'password authentication failed for user "guarded"' in done.stderr, done
    assert "wrong" not in done.stderr and done.stderr.count("\n") == 1
    assert run("guests", store=guarded, environment={"PGPASSWORD": "right"}).stderr.count("password") == 0


@pytest.fixture
def short_path():
    """A message cuts a long path off."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


@pytest.mark.parametrize(
    "section, file",
    [
        ("http: {{listen: '127.0.0.1:1', token_file: {0}/token}}", "token"),
        ("http: {{listen: '0.0.0.0:1', certificate_file: {0}/web.pem, key_file: {0}/web.key, token_file: {0}/token}}", "web.pem"),
        ("verify: mark\nverify_ca_file: {0}/signers.pem", "verify_ca_file"),
        ("tls: {{ca_file: {0}/ca.pem}}", "ca.pem"),
    ],
)
def test_check_looks_at_every_file_that_is_named(short_path, section, file):
    (short_path / "token").write_text("0123456789abcdef0123456789abcdef")
    (short_path / "token").chmod(0o600)
    if file == "token":
        (short_path / "token").unlink()
    config = short_path / "recorder.yaml"
    config.write_text(f"brokers: [mqtts://localhost:1]\nstore: sqlite://{short_path}/recorder.db\n{section.format(short_path)}\n")
    done = run("check", "-c", config)
    assert done.returncode == 78 and file in done.stderr and done.stdout == "", done


# --- following


def follow(store, out, *arguments):
    return Process([program("virtspool-recorder"), "log", "-f", "--json", "--store", store, *map(str, arguments)], out, ENVIRONMENT)


def shown(out):
    return [json.loads(line)["sequence"] for line in out.read_text().splitlines() if line.startswith("{")]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_follow_begins_with_the_last(two_kinds, tmp_path, kind):
    store = two_kinds(kind)
    event.count = 100
    fill(store, tmp_path, [event(T0 + n, "started", sequence=n + 1) for n in range(30)])
    out = tmp_path / "out"
    follower = follow(store, out, "-n", 3)
    wait_until(lambda: shown(out) == [28, 29, 30], what=lambda: f"the last three: {shown(out)}")
    fill(store, tmp_path, [event(T0 + 40, "started", sequence=31)])
    wait_until(lambda: shown(out) == [28, 29, 30, 31], what=lambda: f"and what arrives: {shown(out)}")
    follower.kill()


def test_follow_since_leaves_nothing_out_on_a_terminal(store, tmp_path):
    """More than fit the limit of a list."""
    fill(store, tmp_path, [event(T0 + n, "started", sequence=n + 1) for n in range(150)])
    master, slave = pty.openpty()
    command = [program("virtspool-recorder"), "log", "-f", "--since", "2026-01-01", "--store", store]
    process = subprocess.Popen(command, stdout=slave, stderr=slave, env=ENVIRONMENT)
    os.close(slave)
    out = b""
    deadline = time.monotonic() + 20
    while out.count(b"started") < 150 and time.monotonic() < deadline:
        out += os.read(master, 65536)
    process.kill()
    process.wait()
    os.close(master)
    assert out.count(b"started") == 150


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_after_any_event_of_a_batch_come_all_others(two_kinds, tmp_path, kind):
    """A program that was stopped within a batch misses nothing of its rest."""
    store = two_kinds(kind)
    fill(store, tmp_path, [event(T0 + n, "started", sequence=n + 1) for n in range(20)])
    arrived = rows(store, "log", "--after", -1)
    assert [e["sequence"] for e in arrived] == list(range(1, 21))
    for n in (0, 7, 18):
        rest = rows(store, "log", "--after", arrived[n]["arrival"])
        assert rest == arrived[n + 1 :]
    assert rows(store, "log", "--after", arrived[4]["arrival"], "-n", 2) == arrived[5:7]
    assert int(run("log", "--last-arrival", store=store).stdout) == arrived[-1]["arrival"]


def test_follow_survives_a_restart_of_the_database(tmp_path):
    server = PostgreSQL().start()
    store = server.url("record")
    fill(store, tmp_path, [event(T0 + n, "started", sequence=n + 1) for n in range(3)])
    out = tmp_path / "out"
    follower = follow(store, out, "-n", 1)
    wait_until(lambda: shown(out) == [3], what="it follows")
    server.kill()
    wait_until(lambda: "trying again" in out.read_text(), what=lambda: f"it says so: {out.read_text()}")
    server.start()
    fill(store, tmp_path, [event(T0 + 10, "started", sequence=4)])
    wait_until(lambda: shown(out) == [3, 4], what=lambda: f"it goes on: {out.read_text()}")
    follower.kill()
    server.close()


def test_follow_notices_that_the_file_is_another(store, tmp_path):
    fill(store, tmp_path, [event(T0 + n, "started", sequence=n + 1) for n in range(3)])
    out = tmp_path / "out"
    follower = follow(store, out, "-n", 1)
    wait_until(lambda: shown(out) == [3], what="it follows")
    for path in tmp_path.glob("recorder.db*"):
        path.unlink()
    wait_until(lambda: "removed or replaced" in out.read_text(), what=lambda: f"it says so: {out.read_text()}")
    fill(store, tmp_path, [event(T0 + n, "started", sequence=n + 1) for n in range(3)])
    wait_until(lambda: "can be read again" in out.read_text(), what=lambda: f"it goes on: {out.read_text()}")
    fill(store, tmp_path, [event(T0 + 10, "started", sequence=77)])
    wait_until(lambda: 77 in shown(out), what=lambda: f"it shows what arrives: {shown(out)}")
    follower.kill()


# --- a reader that does not read


def test_a_pager_holds_no_statement_open(tmp_path):
    """Else SQLite's WAL would grow until the pager is closed, and PostgreSQL would end the statement."""
    path = tmp_path / "recorder.db"
    subprocess.run([program("tests/bench/fill-store"), f"sqlite://{path}", "20", "60", "6000", "3"], check=True, stdout=subprocess.DEVNULL)
    command = [program("virtspool-recorder"), "log", "--json", "--store", f"sqlite://{path}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=ENVIRONMENT)

    def blocked():
        return Path(f"/proc/{process.pid}/syscall").read_text().startswith("1 ")  # write

    wait_until(blocked, what="it waits for its reader")
    db = sqlite3.connect(path, timeout=0, isolation_level=None)
    db.execute("UPDATE meta SET number = number")
    busy, *_ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert busy == 0
    db.close()
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0 and out.count(b"\n") == 6000


def test_a_full_disk_is_an_error_and_a_closed_pipe_is_none(store, tmp_path):
    fill(store, tmp_path, [event(T0 + n, "started", sequence=n + 1) for n in range(200)])
    command = [program("virtspool-recorder"), "log", "--json", "--store", store]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert done.returncode == 1 and done.stderr == "virtspool-recorder: cannot write the output: No space left on device\n", done
    process = subprocess.Popen(["bash", "-c", 'trap "" PIPE; "$@"', "-", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)
    process.stdout.close()
    process.stdout = None
    assert process.communicate(timeout=30)[1] == b"" and process.returncode == 0


# --- the time line


def test_the_bar_shows_what_began_before_its_window(store, tmp_path):
    fill(store, tmp_path, life(T0))
    out = run("timeline", "web1", "--since", "2026-09-22", "--until", "2026-09-23", store=store)
    assert out.returncode == 0
    assert re.search("^kvm1 +█+$", out.stdout, re.M), out.stdout
    assert "no operation" in out.stderr
    ascii_bar = on_terminal(80, "timeline", "web1", "--since", "2026-09-22", "--until", "2026-09-23", store=store, environment={"LC_ALL": "C"})
    assert any(re.match("kvm1 +#+$", line) for line in ascii_bar), ascii_bar


def test_the_bar_shows_every_state(store, tmp_path):
    """As the page does: paused, crashed, unknown after a boot, elsewhere after a migration."""
    hour = 3600000
    events = [
        *life(T0),
        event(T0 + hour, "lifecycle-suspended", origin="api", authoritative=True, reason="paused"),
        event(T0 + 2 * hour, "lifecycle-resumed", origin="api", authoritative=True, reason="unpaused"),
        event(T0 + 3 * hour, "stopped"),
        event(T0 + 3 * hour + 1, "release", reason="crashed"),
        *life(T0 + 4 * hour),
        event(T0 + 5 * hour, "prepare", name="other", guest=7, sequence=1, epoch=BOOT),
    ]
    for n, e in enumerate(events[:-1]):
        e["sequence"] = f"{n + 1:020d}"
    fill(store, tmp_path, events)
    out = run("timeline", "web1", "--until", "2026-09-21T21:00:00Z", store=store).stdout
    bar = re.search("^kvm1 +(.*)$", out, re.M).group(1)
    assert re.fullmatch("█+═+█+×+█+[?]+", bar), out
    assert "unknown since" in out


def test_of_guests_with_one_name_the_last_is_shown(store, tmp_path):
    """It was undefined and defined again: another UUID, which may sort before or after the old one."""
    old, new = 9, 3
    fill(store, tmp_path, [*life(T0, T0 + 1000, guest=old), *life(T0 + 5000, guest=new), *life(T0 + 2000, T0 + 3000, guest=12)])
    done = run("timeline", "web1", store=store)
    assert GUEST.format(new) in done.stdout and "running since" in done.stdout
    assert "3 guests match" in done.stderr and GUEST.format(old) in done.stderr and GUEST.format(12) in done.stderr
    done = run("timeline", GUEST.format(old), store=store)
    assert GUEST.format(old) in done.stdout and done.stderr == ""


def test_of_a_long_life_a_terminal_shows_the_end(store, tmp_path):
    fill(store, tmp_path, [e for n in range(80) for e in life(T0 + n * 10000, T0 + n * 10000 + 5000)])
    lines = on_terminal(80, "timeline", "web1", store=store)
    assert sum("success" in line for line in lines) == 100 and any("100 shown, there are more" in line for line in lines)
    assert len(rows(store, "timeline", "web1")) == 160
    assert [o["begin"] for o in rows(store, "timeline", "web1", "-n", "2")] == [o["begin"] for o in rows(store, "timeline", "web1")][-2:]


# --- hostile events


def test_no_number_can_break_the_sums(store, tmp_path):
    """Of many epochs with numbers that are too large, and of the largest that are taken."""
    events = [event(T0 + n, "started", sequence=2**62 - 1, epoch=f"{n + 1:032x}") for n in range(10)]
    events += [event(T0 + 50 + n, "started", sequence=2**40 - 1, epoch=f"{n + 100:032x}") for n in range(10)]
    assert fill(store, tmp_path, events).startswith("10 events imported, 0 there already, 10 rejected")
    assert all("'sequence'" in r["reason"] for r in rows(store, "rejects"))
    (host,) = rows(store, "hosts")
    assert 0 < host["missing"] < 2**53


def test_a_payload_that_is_not_text_is_shown(bed):
    """With what can be shown of it."""
    path = bed.directory / "recorder.db"
    store = f"sqlite://{path}"
    fill(store, bed.directory, [{"source": "/virtspool/kvm1", "id": "x", "event": "é" * 3000}])
    with sqlite3.connect(path) as db:
        db.execute("UPDATE rejects SET payload = ?", (b'{"a": "\xff\x00' + "é".encode()[:1],))
    (reject,) = rows(store, "rejects")
    assert reject["payload"] == '{"a": "\ufffd\ufffd\ufffd'
