// SPDX-License-Identifier: LGPL-2.1-or-later

package main

import (
	"crypto/tls"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/hooks/storage/bolt"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/nats-io/nats-server/v2/server"
)

func waitForSignal() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	<-c
}

func mochi(port int, t *tls.Config, directory string) {
	s := mqtt.New(nil)
	check(s.AddHook(new(auth.AllowHook), nil))
	check(s.AddHook(new(bolt.Hook), &bolt.Options{Path: filepath.Join(directory, "sessions")}))
	check(s.AddListener(listeners.NewTCP(listeners.Config{ID: "tls", Address: fmt.Sprintf("127.0.0.1:%d", port), TLSConfig: t})))
	check(s.Serve())
	waitForSignal()
	check(s.Close())
}

func nats(port int, t *tls.Config, directory string) {
	s, err := server.NewServer(&server.Options{
		Host:       "127.0.0.1",
		Port:       -1,
		ServerName: "interop",
		JetStream:  true,
		StoreDir:   directory,
		NoSigs:     true,
		MQTT:       server.MQTTOpts{Host: "127.0.0.1", Port: port, TLSConfig: t},
	})
	check(err)
	s.ConfigureLogger()
	s.Start()
	waitForSignal()
	s.Shutdown()
}
