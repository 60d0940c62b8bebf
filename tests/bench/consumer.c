/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * consumer - what a recorder is compared with: a consumer with libmosquitto's own TLS, MQTT 5, QoS 1
 * and a session that is kept, on one thread. libmosquitto acknowledges each message before it is
 * stored, so a consumer that is killed loses some.
 *
 *   consumer PORT CERTIFICATES CLIENT-ID FILTER          counts the messages
 *   consumer PORT CERTIFICATES CLIENT-ID FILTER FILE     each payload is a row of a table of this
 *                                                        SQLite file; 1,000 a transaction, or when no
 *                                                        more come
 *
 * Prints "stored N" after each 1,000 and after each transaction.
 */
#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 1000

static sqlite3 *db; /* NULL: nothing is stored */
static sqlite3_stmt *insert;
static unsigned long arrived, stored;
static const char *filter;

static void sql(const char *statement)
{
	if (sqlite3_exec(db, statement, NULL, NULL, NULL) != SQLITE_OK) {
		fprintf(stderr, "consumer: %s: %s\n", statement, sqlite3_errmsg(db));
		exit(1);
	}
}

static void open_file(const char *path)
{
	if (sqlite3_open(path, &db) != SQLITE_OK) {
		fprintf(stderr, "consumer: cannot open %s\n", path);
		exit(1);
	}
	sql("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE raw (payload TEXT)");
	if (sqlite3_prepare_v2(db, "INSERT INTO raw VALUES (?)", -1, &insert, NULL) != SQLITE_OK)
		exit(1);
}

static void commit(void)
{
	if (stored == arrived)
		return;
	if (db)
		sql("COMMIT");
	stored = arrived;
	printf("stored %lu\n", stored);
}

static void on_connect(struct mosquitto *m, void *userdata, int code)
{
	(void)userdata;
	if (code != 0 || mosquitto_subscribe(m, NULL, filter, 1) != MOSQ_ERR_SUCCESS)
		exit(1);
}

static void on_message(struct mosquitto *m, void *userdata, const struct mosquitto_message *message)
{
	(void)m;
	(void)userdata;
	if (db) {
		if (stored == arrived)
			sql("BEGIN");
		sqlite3_bind_text(insert, 1, message->payload, message->payloadlen, SQLITE_STATIC);
		if (sqlite3_step(insert) != SQLITE_DONE)
			exit(1);
		sqlite3_reset(insert);
	}
	if (++arrived - stored == BATCH)
		commit();
}

static struct mosquitto *session(const char *port, const char *certificates, const char *id)
{
	char ca[4096], certificate[4096], key[4096];
	mosquitto_property *properties = NULL;
	struct mosquitto *m;

	snprintf(ca, sizeof(ca), "%s/ca.pem", certificates);
	snprintf(certificate, sizeof(certificate), "%s/consumer.pem", certificates);
	snprintf(key, sizeof(key), "%s/consumer.key", certificates);
	mosquitto_lib_init();
	m = mosquitto_new(id, false, NULL);
	mosquitto_int_option(m, MOSQ_OPT_PROTOCOL_VERSION, MQTT_PROTOCOL_V5);
	mosquitto_int_option(m, MOSQ_OPT_RECEIVE_MAXIMUM, BATCH);
	mosquitto_tls_set(m, ca, NULL, certificate, key, NULL);
	mosquitto_connect_callback_set(m, on_connect);
	mosquitto_message_callback_set(m, on_message);
	mosquitto_property_add_int32(&properties, MQTT_PROP_SESSION_EXPIRY_INTERVAL, 7200);
	if (mosquitto_connect_bind_v5(m, "localhost", atoi(port), 60, NULL, properties) !=
	    MOSQ_ERR_SUCCESS)
		exit(1);
	return m;
}

int main(int argc, char **argv)
{
	unsigned long before;
	struct mosquitto *m;

	if (argc != 5 && argc != 6) {
		fputs("usage: consumer PORT CERTIFICATES CLIENT-ID FILTER [FILE]\n", stderr);
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	filter = argv[4];
	if (argc == 6)
		open_file(argv[5]);
	m = session(argv[1], argv[2], argv[3]);
	do {
		before = arrived;
		if (mosquitto_loop(m, 50, 1000) != MOSQ_ERR_SUCCESS)
			return 1;
		if (arrived == before)
			commit();
	} while (1);
}
