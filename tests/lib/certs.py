# SPDX-License-Identifier: LGPL-2.1-or-later
"""A throw-away certificate authority, made by scripts/make-certs."""

import datetime
import hashlib
import ssl
import subprocess
from pathlib import Path

from .programs import ROOT, tool


class Certs:
    """certs.ca, certs.pem("host"), certs.key("host"); names made at once: broker, host, consumer."""

    def __init__(self, directory):
        self.directory = Path(directory)
        tool("certtool")
        self._make()

    @property
    def ca(self):
        return self.directory / "ca.pem"

    def pem(self, name):
        return self.directory / f"{name}.pem"

    def key(self, name):
        return self.directory / f"{name}.key"

    def server(self, name, *names, ca="ca", expired=False, future=False):
        """One more server certificate, for these DNS names and IP addresses."""
        self._make("server", name, *names, ca=ca, expired=expired, future=future)
        return name

    def client(self, name, ca="ca", expired=False):
        self._make("client", name, ca=ca, expired=expired)
        return name

    def signing_key(self, name, kind="p256", ca="ca", begin=-7200, end=30 * 86400, key=None):
        """
        A key for events.sign, "p256", "ed25519" or "rsa", and a certificate of the host before the first "-" of its name,
        valid from `begin` to `end` (seconds from now). key: a certificate for that key of ours instead of a new one.
        """
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

        makers = {
            "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
            "ed25519": ed25519.Ed25519PrivateKey.generate,
            "rsa": lambda: rsa.generate_private_key(65537, 2048),
        }
        load = serialization.load_pem_private_key
        private = load(self.key(key).read_bytes(), None) if key else makers[kind]()
        issuer = x509.load_pem_x509_certificate(self.pem(ca).read_bytes()).subject
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name.split("-")[0])])
        now = datetime.datetime.utcnow()
        builder = x509.CertificateBuilder(issuer, subject, private.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now + datetime.timedelta(seconds=begin)).not_valid_after(now + datetime.timedelta(seconds=end))
        certificate = builder.sign(load(self.key(ca).read_bytes(), None), hashes.SHA256())
        pem = serialization.Encoding.PEM
        self.pem(name).write_bytes(certificate.public_bytes(pem))
        self.key(name).write_bytes(private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        self.key(name).chmod(0o600)
        return self.key(name), self.pem(name)

    def authority(self, name):
        self._make("authority", name)
        return name

    def crl(self, name, *revoked, ca="ca", next_update_days=30):
        """A revocation list of this authority with the named certificates on it. Returns its path."""
        path, template = self.directory / f"{name}.crl", self.directory / f"{name}.template"
        lines = [f"crl_next_update = {next_update_days}", "crl_number = 1"]
        if next_update_days <= 0:
            lines = ['crl_this_update_date = "2020-01-01 00:00:00 UTC"', 'crl_next_update_date = "2020-02-01 00:00:00 UTC"']
            lines += ["crl_number = 1"]
        template.write_text("\n".join(lines) + "\n")
        command = [tool("certtool"), "--generate-crl", "--load-ca-certificate", self.pem(ca), "--load-ca-privkey"]
        command += [self.key(ca), "--template", template, "--outfile", path]
        if revoked:
            chain = self.directory / f"{name}.revoked"
            chain.write_text("".join(self.pem(r).read_text() for r in revoked))
            command += ["--load-certificate", chain]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        return path

    def end(self, name):
        """When the certificate ends, in seconds since 1970, by somebody else's program."""
        command = [tool("openssl"), "x509", "-in", self.pem(name), "-noout", "-enddate"]
        said = subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60).stdout
        return ssl.cert_time_to_seconds(said.strip().partition("=")[2])

    def encrypted_key(self, name, password):
        """The same key in PKCS#8 under a password. Returns (key file, password file)."""
        key, file = self.directory / f"{name}.encrypted.key", self.directory / f"{name}.password"
        file.touch(0o600)
        file.write_text(password + "\n")
        command = [tool("openssl"), "pkcs8", "-topk8", "-in", self.key(name), "-out", key, "-passout", f"file:{file}"]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        key.chmod(0o600)
        return key, file

    def self_signed(self, name, *dns_names, purpose="serverAuth", ca=None, key=("ec", "-pkeyopt", "ec_paramgen_curve:P-256")):
        """A server certificate of somebody who has no authority, or (ca) one with another purpose, or names that are
        any bytes, from ours."""
        names = b"".join(bytes([0x82, len(n)]) + n for n in (n if isinstance(n, bytes) else n.encode() for n in dns_names))
        names = f"DER:30{len(names):02x}{names.hex()}"
        command = [tool("openssl"), "req", "-x509", "-newkey", *key, "-nodes"]
        command += ["-subj", f"/CN={name}", "-addext", f"subjectAltName={names}", "-addext", f"extendedKeyUsage={purpose}"]
        command += ["-addext", "basicConstraints=critical,CA:FALSE", "-days", "30"]
        command += ["-keyout", self.key(name), "-out", self.pem(name)]
        if ca:
            command += ["-CA", self.pem(ca), "-CAkey", self.key(ca)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        return name

    def keystore(self, name, path):
        """The certificate and its key as Java reads them (PKCS#12, password "secret")."""
        command = [tool("openssl"), "pkcs12", "-export", "-in", self.pem(name), "-inkey", self.key(name), "-out", path]
        subprocess.run([*command, "-passout", "pass:secret"], check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)

    def truststore(self, path):
        """Adds the authority's certificate to a file of the same kind, which need not be there."""
        command = [tool("keytool"), "-importcert", "-noprompt", "-file", self.ca, "-alias", "ca", "-keystore", path]
        command += ["-storetype", "PKCS12", "-storepass", "secret"]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=120)

    def pin(self, name):
        """SHA-256 of the certificate's SubjectPublicKeyInfo, by somebody else's program."""
        der = subprocess.run(
            f"openssl x509 -in '{self.pem(name)}' -noout -pubkey | openssl pkey -pubin -outform der",
            shell=True,
            check=True,
            capture_output=True,
            timeout=60,
        ).stdout
        return "sha256:" + hashlib.sha256(der).hexdigest()

    def ocsp_response(self, name, revoked=False, ca="ca"):
        """What an OCSP responder of the authority says about the certificate now. Returns a path."""
        path, index = self.directory / f"{name}.ocsp", self.directory / f"{name}.index"
        command = ["openssl", "x509", "-in", self.pem(name), "-noout", "-serial"]
        serial = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip().partition("=")[2]
        state = "R\t491231235959Z\t240101000000Z" if revoked else "V\t491231235959Z\t"
        index.write_text(f"{state}\t{serial}\tunknown\t/CN={name}\n")
        command = ["openssl", "ocsp", "-index", index, "-CA", self.pem(ca), "-rsigner", self.pem(ca), "-rkey", self.key(ca)]
        command += ["-issuer", self.pem(ca), "-cert", self.pem(name), "-respout", path, "-ndays", "2"]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        return path

    def _make(self, *arguments, ca="ca", expired=False, future=False):
        options = ["--ca", ca] + (["--expired"] if expired else []) + (["--future"] if future else [])
        subprocess.run(
            [ROOT / "scripts/make-certs", *options, self.directory, *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )
