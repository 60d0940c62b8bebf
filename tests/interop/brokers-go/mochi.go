// SPDX-License-Identifier: LGPL-2.1-or-later

// mochi - a broker made of mochi-mqtt for the tests: MQTT 5 and 3.1.1 over TLS, client certificates demanded, everything
// in memory.
//
//	mochi PORT CA CERTIFICATE KEY
package main

import (
	"crypto/tls"
	"crypto/x509"
	"log"
	"os"
	"os/signal"
	"syscall"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

func main() {
	pem, err := os.ReadFile(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	authorities := x509.NewCertPool()
	authorities.AppendCertsFromPEM(pem)
	certificate, err := tls.LoadX509KeyPair(os.Args[3], os.Args[4])
	if err != nil {
		log.Fatal(err)
	}
	server := mqtt.New(nil)
	if err := server.AddHook(new(auth.AllowHook), nil); err != nil {
		log.Fatal(err)
	}
	err = server.AddListener(listeners.NewTCP(listeners.Config{
		ID:      "tls",
		Address: "127.0.0.1:" + os.Args[1],
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{certificate},
			ClientCAs:    authorities,
			ClientAuth:   tls.RequireAndVerifyClientCert,
		},
	}))
	if err == nil {
		err = server.Serve()
	}
	if err != nil {
		log.Fatal(err)
	}
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	<-terminated
	_ = server.Close()
}
