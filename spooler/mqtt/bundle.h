/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bundle - one file with all that a host needs to report: its name, the brokers, its certificate
 * and key, and the authority. `virtspool-recorder init` writes it, `virtspool join` installs it.
 *
 * It is text: a first line with the format's version, lines "name: value", an empty line, then PEM
 * blocks in any order. The key makes it a secret: it is written with mode 0600, and a file that
 * others can read is refused.
 *
 *	virtspool bundle 1
 *	host: node1
 *	broker: mqtts://mgmt.example.org:8883
 *
 *	-----BEGIN CERTIFICATE-----
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define BUNDLE_SIZE_MAX (256 * 1024)
#define BUNDLE_BROKERS_MAX 16

struct bundle {
	char *host;
	char *brokers[BUNDLE_BROKERS_MAX]; /* URLs, in order of preference */
	size_t n_brokers;
	unsigned mqtt_version; /* 5, or 3: a broker that does not know 5 */
	char *certificate;     /* PEM, the host's, with its chain */
	char *key;	       /* PEM */
	char *authorities;     /* PEM */
	int64_t expires;       /* of the certificate; seconds since 1970 */
};

/*
 * Reads and checks a bundle: the key fits the certificate, the authorities signed it for use as a
 * client, and it is valid now. Returns 0, or a negative errno with a sentence to be freed in
 * *ret_error that names the file, says what is wrong with it and what to do.
 */
int bundle_read(const char *path, struct bundle *ret_bundle, char **ret_error);
/* Of the same text in memory; `name` stands for the file. */
int bundle_parse(const char *name, const char *text, struct bundle *ret_bundle, char **ret_error);
/* As text, to be wiped and freed; NULL without memory. */
char *bundle_format(const struct bundle *b);
void bundle_release(struct bundle *b); /* wipes the key */
