# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon's metrics file."""

import re
import shutil
import subprocess

from lib import ROOT, Behaviour, wait_until


def parse_metrics(text):
    """Prometheus' text format, strictly: every sample has its HELP and TYPE, in one group."""
    samples, types, helps, current = {}, {}, {}, None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            _, _, name, help_ = line.split(" ", 3)
            assert name not in helps and help_.endswith(".")
            helps[name] = help_
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name in helps and name not in types and kind in ("counter", "gauge", "histogram")
            types[name] = kind
            current = name
        else:
            m = re.fullmatch(r'([a-z_]+)(?:\{((?:[a-z_]+="[^"\\\n]*",?)*)\})? (-?[0-9.]+(?:e[+-]?\d+)?)', line)
            assert m, line
            base = re.sub("_(bucket|sum|count)$", "", m[1]) if types[current] == "histogram" else m[1]
            assert base == current, line
            assert (types[current] == "counter") == m[1].endswith("_total"), line
            key = m[1] + ("{" + m[2] + "}" if m[2] else "")
            assert key not in samples
            samples[key] = float(m[3])
    return samples


def answer(code, name, metric="refused"):
    return f'virtspool_events_{metric}_total{{reason_code="0x{code:02x}",reason="{name}"}}'


def failed(cause):
    return f'virtspool_events_failed_total{{cause="{cause}"}}'


TAKEN = answer(0, "Success", "acknowledged")
REFUSALS = {  # MQTT 5, 3.4.2.1
    0x80: "Unspecified error",
    0x83: "Implementation specific error",
    0x87: "Not authorized",
    0x90: "Topic Name invalid",
    0x91: "Packet Identifier in use",
    0x97: "Quota exceeded",
    0x99: "Payload format invalid",
}
CAUSES = ("refused", "too_large", "topic", "record", "connection")


def test_metrics(running):
    bed = running
    path = bed.spool.rundir / "virtspool.prom"
    bed.hook.start()
    bed.subscribed.wait_for(3)
    wait_until(lambda: path.exists() and f"{TAKEN} 3" in path.read_text(), what="three are counted")
    assert path.stat().st_mode & 0o777 == 0o644
    samples = parse_metrics(path.read_text())
    for name in ("accepted", "published"):
        assert samples[f"virtspool_events_{name}_total"] == 3
    # What may be counted one day is there from the beginning, with 0.
    assert {k: v for k, v in samples.items() if "_code=" in k or "cause=" in k} == {
        TAKEN: 3,
        **{answer(0x10, "No matching subscribers", "acknowledged"): 0},
        **{answer(code, name): 0 for code, name in REFUSALS.items()},
        **{failed(cause): 0 for cause in CAUSES},
    }
    assert samples["virtspool_connected"] == 1 and samples["virtspool_queue_events"] == 0
    assert samples["virtspool_publish_latency_seconds_count"] == 3
    assert samples['virtspool_publish_latency_seconds_bucket{le="+Inf"}'] == 3
    assert samples["virtspool_publish_latency_seconds_sum"] > 0
    manual = (ROOT / "spooler/daemon/virtspoold.8").read_text().split(".Ss Metrics")[1].split(".El")[0]
    told = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"^\.It Li (.*)$", manual, re.M))))
    given = set(re.findall(r"^# TYPE virtspool_(\S+)", path.read_text(), re.M))
    assert told == given
    buckets = [v for k, v in samples.items() if "_bucket" in k]
    assert buckets == sorted(buckets)
    promtool = shutil.which("promtool")
    if promtool:
        done = subprocess.run([promtool, "check", "metrics"], input=path.read_text(), capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr and not done.stdout, done.stderr + done.stdout

    bed.broker.stop()
    bed.hook.stop()
    wait_until(lambda: parse_metrics(path.read_text())["virtspool_connected"] == 0, what="the loss is counted")
    wait_until(lambda: parse_metrics(path.read_text())["virtspool_queue_events"] == 2, what="two wait", deadline=30)
    samples = parse_metrics(path.read_text())
    assert samples["virtspool_connection_losses_total"] == 1 and samples["virtspool_queue_oldest_age_seconds"] > 0
    bed.daemon.stop()
    assert not path.exists()


def test_metrics_tell_when_certificates_end(bed):
    bed.broker.start()
    bed.daemon.start()
    path = bed.spool.rundir / "virtspool.prom"

    def told():
        found = re.findall(r'^virtspool_certificate_expiry_timestamp_seconds\{certificate="(\w+)"\} (\d+)$', path.read_text(), re.M)
        return {name: int(value) for name, value in found}

    ends = {"own": bed.certs.end("host"), "authority": bed.certs.end("ca"), "broker": bed.certs.end("broker")}
    wait_until(lambda: path.exists() and told() == ends, what=lambda: f"{ends}: {told()}")
    bed.broker.stop()
    del ends["broker"]
    wait_until(lambda: told() == ends, what=lambda: f"{ends}: {told()}")


def test_metrics_tell_refusals_by_reason_code(bed):
    bed.broker.acl = ["user consumer", "topic read virtspool/#"]
    bed.broker.start()
    bed.daemon.config["metrics"] = {"file": bed.directory / "elsewhere.prom"}
    bed.daemon.start()
    bed.hook("start")
    path = bed.directory / "elsewhere.prom"
    key = answer(0x87, "Not authorized")
    wait_until(lambda: path.exists() and parse_metrics(path.read_text())[key] > 0, what="the refusal is counted")


def test_metrics_tell_what_became_of_events(bed):
    """Taken though nobody listens, refused for good in a way that no broker should, too large, and no record at all."""

    class Answers(Behaviour):
        connack_properties = {"maximum_packet_size": 4000}
        codes = [0x10, 0x99, 0xC0, 0]

        def publish(self, c, publish):
            events = [p for p in c.broker.published if not p.topic.endswith("/status")]
            c.puback(publish, 0 if publish.topic.endswith("/status") else self.codes[len(events) - 1])

    daemon = bed.new_daemon(brokers=bed.scripted_broker(Answers()))
    daemon.config["mqtt"]["window"] = 1
    bed.hook.many(3)
    bed.hook("start", extra="x" * 4000)
    (bed.spool.path("new") / ("0" * 8 + bed.spool.names("new")[0][8:])).write_text("torn")
    daemon.start()
    bed.spool.wait_empty()
    path = bed.spool.rundir / "virtspool.prom"
    expected = {
        answer(0x10, "No matching subscribers", "acknowledged"): 1,
        answer(0x99, "Payload format invalid"): 1,
        answer(0xC0, "Unknown reason code"): 1,
        TAKEN: 1,
        failed("refused"): 1,
        failed("too_large"): 1,
        failed("record"): 1,
    }

    def counted():
        samples = parse_metrics(path.read_text()) if path.exists() else {}
        return {k: samples.get(k) for k in expected}

    wait_until(lambda: counted() == expected, what=lambda: f"all are counted: {counted()}")
