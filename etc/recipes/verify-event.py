#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
verify-event.py CERTIFICATE.pem <events: is each event, one per line as it was received, signed with this certificate's key?

This is virtspool-events(7), "Verifiable events", in twenty lines, written from that page alone. A consumer must also check
what is not in the bytes: the certificate's chain, host and dates.
"""

import json
import sys
from base64 import b64decode, b64encode
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_pem_x509_certificate

TYPE = b"https://cloudevents.io/verifiability/dsse/v0.1"
CORE = ["id", "source", "specversion", "type", "datacontenttype", "dataschema", "subject", "time"]


def counted(event, name):
    """An attribute as it counts: true, false; times in whole seconds."""
    value = event.get(name, "")
    return json.dumps(value).encode() if isinstance(value, bool) else (value[:19] + "Z" if value and name.endswith("time") else value).encode()


def digest(parts):
    return b64encode(sha256(b"".join(sha256(p).digest() for p in parts)).digest()).decode()


def verify(payload, certificate):
    """The event's bytes, and the certificate's (PEM)."""
    event = json.loads(payload)
    envelope = json.loads(b64decode(event["dssematerial"]))
    signed, (signature,) = b64decode(envelope["payload"]), envelope["signatures"]
    names = json.loads(signed).get("signedextattrs", [])
    said = {"core": digest([counted(event, n) for n in CORE] + [payload.split(b',"data":', 1)[1][:-1]])}
    said |= {"ext": digest(counted(event, n) for n in names), "signedextattrs": names} if names else {}
    key, raw = load_pem_x509_certificate(certificate).public_key(), b64decode(signature["sig"])
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if said != json.loads(signed) or set(event) - {*CORE, "data", "dssematerial"} != set(names):
        return False
    if envelope["payloadType"].encode() != TYPE or signature["keyid"] != sha256(spki).hexdigest() or len(raw) != 64:
        return False
    pae = b"DSSEv1 %d %s %d %s" % (len(TYPE), TYPE, len(signed), signed)
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
            key.verify(utils.encode_dss_signature(r, s), pae, ec.ECDSA(SHA256()))
        else:
            key.verify(raw, pae)  # Ed25519
    except InvalidSignature:
        return False
    return True


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as f:
        pem = f.read()
    for line in sys.stdin.buffer.read().splitlines():
        print("verified" if verify(line, pem) else "FORGED")
