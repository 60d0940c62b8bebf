/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* uri - see uri.h. */
#include "spooler/listener/uri.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int uri_driver(const char *uri, char *buf, size_t size)
{
	size_t n = strcspn(uri, "+:");

	if (n == 0 || n >= size || !strstr(uri + n, "://") ||
	    strspn(uri, "abcdefghijklmnopqrstuvwxyz0123456789") < n)
		return -EINVAL;
	memcpy(buf, uri, n);
	buf[n] = '\0';
	if (strcmp(buf, "xen") == 0)
		(void)snprintf(buf, size, "libxl");
	return 0;
}
