/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Signatures: the specification's vector bit by bit, every kind of key, and nothing that was
   changed verifies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "spooler/daemon/signing.h"
#include "spooler/event/event.h"
#include "spooler/event/signature.h"
#include "spooler/event/verifier.h"

#define HOST "kvm1.example.org"
#define NOW 1795000000

/* The key of the specification's test vectors. */
static const char vector_key[] =
	"-----BEGIN EC PRIVATE KEY-----\n"
	"MHcCAQEEINc+xDf9Y0bjYZxev9//D2kWgElVrTKsmsSSsO3h9v+3oAoGCCqGSM49\n"
	"AwEHoUQDQgAEZ805D3eqNZywjCI19lInBJOp7YMrCrzAH3CVTAOQ0jgMeCvVTiaR\n"
	"JaRPRDOv8UMs6U4SvKc6pnrIDOoSYI3fdA==\n"
	"-----END EC PRIVATE KEY-----\n";

static char directory[] = "/tmp/test-signature-XXXXXX";

static void must(int r)
{
	if (r < 0)
		fail_msg("%s", gnutls_strerror(r));
}

static const char *path(const char *name)
{
	static char buf[4][256];
	static unsigned turn;

	snprintf(buf[++turn % 4], 256, "%s/%s", directory, name);
	return buf[turn % 4];
}

static void write_file(const char *name, const void *data, size_t size)
{
	FILE *f = fopen(path(name), "w");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, size, f), size);
	fclose(f);
	assert_int_equal(chmod(path(name), 0600), 0);
}

/* --- certificates */

struct pair {
	gnutls_x509_privkey_t key;
	gnutls_x509_crt_t certificate;
};

/* NAME.key and NAME.pem, issued by `ca`, or by itself. */
static struct pair make_pair_valid(const char *name, const char *common_name,
				   gnutls_pk_algorithm_t kind, unsigned bits, const char *pem_key,
				   const struct pair *ca, const char *purpose, time_t begin,
				   time_t end)
{
	gnutls_datum_t out;
	struct pair p;
	unsigned char serial[8] = {1};

	must(gnutls_x509_privkey_init(&p.key));
	if (pem_key)
		must(gnutls_x509_privkey_import(
			p.key,
			&(gnutls_datum_t){(unsigned char *)pem_key, (unsigned)strlen(pem_key)},
			GNUTLS_X509_FMT_PEM));
	else
		must(gnutls_x509_privkey_generate(p.key, kind, bits, 0));
	must(gnutls_x509_crt_init(&p.certificate));
	must(gnutls_x509_crt_set_version(p.certificate, 3));
	must(gnutls_x509_crt_set_key(p.certificate, p.key));
	must(gnutls_rnd(GNUTLS_RND_NONCE, serial + 1, sizeof(serial) - 1));
	must(gnutls_x509_crt_set_serial(p.certificate, serial, sizeof(serial)));
	must(gnutls_x509_crt_set_dn_by_oid(p.certificate, GNUTLS_OID_X520_COMMON_NAME, 0,
					   common_name, (unsigned)strlen(common_name)));
	must(gnutls_x509_crt_set_activation_time(p.certificate, begin));
	must(gnutls_x509_crt_set_expiration_time(p.certificate, end));
	if (purpose)
		must(gnutls_x509_crt_set_key_purpose_oid(p.certificate, purpose, 0));
	must(gnutls_x509_crt_set_basic_constraints(p.certificate, !ca, -1));
	must(gnutls_x509_crt_sign2(p.certificate, ca ? ca->certificate : p.certificate,
				   ca ? ca->key : p.key, GNUTLS_DIG_SHA256, 0));
	must(gnutls_x509_crt_export2(p.certificate, GNUTLS_X509_FMT_PEM, &out));
	write_file(path(name) + strlen(directory) + 1, out.data, out.size);
	gnutls_free(out.data);
	return p;
}

static struct pair make_pair(const char *name, const char *common_name, gnutls_pk_algorithm_t kind,
			     unsigned bits, const char *pem_key, const struct pair *ca)
{
	return make_pair_valid(name, common_name, kind, bits, pem_key, ca, NULL, NOW - 3600,
			       NOW + 3600);
}

static void write_key(const char *name, const struct pair *p)
{
	gnutls_datum_t out;

	must(gnutls_x509_privkey_export2_pkcs8(p->key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN,
					       &out));
	write_file(name, out.data, out.size);
	gnutls_free(out.data);
}

static void free_pair(struct pair *p)
{
	gnutls_x509_crt_deinit(p->certificate);
	gnutls_x509_privkey_deinit(p->key);
}

/* A revocation list of `ca` with this certificate. */
static void make_crl(const char *name, const struct pair *ca, gnutls_x509_crt_t revoked,
		     time_t when)
{
	gnutls_x509_crl_t crl;
	gnutls_datum_t out;

	must(gnutls_x509_crl_init(&crl));
	must(gnutls_x509_crl_set_crt(crl, revoked, when));
	must(gnutls_x509_crl_set_this_update(crl, when));
	must(gnutls_x509_crl_set_next_update(crl, when + 60));
	must(gnutls_x509_crl_set_version(crl, 2));
	must(gnutls_x509_crl_sign2(crl, ca->certificate, ca->key, GNUTLS_DIG_SHA256, 0));
	must(gnutls_x509_crl_export2(crl, GNUTLS_X509_FMT_PEM, &out));
	write_file(name, out.data, out.size);
	gnutls_free(out.data);
	gnutls_x509_crl_deinit(crl);
}

/* The key "vector" with a certificate for the time after the first one, and one for a server's use;
   a list that revokes the first from NOW + 100 on, and the same by a stranger. */
static void make_later_ones(const struct pair *ca, const struct pair *stranger)
{
	struct pair renewed, server;
	gnutls_x509_crt_t first;
	gnutls_datum_t pem;

	renewed = make_pair_valid("renewed.pem", HOST, GNUTLS_PK_ECDSA, 0, vector_key, ca,
				  GNUTLS_KP_TLS_WWW_CLIENT, NOW + 3000, NOW + 9000);
	server = make_pair_valid("server.pem", HOST, GNUTLS_PK_ECDSA, 0, vector_key, ca,
				 GNUTLS_KP_TLS_WWW_SERVER, NOW - 3600, NOW + 3600);
	write_key("renewed.key", &renewed);
	write_key("server.key", &server);
	must(gnutls_load_file(path("vector.pem"), &pem));
	must(gnutls_x509_crt_init(&first));
	must(gnutls_x509_crt_import(first, &pem, GNUTLS_X509_FMT_PEM));
	make_crl("revoked.crl", ca, first, NOW + 100);
	make_crl("stranger.crl", stranger, first, NOW - 100);
	gnutls_free(pem.data);
	gnutls_x509_crt_deinit(first);
	free_pair(&renewed);
	free_pair(&server);
}

static int setup(void **state)
{
	static const struct {
		const char *name, *common_name;
		gnutls_pk_algorithm_t kind;
		unsigned bits;
		const char *key;
	} hosts[] = {
		{"vector", HOST, GNUTLS_PK_ECDSA, 0, vector_key},
		{"p256", HOST, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1),
		 NULL},
		{"ed25519", HOST, GNUTLS_PK_EDDSA_ED25519,
		 GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_ED25519), NULL},
		{"rsa", HOST, GNUTLS_PK_RSA, 2048, NULL},
		{"p384", HOST, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP384R1),
		 NULL},
		{"other", "kvm2.example.org", GNUTLS_PK_ECDSA,
		 GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), NULL},
	};
	char name[64];
	struct pair ca, stranger, host;

	(void)state;
	assert_non_null(mkdtemp(directory));
	ca = make_pair("ca.pem", "CA", GNUTLS_PK_ECDSA,
		       GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), NULL, NULL);
	stranger = make_pair("stranger-ca.pem", "CA", GNUTLS_PK_ECDSA,
			     GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), NULL, NULL);
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		snprintf(name, sizeof(name), "%s.pem", hosts[i].name);
		host = make_pair(name, hosts[i].common_name, hosts[i].kind, hosts[i].bits,
				 hosts[i].key, &ca);
		snprintf(name, sizeof(name), "%s.key", hosts[i].name);
		write_key(name, &host);
		free_pair(&host);
	}
	host = make_pair("stranger.pem", HOST, GNUTLS_PK_ECDSA,
			 GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), NULL, &stranger);
	write_key("stranger.key", &host);
	free_pair(&host);
	make_later_ones(&ca, &stranger);
	free_pair(&ca);
	free_pair(&stranger);
	return 0;
}

static int teardown(void **state)
{
	char command[300];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", directory);
	return system(command);
}

static int load_signer(const char *name, struct signer **ret_signer, char **ret_error)
{
	char key[300], certificate[300];
	struct config c = {.events = {.sign_key_file = key, .sign_certificate_file = certificate}};

	snprintf(key, sizeof(key), "%s/%s.key", directory, name);
	snprintf(certificate, sizeof(certificate), "%s/%s.pem", directory, name);
	return signer_load(&c, ret_signer, ret_error);
}

static struct signer *signer(const char *name)
{
	struct signer *s = NULL;
	char *error = NULL;

	if (load_signer(name, &s, &error) < 0)
		fail_msg("%s", error);
	return s;
}

static struct signing_trust *trusted(void)
{
	struct signing_trust *a = NULL;
	char *error = NULL;

	if (signing_trust_load(path("ca.pem"), NULL, &a, &error) < 0)
		fail_msg("%s", error);
	return a;
}

static struct signing_certificate *certificate_of(const struct signing_trust *a,
						  const struct signer *s)
{
	struct signing_certificate *c = NULL;
	char *why = NULL;

	if (signing_certificate_load(a, signer_certificate(s), HOST, &c, &why) < 0)
		fail_msg("%s", why);
	return c;
}

/* --- the tests */

/* Case 5 of the specification, the one whose data is not JSON: the whole payload and signature. */
static void test_vector(void **state)
{
	static const char data[] = "\xf0\x9f\xa4\xa1";
	static const char payload[] = "{\"core\":\"qCSeiZkS+hH9WiClfq6plfqYNVy2kvxWRfoBrLEzoDk=\"}";
	static const char expected[] = "F2ip0xmgJX3ugHZC6tMrr7A2Eqai08raGrTwdyh/"
				       "OGDIIrF7ByM2yITLKqNrF3dzZGR2o0Cs9fEBFdLxROUyEQ==";
	json_t *event = json_pack("{s:s, s:s, s:s, s:s, s:s}", "specversion", "1.0", "id", "1",
				  "source", "example/uri", "type", "example.type.binary",
				  "datacontenttype", "application/octet-stream");
	struct signer *s = signer("vector");
	gnutls_datum_t json, signed_payload;
	const char *payload64, *type, *id, *sig;
	struct verifiable parts;
	json_t *envelope;
	char *material;

	(void)state;
	assert_int_equal(verifiable_parts(event, data, 4, &parts), 0);
	assert_int_equal(signer_sign(s, &parts, &material), 0);
	must(gnutls_base64_decode2(
		&(gnutls_datum_t){(unsigned char *)material, (unsigned)strlen(material)}, &json));
	envelope = json_loadb((char *)json.data, json.size, 0, NULL);
	assert_int_equal(json_unpack(envelope, "{s:s, s:s, s:[{s:s, s:s}]}", "payload", &payload64,
				     "payloadType", &type, "signatures", "keyid", &id, "sig", &sig),
			 0);
	assert_string_equal(type, "https://cloudevents.io/verifiability/dsse/v0.1");
	assert_string_equal(id, signer_key_id(s));
	must(gnutls_base64_decode2(
		&(gnutls_datum_t){(unsigned char *)payload64, (unsigned)strlen(payload64)},
		&signed_payload));
	assert_int_equal(signed_payload.size, strlen(payload));
	assert_memory_equal(signed_payload.data, payload, strlen(payload));
	assert_string_equal(sig, expected);
	gnutls_free(json.data);
	gnutls_free(signed_payload.data);
	json_decref(envelope);
	json_decref(event);
	free(material);
	signer_free(s);
}

/* Cases 3 and 4 of the specification are one moment, with and without an offset; and the others that
   it names. */
static void test_times(void **state)
{
	static const struct {
		const char *time, *counts; /* NULL: it is not a time */
	} table[] = {
		{"2020-06-18T17:24:53Z", "2020-06-18T17:24:53Z"},
		{"2020-06-18T19:24:53+02:00", "2020-06-18T17:24:53Z"},
		{"2026-05-13T10:49:12.123456+01:00", "2026-05-13T09:49:12Z"},
		{"2026-05-13T10:49:12.999999999Z", "2026-05-13T10:49:12Z"},
		{"2026-12-31T22:30:00-01:30", "2027-01-01T00:00:00Z"},
		{"2024-03-01T00:30:00+01:00", "2024-02-29T23:30:00Z"},
		{"2026-05-13T10:49:12", NULL},
		{"2026-05-13T10:49:12+01", NULL},
		{"2026-05-13T10:49:12Zulu", NULL},
		{"today", NULL},
		{"", NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		json_t *event = json_pack("{s:s, s:s}", "time", table[i].time, "recordedtime",
					  table[i].time);
		struct verifiable v;
		const struct iovec *core = &v.core[VERIFIABLE_CORE - 2];

		assert_int_equal(verifiable_parts(event, "", 0, &v),
				 table[i].counts ? 0 : -EBADMSG);
		if (table[i].counts) {
			assert_int_equal(core->iov_len, strlen(table[i].counts));
			assert_memory_equal(core->iov_base, table[i].counts, core->iov_len);
			assert_int_equal(v.extensions[0].iov_len, core->iov_len);
			assert_memory_equal(v.extensions[0].iov_base, table[i].counts,
					    core->iov_len);
		}
		json_decref(event);
	}
}

static struct bytes b(const char *s)
{
	return (struct bytes){s, strlen(s)};
}

/* An event as the daemon publishes it. */
static struct event event_at(unsigned number, int64_t time_s)
{
	static const char xml[] = "<domain><name>web\"1</name></domain>";
	const struct config c = {.host = HOST, .mqtt.topic = "t", .events.sign = true};
	const struct record r = {
		.stamp = {.epoch = "0123456789abcdef0123456789abcdef",
			  .sequence = 42 + number,
			  .ticks = (uint64_t)time_s * 1000 * 4096,
			  .id = "01990a3c-7bbd-7123-8123-0123456789ab"},
		.recorded_ns = time_s * 1000000000,
		.driver = b("qemu"),
		.object = b("web\",\"data\":1"),
		.operation = b("started"),
		.suboperation = b("begin"),
		.argc = 4,
		.document = b(xml),
	};
	const char *why = NULL;
	struct event e;

	assert_int_equal(event_build(&c, &r, false, &e, &why), 0);
	return e;
}

static struct event unsigned_event(unsigned number)
{
	return event_at(number, NOW);
}

static struct event signed_event_at(struct signer *s, int64_t time_s)
{
	struct event e = event_at(0, time_s);
	struct verifiable parts;
	char *material;

	assert_int_equal(event_parts(&e, &parts), 0);
	assert_int_equal(signer_sign(s, &parts, &material), 0);
	assert_int_equal(event_attach(&e, material), 0);
	free(material);
	return e;
}

static struct event signed_event(struct signer *s)
{
	return signed_event_at(s, NOW);
}

/* As a consumer does it: nothing but the payload and the host's certificate. */
static int verify(const char *payload, size_t size, const struct signing_certificate *c,
		  int64_t time_s, const char **ret_why)
{
	json_t *event = json_loadb(payload, size, JSON_REJECT_DUPLICATES, NULL);
	const char *material, *data;
	struct signature s;
	size_t data_size;
	int r = -EBADMSG;

	*ret_why = "it is not an event";
	material = json_string_value(json_object_get(event, VERIFIABLE_MATERIAL));
	if (material && verifiable_data(payload, size, &data, &data_size) == 0)
		r = signature_read(material, &s);
	if (r >= 0)
		r = signature_verify(&s, c, event, data, data_size, time_s, ret_why);
	json_decref(event);
	return r;
}

static void test_signed_events_verify(void **state)
{
	static const char *const kinds[] = {"p256", "ed25519", "vector"};
	struct signing_trust *a = trusted();
	const char *why;

	(void)state;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct signer *s = signer(kinds[i]);
		struct signing_certificate *c = certificate_of(a, s);
		struct event e = signed_event(s);

		if (verify(e.payload, e.payload_size, c, NOW, &why) < 0)
			fail_msg("%s: %s", kinds[i], why);
		assert_int_equal(verify(e.payload, e.payload_size, c, NOW - 4000, &why),
				 -EKEYREJECTED);
		assert_non_null(strstr(why, "not valid at the event's time"));
		assert_int_equal(verify(e.payload, e.payload_size, c, NOW + 4000, &why),
				 -EKEYREJECTED);
		event_release(&e);
		signing_certificate_free(c);
		signer_free(s);
	}
	signing_trust_free(a);
}

/* A digit of a fraction of a second, which is not signed: the specification has whole seconds. */
static bool is_fraction(const char *payload, size_t i)
{
	size_t dot = i;

	while (dot > 0 && payload[dot] >= '0' && payload[dot] <= '9')
		dot--;
	return dot < i && payload[dot] == '.' && payload[dot - 3] == ':' && payload[dot - 6] == ':';
}

/* Whatever byte is replaced by whatever other, the event does not verify. */
static void test_no_changed_byte_verifies(void **state)
{
	static const char others[] = "07a\" ,}{Z\\";
	struct signing_trust *a = trusted();
	struct signer *s = signer("p256");
	struct signing_certificate *c = certificate_of(a, s);
	struct event e = signed_event(s);
	unsigned fractions = 0;
	const char *why;

	(void)state;
	for (size_t i = 0; i < e.payload_size; i++) {
		char old = e.payload[i];
		bool fraction = is_fraction(e.payload, i);

		fractions += fraction;
		for (const char *o = others; *o; o++) {
			if (*o == old || (fraction && *o >= '0' && *o <= '9'))
				continue;
			e.payload[i] = *o;
			if (verify(e.payload, e.payload_size, c, NOW, &why) == 0)
				fail_msg("byte %zu, '%c' for '%c', still verifies: %s", i, *o, old,
					 e.payload);
		}
		e.payload[i] = old;
	}
	assert_int_equal(fractions, 12); /* of time and recordedtime, no others */
	event_release(&e);
	signing_certificate_free(c);
	signer_free(s);
	signing_trust_free(a);
}

/* What is added to the event, moved or left out of the signature is found. */
static void test_structural_changes_do_not_verify(void **state)
{
	static const struct {
		const char *key, *value; /* NULL: removed */
	} changes[] = {
		{"id", "01990a3c-7bbd-7123-8123-0123456789ac"},
		{"source", "/virtspool/kvm2.example.org"},
		{"type", "org.virtspool.qemu.stopped.end"},
		{"subject", "web2"},
		{"subject", NULL},
		{"dataschema", "x"},
		{"added", "x"},
		{"time", NULL},
		{"sequence", "00000000000000000043"},
		{"sequence", NULL},
		{"epoch", "ffffffffffffffffffffffffffffffff"},
		{"replayed", "true"},
		{"replayed", NULL},
		{"recordedtime", NULL},
	};
	struct signing_trust *a = trusted();
	struct signer *s = signer("p256");
	struct signing_certificate *c = certificate_of(a, s);
	struct event e = signed_event(s);
	const char *why, *data;
	size_t size;

	(void)state;
	assert_int_equal(verifiable_data(e.payload, e.payload_size, &data, &size), 0);
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		json_t *event = json_loadb(e.payload, e.payload_size, 0, NULL);
		const char *material =
			json_string_value(json_object_get(event, VERIFIABLE_MATERIAL));
		struct signature sig;

		assert_int_equal(signature_read(material, &sig), 0);
		assert_int_equal(signature_verify(&sig, c, event, data, size, NOW, &why), 0);
		if (changes[i].value)
			json_object_set_new(event, changes[i].key, json_string(changes[i].value));
		else
			json_object_del(event, changes[i].key);
		if (signature_verify(&sig, c, event, data, size, NOW, &why) != -EKEYREJECTED)
			fail_msg("%s: %s", changes[i].key, changes[i].value);
		json_decref(event);
	}
	event_release(&e);
	signing_certificate_free(c);
	signer_free(s);
	signing_trust_free(a);
}

/* An envelope with a signature of `size` bytes. */
static char *material_with(size_t size)
{
	static const unsigned char raw[SIGNATURE_SIZE + 8] = {1};
	gnutls_datum_t sig, material;
	char json[512], *copy;

	must(gnutls_base64_encode2(&(gnutls_datum_t){(unsigned char *)raw, (unsigned)size}, &sig));
	snprintf(json, sizeof(json),
		 "{\"payload\":\"e30=\",\"payloadType\":"
		 "\"https://cloudevents.io/verifiability/dsse/v0.1\","
		 "\"signatures\":[{\"keyid\":\"%064d\",\"sig\":\"%.*s\"}]}",
		 0, (int)sig.size, (char *)sig.data);
	must(gnutls_base64_encode2(&(gnutls_datum_t){(unsigned char *)json, (unsigned)strlen(json)},
				   &material));
	copy = strndup((char *)material.data, material.size);
	gnutls_free(sig.data);
	gnutls_free(material.data);
	return copy;
}

static void test_signatures_of_another_length(void **state)
{
	(void)state;
	for (size_t size = 0; size <= SIGNATURE_SIZE + 8; size++) {
		char *material = material_with(size);
		struct signature s;

		assert_int_equal(signature_read(material, &s),
				 size == SIGNATURE_SIZE ? 0 : -EBADMSG);
		free(material);
	}
}

static void test_keys_that_do_not_sign(void **state)
{
	static const struct {
		const char *name, *why;
	} table[] = {
		{"rsa", "RSA"},
		{"p384", "neither ECDSA P-256 nor Ed25519"},
		{"absent", "cannot use the signing key"},
	};
	struct signer *s = NULL;
	char *error;

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		error = NULL;
		assert_true(load_signer(table[i].name, &s, &error) < 0);
		if (!error || !strstr(error, table[i].why))
			fail_msg("%s: %s", table[i].name, error);
		free(error);
	}
	assert_int_equal(chmod(path("p256.key"), 0644), 0);
	assert_int_equal(load_signer("p256", &s, &error), -EPERM);
	free(error);
	assert_int_equal(chmod(path("p256.key"), 0600), 0);
}

static void test_certificates_that_are_not_accepted(void **state)
{
	static const struct {
		const char *name, *why;
	} table[] = {
		{"stranger", "not acceptable"},
		{"other", "does not name the host"},
		{"server", "not for a client's use"},
	};
	struct signing_trust *a = trusted();
	struct signing_certificate *c = NULL;
	char *why;

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct signer *s = signer(table[i].name);

		why = NULL;
		assert_int_equal(signing_certificate_load(a, signer_certificate(s), HOST, &c, &why),
				 -EKEYREJECTED);
		if (!why || !strstr(why, table[i].why))
			fail_msg("%s: %s", table[i].name, why);
		free(why);
		signer_free(s);
	}
	assert_int_equal(signing_certificate_load(a, "cnViYmlzaA==", HOST, &c, &why),
			 -EKEYREJECTED);
	free(why);
	signing_trust_free(a);
}

/* Another host's key, with a certificate that the CA has issued to it, does not sign for this
   one. */
static void test_another_hosts_signature(void **state)
{
	struct signing_trust *a = trusted();
	struct signer *s = signer("p256"), *other = signer("other");
	struct signing_certificate *c = certificate_of(a, s);
	struct event e = signed_event(other);
	struct signature sig;
	json_t *event = json_loadb(e.payload, e.payload_size, 0, NULL);
	const char *why;

	(void)state;
	assert_int_equal(verify(e.payload, e.payload_size, c, NOW, &why), -EKEYREJECTED);
	assert_non_null(strstr(why, "another key"));
	assert_int_equal(
		signature_read(json_string_value(json_object_get(event, VERIFIABLE_MATERIAL)),
			       &sig),
		0);
	assert_string_equal(sig.key_id, signer_key_id(other));
	assert_int_equal(signature_read("rubbish", &sig), -EBADMSG);
	json_decref(event);
	event_release(&e);
	signing_certificate_free(c);
	signer_free(s);
	signer_free(other);
	signing_trust_free(a);
}

/* --- a verifier over time */

static void add(struct verifier *v, const char *name, int expected)
{
	struct signer *s = signer(name);
	char *why;

	assert_int_equal(verifier_add(v, HOST, signer_certificate(s), &why), expected);
	assert_null(why);
	signer_free(s);
}

/* The event of this time, by the key that all of these certificates have. */
static enum verification check_at(struct verifier *v, int64_t time_s, const char **ret_why)
{
	struct signer *s = signer("vector");
	struct event e = signed_event_at(s, time_s);
	json_t *event = json_loadb(e.payload, e.payload_size, 0, NULL);
	enum verification result = verifier_check(v, event, e.payload, e.payload_size, ret_why);

	json_decref(event);
	event_release(&e);
	signer_free(s);
	return result;
}

static struct verifier *verifier_with(const char *crl_file)
{
	struct verifier *v = NULL;
	char *error = NULL;

	if (verifier_new(path("ca.pem"), crl_file, &v, &error) < 0)
		fail_msg("%s", error);
	return v;
}

/* A key whose certificate was renewed: each event counts by the certificate of its time. */
static void test_a_renewed_certificate_of_the_same_key(void **state)
{
	struct verifier *v = verifier_with(NULL);
	const char *why;

	(void)state;
	assert_int_equal(check_at(v, NOW, &why), VERIFICATION_UNKNOWN);
	add(v, "vector", 1);
	assert_int_equal(check_at(v, NOW, &why), VERIFICATION_VERIFIED);
	assert_int_equal(check_at(v, NOW + 4000, &why), VERIFICATION_FORGED);
	assert_string_equal(why, "the certificate was not valid at the event's time");
	add(v, "renewed", 1);
	add(v, "vector", 0);
	assert_int_equal(check_at(v, NOW, &why), VERIFICATION_VERIFIED);
	assert_int_equal(check_at(v, NOW + 4000, &why), VERIFICATION_VERIFIED);
	assert_int_equal(check_at(v, NOW + 9001, &why), VERIFICATION_FORGED);
	verifier_free(v);
}

/* What was signed before the revocation still verifies; only the CA's own list counts. */
static void test_revocation(void **state)
{
	struct verifier *v = verifier_with(path("revoked.crl"));
	const char *why;

	(void)state;
	add(v, "vector", 1);
	assert_int_equal(check_at(v, NOW + 99, &why), VERIFICATION_VERIFIED);
	assert_int_equal(check_at(v, NOW + 100, &why), VERIFICATION_FORGED);
	assert_string_equal(why, "the certificate was revoked before the event's time");
	add(v, "renewed", 1);
	assert_int_equal(check_at(v, NOW + 3001, &why), VERIFICATION_VERIFIED);
	verifier_free(v);
	v = verifier_with(path("stranger.crl"));
	add(v, "vector", 1);
	assert_int_equal(check_at(v, NOW + 100, &why), VERIFICATION_VERIFIED);
	verifier_free(v);
}

/* --- the daemon's thread */

#define JOBS 200

struct job {
	struct signing_job signing;
	unsigned number;
};

struct bench {
	struct signing *signing;
	struct signing_certificate *certificate;
	sd_event *loop;
	unsigned put, taken;
};

static void feed(struct bench *t)
{
	struct job *job;
	const char *why;

	while ((job = (struct job *)signing_take(t->signing))) {
		assert_int_equal(job->signing.error, 0);
		assert_int_equal(job->number, t->taken++);
		if (verify(job->signing.event.payload, job->signing.event.payload_size,
			   t->certificate, NOW, &why) < 0)
			fail_msg("event %u: %s", job->number, why);
		event_release(&job->signing.event);
		free(job);
	}
	while (t->put < JOBS && !signing_is_full(t->signing)) {
		job = calloc(1, sizeof(*job));
		job->number = t->put++;
		job->signing.event = unsigned_event(job->number);
		signing_put(t->signing, &job->signing);
	}
	if (t->taken == JOBS)
		sd_event_exit(t->loop, 0);
}

static void on_ready(void *userdata)
{
	feed(userdata);
}

/* Events come out signed and in the order in which they went in, and what is in is bounded. */
static void test_the_thread_keeps_the_order(void **state)
{
	struct signing_trust *a = trusted();
	struct signer *s = signer("p256");
	struct bench t = {.certificate = certificate_of(a, s)};

	(void)state;
	assert_true(sd_event_new(&t.loop) >= 0);
	assert_int_equal(signing_new(t.loop, s, on_ready, &t, &t.signing), 0);
	feed(&t);
	assert_true(t.put <= SIGNING_EVENTS);
	assert_true(sd_event_loop(t.loop) >= 0);
	assert_true(signing_is_empty(t.signing));
	signing_free(t.signing);
	sd_event_unref(t.loop);
	signing_certificate_free(t.certificate);
	signing_trust_free(a);
}

/* A connection is lost: what is in is dropped, at whatever point the thread is. */
static void test_the_thread_is_emptied(void **state)
{
	struct bench t = {0};
	struct signing_job *job;

	(void)state;
	assert_true(sd_event_new(&t.loop) >= 0);
	assert_int_equal(signing_new(t.loop, signer("p256"), on_ready, &t, &t.signing), 0);
	for (unsigned round = 0; round < 20; round++) {
		unsigned n = 0;

		for (unsigned i = 0; i < 8; i++) {
			struct job *j = calloc(1, sizeof(*j));

			j->signing.event = unsigned_event(i);
			signing_put(t.signing, &j->signing);
		}
		for (; (job = signing_drop(t.signing)); n++) {
			event_release(&job->event);
			free(job);
		}
		assert_int_equal(n, 8);
		assert_true(signing_is_empty(t.signing));
	}
	signing_free(t.signing);
	sd_event_unref(t.loop);
}

/* Case 8 of the specification: lists that a verifier must not accept. */
static void test_lists_that_are_not_allowed(void **state)
{
	static const char *const lists[] = {
		"[\"epoch\", \"epoch\"]", "[\"id\"]", "[\"time\"]", "[\"dssematerial\"]",
		"[\"unknown\"]",	  "[1]",      "[[]]",	    "[\"\"]",
	};
	json_t *event = json_pack("{s:s, s:s}", "id", "1", "epoch", "e");
	struct verifiable v;

	(void)state;
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		json_t *names = json_loads(lists[i], 0, NULL);

		assert_non_null(names);
		if (verifiable_parts_listed(event, "1", 1, names, &v) != -EBADMSG)
			fail_msg("%s", lists[i]);
		json_decref(names);
	}
	json_decref(event);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vector),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_signed_events_verify),
		cmocka_unit_test(test_no_changed_byte_verifies),
		cmocka_unit_test(test_structural_changes_do_not_verify),
		cmocka_unit_test(test_signatures_of_another_length),
		cmocka_unit_test(test_keys_that_do_not_sign),
		cmocka_unit_test(test_certificates_that_are_not_accepted),
		cmocka_unit_test(test_another_hosts_signature),
		cmocka_unit_test(test_a_renewed_certificate_of_the_same_key),
		cmocka_unit_test(test_revocation),
		cmocka_unit_test(test_the_thread_keeps_the_order),
		cmocka_unit_test(test_the_thread_is_emptied),
		cmocka_unit_test(test_lists_that_are_not_allowed),
	};

	return cmocka_run_group_tests_name("signature", tests, setup, teardown);
}
