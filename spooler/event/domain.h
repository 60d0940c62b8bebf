/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain - extracts what an event reports of a domain or network from libvirt's document.
 *
 * The document is parsed as a stream, which ends as soon as everything was found. It may be
 * hostile, so there are no DTDs, entities or network accesses, and depth, size and time are bounded
 * (see domain.c). Strings belong to the struct, are valid UTF-8 without U+0000, and are NULL if the
 * document does not have them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hook/record.h"
#include "spooler/config/config.h"

#define DOMAIN_TEXT_MAX 4096		/* bytes of a name or title that are kept */
#define DOMAIN_METADATA_MAX (64 * 1024) /* bytes of all listed metadata together */

struct domain_metadata {
	char *uri; /* of the namespace, as listed */
	char *xml; /* the element */
};

struct domain {
	char *type; /* of a domain: qemu, kvm, lxc, xen ... */
	char *name;
	char *title;
	char uuid[37];			    /* lower case; "" if there is none */
	int64_t id;			    /* of the running domain; -1: unknown */
	int64_t vcpus, vcpus_max;	    /* -1: unknown */
	int64_t memory_kib, memory_max_kib; /* -1: unknown */
	struct domain_metadata *metadata;
	size_t n_metadata;
	bool metadata_truncated; /* it exceeded DOMAIN_METADATA_MAX: some is omitted */
	/* A network's port (port-created, port-deleted) and the domain that owns it. */
	char port_uuid[37], owner_uuid[37];
	char *owner_name;
	char *port_mac;
};

/*
 * Parses a <domain>, <network>, or <hookData> with either of them inside. Returns 0; -EBADMSG with
 * a constant sentence in *ret_reason if it is another document or not XML; ret_domain then has what
 * was read before the error. -ENOMEM.
 */
int domain_parse(struct bytes document, const struct strings *namespaces, struct domain *ret_domain,
		 const char **ret_reason);
void domain_release(struct domain *d);
