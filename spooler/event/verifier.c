/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * verifier - see verifier.h.
 *
 * The hosts are a jansson object from name to a list of certificates, because an attacker cannot
 * slow its hash table down. A host without a certificate of our CA takes no room.
 */
#include <time.h>

#include "spooler/base/rfc3339.h"
#include "spooler/base/util.h"
#include "spooler/event/signature.h"
#include "spooler/event/topic.h"
#include "spooler/event/verifier.h"

#define SOURCE_PREFIX "/virtspool/"
#define CERTIFICATE_MAX 16384

struct host {
	struct signing_certificate **certificates; /* newest first */
	size_t n;
};

struct verifier {
	struct signing_trust *trust;
	json_t *index; /* name -> position in hosts */
	struct host *hosts;
	size_t n_hosts, n_allocated;
};

const char *verification_name(enum verification v)
{
	static const char *const names[N_VERIFICATIONS] = {
		[VERIFICATION_VERIFIED] = "verified",
		[VERIFICATION_UNSIGNED] = "unsigned",
		[VERIFICATION_UNKNOWN] = "unknown",
		[VERIFICATION_FORGED] = "forged",
	};

	return names[v];
}

int verifier_new(const char *ca_file, const char *crl_file, struct verifier **ret_verifier,
		 char **ret_error)
{
	struct verifier *v = calloc(1, sizeof(*v));
	int r;

	*ret_error = NULL;
	if (!v)
		return -ENOMEM;
	v->index = json_object();
	r = v->index ? signing_trust_load(ca_file, crl_file, &v->trust, ret_error) : -ENOMEM;
	if (r < 0) {
		verifier_free(v);
		return r;
	}
	*ret_verifier = v;
	return 0;
}

void verifier_free(struct verifier *v)
{
	if (!v)
		return;
	for (size_t i = 0; i < v->n_hosts; i++) {
		for (size_t j = 0; j < v->hosts[i].n; j++)
			signing_certificate_free(v->hosts[i].certificates[j]);
		free(v->hosts[i].certificates);
	}
	free(v->hosts);
	json_decref(v->index);
	signing_trust_free(v->trust);
	free(v);
}

/* --- the hosts */

static struct host *find_host(const struct verifier *v, const char *name)
{
	const json_t *position = json_object_get(v->index, name);

	return position ? &v->hosts[json_integer_value(position)] : NULL;
}

static struct host *add_host(struct verifier *v, const char *name)
{
	if (!v->hosts || v->n_hosts == v->n_allocated) {
		size_t n = v->n_allocated ? 2 * v->n_allocated : 16;
		struct host *larger = reallocarray(v->hosts, n, sizeof(*v->hosts));

		if (!larger)
			return NULL;
		v->hosts = larger;
		v->n_allocated = n;
	}
	if (json_object_set_new(v->index, name, json_integer((json_int_t)v->n_hosts)) < 0)
		return NULL;
	v->hosts[v->n_hosts] = (struct host){0};
	return &v->hosts[v->n_hosts++];
}

static bool is_known(const struct host *h, const char *certificate)
{
	for (size_t i = 0; i < h->n; i++)
		if (strcmp(signing_certificate_text(h->certificates[i]), certificate) == 0)
			return true;
	return false;
}

/* Takes the certificate over. The old ones stay: a key may have several, one after the other. */
static int keep_certificate(struct host *h, struct signing_certificate *c)
{
	if (h->n < VERIFIER_CERTIFICATES_MAX) {
		struct signing_certificate **larger =
			reallocarray(h->certificates, h->n + 1, sizeof(*larger));

		if (!larger) {
			signing_certificate_free(c);
			return -ENOMEM;
		}
		h->certificates = larger;
		h->n++;
	} else {
		signing_certificate_free(h->certificates[h->n - 1]);
	}
	memmove(&h->certificates[1], &h->certificates[0], (h->n - 1) * sizeof(*h->certificates));
	h->certificates[0] = c;
	return 1;
}

/* --- what an event says of its host */

/* The host's name, as its certificate must have it. */
static const char *source_of(const json_t *event, char host[static 256])
{
	const char *source = json_string_value(json_object_get(event, "source"));

	if (!source || strncmp(source, SOURCE_PREFIX, strlen(SOURCE_PREFIX)) != 0 ||
	    !topic_decode_host(source + strlen(SOURCE_PREFIX),
			       strlen(source + strlen(SOURCE_PREFIX)), host))
		return NULL;
	return source;
}

/* A will has no time: what counts is when it arrives. */
static bool time_of(const json_t *event, int64_t *ret_s)
{
	const json_t *value = json_object_get(event, "time");
	const char *text = json_string_value(value);
	int64_t usec;

	if (!value) {
		*ret_s = now_usec(CLOCK_REALTIME) / (int64_t)USEC_PER_SEC;
		return true;
	}
	if (!text || !rfc3339_parse(text, &usec))
		return false;
	*ret_s = usec / (int64_t)USEC_PER_SEC;
	return true;
}

/* --- the two questions */

int verifier_add(struct verifier *v, const char *host, const char *certificate, char **ret_why)
{
	struct signing_certificate *c = NULL;
	struct host *h;
	int r;

	*ret_why = NULL;
	if (strlen(certificate) > CERTIFICATE_MAX)
		return -EKEYREJECTED;
	h = find_host(v, host);
	if (h && is_known(h, certificate))
		return 0;
	r = signing_certificate_load(v->trust, certificate, host, &c, ret_why);
	if (r < 0)
		return r;
	if (!h)
		h = add_host(v, host);
	if (!h) {
		signing_certificate_free(c);
		return -ENOMEM;
	}
	return keep_certificate(h, c);
}

int verifier_learn(struct verifier *v, const json_t *status_event, char **ret_why)
{
	const char *certificate = json_string_value(
		json_object_get(json_object_get(status_event, "data"), "certificate"));
	char host[256];

	*ret_why = NULL;
	if (!certificate || !source_of(status_event, host))
		return 0;
	return verifier_add(v, host, certificate, ret_why);
}

/* The host's certificates with this key, the newest first, until one fits. */
static enum verification check_with(const struct host *h, const struct signature *s,
				    const json_t *event, const char *data, size_t size,
				    int64_t time_s, const char **ret_why)
{
	enum verification v = VERIFICATION_UNKNOWN;

	*ret_why = "no certificate of its host has this key";
	for (size_t i = 0; h && i < h->n; i++) {
		if (strcmp(signing_certificate_key_id(h->certificates[i]), s->key_id) != 0)
			continue;
		if (signature_verify(s, h->certificates[i], event, data, size, time_s, ret_why) >=
		    0)
			return VERIFICATION_VERIFIED;
		v = VERIFICATION_FORGED;
	}
	return v;
}

enum verification verifier_check(struct verifier *v, const json_t *event, const char *payload,
				 size_t size, const char **ret_why)
{
	const json_t *attribute = json_object_get(event, VERIFIABLE_MATERIAL);
	const char *material = json_string_value(attribute), *data;
	enum verification result;
	struct signature s;
	char host[256];
	size_t data_size;
	int64_t time_s;

	*ret_why = "it carries no signature";
	if (!attribute)
		return VERIFICATION_UNSIGNED;
	*ret_why = "it has no source, no time or no data that could be signed";
	if (!source_of(event, host) || !time_of(event, &time_s) ||
	    verifiable_data(payload, size, &data, &data_size) < 0)
		return VERIFICATION_FORGED;
	*ret_why = VERIFIABLE_MATERIAL " is not an envelope of this kind";
	if (!material || signature_read(material, &s) < 0)
		return VERIFICATION_FORGED;
	result = check_with(find_host(v, host), &s, event, data, data_size, time_s, ret_why);
	if (result == VERIFICATION_VERIFIED)
		*ret_why = NULL;
	return result;
}
