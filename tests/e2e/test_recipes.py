# SPDX-License-Identifier: LGPL-2.1-or-later
"""
etc/recipes/README.md: its commands are taken from the page and run as they stand, but for addresses and directories.
promtool, node_exporter and Prometheus: tests/interop/test_prometheus.py.
"""

import http.server
import json
import os
import re
import sqlite3
import subprocess
import threading

import pytest
from lib import ROOT, Process, Spool, wait_until
from lib.documents import domain_uuid
from lib.intruder import Intruder
from lib.programs import missing, tool
from lib.recipes import adapt, block

RECIPES = ROOT / "etc/recipes"
PAGE = RECIPES / "README.md"


def shell(command, log):
    return Process(["/bin/bash", "-c", f"exec {command}"], log, {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}, cwd=RECIPES)


# --- the task log


class TaskLog:
    def __init__(self, bed):
        tool("sqlite3")
        self.bed, self.log = bed, bed.directory / "task-log.log"
        self.database = bed.directory / "tasks.db"
        self.process = None

    def start(self, count=1):
        command = adapt(
            block(PAGE, "./task-log"),
            {
                "broker.example.org": f"--port {self.bed.broker.port} localhost",
                "/etc/virtspool-consumer": self.bed.certs.directory,
                "/var/lib/task-log/tasks.db": self.database,
            },
        )
        self.process = shell(command, self.log)
        wait_until(lambda: self.output().count("subscribed to") >= count or not self.process.running, what=self.output)
        return self

    def output(self):
        return self.log.read_text()

    def query(self, text):
        """What the page's command with this in it prints, as a list of dictionaries."""
        command = adapt(block(PAGE, text), {"/var/lib/task-log/tasks.db": self.database, "sqlite3 -box": "sqlite3 -json"})
        said = subprocess.run(["/bin/sh", "-c", command], check=True, capture_output=True, text=True, timeout=30).stdout
        return json.loads(said or "[]")

    def ids(self):
        with sqlite3.connect(self.database) as db:
            return [row[0] for row in db.execute("SELECT id FROM events ORDER BY id")]

    def wait_for(self, n, deadline=30):
        wait_until(lambda: len(self.ids()) >= n, deadline, lambda: f"{n} events: {len(self.ids())}\n{self.output()}")
        assert len(self.ids()) == n


@pytest.fixture
def tasks(bed):
    bed.broker.start()
    tasks = TaskLog(bed).start()
    bed.daemon.config["mqtt"]["status_topic"] = "virtspool/v1/{host}/status"
    bed.daemon.start()
    return tasks


def test_the_task_log_has_each_event_once(bed, tasks):
    bed.hook.start("web1")
    bed.hook.stop("web1", "crashed")
    bed.hook.start("vm2")
    tasks.wait_for(8)
    rows = tasks.query("WHERE name = 'web1'")
    assert [r["operation"] for r in rows] == ["release", "stopped", "started", "start", "prepare"]
    assert rows[0]["reason"] == "crashed" and {r["source"] for r in rows} == {"/virtspool/node1"}
    assert tasks.query("FROM holes") == []
    before = tasks.ids()
    bed.run("virtspool", "replay", "--from", "sent", "--all", "--yes", check=True)
    bed.spool.wait_empty()
    bed.hook("started", domain="vm3")
    tasks.wait_for(9)
    assert tasks.ids()[:8] == before


def test_the_task_log_is_stopped_and_killed(bed, tasks):
    """What comes while it is away comes later; what it had not committed when it was killed, too."""
    assert tasks.process.stop() == -15
    bed.hook.many(30)
    bed.spool.wait_empty()
    tasks.start(2).wait_for(30)
    lock = sqlite3.connect(tasks.database, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    bed.hook.many(30)
    bed.spool.wait_empty()
    wait_until(lambda: bed.broker.output().count("Sending PUBLISH to task-log") > 50, what="it has some that it cannot write")
    tasks.process.kill()
    lock.execute("ROLLBACK")
    tasks.start(3).wait_for(60)
    assert tasks.query("FROM holes") == []


def test_the_task_log_acknowledges_after_it_has_committed(bed, tasks):
    with sqlite3.connect(tasks.database) as db:
        db.execute("CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    bed.hook("started")
    assert tasks.process.wait() != 0, "it goes on without having written the event"
    assert "disk full" in tasks.output()
    bed.spool.wait_empty()
    with sqlite3.connect(tasks.database) as db:
        db.execute("DROP TRIGGER full")
    tasks.start(2).wait_for(1)


def test_the_task_log_finds_holes(bed, tasks):
    def lose():
        bed.daemon.stop()
        bed.hook("started")
        (bed.spool.path("new") / bed.spool.names()[0]).unlink()

    def holes():
        found = tasks.query("FROM holes")
        assert {h["source"] for h in found} <= {"/virtspool/node1"} and len({h["epoch"] for h in found}) <= 1
        return [(h["first"], h["last"]) for h in found]

    lose()
    bed.daemon.start()
    wait_until(lambda: holes() == [(1, 1)], what="the lost tail")
    for _ in range(3):
        bed.hook("started")
    tasks.wait_for(3)
    assert holes() == [(1, 1)]
    lose()
    lose()
    bed.daemon.start()
    bed.hook("started")
    tasks.wait_for(4)
    assert holes() == [(1, 1), (5, 6)]


def test_the_task_log_leaves_out_what_is_no_event(bed, tasks):
    """Also what says it came from another host than its topic; and nothing of it stops the log for ever."""
    bed.hook("started")
    tasks.wait_for(1)
    with sqlite3.connect(tasks.database) as db:
        event = json.loads(db.execute("SELECT event FROM events").fetchone()[0])
    bad = ["no JSON", "[]", "{}", "NaN", "[" * 100000, json.dumps({**event, "id": 7}), json.dumps({**event, "data": []})]
    bad += [json.dumps({**event, "id": "x", "sequence": "99999999999999999999"}), json.dumps({**event, "id": "\ud800"})]
    bad += [json.dumps({**event, "source": "/virtspool/node2"}), json.dumps(event).replace('"vm1"', "NaN")]
    with Intruder(bed.broker, "host") as evil:
        for evil.payload in bad:
            evil.publish("virtspool/v1/node1/qemu/-/started")
    bed.hook("started")
    tasks.wait_for(2)
    assert tasks.output().count("left out") == len(bad), tasks.output()


# A guest's calls: "host operation", and what the view says then: host, state, where it is going to.
GUESTS = {
    "being-started": (["a prepare", "a start"], ("a", "starting", None)),
    "started": (["a prepare", "a start", "a started"], ("a", "started", None)),
    "stopped": (["a prepare", "a start", "a started", "a stopped", "a release"], ("a", "stopped", None)),
    "failed-start": (["a prepare", "a stopped", "a release"], ("a", "stopped", None)),
    "found-alive": (["a reconnect"], ("a", "started", None)),
    "restored": (["a restore", "a prepare", "a start", "a started"], ("a", "started", None)),
    "migrating": (["a started", "b migrate", "b prepare", "b start", "b started"], ("a", "started", "b")),
    "migrated": (["a started", "b migrate", "b started", "a stopped", "a release"], ("b", "started", None)),
    "migration-failed": (["a started", "b migrate", "b started", "b stopped", "b release"], ("a", "started", None)),
    "and-back": (["a started", "b migrate", "b started", "a stopped", "a migrate", "a started", "b stopped"], ("a", "started", None)),
    "and-on": (["a started", "b migrate", "b started", "a stopped", "a release", "c migrate", "c started"], ("b", "started", "c")),
    "stopped-there": (["a started", "b migrate", "b started", "a stopped", "b stopped"], ("b", "stopped", None)),
    "from-nowhere": (["b migrate", "b prepare", "b start", "b started"], ("b", "incoming", None)),
    "elsewhere-later": (["a started", "a stopped", "a release", "b started"], ("b", "started", None)),
    "operation-of-tomorrow": (["a started", "a hibernated"], ("a", "started", None)),
    # Host d is booted after these.
    "lost-its-host": (["d started"], ("d", "unknown", None)),
    "restarted-elsewhere": (["a started", "a stopped", "d started", "a started"], ("a", "started", None)),
    "restarted": (["d started", "BOOT", "d started"], ("d", "started", None)),
}


def test_the_task_log_knows_where_guests_are(bed):
    bed.broker.start()
    tasks = TaskLog(bed).start()
    hooks = {}
    for host in "abcd":
        spool = Spool(bed.directory / host)
        hooks[host] = type(bed.hook)(spool)
        bed.new_daemon(f"daemon-{host}", spool=spool, host=host).start()
    calls = 0
    for late in (False, True):
        if late:
            hooks["d"].spool.wait_empty()
            hooks["d"].spool.boot()
            hooks["d"]("start", "-", "start", domain="-", driver="daemon", document=b"")
            calls += 1
        for guest, (history, _) in GUESTS.items():
            boot = history.index("BOOT") if "BOOT" in history else len(history)
            for call in history[boot + 1 :] if late else history[:boot]:
                host, operation = call.split()
                hooks[host](operation, "end" if operation in ("stopped", "release") else "begin", domain=guest)
                calls += 1
    tasks.wait_for(calls)
    seen = {g["name"]: (g["host"].rpartition("/")[2], g["state"], g["going_to"]) for g in tasks.query("FROM guests")}
    assert seen == {
        guest: (host, state, to and f"/virtspool/{to}") for guest, (_, (host, state, to)) in GUESTS.items()
    }


def test_the_task_log_as_a_service(bed):
    """The unit is one, and its command line that of the page."""
    unit = block(PAGE, "[Service]")
    line = re.sub(r"\\\n\s*", "", unit).partition("ExecStart=")[2].partition("\n")[0]
    ours = re.sub(r"\\\n\s*", "", block(PAGE, "./task-log"))
    there = {"./task-log": "/usr/local/bin/task-log", "/etc/virtspool-consumer/consumer.key": "${CREDENTIALS_DIRECTORY}/key"}
    assert line == adapt(ours, there)
    path = bed.directory / "task-log.service"
    path.write_text(unit.replace("/usr/local/bin/task-log", str(RECIPES / "task-log")) + "\n")
    done = subprocess.run([tool("systemd-analyze"), "verify", "--man=no", path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and path.name not in done.stderr, done.stderr


# --- the chat


class Chat:
    """A webhook; the first message is refused."""

    def __init__(self):
        chat = self
        self.messages, self.refused = [], 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.path == "/hooks/0123456789" and self.headers["Content-Type"] == "application/json"
                if not chat.refused:
                    chat.refused = 1
                else:
                    chat.messages.append(body["text"])
                self.send_response(200 if chat.messages else 503)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait_for(self, text):
        wait_until(lambda: any(text in m for m in self.messages), 30, lambda: f"'{text}': {self.messages}")


@pytest.fixture
def chat(bed):
    """The alert runs, and posts to it."""
    for needed in ("curl", "jq", "mosquitto_sub"):
        tool(needed)
    chat = Chat()
    bed.certs.client("viewer")
    bed.broker.start()
    webhook = bed.directory / "webhook"
    webhook.write_text(adapt(block(PAGE, "url ="), {"https://chat.example.org": chat.url}) + "\n")
    command = adapt(
        block(PAGE, "./crash-alert"),
        {
            "broker.example.org": "localhost",
            "8883": bed.broker.port,
            "/etc/virtspool-consumer/webhook": webhook,
            "/etc/virtspool-consumer": bed.certs.directory,
        },
    )
    bed.daemon.start()
    bed.hook("release", "end", "crashed", domain="yesterday")
    bed.spool.wait_empty()
    shell(command, bed.directory / "crash-alert.log")
    wait_until(lambda: "Received SUBSCRIBE from crash-alert" in bed.broker.output(), what="subscribed")
    yield chat
    chat.server.shutdown()
    chat.server.server_close()


def test_a_crash_is_told_in_the_chat(bed, chat):
    """Once, though the chat does not take it at first; and nothing else is told."""
    bed.hook.start("vm1")
    bed.hook.stop("vm1", "shutdown")
    bed.hook.start("web <!channel>`1`")
    bed.hook.stop("web <!channel>`1`", "crashed")
    bed.spool.wait_empty()
    bed.hook("release", "end", "crashed", domain="web <!channel>`1`")
    bed.run("virtspool", "replay", "--from", "sent", "--all", "--yes", check=True)
    bed.spool.wait_empty()
    with Intruder(bed.broker, "host") as evil:
        for evil.payload in ("no JSON", "[]", '{"replayed":false,"data":{"reason":"crashed"}}'):
            evil.publish("virtspool/v1/node1/qemu/-/release")
    bed.hook("release", "end", "crashed", domain="last")
    chat.wait_for("last")
    assert chat.refused == 1
    assert [re.sub(" at .*Z$", "", m) for m in chat.messages] == [
        "web __channel__1_ has crashed on node1",
        "last has crashed on node1",
    ]


def test_a_killed_qemu_is_told_in_the_chat(bed, chat):
    """By the event API, with a libvirt whose hooks do not know why a guest was released."""
    if os.geteuid() != 0:
        missing("needs root")
    node = bed.node()
    bed.listener(node).start().wait_listening()
    guest = node.guest("vm1").start()
    chat.refused = 1
    guest.kill()
    chat.wait_for("vm1 has crashed on node1")


# --- Prometheus and Grafana


def used_metrics():
    """Names in the rules and in the dashboard: {name: an expression that has it}."""
    rules = re.sub(r"^\s*#.*$", "", (RECIPES / "prometheus-rules.yml").read_text(), flags=re.M)
    dashboard = json.loads((RECIPES / "grafana-dashboard.json").read_text())
    expressions = [rules] + [t["expr"] for p in dashboard["panels"] for t in p["targets"]]
    expressions += [v["definition"] for v in dashboard["templating"]["list"] if "definition" in v]
    return {name: e for e in expressions for name in re.findall(r"\bvirtspool_\w+", e)}


def test_the_metrics_that_alerts_and_dashboard_use_are_written(bed):
    bed.broker.start()
    bed.daemon.start()
    bed.listener("test:///default").start().wait_listening()
    text = "".join((bed.spool.rundir / name).read_text() for name in ("virtspool.prom", "listen.prom"))
    written = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    for name, kind in list(written.items()):
        if kind == "histogram":
            written.update({f"{name}_{part}": kind for part in ("bucket", "sum", "count")})
    used = used_metrics()
    assert len(used) > 20
    assert {name: e for name, e in used.items() if name not in written} == {}


def test_the_dashboard_is_well_formed():
    dashboard = json.loads((RECIPES / "grafana-dashboard.json").read_text())
    panels = dashboard["panels"]
    assert len({p["id"] for p in panels}) == len(panels) and len({p["title"] for p in panels}) == len(panels)
    variables = {v["name"] for v in dashboard["templating"]["list"]}
    taken = set()
    for panel in panels:
        assert panel["type"] in ("stat", "timeseries") and panel["targets"]
        assert all(t["datasource"] == {"type": "prometheus", "uid": "${datasource}"} for t in [panel, *panel["targets"]])
        assert len({t["refId"] for t in panel["targets"]}) == len(panel["targets"])
        for name in re.findall(r"\$(?!__)\{?(\w+)", json.dumps(panel)):
            assert name in variables, name
        place = panel["gridPos"]
        squares = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not squares & taken and max(x for x, _ in squares) < 24
        taken |= squares


def test_every_file_is_told_of():
    page = PAGE.read_text()
    for path in RECIPES.iterdir():
        assert path == PAGE or f"[{path.name}]({path.name})" in page, path.name
