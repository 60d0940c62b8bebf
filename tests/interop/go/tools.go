// SPDX-License-Identifier: LGPL-2.1-or-later

//go:build tools

// Keeps the version of nats-server, which is built from this module as it is.
package main

import _ "github.com/nats-io/nats-server/v2"
