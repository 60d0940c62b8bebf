/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* address - see address.h. */
#include <arpa/inet.h>
#include <netinet/in.h>

#include "spooler/base/address.h"
#include "spooler/base/util.h"

bool address_parse(const char *text, struct sockaddr_storage *ret, socklen_t *ret_size)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;
	struct sockaddr_in *in = (struct sockaddr_in *)ret;
	const char *colon = strrchr(text, ':');
	char address[INET6_ADDRSTRLEN + 2];
	unsigned long port;
	char *end;
	size_t n;

	if (!colon || colon == text || (size_t)(colon - text) >= sizeof(address))
		return false;
	errno = 0;
	port = strtoul(colon + 1, &end, 10);
	if (colon[1] < '0' || colon[1] > '9' || *end || errno || port == 0 || port > UINT16_MAX)
		return false;
	n = (size_t)(colon - text);
	memcpy(address, text, n);
	address[n] = 0;
	memset(ret, 0, sizeof(*ret));
	if (address[0] == '[' && address[n - 1] == ']') {
		address[n - 1] = 0;
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons((uint16_t)port);
		*ret_size = sizeof(*in6);
		return inet_pton(AF_INET6, address + 1, &in6->sin6_addr) == 1;
	}
	in->sin_family = AF_INET;
	in->sin_port = htons((uint16_t)port);
	*ret_size = sizeof(*in);
	return inet_pton(AF_INET, address, &in->sin_addr) == 1;
}

bool address_is_loopback(const char *text)
{
	struct sockaddr_storage a;
	socklen_t size;

	if (!address_parse(text, &a, &size))
		return false;
	if (a.ss_family == AF_INET6)
		return IN6_IS_ADDR_LOOPBACK(&((struct sockaddr_in6 *)&a)->sin6_addr);
	return ntohl(((struct sockaddr_in *)&a)->sin_addr.s_addr) >> 24 == 127;
}
