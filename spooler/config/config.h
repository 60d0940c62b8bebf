/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * config - the configuration: virtspool.yaml of a host, recorder.yaml of the management node.
 *
 * One table says which keys each of them has. config_load() reads the file with libyaml into a
 * struct config, driven by one table of keys in config-keys.c; keys that are not given have their
 * defaults. The strings belong to the config. Nothing here opens a secret: the configuration names
 * files, and config_read_secret() reads them when they are needed, so that a reload picks up
 * replaced files.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct strings {
	char **list;
	size_t n;
};

/* One broker of the list, from mqtts://HOST[:PORT] or mqtt://HOST[:PORT] (no TLS; said
   explicitly, never a fallback). IPv6 addresses stand in brackets. */
struct broker {
	char *url; /* as written, for messages */
	char *host;
	uint16_t port; /* default 8883 with TLS, 1883 without */
	bool tls;
};

struct config {
	char *host; /* source of the events; default: the machine's host name */

	struct broker *brokers; /* in order of preference, at least one */
	size_t n_brokers;

	struct config_mqtt {
		unsigned version; /* 5 or 3 (3.1.1) */
		unsigned qos;	  /* 1 or 2; 0 is refused with the reason */
		char *client_id;  /* default: virtspool-HOST */
		char *username;
		char *password_file;
		unsigned window;	 /* unacknowledged events at a time */
		char *topic;		 /* template, checked */
		char *status_topic;	 /* template; NULL: no status messages */
		uint64_t will_delay_s;	 /* of the offline report, after a lost connection */
		bool require_subscriber; /* 0x10, no matching subscribers, is a refusal */
		uint64_t keep_alive_s;
		uint64_t connect_timeout_s; /* each of: TCP connect, TLS handshake, CONNACK */
		uint64_t ack_timeout_s;	    /* no PUBACK for this long ends the connection */
		uint64_t retry_min_s, retry_max_s; /* back-off between attempts */
	} mqtt;

	struct config_tls {
		char *ca_file; /* NULL: the system's trust store */
		char *crl_file;
		char *certificate_file, *key_file; /* a file or a pkcs11: URI */
		char *key_password_file;
		char *psk_identity, *psk_key_file;
		struct strings pins;   /* "sha256:HEX" of the server's SubjectPublicKeyInfo */
		char *minimum_version; /* "1.2" or "1.3" */
		char *priority;	       /* GnuTLS priority string; NULL: ours */
		char *server_name;     /* verified instead of the broker's host */
		char *alpn;	       /* the application protocol that is offered; NULL: none */
	} tls;

	struct config_events {
		bool xml;				     /* include the (redacted) document */
		bool sign;				     /* add the verifiability extension */
		char *sign_key_file, *sign_certificate_file; /* NULL: those of tls */
		struct strings metadata; /* namespaces of <metadata> children to include */
		struct strings drivers, operations, domains; /* globs; empty: everything */
		struct strings skip_drivers, skip_operations,
			skip_domains; /* globs that are filtered out */
	} events;

	struct config_spool {
		uint64_t sent_age_s; /* keep delivered events for this long; 0: delete at once */
		uint64_t sent_size;  /* and at most this many bytes */
		/* Bound of new/ in bytes; 0: none, keep everything (default). */
		uint64_t queue_size;
		uint64_t tmp_age_s; /* leftovers of killed hooks are removed from tmp/ after this */
		/* At SIGTERM wait at most this long for events in flight. */
		uint64_t stop_timeout_s;
	} spool;

	struct config_recorder {
		char *store;	      /* sqlite:///PATH or postgresql://... */
		uint64_t retention_s; /* 0: keep everything */
		unsigned verify;      /* enum config_verify */
		char *verify_ca_file; /* NULL: tls.ca_file */
		char *share;	      /* group of a shared subscription; NULL: none */
		/* The broker keeps events this long while nobody takes them. */
		uint64_t session_expiry_s;
	} recorder;

	struct config_http {
		char *listen;			   /* ADDRESS:PORT; NULL: no web server */
		char *certificate_file, *key_file; /* NULL: no TLS */
		char *client_ca_file, *token_file; /* either admits a client */
		unsigned connections;
	} http;

	char *metrics_file; /* NULL: none */
	int log_level;	    /* syslog priority; LOG_INFO by default */

	uint64_t given; /* bits by position in the table of keys: the file sets them */
};

/* What becomes of events whose signature is not verified. */
enum config_verify {
	CONFIG_VERIFY_OFF,	/* signatures are not looked at */
	CONFIG_VERIFY_MARK,	/* they are marked; forged ones are rejected */
	CONFIG_VERIFY_REQUIRED, /* they are rejected */
};

#define CONFIG_FILE CONFIGDIR "/virtspool.yaml"
#define CONFIG_RECORDER_FILE CONFIGDIR "/recorder.yaml"

/* Whose configuration it is; each knows some of the keys. */
enum config_program {
	CONFIG_DAEMON = 1 << 0,
	CONFIG_RECORDER = 1 << 1,
};
#define CONFIG_SIZE_MAX (256 * 1024)

/*
 * Loads path. On success returns 0 and a config to be freed with config_free(). On failure returns
 * a negative errno (-EINVAL for an error in the file) after writing one or more lines
 * "FILE:LINE:COLUMN: what is wrong, what is allowed" to `errors`. A value that is allowed but
 * hardly meant gives a line "FILE:LINE:COLUMN: warning: ..." and does not make it fail.
 */
int config_load(const char *path, FILE *errors, struct config **ret_config);
/* The same from memory; `name` stands for the file in messages. */
int config_parse(const char *name, const char *data, size_t size, FILE *errors,
		 struct config **ret_config);
/* The same for a program; those above are for CONFIG_DAEMON. */
int config_load_for(enum config_program program, const char *path, FILE *errors,
		    struct config **ret_config);
int config_parse_for(enum config_program program, const char *name, const char *data, size_t size,
		     FILE *errors, struct config **ret_config);
void config_free(struct config *c); /* NULL is fine */

/*
 * Reads a secret (password, key) from a file: a relative path is looked for in
 * $CREDENTIALS_DIRECTORY (systemd credentials). One trailing newline is cut off. A file that group
 * or others may write, or others may read, is refused with -EPERM; larger than 64 KiB is -EFBIG. On
 * failure *ret_why (static storage) is a sentence for the log. The caller wipes and frees
 * *ret_secret (explicit_bzero).
 */
int config_read_secret(const char *path, char **ret_secret, size_t *ret_size, const char **ret_why);
/* A sentence about a secret file's mode if it is too open; NULL: it is not. */
const char *config_secret_fault(unsigned mode);

/* The daemon's configuration in force as a file that config_load() reads: every key with its
   value. Values that are not from the file are marked as defaults, keys without a value are
   comments. */
void config_print(FILE *f, const struct config *c);

/* Every key with its type, default and meaning, as --help-config prints it and a test compares
   with the manual. */
void config_print_keys(FILE *f, enum config_program program);
