# SPDX-License-Identifier: LGPL-2.1-or-later
"""The recorder's web server: what etc/recorder-api.json says of it, who may read, limits, the live stream, the metrics."""

import base64
import contextlib
import http.client
import json
import re
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path

import jsonschema
import pytest

from lib import BUILD, ROOT, wait_until
from lib.programs import program

API = json.loads((ROOT / "etc/recorder-api.json").read_text())
TOKEN = "0123456789abcdef0123456789abcdef"


def fill(recorder, hosts=4, guests=30, events=3000, days=2):
    subprocess.run(
        [BUILD / "tests/bench/fill-store", recorder.store, *map(str, (hosts, guests, events, days))],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip


def get(url, context=None, **headers):
    """(status, headers, text); errors are answers, too."""
    request = urllib.request.Request(url, headers={k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.headers, e.read().decode()


@pytest.fixture
def server(bed):
    """A recorder whose store holds made-up events, and a broker."""
    bed.broker.start()
    recorder = bed.recorder()
    fill(recorder)
    recorder.start()
    wait_until(lambda: get(recorder.url + "/api/v1/summary")[0] == 200, 15, "the API answers")
    return recorder


def ask(server, path, **query):
    status, _, text = get(f"{server.url}{path}?{urllib.parse.urlencode(query)}")
    assert status == 200, text
    return json.loads(text)


# --- the description


def schema_of(schema):
    """With the description's definitions beside it, so that $ref finds them."""
    return {**schema, "components": API["components"]}


def validate(instance, schema):
    jsonschema.Draft7Validator(schema_of(schema)).validate(instance)


def resolve(parameter):
    return API["components"]["parameters"][parameter["$ref"].split("/")[-1]] if "$ref" in parameter else parameter


def values(server):
    """A value for each part of a path, and values for each parameter, that exist in the store."""
    guest = ask(server, "/api/v1/guests", limit=1)["guests"][0]
    event = ask(server, "/api/v1/log", limit=1)["events"][0]
    keys = {"host": event["host"], "uuid": guest["uuid"], "id": event["id"]}
    query = {
        "q": guest["name"], "sort": "holes", "guest": guest["uuid"], "host": event["host"], "operation": "start*",
        "kind": "stop", "all": "true", "from": "2000-01-01T00:00:00Z", "to": "2100-01-01T00:00:00.5+01:00", "limit": "7",
        "offset": "1",
    }  # fmt: skip
    return keys, query


PATHS = [p for p in API["paths"] if p not in ("/api/v1/live", "/metrics")]


def test_every_answer_is_as_described(server):
    keys, query = values(server)
    for path in PATHS:
        operation = API["paths"][path]["get"]
        url = re.sub(r"{(\w+)}", lambda m: urllib.parse.quote(keys[m[1]], safe=""), path)
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        validate(ask(server, url), schema)
        for parameter in map(resolve, operation["parameters"]):
            name = parameter["name"]
            if parameter["in"] == "path":
                continue
            for value in parameter["schema"].get("enum", [query.get(name)]):
                if name != "cursor":
                    validate(ask(server, url, **{name: value}), schema)
        status, _, text = get(f"{server.url}{url}?no-such-parameter=1")
        if path != "/api/v1/openapi.json":
            assert status == 400, path
            validate(json.loads(text), operation["responses"]["400"]["content"]["application/json"]["schema"])


def test_the_program_has_the_description(server):
    assert ask(server, "/api/v1/openapi.json") == API


def test_every_path_of_the_program_is_described():
    source = (ROOT / "spooler/recorder/api.c").read_text()
    routes = re.findall(r'\{"([a-z*/]+)", "([a-z ]*)", api_', source)
    described = {
        re.sub(r"{\w+}", "*", p.removeprefix("/api/v1/")): {resolve(x)["name"] for x in o["get"]["parameters"] if resolve(x)["in"] == "query"}
        for p, o in API["paths"].items()
        if p not in ("/api/v1/live", "/api/v1/openapi.json", "/metrics")
    }
    assert {path: set(parameters.split()) for path, parameters in routes} == described


@pytest.mark.parametrize(
    "path",
    ["hosts?limit=0", "hosts?limit=1001", "hosts?limit=x", "log?from=yesterday", "log?cursor=x", "guests/x", "hosts?q=%ff",
     "hosts?q=%0", "hosts?q=a&q=b", "guests/%00/timeline", "hosts?sort=x", "holes?all=x", "log?from=2026-01-01T00:00:00"],
)  # fmt: skip
def test_a_wrong_request_is_refused_with_a_sentence(server, path):
    status, _, text = get(f"{server.url}/api/v1/{path}")
    assert status == 400 and len(json.loads(text)["error"]) > 8


def test_what_is_not_there_is_not_found(server):
    for path in ("/api/v1/hosts/nobody", "/api/v1/guests/00000000-0000-0000-0000-000000000000", "/api/v2", "/../etc/passwd"):
        status, _, text = get(server.url + path)
        assert status == 404 and json.loads(text)["error"]


# --- what the answers say


def test_pages_are_whole_and_in_order(server):
    def pages(path, key, **query):
        rows, cursor = [], None
        while True:
            answer = ask(server, path, limit=100, **query, **({"cursor": cursor} if cursor else {}))
            rows += answer[key]
            cursor = answer["next"]
            if not cursor:
                return rows

    events = pages("/api/v1/log", "events")
    ids = [e["id"] for e in events]
    assert len(ids) == len(set(ids)) == ask(server, "/api/v1/summary")["events"] and ids == sorted(ids, reverse=True)
    total = ask(server, "/api/v1/guests", limit=1)["total"]
    names = [g["name"] for offset in range(0, total, 7) for g in ask(server, "/api/v1/guests", limit=7, offset=offset)["guests"]]
    assert len(names) == total and names == sorted(names)


def test_the_total_is_that_of_all_pages(server):
    def count(path, **query):
        """The total, and how many there are: one answer of all of them."""
        answer = ask(server, f"/api/v1/{path}", limit=500, **query)
        return answer["total"], len(answer[path])

    guests, hosts = count("guests"), count("hosts")
    assert guests[0] == guests[1] > 10 and hosts[0] == hosts[1] > 1
    states = {g["state"] for g in ask(server, "/api/v1/guests", limit=500)["guests"]}
    each = {s: count("guests", state=s) for s in sorted(states | {"paused", "crashed", "unknown", "nonsense"})}
    assert all(total == n for total, n in each.values()) and sum(n for _, n in each.values()) == guests[0] and each["nonsense"] == (0, 0)
    some = count("guests", q="guest1")
    assert 0 < some[0] == some[1] < guests[0]
    for path, query, n in [("guests", {}, guests[0]), ("guests", {"q": "guest1"}, some[0]), ("hosts", {}, hosts[0])]:
        for offset, limit in [(0, n), (0, n - 1), (0, 1), (n - 1, 1), (n - 1, 9), (n, 9), (n + 5, 9)]:
            answer = ask(server, f"/api/v1/{path}", limit=limit, offset=offset, **query)
            assert answer["total"] == n and len(answer[path]) == max(0, min(limit, n - offset)), (path, query, offset, limit)


def test_a_timeline_agrees_with_the_guest(server):
    """What a guest's timeline says of now is what the guest's row says; intervals of one host do not overlap."""
    for guest in ask(server, "/api/v1/guests", limit=1000)["guests"]:
        times = {"from": "2000-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}
        timeline = ask(server, f"/api/v1/guests/{guest['uuid']}/timeline", **times)
        now = [s for s in timeline["states"] if s["to"] is None]
        assert guest["state"] in [s["state"] for s in now if s["host"] == guest["host"]], (guest, now)
        for host in {s["host"] for s in timeline["states"]}:
            intervals = sorted((s["from"], s["to"] or "9") for s in timeline["states"] if s["host"] == host)
            assert all(a[1] <= b[0] for a, b in zip(intervals, intervals[1:])), intervals
        # Stopped, or crashed, is what it is on one host until it is something else on another.
        for a in (s for s in timeline["states"] if s["state"] in ("stopped", "crashed")):
            others = [b for b in timeline["states"] if b["host"] != a["host"]]
            assert not [b for b in others if b["from"] < (a["to"] or "9") and (b["to"] or "9") > a["from"]], (a, others)


def test_a_window_shows_what_the_whole_shows(server):
    """States of a part of the time are those of all of it, cut out."""
    guest = ask(server, "/api/v1/guests", limit=1)["guests"][0]["uuid"]
    whole = ask(server, f"/api/v1/guests/{guest}/timeline", **{"from": "2000-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"})
    middle = sorted(s["from"] for s in whole["states"])[len(whole["states"]) // 2]
    part = ask(server, f"/api/v1/guests/{guest}/timeline", **{"from": middle, "to": "2100-01-01T00:00:00Z"})
    expected = [s for s in whole["states"] if (s["to"] or "9") > middle]
    key = lambda s: (s["host"], s["state"], s["from"])
    assert sorted(map(key, part["states"])) == sorted(map(key, expected))


def test_the_metrics_are_in_the_format(server):
    _, headers, text = get(server.url + "/metrics")
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    for line in text.splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) virtspool_recorder_\w+ .*|virtspool_recorder_\w+({(\w+="([^"\\]|\\.)*",?)*})? [0-9.e+-]+', line), line
    if shutil.which("promtool"):
        done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    names = set(re.findall(r"virtspool_recorder_\w+", (ROOT / "etc/recipes/recorder-rules.yml").read_text()))
    assert names - set(re.findall(r"virtspool_recorder_\w+", text)) <= {"virtspool_recorder_signatures_total"}


# --- who may read


def test_by_default_only_this_machine_is_answered(server):
    assert "127.0.0.1" in server.config["http"]["listen"]
    status, _, _ = get(server.url + "/api/v1/summary", Host="evil.example.org")
    assert status == 421, "a foreign name that resolves to 127.0.0.1"


def test_headers_keep_foreign_content_out(server):
    _, headers, _ = get(server.url + "/")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
    status, _, text = get(server.url + "/", If_None_Match=headers["ETag"])
    assert status == 304 and not text


@pytest.mark.parametrize(
    ("http_section", "missing"),
    [
        ({"listen": "0.0.0.0:8480"}, "needs TLS"),
        ({"listen": "[::]:8480", "certificate_file": "{broker.pem}", "key_file": "{broker.key}"}, "clients must be checked"),
        ({"listen": "127.0.0.1:8480", "certificate_file": "{broker.pem}"}, "http.certificate_file needs http.key_file"),
        ({"listen": "localhost"}, "expected ADDRESS:PORT"),
        ({"listen": "127.0.0.1:8480", "conections": 5}, "did you mean 'http.connections'"),
    ],
)
def test_an_open_address_without_protection_is_a_configuration_error(bed, http_section, missing):
    recorder = bed.recorder()
    bed.broker.port = 1
    files = {"{broker.pem}": str(bed.certs.pem("broker")), "{broker.key}": str(bed.certs.key("broker"))}
    recorder.config["http"] = {k: files.get(v, v) for k, v in http_section.items()}
    recorder.write_config()
    done = recorder.command("check", options=["-c", str(recorder.config_file)], check=False)
    assert done.returncode == 78
    assert re.search(rf"{re.escape(str(recorder.config_file))}:\d+:\d+: .*{re.escape(missing)}", done.stderr + done.stdout), done


@pytest.fixture
def protected(bed):
    """Over TLS, with a token and client certificates."""
    bed.broker.start()
    recorder = bed.recorder()
    token = bed.directory / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    certificate, key = bed.directory / "web.pem", bed.directory / "web.key"
    shutil.copy(bed.certs.pem("broker"), certificate)
    shutil.copy(bed.certs.key("broker"), key)
    key.chmod(0o600)
    recorder.config["http"].update(certificate_file=certificate, key_file=key, client_ca_file=bed.certs.ca, token_file=token)
    recorder.start()
    return recorder


def trust(bed, client=None):
    context = ssl.create_default_context(cafile=bed.certs.ca)
    if client:
        context.load_cert_chain(bed.certs.pem(client), bed.certs.key(client))
    return context


def test_a_token_or_a_certificate_is_needed(bed, protected):
    url = protected.url + "/api/v1/summary"
    basic = base64.b64encode(f"anybody:{TOKEN}".encode()).decode()
    assert get(url, trust(bed))[0] == 401
    assert get(url, trust(bed), Authorization="Bearer wrong")[0] == 401
    assert get(url, trust(bed), Authorization=f"Bearer {TOKEN[:-1]}")[0] == 401
    assert get(url, trust(bed), Authorization="Basic !!!")[0] == 401
    assert get(url, trust(bed), Authorization=f"Bearer {TOKEN}")[0] == 200
    assert get(url, trust(bed), Authorization=f"Basic {basic}")[0] == 200
    assert get(url, trust(bed, "consumer"))[0] == 200
    assert get(url, trust(bed, "broker"))[0] == 401, "a server's certificate is not a client's"
    for path in ("/", "/metrics", "/api/v1/live", "/api/v1/openapi.json"):
        assert get(protected.url + path, trust(bed))[0] == 401


@pytest.mark.parametrize("ciphers", ["ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES128-SHA", "AES128-GCM-SHA256", "AES128-SHA"])
def test_only_forward_secrecy_and_authenticated_encryption_are_served(bed, protected, ciphers):
    """As our clients: RFC 9325. With one that is allowed the same handshake succeeds."""
    for names, works in ((ciphers, False), ("ECDHE+AESGCM", True)):
        context = trust(bed, "consumer")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(names + ":@SECLEVEL=0")
        with raw(protected) as s, contextlib.nullcontext() if works else pytest.raises(ssl.SSLError):
            context.wrap_socket(s, server_hostname="localhost").close()


def test_a_renewed_certificate_is_used_without_a_restart(bed, protected):
    def serial():
        with socket.create_connection(("localhost", int(protected.url.rsplit(":", 1)[1]))) as s:
            with trust(bed).wrap_socket(s, server_hostname="localhost") as tls:
                return tls.getpeercert()["serialNumber"]

    before = serial()
    bed.certs.server("renewed-web", "localhost")
    shutil.copy(bed.certs.key("renewed-web"), bed.directory / "web.key")
    assert serial() == before, "a key that does not fit is not taken"
    shutil.copy(bed.certs.pem("renewed-web"), bed.directory / "web.pem")
    wait_until(lambda: serial() != before, 10, "the new certificate is shown")


# --- limits, and that nobody holds up ingest


def raw(server):
    host, port = server.config["http"]["listen"].rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=20)


def test_only_reading(server):
    host, port = server.config["http"]["listen"].rsplit(":", 1)
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
        connection = http.client.HTTPConnection(host, int(port), timeout=20)
        connection.request(method, "/api/v1/summary", body=b"x" * 1000 if method in ("POST", "PUT") else None)
        answer = connection.getresponse()
        assert answer.status == 405 and answer.getheader("Allow") == "GET, HEAD", method


def test_a_request_is_bounded(server):
    with raw(server) as s:
        s.sendall(b"GET /" + b"x" * 100000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert re.match(rb"HTTP/1.1 4(14|31|00)", s.recv(4096))
    assert get(server.url + "/api/v1/summary")[0] == 200


def test_a_thousand_streams_and_slow_clients_hold_up_nothing(bed, server):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("needs 4096 open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    if soft < 4096:
        server.stop()
        server.start()
    sockets = []
    try:
        for _ in range(1000):
            s = raw(server)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.sendall(b"GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n")  # never read
            sockets.append(s)
        for _ in range(50):
            s = raw(server)
            s.sendall(b"GET /api/v1/su")  # never finished
            sockets.append(s)
        for _ in range(20):
            s = raw(server)
            s.sendall(b"GET /api/v1/log?limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n")  # never read
            sockets.append(s)
        wait_until(lambda: get(server.url + "/api/v1/summary")[0] == 200, 20, "questions are answered")
        bed.daemon.start()
        before = ask(server, "/api/v1/summary")["events"]
        for _ in range(20):
            bed.hook.start()
        wait_until(lambda: ask(server, "/api/v1/summary")["events"] >= before + 60, 20, "events are stored all the same")
        # One stream more than there may be is refused, and not the questions.
        assert get(server.url + "/api/v1/live")[0] == 503
        rss = int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{server.pid}/status").read_text())[1])
        assert rss < 96 * 1024
    finally:
        for s in sockets:
            s.close()
    wait_until(lambda: stream_opens(server), 40, "gone clients leave room again")


def stream_opens(server):
    with raw(server) as s:
        s.sendall(b"GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return b"200 OK" in s.recv(4096)


def test_a_client_that_sends_nothing_is_left(server):
    with raw(server) as s:
        s.sendall(b"GET /api/v1/summary HTTP/1.1\r\nHost: ")
        began = time.monotonic()
        while time.monotonic() - began < 30:
            try:
                s.sendall(b"l")  # a byte now and then does not keep it
            except OSError:
                return
            s.settimeout(0.5)
            try:
                if s.recv(100) == b"":
                    return
            except TimeoutError:
                pass
            except OSError:
                return
        raise AssertionError("it is still connected")


# --- events as they come


def test_the_origin_of_an_event_is_that_of_the_event(bed):
    """That of a hook, and of virtspoold's report of a guest that a boot ended."""
    bed.broker.start()
    server = bed.recorder().start()
    bed.daemon.environment["VIRTSPOOL_BOOT_ID"] = uuid.uuid4().hex
    bed.daemon.start()
    bed.hook.start("vm1")
    bed.spool.wait_empty()
    bed.daemon.kill()
    bed.spool.boot()
    bed.daemon.environment["VIRTSPOOL_BOOT_ID"] = uuid.uuid4().hex
    bed.daemon.start()
    events = []

    def four():
        events[:] = ask(server, "/api/v1/log")["events"]
        return len(events) == 4

    wait_until(four, 20, lambda: events)
    assert [(e["operation"], e["origin"]) for e in events] == [
        ("reconciled", "spooler"), ("started", "hook"), ("start", "hook"), ("prepare", "hook")
    ]  # fmt: skip
    for event in events:
        validate(event, API["components"]["schemas"]["Event"])


# --- live


def test_a_change_is_told(bed, server):
    bed.daemon.start()
    with raw(server) as s:
        s.sendall(b"GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        text = b""
        while b"event: hello" not in text:
            text += s.recv(4096)
        bed.hook.start(domain="web1")
        changes = []
        while not any(c["guests"] for c in changes):  # the host's status comes first, and names no guest
            text += s.recv(4096)
            changes = [json.loads(d) for d in re.findall(rb"event: change\s+data: (\{.*\})", text)]
    for change in changes:
        validate(change, API["components"]["schemas"]["Live"])
        assert change["hosts"] == ["node1"] and not change["all"]
    assert ask(server, f"/api/v1/guests/{changes[-1]['guests'][0]}")["name"] == "web1"


def test_a_reload_keeps_serving(bed, server):
    import signal

    server.process.signal(signal.SIGHUP)
    wait_until(lambda: server.output().count("the web page is at") == 2, 15, "it serves again")
    assert get(server.url + "/api/v1/summary")[0] == 200


def test_a_port_that_is_taken_does_not_keep_it_from_recording(bed):
    bed.broker.start()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        recorder = bed.recorder()
        recorder.config["http"] = {"listen": f"127.0.0.1:{s.getsockname()[1]}"}
        recorder.start()
        assert "choose another port with http.listen" in recorder.output()
