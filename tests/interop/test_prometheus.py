# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The Prometheus part of etc/recipes/README.md with the real programs: promtool on the alerts and on what the dashboard
asks; node_exporter, which takes up the daemon's file by the page's link, and Prometheus, which asks it.
"""

import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from lib import ROOT, Process, free_port, wait_until
from lib.programs import tool
from lib.recipes import adapt, block

RECIPES = ROOT / "etc/recipes"
PAGE = RECIPES / "README.md"
RULES = RECIPES / "prometheus-rules.yml"


def shell(command, cwd):
    done = subprocess.run(["/bin/sh", "-c", command], cwd=cwd, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["prometheus-rules", "recorder-rules"])
def test_the_alerts_fire_when_they_must(tmp_path, name):
    tool("promtool")
    rules, test = RECIPES / f"{name}.yml", Path(__file__).with_name(f"{name}.test.yml")
    shell(f"promtool check rules {rules}", tmp_path)
    for file in (rules, test):
        shutil.copy(file, tmp_path)
    shell(f"promtool test rules {test.name}", tmp_path)
    told = set(re.findall(r"- alert: (\w+)", rules.read_text()))
    assert told == set(re.findall(r'alertname="(\w+)"', test.read_text())), "each alert is tested"


def test_prometheus_understands_what_the_dashboard_asks(tmp_path):
    tool("promtool")
    panels = json.loads((RECIPES / "grafana-dashboard.json").read_text())["panels"]
    expressions = [t["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*") for p in panels for t in p["targets"]]
    rules = [{"record": "x", "labels": {"n": str(i)}, "expr": e} for i, e in enumerate(expressions)]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "x", "rules": rules}]}))
    shell("promtool check rules rules.yml", tmp_path)


def get(url, **query):
    with urllib.request.urlopen(f"{url}?{urllib.parse.urlencode(query)}", timeout=5) as answer:
        return answer.read().decode()


def start_exporter(bed):
    """With the page's link in its directory. Returns its address."""
    directory = bed.directory / "node-exporter"
    directory.mkdir()
    paths = {"/run/virtspool/": f"{bed.spool.rundir}/", "/var/lib/prometheus/node-exporter/": f"{directory}/"}
    shell(adapt(block(PAGE, "ln -s"), paths), bed.directory)
    address = f"127.0.0.1:{free_port()}"
    command = [tool("prometheus-node-exporter"), "--collector.disable-defaults", "--collector.textfile"]
    command += [f"--collector.textfile.directory={directory}", f"--web.listen-address={address}"]
    Process(command, bed.directory / "exporter.log").wait_output("Listening on", 30)
    return address


def start_prometheus(bed, exporter):
    (bed.directory / "prometheus.yml").write_text(f"""
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{RULES}]
scrape_configs: [{{job_name: node, static_configs: [{{targets: ["{exporter}"]}}]}}]
""")
    address = f"127.0.0.1:{free_port()}"
    command = [tool("prometheus"), f"--config.file={bed.directory}/prometheus.yml", f"--web.listen-address={address}"]
    command += [f"--storage.tsdb.path={bed.directory}/tsdb"]
    Process(command, bed.directory / "prometheus.log").wait_output("ready to receive", 30)
    return f"http://{address}/api/v1"


def test_prometheus_sees_the_daemon_through_node_exporter(bed):
    exporter = start_exporter(bed)
    api = start_prometheus(bed, exporter)

    def value(expression):
        result = json.loads(get(f"{api}/query", query=expression))["data"]["result"]
        return float(result[0]["value"][1]) if result else None

    bed.broker.start()
    bed.daemon.start()
    bed.listener("test:///default").start().wait_listening()
    bed.hook.start()
    wait_until(lambda: value("sum(virtspool_events_acknowledged_total) > 2"), 30, "the events are counted")
    assert value("virtspool_connected") == 1 and value("virtspool_listen_connected") == 1
    assert value("node_textfile_scrape_error") == 0
    groups = json.loads(get(f"{api}/rules"))["data"]["groups"]
    assert all(rule["health"] == "ok" for group in groups for rule in group["rules"]), groups

    # The daemon takes its file away; the link is left, and VirtspoolDown waits for its five minutes.
    bed.daemon.stop()
    wait_until(lambda: value('ALERTS{alertname="VirtspoolDown"}') == 1, 30, "the alert is pending")
    assert value("virtspool_listen_connected") == 1
    bed.daemon.start()
    wait_until(lambda: value('ALERTS{alertname="VirtspoolDown"}') is None, 30, "the alert has gone")
