// SPDX-License-Identifier: LGPL-2.1-or-later
// node aedes.js PORT CA CERTIFICATE KEY - the broker aedes on 127.0.0.1, TLS with client certificates. Nobody may publish to
// a topic that ends with /denied.
const { readFileSync } = require('node:fs')
const tls = require('node:tls')
const { Aedes } = require('aedes')

const [port, ca, cert, key] = process.argv.slice(2)
const files = { ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key) }

Aedes.createBroker().then(broker => {
	broker.authorizePublish = (client, packet, done) => done(packet.topic.endsWith('/denied') ? new Error('denied') : null)
	const server = tls.createServer({ ...files, requestCert: true, rejectUnauthorized: true }, broker.handle)
	server.listen(Number(port), '127.0.0.1')
	process.on('SIGTERM', () => process.exit(0))
})
