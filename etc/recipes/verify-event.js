#!/usr/bin/node
// SPDX-License-Identifier: LGPL-2.1-or-later
//
// verify-event.js CERTIFICATE.pem <events: is each event, one per line as it was received, signed with this certificate's key?
//
// This is virtspool-events(7), "Verifiable events", in twenty lines, written from that page alone. A consumer must also check
// what is not in the bytes: the certificate's chain, host and dates.
const { createHash, X509Certificate, verify } = require("node:crypto");
const { readFileSync } = require("node:fs");

const TYPE = "https://cloudevents.io/verifiability/dsse/v0.1";
const CORE = ["id", "source", "specversion", "type", "datacontenttype", "dataschema", "subject", "time"];
const sha256 = (bytes) => createHash("sha256").update(bytes).digest();
const digest = (parts) => sha256(Buffer.concat(parts.map(sha256))).toString("base64");

function verified(payload, certificate) {
  const event = JSON.parse(payload), envelope = JSON.parse(Buffer.from(event.dssematerial, "base64"));
  const signed = Buffer.from(envelope.payload, "base64"), [signature] = envelope.signatures;
  const { core, ext, signedextattrs: names = [] } = JSON.parse(signed), raw = Buffer.from(signature.sig, "base64");
  const counted = (n) => (event[n] && n.endsWith("time") ? event[n].slice(0, 19) + "Z" : String(event[n] ?? ""));
  const data = payload.slice(payload.indexOf(',"data":') + 8, -1);
  const others = Object.keys(event).filter((n) => !CORE.includes(n) && n !== "data" && n !== "dssematerial");
  const key = new X509Certificate(certificate).publicKey, spki = key.export({ type: "spki", format: "der" });
  return core === digest([...CORE.map(counted), data]) && ext === (names.length ? digest(names.map(counted)) : undefined) &&
    others.sort().join() === [...names].sort().join() && envelope.payloadType === TYPE &&
    signature.keyid === sha256(spki).toString("hex") && raw.length === 64 &&
    verify(key.asymmetricKeyType === "ed25519" ? null : "sha256",
      Buffer.concat([Buffer.from(`DSSEv1 ${TYPE.length} ${TYPE} ${signed.length} `), signed]), { key, dsaEncoding: "ieee-p1363" }, raw);
}

const certificate = readFileSync(process.argv[2]);
for (const line of readFileSync(0, "utf8").split("\n").filter(Boolean)) console.log(verified(line, certificate) ? "verified" : "FORGED");
