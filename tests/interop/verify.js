// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Verifies signed events as virtspool-events(7) describes it: one payload a line on stdin, the certificate's file as the
// argument; prints true or false for each.
const { createHash, X509Certificate, verify } = require("node:crypto");
const { readFileSync } = require("node:fs");

const TYPE = "https://cloudevents.io/verifiability/dsse/v0.1";
const CORE = ["id", "source", "specversion", "type", "datacontenttype", "dataschema", "subject", "time"];
const sha256 = (b) => createHash("sha256").update(b).digest();
const digest = (parts) => sha256(Buffer.concat(parts.map(sha256))).toString("base64");
const seconds = (k, v) => (v && (k === "time" || k === "recordedtime") ? v.slice(0, 19) + "Z" : String(v));

function verified(payload, certificate) {
  const event = JSON.parse(payload);
  const envelope = JSON.parse(Buffer.from(event.dssematerial, "base64"));
  const signed = Buffer.from(envelope.payload, "base64");
  const { core, ext, signedextattrs } = JSON.parse(signed);
  const [signature] = envelope.signatures;
  const data = payload.slice(payload.indexOf(',"data":') + 8, -1);
  const key = new X509Certificate(certificate).publicKey;
  const others = Object.keys(event).filter((k) => !CORE.includes(k) && k !== "data" && k !== "dssematerial");
  const pae = Buffer.concat([Buffer.from(`DSSEv1 ${TYPE.length} ${TYPE} ${signed.length} `), signed]);
  return (
    envelope.payloadType === TYPE &&
    others.sort().join() === [...signedextattrs].sort().join() &&
    core === digest([...CORE.map((k) => seconds(k, event[k] ?? "")), data]) &&
    ext === digest(signedextattrs.map((k) => seconds(k, event[k]))) &&
    signature.keyid === sha256(key.export({ type: "spki", format: "der" })).toString("hex") &&
    verify(key.asymmetricKeyType === "ed25519" ? null : "sha256", pae, { key, dsaEncoding: "ieee-p1363" },
      Buffer.from(signature.sig, "base64"))
  );
}

const certificate = readFileSync(process.argv[2]);
for (const line of readFileSync(0, "utf8").split("\n").filter(Boolean)) console.log(verified(line, certificate));
