// SPDX-License-Identifier: LGPL-2.1-or-later

package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log"
	"net/url"
	"strings"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
	mqtt3 "github.com/eclipse/paho.mqtt.golang"
)

const topics = "virtspool/v1/#"

// show prints an event as the SDK understood it.
func show(payload []byte) {
	event := cloudevents.NewEvent()
	check(json.Unmarshal(payload, &event))
	check(event.Validate())
	line, err := json.Marshal(event)
	check(err)
	fmt.Println(string(line))
}

func consume3(broker string, t *tls.Config) {
	o := mqtt3.NewClientOptions().AddBroker(strings.Replace(broker, "mqtts://", "ssl://", 1)).SetTLSConfig(t).SetClientID("go3")
	c := mqtt3.NewClient(o)
	for _, token := range []func() mqtt3.Token{
		c.Connect,
		func() mqtt3.Token {
			return c.Subscribe(topics, 1, func(_ mqtt3.Client, m mqtt3.Message) { show(m.Payload()) })
		},
	} {
		done := token()
		done.Wait()
		check(done.Error())
	}
	fmt.Println("ready")
	select {}
}

func consume5(broker string, t *tls.Config) {
	u, err := url.Parse(strings.Replace(broker, "mqtts://", "tls://", 1))
	check(err)
	config := autopaho.ClientConfig{
		ServerUrls: []*url.URL{u},
		TlsCfg:     t,
		KeepAlive:  20,
		OnConnectionUp: func(cm *autopaho.ConnectionManager, _ *paho.Connack) {
			_, err := cm.Subscribe(context.Background(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: topics, QoS: 1}}})
			check(err)
			fmt.Println("ready")
		},
		OnConnectError: func(err error) { log.Fatal(err) },
		ClientConfig: paho.ClientConfig{
			ClientID: "go5",
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
				if got := p.Packet.Properties.ContentType; got != "application/cloudevents+json" {
					log.Fatalf("content type '%s'", got)
				}
				show(p.Packet.Payload)
				return true, nil
			}},
		},
	}
	_, err = autopaho.NewConnection(context.Background(), config)
	check(err)
	select {}
}
