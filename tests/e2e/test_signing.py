# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Signed events, hook to consumer: a verifier that knows nothing but the manual page accepts each of them, whatever the kind
of key, and the certificate comes with the host's status.
"""

import base64
import json
import signal
import sqlite3
import ssl
import subprocess
import time
import urllib.request
from datetime import datetime, timedelta, timezone

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from lib import Hook, Spool, wait_until
from lib.browser import Browser
from lib.programs import ROOT
from lib.token import Token
from lib.verify import digest, verify, verify_in_javascript
from lib.watch import Watch


def sign(bed, key=None, certificate=None):
    bed.daemon.config["host"] = "host"
    bed.daemon.config["events"] = {"sign": True}
    if key:
        bed.daemon.config["events"] |= {"sign_key_file": key, "sign_certificate_file": certificate}
    bed.daemon.config["mqtt"]["status_topic"] = "virtspool/v1/{host}/status"


def two_signed(bed, subscriber, names=("web1", "web2")):
    """The daemon starts, and two signed events arrive."""
    sign(bed)
    bed.daemon.start()
    for name in names:
        bed.hook("started", domain=name)
    subscriber.wait_for(2)


def payloads(subscriber):
    return [m.payload for m in signed_events(subscriber.messages)]


def signed_events(messages):
    return [m for m in messages if b"dssematerial" in m.payload and b".status." not in m.payload]


def certificate_of_status(subscriber):
    """As a consumer gets it: PEM bytes."""
    statuses = [json.loads(m.payload) for m in subscriber.messages if b".status.online" in m.payload]
    der = base64.b64decode(statuses[-1]["data"]["certificate"])
    return ssl.DER_cert_to_PEM_cert(der).encode()


def check_signed(bed, subscriber, n, pem):
    subscriber.wait_for(n)
    bed.spool.wait_empty()
    signed = payloads(subscriber)
    assert len(signed) >= n
    assert all(verify(p, pem) for p in signed)
    reports = [m.payload for m in subscriber.messages if b".status.online" in m.payload]
    assert all(verify(p, pem) for p in reports)
    signed += reports
    file = bed.directory / "certificate.pem"
    file.write_bytes(pem)
    assert verify_in_javascript(signed, file) == [True] * len(signed)
    assert certificate_of_status(subscriber) == ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(pem.decode())).encode()
    subscriber.check_complete(n)


def test_signed_with_the_key_of_tls(bed):
    bed.broker.start()
    subscriber = bed.subscriber()
    sign(bed)
    bed.daemon.start()
    bed.hook.start("a \"b\" Grüße")
    bed.hook.stop("x")
    check_signed(bed, subscriber, 5, bed.certs.pem("host").read_bytes())


def test_a_backlog_is_signed_in_order_through_an_outage(bed):
    """More than is read ahead at a time; the broker ends, and the daemon is killed, while they are under way."""
    bed.broker.start()
    subscriber = bed.subscriber()
    sign(bed)
    bed.hook.many(300)
    bed.daemon.start()
    wait_until(lambda: len(payloads(subscriber)) > 20, what="some are there")
    bed.broker.stop()
    bed.broker.start()
    bed.daemon.wait_connected()
    bed.daemon.kill()
    bed.daemon.start()
    check_signed(bed, subscriber, 300, bed.certs.pem("host").read_bytes())


@pytest.mark.parametrize("kind", ["ed25519", "p256", "encrypted", "token"])
def test_a_key_of_its_own(bed, kind):
    bed.broker.start()
    subscriber = bed.subscriber()
    certs = bed.certs
    if kind == "ed25519":
        key, pem = certs.signing_key("host-ed25519", "ed25519")
    else:
        certs._make("signer", "host")
        key, pem = certs.key("host.sign"), certs.pem("host.sign")
    sign(bed, key, pem)
    if kind == "encrypted":
        key, password = certs.encrypted_key("host.sign", "secret")
        bed.daemon.config["events"]["sign_key_file"] = key
        bed.daemon.config["tls"]["key_password_file"] = password
    if kind == "token":
        token = Token(bed.directory, key, pem)
        bed.daemon.environment |= token.environment
        bed.daemon.config["events"] |= {"sign_key_file": token.key, "sign_certificate_file": token.certificate}
        password = bed.directory / "pin"
        password.write_text("1234\n")
        password.chmod(0o600)
        bed.daemon.config["tls"]["key_password_file"] = password
    bed.daemon.start()
    bed.hook("started")
    check_signed(bed, subscriber, 1, pem.read_bytes())


def test_an_rsa_key_is_refused_with_the_remedy(bed):
    """A host whose TLS key is RSA: doctor says why it does not sign, and a key of its own does."""
    key, pem = bed.certs.signing_key("host-rsa", "rsa")
    bed.broker.start()
    sign(bed)
    bed.daemon.config["tls"] |= {"key_file": key, "certificate_file": pem}
    bed.daemon.write_config()
    done = bed.run("virtspoold", "--check-config", "-c", bed.daemon.config_file)
    assert done.returncode != 0
    assert "it is RSA" in done.stderr and "events.sign_key_file" in done.stderr
    grade, text = signing_finding(bed)
    assert grade == "bad" and "as long as the delivery of twenty events" in text and "join --sign-only" in text
    subprocess.run([ROOT / "scripts/make-certs", bed.certs.directory, "signer", "host"], check=True, capture_output=True, timeout=60)
    sign(bed, bed.certs.key("host.sign"), bed.certs.pem("host.sign"))
    subscriber = bed.subscriber()
    bed.daemon.start()
    bed.hook("started")
    check_signed(bed, subscriber, 1, bed.certs.pem("host.sign").read_bytes())
    grade, text = signing_finding(bed)
    assert grade == "ok" and "events are signed with the key" in text
    assert bed.daemon.status()["certificates"]["signing_end"] != bed.daemon.status()["certificates"]["own_end"]


def signing_finding(bed):
    """What doctor says of the key: (grade, text)."""
    done = bed.run("virtspool", "doctor", "--json", "-c", bed.daemon.config_file, "--hooksdir", bed.hook.directory)
    (finding,) = [f for f in map(json.loads, done.stdout.splitlines()) if f["check"] == "signing"]
    return finding["grade"], finding["text"]


def test_a_renewed_key_signs_from_the_reload_on(bed):
    """Events of both keys verify, each with its own certificate."""
    bed.broker.start()
    subscriber = bed.subscriber()
    certs = bed.certs
    certs._make("signer", "host")
    sign(bed, certs.key("host.sign"), certs.pem("host.sign"))
    bed.daemon.start()
    bed.hook("started")
    subscriber.wait_for(1)
    old = certificate_of_status(subscriber)
    bed.spool.wait_empty()
    for file in (certs.key("host.sign"), certs.pem("host.sign")):
        file.unlink()
    certs._make("signer", "host")
    bed.daemon.reload()
    wait_until(lambda: certificate_of_status(subscriber) != old, what="the new certificate is reported")
    bed.hook("stopped")
    subscriber.wait_for(2)
    first, second = payloads(subscriber)[0], payloads(subscriber)[-1]
    new = certificate_of_status(subscriber)
    assert verify(first, old) and verify(second, new)
    assert not verify(first, new) and not verify(second, old)


def test_an_unsigned_event_is_as_before(bed):
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    bed.hook("started")
    subscriber.wait_for(1)
    assert payloads(subscriber) == []


# --- the malicious broker: what it can do to a signed event, and what a consumer makes of it


def changed(payload, **attributes):
    """The event with other attributes; None removes one. The data's bytes stay as they are."""
    head, data = payload.split(b',"data":', 1)
    event = {**json.loads(head + b"}"), **attributes}
    event = {k: v for k, v in event.items() if v is not None}
    return json.dumps(event, separators=(",", ":")).encode()[:-1] + b',"data":' + data


def forgeries(payload, other):
    """{name: payload}: one change each."""
    return {
        "one byte of data": payload.replace(b'"operation":"started"', b'"operation":"stopped"'),
        "id": changed(payload, id=json.loads(other)["id"]),
        "type": changed(payload, type="org.virtspool.qemu.stopped.end"),
        "subject": changed(payload, subject="another"),
        "no subject": changed(payload, subject=None),
        "time": changed(payload, time="2001-01-01T00:00:00.000000Z"),
        "sequence": changed(payload, sequence="00000000000000000099"),
        "epoch": changed(payload, epoch="f" * 32),
        "replayed": changed(payload, replayed=True),
        "recordedtime": changed(payload, recordedtime=None),
        "a second of recordedtime": changed(payload, recordedtime="2001-01-01T00:00:00.000000Z"),
        "datacontenttype": changed(payload, datacontenttype="application/xml"),
        "dataschema": changed(payload, dataschema="https://example.org"),
        "an extension more": changed(payload, added="x"),
        "another event's signature": changed(payload, dssematerial=json.loads(other)["dssematerial"]),
        "rubbish": changed(payload, dssematerial="AAAA"),
    }


def test_the_recipes_find_each_forgery(bed):
    """In Python and in JavaScript, as the manual page has it."""
    bed.broker.start()
    subscriber = bed.subscriber()
    two_signed(bed, subscriber, ("web1", "Grüße"))
    payload, other = payloads(subscriber)
    lies = [lie for name, lie in forgeries(payload, other).items() if name != "rubbish"]
    file = bed.certs.pem("host")
    assert [verify(p, file.read_bytes()) for p in (payload, other)] == [True, True]
    assert not any(verify(lie, file.read_bytes()) for lie in lies)
    assert verify_in_javascript([payload, *lies, other], file) == [True] + [False] * len(lies) + [True]
    done = subprocess.run([ROOT / "etc/recipes/verify-event.py", file], input=payload + b"\n" + lies[0], capture_output=True, timeout=60)
    assert done.stdout == b"verified\nFORGED\n", done


VECTOR_KEY = ec.EllipticCurvePublicNumbers(
    46950820868899156662930047687818585632848591499744589407958293238635476079160,
    5640078356564379163099075877009565129882514886557779369047442380624545832820,
    ec.SECP256R1(),
).public_key()


CORE6 = '{"core":"LTgQKHGheg6T48xpGGr5zNkdhp22kenZCOqicFtI4SA=",'
EXTA = '"ext":"kU1P8bDaEnyNhglWzdTJNHh77khNWSZebBUxufVM2pU=","signedextattrs":["exta"]}'
VECTORS = {  # payload, signature, extensions; those of 6a, 6b and the walkthrough end with "9" for "=" in the specification
    "3 and 4": (
        '{"core":"wKCa8sq3dyg/00ZiDQy/aXAY1tepQnrKLa6xP0Y3D/Q="}',
        "UMqiNYp7SQZq6MHdms4dn2msHGinLHvZaUV3ghcj/cn5Bi3d5jz0sfhm9pZ89CcOa+WWtjY6cZvj7c/tOWsTVg==",
        {},
    ),
    "6a and 6b": (
        CORE6 + EXTA,
        "lpOpsjRvv4PCoNsAIRDYu1zaZSAVEvj5RC1FJMrL12zBKkb1N8EHiPsqI1+HwEyWOvHu7xq5h0d7pVY4AtIN3w==",
        {"exta": "value1"},
    ),
    "7": (
        CORE6 + '"ext":"HB1pe431FoQZRsJbyLNMq0QaAvqPtmhdi8dHGShbJAU=","signedextattrs":["exta","extb"]}',
        "2g1UoAQpz1oPjZTPRZe+yvLzZQNECZakjbZVXizDwdMneIH++/53uXN2bCSkVJImfwOiYyKBm4mvsMHJXIUhzg==",
        {"exta": "value1", "extb": "value2"},
    ),
    "walkthrough": (
        '{"core":"vjXrHNt/k/3rSS9WejzeQ8vJ4sU1uQh+J51Vqry7XnM=",' + EXTA,
        "hHmGOmdE+Zp7FjCQ+SxwbYKzckKkUHLuOlaGUJ9Hc91K2vXvGX03vMLRimnQMaPudmfmwjRbcOqbd7Y7STXnxg==",
        {"exta": "value1"},
    ),
}


def test_the_extensions_vectors_with_json_data():
    """
    What follows from the text: digests of extensions, signatures, and that times of one moment are one. Which bytes of the
    JSON data they hash does not, so `core` is taken as it stands. Case 5, all of which follows, is unit/test-signature.c's.
    """
    for case, (payload, signature, extensions) in VECTORS.items():
        said = json.loads(payload)
        pae = b"DSSEv1 46 https://cloudevents.io/verifiability/dsse/v0.1 %d %s" % (len(payload), payload.encode())
        raw = base64.b64decode(signature)
        halves = (int.from_bytes(raw[i : i + 32], "big") for i in (0, 32))
        VECTOR_KEY.verify(encode_dss_signature(*halves), pae, ec.ECDSA(SHA256()))
        assert said.get("signedextattrs", []) == list(extensions), case
        assert said.get("ext", digest([])) == digest(v.encode() for v in extensions.values()), case


def test_watch_reports_what_a_malicious_broker_does(bed):
    bed.broker.start()
    subscriber = bed.subscriber()
    two_signed(bed, subscriber)
    messages = signed_events(subscriber.messages)
    payload, other, topic = messages[0].payload, messages[1].payload, messages[0].topic
    watch = Watch(bed, "--verify", "--json").watching()
    watch.wait_for("status.online")
    broker = bed.subscriber(topic="none").client

    def publish(payload, topic=topic):
        broker.publish(topic, payload, qos=1).wait_for_publish(10)

    lies = forgeries(payload, other)
    assert not any(lie in (payload, other) for lie in lies.values())
    for lie in lies.values():
        publish(lie)
    publish(payload, topic.replace("/host/", "/node2/"))
    publish(changed(payload, source="/virtspool/node2"), topic.replace("/host/", "/node2/"))
    publish(changed(payload, dssematerial=None))
    publish(payload)  # the true one, after all that
    publish(payload)  # and once more
    publish(other)
    watch.wait_for("web2")
    watch.process.signal(2)
    watch.process.wait(20)
    said = watch.process.output()
    assert said.count("FORGED") == len(lies) + 1, said  # and the one at another host's topic
    assert said.count("unknown event") == 1, "node2 has no certificate"
    assert said.count("unsigned event") == 1
    shown = [json.loads(line) for line in watch.lines()]
    assert [e["subject"] for e in shown if "sequence" in e] == ["web1", "web2"], "the true ones, once each"
    assert said.splitlines()[-1] == f"3 verified, 1 unsigned, 1 unknown, {len(lies) + 1} forged"


def test_watch_shows_what_is_verified(bed):
    bed.broker.start()
    sign(bed)
    bed.daemon.start()
    watch = Watch(bed, "--verify").watching()
    watch.wait_for("online")
    bed.hook("started", domain="web1")
    assert watch.wait_for("web1", "verified")


# --- the recorder


def get(recorder, path):
    with urllib.request.urlopen(f"{recorder.url}/{path}", timeout=10) as answer:
        return answer.read().decode()


@pytest.fixture
def between(bed):
    """
    The host's broker, and the recorder's, which passes on what this test wants: (messages of host and node2, publish,
    recorder). Of each host: its status, and five events.
    """
    bed.broker.start()
    subscriber = bed.subscriber()
    sign(bed)
    other = bed.new_daemon("daemon2", spool=Spool(bed.directory / "node2"), certificate=bed.certs.client("node2"))
    other.config["host"] = "node2"
    other.config["events"] = {"sign": True}
    other.config["mqtt"]["status_topic"] = "virtspool/v1/{host}/status"
    for n, daemon in enumerate((bed.daemon, other)):
        daemon.start()
        Hook(daemon.spool).start("web1")
        Hook(daemon.spool).stop("web1")
        subscriber.wait_for(5 * n + 5)
    by_host = [[m for m in subscriber.messages if f"/{host}/" in m.topic] for host in ("host", "node2")]
    evil = bed.new_broker("evil").start()
    recorder = bed.recorder(brokers=[evil])
    recorder.config["verify"] = "required"
    recorder.start()
    client = bed.subscriber(evil, topic="none").client
    yield *by_host, lambda topic, payload: client.publish(topic, payload, qos=1).wait_for_publish(10), recorder


def test_a_broker_that_lies_to_the_recorder(between):
    """Each thing that it can do is reported for what it is, and changes nothing."""
    host, node2, publish, recorder = between
    status, events = host[0], signed_events(host)
    publish(status.topic, status.payload)
    publish(node2[0].topic, node2[0].payload)
    third, second, topic = events[2], events[1], events[2].topic
    for m in (events[4], events[0], events[3], second):  # in another order, and without the third
        publish(m.topic, m.payload)
    recorder.wait_for(4)
    publish(second.topic, second.payload)  # an old one again
    filling = json.loads(third.payload)["sequence"]
    # A report which says that the third never reached the host's spool.
    lost = status.payload[:-2] + b',"lost":[{"first":3,"last":3,"epoch":"%s"}]}}' % json.loads(third.payload)["epoch"].encode()
    lies = {
        "changed after it was signed": [
            lost,
            *(lie for name, lie in forgeries(third.payload, second.payload).items() if name not in ("time", "rubbish", "an extension more")),
            changed(third.payload, time=(datetime.now(timezone.utc) + timedelta(hours=1)).isoformat()[:26] + "Z"),
            changed(second.payload, id=json.loads(third.payload)["id"], sequence=filling),  # another event for the hole
        ],
        "not signed": [changed(third.payload, added="x")],
        "the certificate was not valid at the event's time": [forgeries(third.payload, second.payload)["time"]],
        "not an envelope": [changed(third.payload, dssematerial="AAAA")],
        "it carries no signature": [changed(third.payload, dssematerial=None)],
        "no certificate of its host has this key": [changed(third.payload, dssematerial=json.loads(node2[2].payload)["dssematerial"])],
        "another host": [changed(third.payload, source="/virtspool/node2")],
    }
    moved = (third.topic.replace("/host/", "/node2/"), third.payload)  # to another host's topic
    for reason in lies:
        for lie in lies[reason]:
            publish(status.topic if lie is lost else topic, lie)
    publish(*moved)
    publish(moved[0], changed(third.payload, source="/virtspool/node2").replace(b'"host":"host"', b'"host":"node2"'))
    expected = {reason: len(lies[reason]) for reason in lies}
    expected["another host"] += 1
    expected["no certificate of its host has this key"] += 1
    reasons = lambda: [r[0] for r in recorder.sql("SELECT reason FROM rejects")]  # noqa: E731
    wait_until(lambda: len(reasons()) == sum(expected.values()), 20, lambda: "\n".join(sorted(reasons())))
    assert {k: sum(k in r for r in reasons()) for k in expected} == expected, sorted(reasons())
    forged = sum(r.startswith("forged: ") for r in reasons())
    metrics = get(recorder, "metrics")
    assert f'signatures_total{{result="forged"}} {forged}\n' in metrics
    assert 'signatures_total{result="unsigned"} 1\n' in metrics and 'signatures_total{result="unknown"} 2\n' in metrics
    assert "virtspool_recorder_duplicates_total 1\n" in metrics, "the one that was sent twice"
    # Its order is the host's again, and the third is missed, whatever was sent in its place.
    assert recorder.ids() == [json.loads(m.payload)["id"] for m in events if m is not third]
    (hole,) = recorder.rows("holes")
    assert (hole["first"], hole["last"], hole["state"]) == (3, 3, "open")
    publish(third.topic, third.payload)
    recorder.wait_for(5)
    wait_until(lambda: recorder.rows("holes") == [], 10, "the true one fills it")


def test_the_page_shows_what_is_signed(bed):
    bed.broker.start()
    subscriber = bed.subscriber()
    recorder = bed.recorder()
    recorder.config["verify"] = "mark"
    recorder.start()
    two_signed(bed, subscriber)
    recorder.wait_for(2)
    first = signed_events(subscriber.messages)[0]
    stripped = changed(first.payload, dssematerial=None, id="01990a3c-7bbd-7123-8123-0123456789ab", sequence="00000000000000000003")
    for payload in (stripped, changed(first.payload, subject="another")):
        bed.subscriber(topic="none").client.publish(first.topic, payload, qos=1).wait_for_publish(10)
    recorder.wait_for(3)
    with Browser(recorder.url) as page:
        page.open("#/log")
        badges = "return [...document.querySelectorAll('td .signature')].map((b) => b.textContent).sort()"
        page.wait(lambda: page.run(badges) == ["unsigned", "verified", "verified"], "each event has its badge")
        page.open("#/")
        page.wait(lambda: "Forged events claim to be from: host" in page.text("[aria-label='Needs attention']"), "the forged ones are reported")
        assert not page.complaints()


@pytest.mark.parametrize("mode", ["mark", "required"])
def test_the_recorder_takes_no_forgery(bed, mode):
    bed.broker.start()
    subscriber = bed.subscriber()
    recorder = bed.recorder()
    recorder.config["verify"] = mode
    recorder.start()
    two_signed(bed, subscriber)
    recorder.wait_for(2)
    recorder.stop()  # what is published now is taken later, with the certificates that it has kept
    messages = signed_events(subscriber.messages)
    payload, other, topic = messages[0].payload, messages[1].payload, messages[0].topic
    broker = bed.subscriber(topic="none").client
    lies = forgeries(payload, other)
    new = changed(payload, dssematerial=None, id="01990a3c-7bbd-7123-8123-0123456789ab", sequence="00000000000000000003")
    for lie in [*lies.values(), new]:
        broker.publish(topic, lie, qos=1).wait_for_publish(10)
    recorder.start()
    unsigned = mode == "mark"
    recorder.wait_for(2 + unsigned)
    rejects = len(lies) + (not unsigned)
    wait_until(lambda: len(recorder.sql("SELECT reason FROM rejects")) == rejects, 20, lambda: recorder.sql("SELECT reason FROM rejects"))
    reasons = [r[0] for r in recorder.sql("SELECT reason FROM rejects")]
    assert sum(r.startswith("forged: ") for r in reasons) == len(lies)
    flags = dict(recorder.sql("SELECT sequence, flags FROM events"))
    assert [bool(flags[n] & 32) for n in sorted(flags)] == [True, True] + [False] * unsigned
    assert f'virtspool_recorder_signatures_total{{result="forged"}} {len(lies)}\n' in get(recorder, "metrics")
    shown = [e["signature"] for e in json.loads(get(recorder, "api/v1/log"))["events"]]
    assert sorted(shown) == ["unsigned"] * unsigned + ["verified"] * 2
    problems = json.loads(get(recorder, "api/v1/summary"))["problems"]["items"]
    assert [(p["host"], p["count"]) for p in problems if p["kind"] == "event-forged"] == [("host", len(lies))]
    assert recorder.command("log").stdout.count(" verified\n") == 2
    recorder.stop()


def test_what_was_verified_stays_so_until_the_store_takes_it(bed):
    """A batch is judged once. The certificate that came with it is stored at the second try, too."""
    bed.broker.start()
    subscriber = bed.subscriber()
    recorder = bed.recorder()
    recorder.config["verify"] = "required"
    recorder.start()
    lock = sqlite3.connect(recorder.database, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    two_signed(bed, subscriber)
    wait_until(lambda: "the store does not take events" in recorder.output(), 20, recorder.output)
    lock.execute("ROLLBACK")
    lock.close()
    assert {e["signature"] for e in recorder.wait_for(2)} == {"verified"}
    assert recorder.sql("SELECT (SELECT count(*) FROM certificates), (SELECT count(*) FROM rejects)") == [(1, 0)]
    recorder.stop()


def test_keys_change_end_and_are_revoked_in_the_middle_of_a_stream(bed):
    """What was signed while a certificate counted still verifies, in the store, in the queue and years later."""
    certs = bed.certs
    bed.broker.start()
    recorder = bed.recorder()
    recorder.config["verify"] = "required"
    recorder.config["tls"]["crl_file"] = crl = certs.crl("none")
    recorder.start()
    subscriber = bed.subscriber()
    keys = {name: certs.signing_key(name) for name in ("host-first", "host-second")}
    keys["host-renewed"] = certs.signing_key("host-renewed", key="host-second")
    keys["host-ended"] = certs.signing_key("host-ended", end=-60)
    n = 0

    def report(name):
        """One event signed with this key; its payload."""
        nonlocal n
        sign(bed, *keys[name])
        if bed.daemon.process and bed.daemon.process.running:
            bed.daemon.reload()
            wait_until(lambda: certificate_of_status(subscriber) == pem_of(keys[name][1]), 15, "the new certificate is reported")
        else:
            bed.daemon.start()
        bed.hook("started")
        n += 1
        subscriber.wait_for(n)
        bed.spool.wait_empty()

    def rejected():
        return [r[0] for r in recorder.sql("SELECT reason FROM rejects WHERE topic NOT LIKE '%/status'")]

    report("host-first")
    recorder.wait_for(1)
    recorder.stop()  # the next wait in its session, with keys that it does not know yet
    report("host-second")
    report("host-renewed")
    recorder.start()
    assert len(recorder.wait_for(3)) == 3 and rejected() == []
    report("host-ended")
    wait_until(lambda: rejected() == ["forged: the certificate was not valid at the event's time"], 10, rejected)
    begin = int(time.time())
    wait_until(lambda: time.time() > begin + 1, 5, "the revocation is later than the events")
    crl.write_bytes(certs.crl("some", "host-second", "host-renewed").read_bytes())
    recorder.process.signal(signal.SIGHUP)
    wait_until(lambda: "loaded configuration and certificates" in recorder.output(), 10, recorder.output)
    report("host-second")
    wait_until(lambda: len(rejected()) == 2, 10, rejected)
    assert rejected()[1] == "forged: the certificate was revoked before the event's time"
    report("host-first")
    recorder.wait_for(4)
    evidence = bed.directory / "evidence"
    evidence.write_text(recorder.command("export", options=["-c", recorder.config_file]).stdout)
    done = bed.run("virtspool-recorder", "verify", "--cafile", certs.ca, "--crlfile", crl, evidence)
    assert "4 verified, 0 unsigned, 0 unknown, 0 forged" in done.stdout, done


def pem_of(file):
    return ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(file.read_text())).encode()


def test_an_export_is_evidence(bed):
    """A file that verifies with the CA alone; whatever is changed or left out, it says so."""
    bed.broker.start()
    recorder = bed.recorder()
    recorder.config["verify"] = "required"
    recorder.start()
    sign(bed)
    bed.daemon.start()
    bed.hook.start("web1")
    bed.hook.stop("web1")
    recorder.wait_for(5)
    config = ["-c", recorder.config_file]
    lines = recorder.command("export", options=config).stdout.splitlines(keepends=True)
    assert [next(iter(json.loads(line))) for line in lines[1:]] == ["authority", "certificate"] + 5 * ["event"] + ["end"]
    assert json.loads(lines[1])["authority"] == base64.b64encode(ssl.PEM_cert_to_DER_cert(bed.certs.ca.read_text())).decode()
    some = recorder.command("export", "--from", "1h", "--to", json.loads(json.loads(lines[5])["event"])["time"], options=config).stdout
    assert some.count('{"event"') == 2, "older than the third"
    recorder.stop()
    file = bed.directory / "evidence"

    def verify(text, code, *options):
        file.write_text(text)
        done = bed.run("virtspool-recorder", "verify", *(options or ["--cafile", bed.certs.ca]), file)
        assert done.returncode == code, done
        return done.stdout + done.stderr

    assert "5 verified, 0 unsigned, 0 unknown, 0 forged" in verify("".join(lines), 0)
    assert "5 verified, 0 unsigned, 0 unknown, 0 forged" in verify("".join(lines), 0, *config)
    assert "forged" in verify("".join(lines).replace("web1", "web2"), 1)
    assert "sequence 3 to 3 is missing" in verify("".join(lines[:5] + lines[6:]), 1)
    assert "sequence 2 is there more than once" in verify("".join(lines[:5] + lines[4:]), 1)
    assert "no certificate of its host has this key" in verify("".join(lines[:2] + lines[3:]), 1)
    newest = int(time.time())
    wait_until(lambda: time.time() > newest + 1, 5, "the certificate is revoked after the events")
    revoked = bed.certs.crl("revoked", "host")
    assert "is the trusted one" in verify("".join(lines), 0, "--cafile", bed.certs.ca, "--crlfile", revoked)
    assert "it was cut off" in verify("".join(lines[:-1]), 1)
    assert "not a file that" in verify("rubbish", 1)
    ours = f"{file}: every event is verified, none is missing"
    hostile = f"x\n{ours}\n\x1b[31m\x9b31m\u202e"
    holes = [json.dumps({"hole": 1, "host": hostile, "epoch": hostile, "first": 90, "last": 90}) + "\n"]
    holes += [json.dumps({"hole": {"host": hostile, "epoch": hostile, "first": 90, "last": 90}}) + "\n"]
    holes += [json.dumps({"host": hostile, "certificate": "rubbish"}) + "\n"]
    said = verify("".join(lines[:-1] + holes + lines[-1:]), 1)
    assert ours not in said.splitlines() and not set(said) & set("\x1b\x9b\u202e"), said
    assert said.count("\\u202e") == 3, said
    other = bed.certs.authority("other-ca")
    said = verify("".join(lines), 1, "--cafile", bed.certs.pem(other))
    assert "is not the trusted one" in said and "0 verified" in said
