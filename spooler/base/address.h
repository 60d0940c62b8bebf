/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* address - "127.0.0.1:8480" and "[::1]:8480", to listen on. */
#pragma once

#include <stdbool.h>
#include <sys/socket.h>

/* False: it is not ADDRESS:PORT, with an IPv6 address in brackets. */
bool address_parse(const char *text, struct sockaddr_storage *ret_address, socklen_t *ret_size);
bool address_is_loopback(const char *text);
