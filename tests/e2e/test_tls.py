# SPDX-License-Identifier: LGPL-2.1-or-later
"""
TLS between the daemon and a broker: each way to succeed, and each failure that must be one: the event stays in the
spool, and the log says why in words. Real virtspoold against mosquitto, gnutls-serv, and Python's ssl.
"""

import contextlib
import os
import select
import socket
import struct
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from lib import Behaviour, Process, free_port, wait_until
from lib.namespaces import Namespaces
from lib.programs import program, tool
from lib.token import Token
from lib.waiting import PATIENCE
from lib.watch import Watch


def start_against(bed, url, **tls):
    """One event in the spool, and a daemon for this broker with these tls settings (None removes one)."""
    bed.hook("start", "begin")
    daemon = bed.new_daemon(brokers=[])
    daemon.config["brokers"] = [url]
    daemon.config["mqtt"]["connect_timeout"] = "2s"
    daemon.config["tls"].update(tls)
    daemon.config["tls"] = {k: v for k, v in daemon.config["tls"].items() if v is not None}
    return daemon.start()


def check_delivered(bed, daemon):
    wait_until(lambda: not bed.spool.waiting(), 15, lambda: f"the event is delivered:\n{daemon.output()}")
    assert daemon.stop() == 0


def check_refused(bed, daemon, text):
    """The reason is told, the event stays, and a second attempt is no different."""
    wait_until(lambda: text in daemon.output(), 15, lambda: f"'{text}' in the log:\n{daemon.output()}")
    assert len(bed.spool.waiting()) == 1
    assert daemon.stop() == 0
    assert len(bed.spool.waiting()) == 1


def with_certificate(bed, name, host="localhost"):
    broker = bed.new_broker(f"with-{name}", certificate=name)
    broker.host = host
    return broker.start()


# --- the server's certificate

SERVERS = {
    # name: (how the certificate is made, the host in the URL, what the log says; None: accepted)
    "good": (lambda c: c.server("t-good", "localhost"), "localhost", None),
    "wildcard-does-not-match": (lambda c: c.server("t-wild", "*.example.org"), "localhost", "is for '*.example.org', not for"),
    "ip-address": (lambda c: c.server("t-ip", "127.0.0.1"), "127.0.0.1", None),
    "ip-address-not-listed": (
        lambda c: c.server("t-noip", "localhost"),
        "127.0.0.1",
        "its certificate is for 'localhost', not for '127.0.0.1'",
    ),
    "ip-address-as-dns-name-only": (
        lambda c: c.server("t-otherip", "127.0.0.2"),
        "127.0.0.1",
        "its certificate is for 127.0.0.2, not for '127.0.0.1'",
    ),
    "wrong-name": (
        lambda c: c.server("t-name", "broker2", "broker3"),
        "localhost",
        "its certificate is for 'broker2', 'broker3', not for 'localhost'",
    ),
    "expired": (
        lambda c: c.server("t-expired", "localhost", expired=True),
        "localhost",
        "its certificate expired on 2020-12-31 00:00:00 UTC",
    ),
    "not-yet-valid": (
        lambda c: c.server("t-future", "localhost", future=True),
        "localhost",
        "its certificate is not valid before 2099-01-01 00:00:00 UTC (the clock here says ",
    ),
    "self-signed": (lambda c: c.self_signed("t-self", "localhost"), "localhost", "its certificate is self-signed and not in '"),
    "wrong-ca": (
        lambda c: c.server("t-wrongca", "localhost", ca=c.authority("t-otherca")),
        "localhost",
        "its certificate is not signed by a CA in '",
    ),
    "no-name-at-all": (
        lambda c: c.server("t-nameless"),
        "localhost",
        "its certificate is for no host name (its subject is 'CN=t-nameless'), not for 'localhost'",
    ),
    "client-certificate-as-server": (
        lambda c: c.self_signed("t-purpose", "localhost", purpose="clientAuth", ca="ca"),
        "localhost",
        "its certificate is not meant for a TLS server",
    ),
}


@pytest.mark.parametrize("name", SERVERS)
def test_server_certificate(bed, name):
    make, host, refusal = SERVERS[name]
    broker = with_certificate(bed, make(bed.certs), host)
    daemon = start_against(bed, broker.url)
    if refusal is None:
        check_delivered(bed, daemon)
        return
    check_refused(bed, daemon, refusal)
    assert f"{host} (127.0.0.1:{broker.port}): " in daemon.output(), "the line names broker and address"
    assert "virtspool-node1" not in broker.output(), "not even a CONNECT came through"


def test_a_certificate_that_writes_between_the_lines(bed):
    """The name that it is for is told, in the log, to the service manager and in the status; and it is one line there."""
    evil = "evil\nWATCHDOG=trigger\n\x1b[31m".encode() + b"\xff"
    daemon = start_against(bed, with_certificate(bed, bed.certs.self_signed("t-evil", evil, ca="ca")).url)
    wait_until(lambda: "WATCHDOG" in str(daemon.status().get("last_error")), 15, daemon.output)
    wait_until(lambda: "WATCHDOG" in str(daemon.notified), 15, "the service manager is told")
    assert "for 'evil\ufffdWATCHDOG=trigger\ufffd\ufffd[31m\ufffd', not" in daemon.status()["last_error"]
    assert "WATCHDOG=trigger" not in daemon.notified
    assert any(line.startswith("STATUS=Not connected") and "evil\ufffdWATCHDOG" in line for line in daemon.notified)
    check_refused(bed, daemon, "its certificate is for 'evil\\nWATCHDOG=trigger\\n")


def test_server_name_instead_of_the_host(bed):
    broker = with_certificate(bed, bed.certs.server("t-alias", "broker.example.org"))
    check_delivered(bed, start_against(bed, broker.url, server_name="broker.example.org"))


def test_system_trust_store_does_not_know_our_authority(bed):
    broker = with_certificate(bed, "broker")
    daemon = start_against(bed, broker.url, ca_file=None)
    check_refused(bed, daemon, "is not signed by a CA in the system's trust store")


STORE = "/etc/ssl/certs/ca-certificates.crt"


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists(STORE), reason="needs root and Debian's trust store")
def test_system_trust_store(bed):
    """With our authority in it, seen by this daemon alone, no ca_file is needed."""
    box = Namespaces(bed.directory, mount=True)
    store = bed.directory / "store.crt"
    store.write_text(Path(STORE).read_text() + bed.certs.ca.read_text())
    box.run("mount", "--bind", store, os.path.realpath(STORE))
    bed.hook("start", "begin")
    daemon = bed.new_daemon(brokers=with_certificate(bed, "broker"))
    daemon.prefix = box.prefix
    del daemon.config["tls"]["ca_file"]
    check_delivered(bed, daemon.start())


def test_revoked(bed):
    crl = bed.certs.crl("t-revoked", "broker")
    daemon = start_against(bed, with_certificate(bed, "broker").url, crl_file=crl)
    check_refused(bed, daemon, f"its certificate is revoked ('{crl}'")


def test_not_revoked(bed):
    bed.certs.server("t-unlucky", "localhost")
    crl = bed.certs.crl("t-others", "t-unlucky")
    check_delivered(bed, start_against(bed, with_certificate(bed, "broker").url, crl_file=crl))


def test_outdated_revocation_list_is_no_list(bed):
    crl = bed.certs.crl("t-old", next_update_days=0)
    daemon = start_against(bed, with_certificate(bed, "broker").url, crl_file=crl)
    check_refused(bed, daemon, f"revocation cannot be checked: the list in '{crl}' should have been renewed by 2020-")


def test_a_revocation_list_of_somebody_else_is_no_list(bed):
    crl = bed.certs.crl("t-foreign", ca=bed.certs.authority("t-another-ca"))
    daemon = start_against(bed, with_certificate(bed, "broker").url, crl_file=crl)
    check_refused(bed, daemon, "revocation cannot be checked: there is no list of its issuer '")


@pytest.mark.parametrize("revoked", [["broker"], []], ids=["revoked", "not-revoked"])
def test_lists_of_several(bed, revoked):
    lists = bed.directory / "lists.crl"
    names = [bed.certs.crl("t-several", ca=bed.certs.authority("t-one-more-ca")), bed.certs.crl("t-ours", *revoked)]
    lists.write_text("".join(n.read_text() for n in names))
    daemon = start_against(bed, with_certificate(bed, "broker").url, crl_file=lists)
    if revoked:
        check_refused(bed, daemon, "its certificate is revoked")
    else:
        check_delivered(bed, daemon)


# --- a GnuTLS server, for what mosquitto cannot do


def gnutls_server(bed, *options, certificate="broker"):
    """gnutls-serv knows no MQTT: a CONNECT is never answered. Returns (process, url)."""
    port = free_port()
    command = [tool("gnutls-serv"), "--echo", "--port", port]
    command += [] if "--require-client-cert" in options else ["--disable-client-cert"]
    command += ["--x509certfile", bed.certs.pem(certificate), "--x509keyfile", bed.certs.key(certificate), *options]
    process = Process(command, bed.directory / "gnutls-serv.log")

    def listens():
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0

    wait_until(listens, 10, "gnutls-serv listens")
    return process, f"mqtts://localhost:{port}"


OLD_TLS = "the broker wants a TLS version that is not allowed here"
TLS_ACCEPTED = "no CONNACK within 2 s"  # that is, the handshake was fine


def test_stapled_ocsp_response(bed):
    """The broker staples that its own certificate is revoked; no list is configured here."""
    bed.certs.server("t-ocsp", "localhost")
    response = bed.certs.ocsp_response("t-ocsp", revoked=True)
    _, url = gnutls_server(bed, "--ignore-ocsp-response-errors", "--ocsp-response", response, certificate="t-ocsp")
    check_refused(bed, start_against(bed, url), "its certificate is revoked (says its OCSP response)")


def test_stapled_ocsp_response_is_good(bed):
    bed.certs.server("t-ocsp-good", "localhost")
    response = bed.certs.ocsp_response("t-ocsp-good")
    _, url = gnutls_server(bed, "--ocsp-response", response, certificate="t-ocsp-good")
    check_refused(bed, start_against(bed, url), TLS_ACCEPTED)


def test_tls_1_1_is_refused(bed):
    _, url = gnutls_server(bed, "--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.1")
    check_refused(bed, start_against(bed, url), "no common TLS version or cipher")


def test_tls_1_1_is_refused_whatever_the_priority_string(bed):
    _, url = gnutls_server(bed, "--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.1")
    priority = "NORMAL:-VERS-ALL:+VERS-TLS1.1:+VERS-TLS1.2"
    check_refused(bed, start_against(bed, url, priority=priority), OLD_TLS)


def test_tls_1_2_is_enough(bed):
    _, url = gnutls_server(bed, "--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.2")
    check_refused(bed, start_against(bed, url), TLS_ACCEPTED)


def test_tls_1_2_is_not_enough(bed):
    _, url = gnutls_server(bed, "--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.2")
    daemon = start_against(bed, url, minimum_version="1.3")
    check_refused(bed, daemon, "no common TLS version or cipher")


class ClientHello:
    """The first message of a TLS client (RFC 8446, section 4.1.2)."""

    def __init__(self, message):
        assert message[0] == 22 and message[5] == 1, message[:16]
        at = 5 + 4 + 2 + 32  # record, handshake, version, random
        at += 1 + message[at]
        n = int.from_bytes(message[at : at + 2], "big")
        self.suites = numbers(message[at + 2 : at + 2 + n])
        at += 2 + n
        n = message[at]
        self.compression = message[at + 1 : at + 1 + n]
        at += 1 + n + 2
        self.extensions = {}
        while at < len(message):
            kind, n = struct.unpack(">HH", message[at : at + 4])
            self.extensions[kind] = message[at + 4 : at + 4 + n]
            at += 4 + n

    def numbers(self, kind, length=2):
        """The list of 16-bit numbers in an extension, after its length of so many bytes."""
        return numbers(self.extensions.get(kind, b"\0\0")[length:])

    @property
    def alpn(self):
        return self.extensions.get(16, b"\0\0")[2:]


def numbers(data):
    return [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)]


@contextlib.contextmanager
def listening():
    """A server that reads what a client says first: its URL, and a function that returns the message."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(15 * PATIENCE)

        def first():
            with listener.accept()[0] as connection:
                connection.settimeout(15 * PATIENCE)
                return ClientHello(connection.recv(65536))

        yield f"mqtts://localhost:{listener.getsockname()[1]}", first


def client_hello(bed, **tls):
    with listening() as (url, first):
        start_against(bed, url, **tls)
        return first()


SCSV = 0xFF  # TLS_EMPTY_RENEGOTIATION_INFO_SCSV (RFC 5746), not a cipher
TLS_1_3 = {0x1301, 0x1302, 0x1303}
ECDHE = {0xC02B, 0xC02C, 0xC02F, 0xC030, 0xCCA8, 0xCCA9}
EPHEMERAL_PSK = {0x00AA, 0x00AB, 0xCCAC, 0xCCAD}
TICKET, PSK_OFFER, GROUPS, SIGNATURES, SIGNATURES_OF_CERTIFICATES, VERSIONS = 35, 41, 10, 13, 50, 43


def check_hello(hello, suites):
    """RFC 9325: AES-GCM or ChaCha20-Poly1305 with an ephemeral key exchange, no SHA-1 signature, no compression, safe
    renegotiation and the extended master secret; and nothing that could resume a session."""
    assert set(hello.suites) - {SCSV} == TLS_1_3 | suites
    assert SCSV in hello.suites or 0xFF01 in hello.extensions
    assert hello.compression == b"\0" and 23 in hello.extensions
    for kind in (SIGNATURES, SIGNATURES_OF_CERTIFICATES):
        assert not [s for s in hello.numbers(kind) if s >> 8 in (1, 2, 3)], "MD5, SHA-1 or SHA-224"
    assert set(hello.numbers(VERSIONS, 1)) == {0x0303, 0x0304}
    assert set(hello.numbers(GROUPS)) <= {23, 24, 25, 29, 30, *range(256, 261)}, "a group below 224 bits"
    assert TICKET not in hello.extensions and PSK_OFFER not in hello.extensions


@pytest.mark.parametrize("psk", [False, True], ids=["certificates", "psk"])
def test_only_forward_secrecy_and_authenticated_encryption_are_offered(bed, psk):
    tls = {**PSK, "psk_key_file": secret(bed.directory, "00112233445566778899aabbccddeeff")} if psk else {}
    hello = client_hello(bed, **tls)
    if psk:
        hello.extensions.pop(PSK_OFFER)  # TLS 1.3 offers the key itself so
    check_hello(hello, EPHEMERAL_PSK if psk else ECDHE)
    assert hello.alpn == b"\x04mqtt"


class Relay:
    """In front of a server: passes everything on, and keeps the first message of each client."""

    def __init__(self, port):
        self.port = port
        self.first = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"mqtts://localhost:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self.accept)
        self.thread.start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                with client, socket.create_connection(("127.0.0.1", self.port)) as server:
                    self.first.append(client.recv(65536))
                    server.sendall(self.first[-1])
                    self.pass_on(client, server)

    @staticmethod
    def pass_on(*pair):
        """Until one of the two ends."""
        while True:
            for s in select.select(pair, [], [])[0]:
                data = s.recv(65536)
                if not data:
                    return
                pair[s is pair[0]].sendall(data)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()


def test_a_second_connection_offers_nothing_of_the_first(bed):
    """The broker gave session tickets with the first."""
    broker = bed.scripted_broker()
    relay = Relay(broker.port)
    daemon = start_against(bed, relay.url)
    wait_until(lambda: not bed.spool.waiting(), 15, lambda: f"the event is delivered:\n{daemon.output()}")
    broker.connections[-1].raw_shutdown()
    wait_until(lambda: len(relay.first) == 2, 15, lambda: f"it connects again:\n{daemon.output()}")
    for message in relay.first:
        check_hello(ClientHello(message), ECDHE)
    assert daemon.stop() == 0
    relay.close()


@pytest.mark.parametrize("name", ["doctor", "watch", "recorder"])
def test_all_our_programs_offer_the_same(bed, name):
    with listening() as (url, first):
        broker = SimpleNamespace(host="localhost", port=int(url.rpartition(":")[2]), tls=True, url=url)
        if name == "recorder":
            bed.recorder(brokers=[broker]).start(wait=False)
        elif name == "watch":
            Watch(bed, broker=broker)
        else:
            daemon = bed.new_daemon(brokers=[broker])
            daemon.write_config()
            Process([program("virtspool"), name, "-c", daemon.config_file], bed.directory / "log", bed.spool.environment)
        check_hello(first(), ECDHE)


def test_a_short_rsa_key_is_refused(bed):
    """1024 bits: RFC 9325, section 4.5."""
    name = bed.certs.self_signed("t-short", "localhost", ca="ca", key=["rsa:1024"])
    _, url = gnutls_server(bed, certificate=name)
    check_refused(bed, start_against(bed, url), "uses an algorithm or key that is too weak")


def test_the_priority_string_wins(bed):
    hello = client_hello(bed, priority="NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+RSA:-CIPHER-ALL:+AES-128-CBC:-MAC-ALL:+SHA1")
    assert set(hello.suites) - {SCSV} == {0x002F}


@pytest.mark.parametrize("alpn, offered", [("x-amzn-mqtt-ca", b"\x0ex-amzn-mqtt-ca"), ("none", b"")])
def test_alpn(bed, alpn, offered):
    assert client_hello(bed, alpn=alpn).alpn == offered


@pytest.mark.parametrize("kx", ["+RSA:-CIPHER-ALL:+AES-128-CBC:-MAC-ALL:+SHA1", "+RSA", "+ECDHE-RSA:-CIPHER-ALL:+AES-256-CBC"])
def test_a_server_with_weak_ciphers_only_is_refused(bed, kx):
    _, url = gnutls_server(bed, "--priority", f"NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:{kx}")
    check_refused(bed, start_against(bed, url), "no common TLS version or cipher")


def test_priority_string(bed):
    broker = bed.scripted_broker()
    daemon = start_against(bed, broker.url, priority="NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-GCM")
    check_delivered(bed, daemon)
    assert broker.connections[-1].version == "TLSv1.2"


def test_priority_string_with_a_mistake(bed):
    daemon = bed.new_daemon(brokers=[])
    daemon.config.update(brokers=["mqtts://localhost:1"], tls={"priority": "NORMAL:+NONSENSE"})
    daemon.start(ready=False)
    assert daemon.process.wait() != 0
    assert "+NONSENSE" in daemon.output()


@pytest.mark.parametrize("kind", ["fifo", "device", "without end"])
@pytest.mark.parametrize("key", ["ca_file", "certificate_file", "crl_file"])
def test_a_file_that_is_something_else(bed, kind, key):
    """Whoever renews certificates may be another user: none of this is waited for, or read into memory."""
    path = bed.directory / "thing"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.touch()
        os.truncate(path, 1 << 40)
    daemon = bed.new_daemon(brokers=[])
    daemon.config.update(brokers=["mqtts://localhost:1"])
    daemon.config["tls"][key] = path
    status, said = daemon.check()
    assert status != 0
    assert ("it is larger than such a file can be" if kind == "without end" else "it is not a regular file") in said


# --- pins


def test_pin_on_top_of_the_ca(bed):
    check_delivered(bed, start_against(bed, with_certificate(bed, "broker").url, pins=[bed.certs.pin("broker")]))


def test_pin_instead_of_a_ca(bed):
    bed.certs.server("t-pinned", "localhost", ca=bed.certs.authority("t-unknown"))
    broker = with_certificate(bed, "t-pinned")
    check_delivered(bed, start_against(bed, broker.url, ca_file=None, pins=[bed.certs.pin("t-pinned")]))


def test_wrong_pin(bed):
    daemon = start_against(bed, with_certificate(bed, "broker").url, pins=[bed.certs.pin("host")])
    check_refused(bed, daemon, f"its public key is not pinned; it is {bed.certs.pin('broker')}")


def test_pin_does_not_replace_the_name(bed):
    bed.certs.server("t-pinned-name", "elsewhere")
    broker = with_certificate(bed, "t-pinned-name")
    daemon = start_against(bed, broker.url, ca_file=None, pins=[bed.certs.pin("t-pinned-name")])
    check_refused(bed, daemon, "its certificate is for 'elsewhere', not for 'localhost'")


def test_pin_does_not_replace_the_ca(bed):
    bed.certs.server("t-pinned-ca", "localhost", ca=bed.certs.authority("t-unknown2"))
    broker = with_certificate(bed, "t-pinned-ca")
    daemon = start_against(bed, broker.url, pins=[bed.certs.pin("t-pinned-ca")])
    check_refused(bed, daemon, "is not signed by a CA in '")


# --- our own certificate


def test_client_certificate_missing(bed):
    broker = with_certificate(bed, "broker")
    daemon = start_against(bed, broker.url, certificate_file=None, key_file=None)
    check_refused(bed, daemon, "it demands a client certificate; set tls.certificate_file and tls.key_file")


def test_client_certificate_of_another_authority(bed):
    bed.certs.client("t-stranger", ca=bed.certs.authority("t-strange"))
    broker = with_certificate(bed, "broker")
    certificate, key = bed.certs.pem("t-stranger"), bed.certs.key("t-stranger")
    daemon = start_against(bed, broker.url, certificate_file=certificate, key_file=key)
    wait_until(lambda: "alert" in daemon.output(), 15, "the broker's alert is told")
    assert len(bed.spool.waiting()) == 1


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_our_certificate_is_sent_to_a_server_that_names_other_authorities(bed, version):
    """EMQX names its authorities, and may accept more: GnuTLS by itself would send no certificate at all."""
    other = bed.certs.authority("t-other")
    options = ["--x509cafile", bed.certs.pem(other), "--require-client-cert"]
    options += ["--priority", f"NORMAL:-VERS-ALL:+VERS-TLS{version}"]
    _, url = gnutls_server(bed, *options)
    check_refused(bed, start_against(bed, url), TLS_ACCEPTED)


def test_a_server_that_accepts_other_authorities_only(bed):
    other = bed.certs.authority("t-other")
    _, url = gnutls_server(bed, "--x509cafile", bed.certs.pem(other), "--require-client-cert", "--verify-client-cert")
    check_refused(bed, start_against(bed, url), "; it accepts certificates of 'CN=virtspool test authority t-other', ours is from 'CN=virtspool test authority ca'")


def test_encrypted_key(bed):
    key, password = bed.certs.encrypted_key("host", "correct horse")
    check_delivered(bed, start_against(bed, with_certificate(bed, "broker").url, key_file=key, key_password_file=password))


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda c, d: {"key_password_file": None}, "is encrypted and tls.key_password_file is not set"),
        (lambda c, d: {"key_password_file": secret(d, "wrong")}, "does not open the key '"),
        (lambda c, d: {"key_file": c.key("consumer"), "key_password_file": None}, "is not the one of the certificate '"),
        (lambda c, d: {"key_file": open_to_others(c, d), "key_password_file": None}, "can be read by others"),
        (lambda c, d: {"ca_file": c.key("host")}, "the CA file '"),
        (lambda c, d: {"ca_file": "/nonexistent/ca.pem"}, "/nonexistent/ca.pem"),
        (lambda c, d: {"crl_file": c.ca}, "holds no revocation list"),
        (lambda c, d: {"ca_file": None, "pins": [c.pin("broker")], "crl_file": c.crl("t-of-pins")}, "crl_file needs tls.ca_file"),
    ],
    ids=[
        *("no-password", "wrong-password", "other-key", "key-open-to-others"),
        *("ca-is-a-key", "ca-missing", "crl-is-none", "crl-beside-pins"),
    ],
)
def test_credentials_that_cannot_be_used(bed, change, text):
    """Told at start, with the file's name; the daemon does not run."""
    key, password = bed.certs.encrypted_key("host", "correct horse")
    daemon = bed.new_daemon(brokers=[])
    tls = {**daemon.config["tls"], "key_file": key, "key_password_file": password, **change(bed.certs, bed.directory)}
    daemon.config.update(brokers=["mqtts://localhost:1"], tls={k: v for k, v in tls.items() if v is not None})
    daemon.start(ready=False)
    assert daemon.process.wait() != 0
    assert text in daemon.output()


def secret(directory, value):
    path = directory / "secret"
    path.touch(0o600)
    path.write_text(value + "\n")
    return path


def open_to_others(certs, directory):
    path = directory / "open.key"
    path.write_bytes(certs.key("host").read_bytes())
    path.chmod(0o644)
    return path


def test_pkcs11(bed):
    """Key and certificate in a SoftHSM token, the PIN in a file."""
    token = Token(bed.directory, bed.certs.key("host"), bed.certs.pem("host"))
    daemon = bed.new_daemon(brokers=[])
    daemon.environment |= token.environment
    broker = with_certificate(bed, "broker")
    daemon.config["brokers"] = [broker.url]
    daemon.config["tls"].update(
        certificate_file=token.certificate, key_file=token.key, key_password_file=secret(bed.directory, "1234")
    )
    bed.hook("start", "begin")
    daemon.start()
    check_delivered(bed, daemon)
    daemon.config["tls"]["key_password_file"] = secret(bed.directory, "4321")
    daemon.start(ready=False)
    assert daemon.process.wait() != 0
    assert "PIN" in daemon.output()


# --- pre-shared keys


@pytest.fixture
def psk_broker(bed):
    keys = bed.directory / "psk-keys"
    keys.write_text("node1:00112233445566778899aabbccddeeff\n")
    broker = bed.new_broker("psk", tls=False)
    broker.psk_port = free_port()
    broker.options = [f"listener {broker.psk_port} 127.0.0.1", "psk_hint virtspool", f"psk_file {keys}"]
    broker.options += ["use_identity_as_username true", "allow_anonymous true"]
    broker.start()
    broker.psk_url = f"mqtts://localhost:{broker.psk_port}"
    return broker


PSK = {"ca_file": None, "certificate_file": None, "key_file": None, "psk_identity": "node1"}


@pytest.mark.parametrize("minimum", ["1.2", "1.3"])
def test_psk(bed, psk_broker, minimum):
    key = secret(bed.directory, "00112233445566778899aabbccddeeff")
    check_delivered(bed, start_against(bed, psk_broker.psk_url, **PSK, psk_key_file=key, minimum_version=minimum))


def test_psk_wrong_key(bed, psk_broker):
    key = secret(bed.directory, "ffeeddccbbaa99887766554433221100")
    daemon = start_against(bed, psk_broker.psk_url, **PSK, psk_key_file=key)
    wait_until(lambda: "TLS handshake" in daemon.output() or "pre-shared" in daemon.output(), 15, daemon.output)
    assert len(bed.spool.waiting()) == 1


def test_psk_does_not_accept_a_certificate_instead(bed):
    """Who has only a pre-shared key trusts nobody by certificate."""
    broker = with_certificate(bed, "broker")
    key = secret(bed.directory, "00112233445566778899aabbccddeeff")
    daemon = start_against(bed, broker.url, **PSK, psk_key_file=key)
    check_refused(bed, daemon, "during the TLS handshake")


# --- the session


def test_names_protocol_and_no_resumption(bed):
    class CloseAfterPublish(Behaviour):
        def publish(self, c, publish):
            c.close()

    broker = bed.scripted_broker(CloseAfterPublish())
    daemon = start_against(bed, broker.url)
    broker.wait_connections(3)
    broker.behaviour = Behaviour()
    check_delivered(bed, daemon)
    for c in (c for c in broker.connections if c.version):
        assert c.sni == "localhost" and c.alpn == "mqtt" and c.version == "TLSv1.3"
        assert c.resumed is False, "a resumed session would not be verified"
        assert dict(x[0] for x in c.certificate["subject"])["commonName"] == "host"


def test_no_resumption_in_tls_1_2(bed):
    class CloseAfterPublish(Behaviour):
        def publish(self, c, publish):
            c.close()

    broker = bed.scripted_broker(CloseAfterPublish())
    daemon = start_against(bed, broker.url, priority="NORMAL:-VERS-ALL:+VERS-TLS1.2")
    broker.wait_connections(3)
    broker.behaviour = Behaviour()
    check_delivered(bed, daemon)
    assert all(c.resumed is False and c.version == "TLSv1.2" for c in broker.connections if c.version)


def test_ip_address_is_no_server_name(bed):
    broker = bed.scripted_broker()
    broker.host = "127.0.0.1"
    check_delivered(bed, start_against(bed, broker.url))
    assert broker.connections[-1].sni is None


def test_truncation_is_a_lost_connection(bed):
    """Closed without close_notify, by whomever: what was not acknowledged is sent again."""

    class Truncate(Behaviour):
        def publish(self, c, publish):
            c.cut()

    broker = bed.scripted_broker(Truncate())
    daemon = start_against(bed, broker.url)
    wait_until(lambda: "the connection was cut, without TLS's close_notify" in daemon.output(), 15, daemon.output)
    assert len(bed.spool.waiting()) == 1
    broker.behaviour = Behaviour()
    check_delivered(bed, daemon)
    assert broker.delivered_ids() == {e["id"] for e in broker.events(broker.published)}


def test_certificates_replaced_on_disk_are_used_after_sighup(bed):
    own = {kind: bed.directory / f"own.{kind}" for kind in ("pem", "key")}

    def put(name):
        for kind, path in own.items():
            path.write_bytes(getattr(bed.certs, kind)(name).read_bytes())
            path.chmod(0o600)

    put("host")
    broker = bed.scripted_broker()
    daemon = start_against(bed, broker.url, certificate_file=own["pem"], key_file=own["key"])
    broker.wait_delivered(1)
    put(bed.certs.client("t-renewed"))
    bed.hook("started", "begin")
    daemon.reload()
    bed.hook("stopped", "end")
    broker.wait_delivered(3)
    wait_until(
        lambda: "t-renewed" in str(broker.connections[-1].certificate), 10, "a connection with the new certificate"
    )
    own["pem"].write_text("broken")
    daemon.reload()
    bed.hook("release", "end")
    broker.wait_delivered(4)
    assert daemon.stop() == 0


# --- plain TCP


def test_plain_tcp_when_it_is_asked_for(bed):
    broker = bed.new_broker("plain", tls=False).start()
    check_delivered(bed, start_against(bed, broker.url))


def test_plain_tcp_is_no_fallback(bed):
    broker = bed.new_broker("plain", tls=False).start()
    daemon = start_against(bed, f"mqtts://localhost:{broker.port}")
    check_refused(bed, daemon, "during the TLS handshake")
    assert "virtspool-node1" not in broker.output()


def test_tls_listener_is_not_spoken_to_in_the_clear(bed):
    broker = with_certificate(bed, "broker")
    daemon = start_against(bed, f"mqtt://127.0.0.1:{broker.port}")
    check_refused(bed, daemon, f"127.0.0.1 (127.0.0.1:{broker.port}): ")
