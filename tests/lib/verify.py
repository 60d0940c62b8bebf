# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Verifies a signed event as virtspool-events(7) describes it, from nothing but that page: what a consumer in any
language has to do. It shares no code with the project.
"""

import json
from base64 import b64decode
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_pem_x509_certificate

TYPE = "https://cloudevents.io/verifiability/dsse/v0.1"
CORE = ("id", "source", "specversion", "type", "datacontenttype", "dataschema", "subject", "time")


def text(name, value):
    """A value as it counts: true, false; times in whole seconds."""
    if isinstance(value, bool):
        return str(value).lower().encode()
    return (value[:19] + "Z" if value and name in ("time", "recordedtime") else value).encode()


def digest(parts):
    return sha256(b"".join(sha256(p).digest() for p in parts)).digest()


def verify(payload, certificate):
    """True if these bytes were signed with the key of this certificate (PEM bytes) and not changed since."""
    event = json.loads(payload)
    envelope = json.loads(b64decode(event["dssematerial"]))
    signed = b64decode(envelope["payload"])
    material = json.loads(signed)
    data = payload[payload.index(b',"data":') + 8 : -1]
    extensions = material["signedextattrs"]
    if set(event) - set(CORE) - {"data", "dssematerial"} != set(extensions) or envelope["payloadType"] != TYPE:
        return False
    if b64decode(material["core"]) != digest([text(k, event.get(k, "")) for k in CORE] + [data]):
        return False
    if b64decode(material["ext"]) != digest(text(k, event[k]) for k in extensions):
        return False
    key, signature = load_pem_x509_certificate(certificate).public_key(), b64decode(envelope["signatures"][0]["sig"])
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if envelope["signatures"][0]["keyid"] != sha256(spki).hexdigest():
        return False
    pae = b"DSSEv1 %d %s %d %s" % (len(TYPE), TYPE.encode(), len(signed), signed)
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, pae)
        else:
            halves = (int.from_bytes(signature[i : i + 32], "big") for i in (0, 32))
            key.verify(encode_dss_signature(*halves), pae, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return len(signature) == 64
