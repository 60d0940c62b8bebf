/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* connect - see connect.h. */
#include <fcntl.h>
#include <mqtt_protocol.h>

#include "spooler/base/util.h"
#include "spooler/mqtt/bridge.h"
#include "spooler/mqtt/connect.h"

#define KEEP_ALIVE_MIN 5 /* libmosquitto's */
#define KEEP_ALIVE_MAX 65535
#define RECEIVE_MAX 1000

int connect_errno(int code)
{
	switch (code) {
	case MOSQ_ERR_SUCCESS:
		return 0;
	case MOSQ_ERR_NOMEM:
		return -ENOMEM;
	case MOSQ_ERR_ERRNO:
		return errno ? -errno : -EIO;
	case MOSQ_ERR_NO_CONN:
	case MOSQ_ERR_CONN_LOST:
		return -ENOTCONN;
	case MOSQ_ERR_PAYLOAD_SIZE:
	case MOSQ_ERR_OVERSIZE_PACKET:
		return -EMSGSIZE;
	default:
		return -EINVAL;
	}
}

static int set_login(struct mosquitto *mosq, const struct config_mqtt *q, char *why, size_t size)
{
	const char *reason = NULL;
	char *password = NULL;
	size_t length = 0;
	int r;

	if (!q->username)
		return 0;
	if (q->password_file) {
		r = config_read_secret(q->password_file, &password, &length, &reason);
		if (r < 0) {
			(void)snprintf(why, size, "cannot use the password file '%s': %s",
				       q->password_file, reason ? reason : strerror(-r));
			return r;
		}
	}
	r = connect_errno(mosquitto_username_pw_set(mosq, q->username, password));
	if (password) {
		explicit_bzero(password, length);
		free(password);
	}
	return r;
}

static int set_will(struct mosquitto *mosq, const struct client_options *o)
{
	mosquitto_property *properties = NULL;
	int code = MOSQ_ERR_SUCCESS;

	if (o->will_content_type && o->config->mqtt.version == 5)
		code = mosquitto_property_add_string(&properties, MQTT_PROP_CONTENT_TYPE,
						     o->will_content_type);
	if (code == MOSQ_ERR_SUCCESS && o->will_delay_s && o->config->mqtt.version == 5)
		code = mosquitto_property_add_int32(&properties, MQTT_PROP_WILL_DELAY_INTERVAL,
						    o->will_delay_s);
	if (code == MOSQ_ERR_SUCCESS)
		code = mosquitto_will_set_v5(mosq, o->will_topic,
					     o->will_payload ? (int)strlen(o->will_payload) : 0,
					     o->will_payload, 1, o->will_retain, properties);
	if (code != MOSQ_ERR_SUCCESS) /* otherwise they are the library's */
		mosquitto_property_free_all(&properties);
	return code;
}

static void library_init(void)
{
	static bool done;

	if (!done)
		(void)mosquitto_lib_init();
	done = true;
}

int connect_new(const struct client_options *o, unsigned window, void *userdata,
		struct mosquitto **ret_mosq, char *why, size_t size)
{
	const struct config_mqtt *q = &o->config->mqtt;
	struct mosquitto *mosq;
	int code;

	why[0] = '\0';
	library_init();
	mosq = *ret_mosq =
		mosquitto_new(o->client_id ? o->client_id : q->client_id, !o->resume, userdata);
	if (!mosq)
		return errno == EINVAL ? -EINVAL : -ENOMEM;
	code = mosquitto_int_option(mosq, MOSQ_OPT_PROTOCOL_VERSION,
				    q->version == 5 ? MQTT_PROTOCOL_V5 : MQTT_PROTOCOL_V311);
	if (code == MOSQ_ERR_SUCCESS)
		code = mosquitto_int_option(mosq, MOSQ_OPT_SEND_MAXIMUM, (int)window);
	if (code == MOSQ_ERR_SUCCESS && o->will_topic)
		code = set_will(mosq, o);
	if (code != MOSQ_ERR_SUCCESS)
		return connect_errno(code);
	return set_login(mosq, q, why, size);
}

/* The properties of the CONNECT; only MQTT 5 has any. */
static int connect_properties(const struct client_options *o, bool subscriber,
			      mosquitto_property **properties)
{
	int code = MOSQ_ERR_SUCCESS;

	if (o->config->mqtt.version != 5)
		return code;
	/* Only of a subscriber: NanoMQ answers with the same number, as its own limit. */
	if (subscriber)
		code = mosquitto_property_add_int32(properties, MQTT_PROP_MAXIMUM_PACKET_SIZE,
						    CONNECT_MESSAGE_MAX);
	if (code == MOSQ_ERR_SUCCESS && subscriber)
		code = mosquitto_property_add_int16(properties, MQTT_PROP_RECEIVE_MAXIMUM,
						    o->receive_max ? o->receive_max : RECEIVE_MAX);
	if (code == MOSQ_ERR_SUCCESS && o->session_expiry_s)
		code = mosquitto_property_add_int32(properties, MQTT_PROP_SESSION_EXPIRY_INTERVAL,
						    o->session_expiry_s);
	return code;
}

static uint64_t keep_alive_of(const struct config_mqtt *q)
{
	uint64_t s = q->keep_alive_s;

	return s < KEEP_ALIVE_MIN ? KEEP_ALIVE_MIN : s > KEEP_ALIVE_MAX ? KEEP_ALIVE_MAX : s;
}

/* libmosquitto connects to the bridge and sends CONNECT into it. */
static int send_connect(struct mosquitto *mosq, const struct client_options *o, bool subscriber,
			uint64_t keep_alive_s, const char *path)
{
	mosquitto_property *properties = NULL;
	int code;

	code = connect_properties(o, subscriber, &properties);
	errno = 0;
	if (code == MOSQ_ERR_SUCCESS)
		code = mosquitto_connect_bind_v5(mosq, path, 0, (int)keep_alive_s, NULL,
						 properties);
	mosquitto_property_free_all(&properties);
	if (code != MOSQ_ERR_SUCCESS)
		return connect_errno(code);
	/* libmosquitto leaves it inheritable. */
	(void)fcntl(mosquitto_socket(mosq), F_SETFD, FD_CLOEXEC);
	return 0;
}

int connect_send(struct mosquitto *mosq, const struct client_options *o, bool subscriber,
		 uint64_t *ret_keep_alive_us, int *ret_fd)
{
	_cleanup_(bridge_release) struct bridge b = BRIDGE_INIT;
	uint64_t keep_alive_s = keep_alive_of(&o->config->mqtt);
	char path[BRIDGE_PATH_SIZE];
	int r;

	r = bridge_listen(&b, path);
	if (r < 0)
		return r;
	r = send_connect(mosq, o, subscriber, keep_alive_s, path);
	if (r < 0)
		return r;
	r = bridge_accept(&b);
	if (r < 0)
		return r;
	*ret_fd = r;
	*ret_keep_alive_us = keep_alive_s * USEC_PER_SEC;
	return 0;
}
