/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * steady - a library to preload that takes the jitter out of the back-off (spooler/base/backoff.c
 * asks for four random bytes and does not wait for them; nobody else does), to show what it is
 * worth.
 */
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

ssize_t getrandom(void *buffer, size_t size, unsigned flags)
{
	if (size == 4 && flags == GRND_NONBLOCK) {
		memset(buffer, 0, size);
		return 4;
	}
	return syscall(SYS_getrandom, buffer, size, flags);
}
