/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* transport-loss - see transport-loss.h. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "spooler/mqtt/transport-loss.h"

void transport_loss_set(struct transport_loss *l, enum transport_failure failure,
			const char *format, ...)
{
	va_list ap;

	if (l->failure != TRANSPORT_FAILURE_NONE)
		return;
	l->failure = failure;
	va_start(ap, format);
	(void)vsnprintf(l->text, sizeof(l->text), format, ap);
	va_end(ap);
}

void transport_loss_set_errno(struct transport_loss *l, const char *peer, const char *when,
			      int error)
{
	if (error == ECONNRESET || error == EPIPE)
		transport_loss_set(l, TRANSPORT_FAILURE_NETWORK,
				   "%s: the broker has reset the connection%s", peer, when);
	else
		transport_loss_set(l, TRANSPORT_FAILURE_NETWORK, "%s: the connection is lost: %s",
				   peer, strerror(error));
}
