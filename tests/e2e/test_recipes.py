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
import urllib.request

import pytest
from lib import ROOT, Process, wait_until
from lib.programs import missing, program, tool
from lib.recipes import adapt, block, blocks

RECIPES = ROOT / "etc/recipes"
PAGE = RECIPES / "README.md"


# --- the record


def test_a_task_log_is_taken_over(bed):
    path = bed.directory / "tasks.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE events (source TEXT, id TEXT, event TEXT)")
    recorder = bed.recorder(brokers=[])
    command = adapt(block(PAGE, "import-task-log"), {"/var/lib/task-log/tasks.db": path})
    assert "0 events imported" in recorder.command(*command.split()[1:]).stdout


# --- sizing


def fleet_size(*arguments):
    return subprocess.run([RECIPES / "fleet-size", *arguments], capture_output=True, text=True, timeout=100)


def test_the_page_on_sizing_shows_what_is_calculated():
    (shown,) = (b for b in blocks(RECIPES / "sizing.md") if "On an ordinary day" in b)
    command, _, answer = shown.partition("\n")
    done = fleet_size(*command.split()[1:])
    assert done.returncode == 0
    assert [" ".join(line.split()) for line in done.stdout.split("\n")] == [" ".join(line.split()) for line in (answer + "\n\n").split("\n")]


@pytest.mark.parametrize("arguments", [["--hosts", "0"], ["--handshakes", "-1"], ["--guests", "x"], ["--ingest", "nan"]])
def test_a_size_that_cannot_be(arguments):
    done = fleet_size(*arguments)
    assert done.returncode == 2 and "fleet-size: error: " in done.stderr


def test_a_storm_is_played():
    """At best ten hosts a second: a hundred take ten, and some more for who gave up."""
    done = fleet_size("--simulate", "--hosts", "100", "--handshakes", "10")
    figures = re.findall(r"^  (.*?) {2,}(\S+)", done.stdout, re.M)
    assert done.returncode == 0 and figures[0] == ("at best all are connected after", "10.0")
    assert 10 <= float(figures[2][1]) < 30 and 1 <= int(figures[3][1]) <= 4


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


class Alert:
    """crash-alert as the page has it, on a recorder of its own."""

    def __init__(self, bed, chat):
        self.bed, self.chat = bed, chat
        self.record = bed.recorder().start()
        self.process = None
        programs = bed.directory / "programs"
        programs.mkdir()
        wrapper = programs / "virtspool-recorder"
        wrapper.write_text(f'#!/bin/sh\nexec {program("virtspool-recorder")} "$@" --store {self.record.store}\n')
        wrapper.chmod(0o755)
        self.path = f"{programs}:/usr/bin:/bin"

    def start(self):
        webhook = self.bed.directory / "webhook"
        webhook.write_text(adapt(block(PAGE, "url ="), {"https://chat.example.org": self.chat.url}) + "\n")
        state = self.bed.directory / "last"
        command = adapt(
            block(PAGE, "./crash-alert /etc"), {"/etc/virtspool/webhook": webhook, "/var/lib/crash-alert/last": state}
        )
        log = self.bed.directory / "crash-alert.log"
        self.process = Process(["/bin/bash", "-c", f"exec {command}"], log, {"PATH": self.path, "LC_ALL": "C.UTF-8"}, cwd=RECIPES)
        wait_until(lambda: state.exists() or not self.process.running, what=self.process.output)
        return self


@pytest.fixture
def chat(bed):
    """The alert runs, and posts to it."""
    for needed in ("curl", "jq"):
        tool(needed)
    chat = Chat()
    bed.broker.start()
    bed.daemon.start()
    chat.alert = Alert(bed, chat)
    bed.hook("release", "end", "crashed", domain="yesterday")
    chat.alert.record.wait_for(1)
    chat.alert.start()
    yield chat
    chat.server.shutdown()
    chat.server.server_close()


def test_a_crash_that_comes_while_the_alert_is_killed_is_told_later(bed, chat):
    chat.refused = 1
    bed.hook("release", "end", "crashed", domain="before")
    chat.wait_for("before")
    wait_until(lambda: (bed.directory / "last").read_text().strip() != "1", what="it is noted")
    chat.alert.process.kill()
    bed.hook("release", "end", "crashed", domain="meanwhile")
    chat.alert.record.wait_for(3)
    chat.alert.start()
    chat.wait_for("meanwhile")
    assert len(chat.messages) == 2


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
    recorder = bed.recorder().start()
    with urllib.request.urlopen(recorder.url + "/metrics", timeout=10) as page:
        text += page.read().decode()
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
