/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* metrics - see metrics.h. */
#include <inttypes.h>
#include <libgen.h>

#include "spooler/base/atomic-file.h"
#include "spooler/base/util.h"
#include "spooler/daemon/metrics.h"
#include "spooler/mqtt/reason.h"

#define PREFIX "virtspool"

/* The answers to a publish that MQTT 5 has (3.4.2.1) are there from the beginning, as Prometheus
   wants it; others, which no standard has, once they have been seen. */
static bool is_usual(unsigned code)
{
	static const unsigned char codes[] = {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99};

	return memchr(codes, (int)code, sizeof(codes));
}

/* The answers whose reason codes are from `first` to `last`. */
static void answers(FILE *f, const struct status_file *s, const char *name, const char *help,
		    unsigned first, unsigned last)
{
	metric_head(f, PREFIX, name, METRIC_COUNTER, help);
	for (unsigned code = first; code <= last; code++)
		if (s->answers[code] > 0 || is_usual(code))
			fprintf(f, PREFIX "_%s{reason_code=\"0x%02x\",reason=\"%s\"} %" PRIu64 "\n",
				name, code, reason_name(code), s->answers[code]);
}

static void latency(FILE *f, const struct status_file *s)
{
	static const char name[] = PREFIX "_publish_latency_seconds";
	uint64_t sum = 0;

	fprintf(f, "# HELP %s Time from a publish to its acknowledgement.\n# TYPE %s histogram\n",
		name, name);
	for (size_t i = 0; i < STATUS_LATENCY_BUCKETS; i++) {
		sum += s->latency_buckets[i];
		fprintf(f, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name,
			(double)status_latency_bounds[i] / 1e6, sum);
	}
	sum += s->latency_buckets[STATUS_LATENCY_BUCKETS];
	fprintf(f, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, sum);
	fprintf(f, "%s_sum %" PRIu64 ".%06u\n", name, s->latency_sum_usec / USEC_PER_SEC,
		(unsigned)(s->latency_sum_usec % USEC_PER_SEC));
	fprintf(f, "%s_count %" PRIu64 "\n", name, sum);
}

/* Kinds that the daemon cannot find in itself are left out; the others are there from the
   beginning, with 0. */
static void health(FILE *f, const struct verdict *v)
{
	metric_head(f, PREFIX, "health", METRIC_GAUGE,
		    "0 healthy, 1 degraded, 2 down; as virtspool status exits.");
	fprintf(f, PREFIX "_health %d\n", verdict_exit_code(v));
	metric_head(f, PREFIX, "problem", METRIC_GAUGE,
		    "1 for each kind of finding that makes the health degraded or down.");
	for (enum verdict_kind k = 0; k < VERDICT_N_KINDS; k++) {
		const struct finding *found = verdict_find(v, k);

		if (verdict_kind_of_daemon(k))
			fprintf(f, PREFIX "_problem{kind=\"%s\"} %d\n", verdict_kind_name(k),
				found && found->level >= VERDICT_DEGRADED);
	}
	metric_head(f, PREFIX, "warning", METRIC_GAUGE,
		    "1 for each kind of finding that is a warning only.");
	for (enum verdict_kind k = 0; k < VERDICT_N_KINDS; k++) {
		const struct finding *found = verdict_find(v, k);

		if (verdict_kind_of_daemon(k) && verdict_kind_warns(k))
			fprintf(f, PREFIX "_warning{kind=\"%s\"} %d\n", verdict_kind_name(k),
				found && found->level == VERDICT_WARNING);
	}
}

char *metrics_format(const struct status_file *s, const struct verdict *v)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return NULL;
	metric_head(f, PREFIX, "build_info", METRIC_GAUGE, "The version of virtspoold; always 1.");
	fputs(PREFIX "_build_info{version=\"" PACKAGE_VERSION "\"} 1\n", f);
	fields_to_metrics(status_file_fields, status_file_n_fields, s, PREFIX, f);
	answers(f, s, "events_acknowledged_total",
		"Events that a broker has taken responsibility for, by MQTT reason code.", 0x00,
		0x7f);
	answers(f, s, "events_refused_total",
		"Publishes that a broker refused, by MQTT reason code.", 0x80, 0xff);
	latency(f, s);
	health(f, v);
	if (fclose(f) == EOF) {
		free(text);
		return NULL;
	}
	return text;
}

int metrics_write(const char *path, const struct status_file *s, const struct verdict *v)
{
	_cleanup_free_ char *text = metrics_format(s, v), *copy = strdup(path),
			    *again = strdup(path);

	if (!text || !copy || !again)
		return -ENOMEM;
	return atomic_file_write(dirname(copy), basename(again), text, strlen(text), 0644);
}
