// SPDX-License-Identifier: LGPL-2.1-or-later

// interop - a broker and clients written in Go that no one here wrote:
//
//	interop mochi PORT CA CERTIFICATE KEY LIMIT       mochi-mqtt, with a maximum packet size
//	interop consume3|consume5 URL CA CERTIFICATE KEY  paho for MQTT 3.1.1 or 5, and the CloudEvents SDK
//
// A consumer prints "ready", then one line of JSON for each event as the SDK understood it. A message that the SDK does
// not accept ends it.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"log"
	"os"
	"strconv"
)

func tlsOf(ca, certificate, key string) *tls.Config {
	pem, err := os.ReadFile(ca)
	check(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	pair, err := tls.LoadX509KeyPair(certificate, key)
	check(err)
	return &tls.Config{
		Certificates: []tls.Certificate{pair},
		RootCAs:      pool,
		ClientCAs:    pool,
		ClientAuth:   tls.RequireAndVerifyClientCert,
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	check(err)
	return n
}

func main() {
	if len(os.Args) < 6 {
		log.Fatal("usage: see the head of main.go")
	}
	a := os.Args[2:]
	t := tlsOf(a[1], a[2], a[3])
	switch os.Args[1] {
	case "mochi":
		mochi(a[0], t, number(a[4]))
	case "consume3":
		consume3(a[0], t)
	case "consume5":
		consume5(a[0], t)
	default:
		log.Fatalf("unknown '%s'", os.Args[1])
	}
}
