// SPDX-License-Identifier: LGPL-2.1-or-later

package main

import (
	"crypto/tls"
	"os"
	"os/signal"
	"strings"
	"syscall"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

// rights lets everybody in; nobody may publish to a topic that ends with /denied.
type rights struct{ mqtt.HookBase }

func (*rights) Provides(b byte) bool {
	return b == mqtt.OnConnectAuthenticate || b == mqtt.OnACLCheck
}

func (*rights) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }

func (*rights) OnACLCheck(_ *mqtt.Client, topic string, write bool) bool {
	return !write || !strings.HasSuffix(topic, "/denied")
}

// mochi keeps everything in memory.
func mochi(port string, t *tls.Config, limit int) {
	capabilities := mqtt.NewDefaultServerCapabilities()
	capabilities.MaximumPacketSize = uint32(limit)
	s := mqtt.New(&mqtt.Options{Capabilities: capabilities})
	check(s.AddHook(new(rights), nil))
	check(s.AddListener(listeners.NewTCP(listeners.Config{ID: "tls", Address: "127.0.0.1:" + port, TLSConfig: t})))
	check(s.Serve())
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	<-terminated
	check(s.Close())
}
