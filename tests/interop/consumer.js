// SPDX-License-Identifier: LGPL-2.1-or-later
// node consumer.js URL CA CERTIFICATE KEY - a consumer made of MQTT.js and the CloudEvents SDK: "ready", then one line of JSON for
// each event as the SDK understood it. A message that the SDK does not accept ends it.
const { readFileSync } = require('node:fs')
const mqtt = require('mqtt')
const { CloudEvent, MQTT } = require('cloudevents')

const [url, ca, cert, key] = process.argv.slice(2)
const client = mqtt.connect(url, {
	protocolVersion: 5,
	ca: readFileSync(ca),
	cert: readFileSync(cert),
	key: readFileSync(key),
})

client.on('error', e => { throw e })
client.on('connect', () => client.subscribe('virtspool/v1/#', { qos: 1 }, e => { if (e) throw e; console.log('ready') }))
client.on('message', (topic, payload, packet) => {
	const type = packet.properties.contentType
	if (type !== 'application/cloudevents+json')
		throw new Error(`content type ${type}`)
	const body = JSON.parse(payload)
	new CloudEvent(body, true) // strict: throws for what the specification does not allow
	const event = MQTT.toEvent({ headers: {}, PUBLISH: { 'Content Type': type }, 'User Properties': {}, payload: body, body })
	if (!event.validate())
		throw new Error('not valid')
	console.log(JSON.stringify(event))
})
