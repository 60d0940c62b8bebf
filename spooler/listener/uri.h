/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* uri - the driver that a libvirt URI means. */
#pragma once

#include <stddef.h>

/* The driver as its hooks call it: "qemu" for "qemu+unix:///system?socket=...", "libxl" for
   "xen:///system". -EINVAL if it is not a URI, or the driver does not fit into buf. */
int uri_driver(const char *uri, char *buf, size_t size);
