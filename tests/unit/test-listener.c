/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The listener against libvirt's own test driver, in this process: what is done there, and what is
 * recorded of it; and what it keeps of the domains' states, and how it names drivers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <libvirt/libvirt.h>
#include <sys/stat.h>

#include "hook/spool.h"
#include "spooler/listener/connection.h"
#include "spooler/listener/writer.h"
#include "spooler/listener/states.h"
#include "spooler/listener/uri.h"
#include "spooler/listener/listener.h"
#include "spooler/listener/correlate.h"
#include "spooler/base/log.h"
#include "spooler/base/util.h"
#include "tests/unit/tree.h"
#include "spooler/spool/record-parse.h"

#include <dirent.h>
#include <fcntl.h>

#define URI "test:///default"
#define WAIT_MS 10000

/* In memory: a disk that others keep busy for seconds would send records to the emergency spool. */
static char base[64] = "/dev/shm/test-listener-XXXXXX";
static const struct connection_options options = {.retry_min_s = 1, .retry_max_s = 1};

static void make(const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", base, name);
	assert_int_equal(mkdir(path, 0700), 0);
}

static int setup(void **state)
{
	static const char *const names[] = {"spool", "spool/tmp", "spool/new", "run"};
	char path[256];

	(void)state;
	log_set_level(LOG_ERR);
	if (access("/dev/shm", W_OK) < 0)
		strcpy(base, "/tmp/test-listener-XXXXXX");
	if (!mkdtemp(base))
		return -1;
	for (size_t i = 0; i < ELEMENTSOF(names); i++)
		make(names[i]);
	snprintf(path, sizeof(path), "%s/spool", base);
	setenv("VIRTSPOOL_SPOOLDIR", path, 1);
	snprintf(path, sizeof(path), "%s/run", base);
	setenv("VIRTSPOOL_RUNDIR", path, 1);
	return writer_start() < 0 || correlate_start() < 0 || listener_start_events() < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	(void)state;
	listener_stop_events();
	return tree_remove(base);
}

/* --- what lies in the spool */

#define RECORDS_MAX 256

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static size_t names_of_spool(char *names[RECORDS_MAX])
{
	char path[256];
	size_t n = 0;

	snprintf(path, sizeof(path), "%s/spool/new", base);
	DIR *d = opendir(path);

	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d)) && n < RECORDS_MAX;)
		if (stamp_id_valid(e->d_name))
			names[n++] = strdup(e->d_name);
	closedir(d);
	qsort(names, n, sizeof(names[0]), by_name);
	return n;
}

/* "operation suboperation extra flags details...", of each record. */
static char *describe(const char *name)
{
	static char data[65536];
	char path[256], *line = NULL;
	struct record r;
	const char *reason;
	size_t size;

	snprintf(path, sizeof(path), "%s/spool/new/%s", base, name);
	int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, data, sizeof(data));

	close(fd);
	assert_true(n > 0);
	assert_int_equal(record_parse(data, (size_t)n, &r, &reason), 0);
	FILE *f = open_memstream(&line, &size);

	fprintf(f, "%.*s %.*s %.*s", (int)r.operation.size, r.operation.data,
		(int)r.suboperation.size, r.suboperation.data, (int)r.extra.size, r.extra.data);
	if (r.flags & RECORD_TOLD_BY_HOOK)
		fprintf(f, " told-by-hook");
	if (r.flags & RECORD_NO_HOOK)
		fprintf(f, " no-hook");
	for (unsigned i = 0; i < r.n_details; i++)
		fprintf(f, " %.*s", (int)r.details[i].size, r.details[i].data);
	assert_false(r.flags & RECORD_UNORDERED);
	fclose(f);
	return line;
}

/* Waits until the expected lines stand in the spool, removes them, and fails if it is anything
   else. */
static void expect(const char *const *lines)
{
	char *names[RECORDS_MAX], path[256];
	size_t n = 0, wanted = 0;

	while (lines[wanted])
		wanted++;
	for (int ms = 0; ms < WAIT_MS; ms += 10) {
		n = names_of_spool(names);
		if (n >= wanted)
			break;
		for (size_t i = 0; i < n; i++)
			free(names[i]);
		usleep(10000);
	}
	for (size_t i = 0; i < n; i++) {
		char *line = describe(names[i]);

		if (i >= wanted || strcmp(line, lines[i]) != 0)
			fail_msg("record %zu is '%s', not '%s'", i, line,
				 i < wanted ? lines[i] : "(nothing)");
		free(line);
		snprintf(path, sizeof(path), "%s/spool/new/%s", base, names[i]);
		assert_int_equal(unlink(path), 0);
		free(names[i]);
	}
	assert_int_equal(n, wanted);
}
#define EXPECT(...) expect((const char *const[]){__VA_ARGS__, NULL})

static void on_changed(void *userdata)
{
	(void)userdata;
}

static struct connection *start(void)
{
	struct connection_stats s;
	struct connection *c;

	assert_int_equal(connection_new(URI, &options, on_changed, NULL, &c), 0);
	for (int ms = 0; ms < WAIT_MS; ms += 10) {
		connection_get_stats(c, &s);
		if (s.phase == CONNECTION_LISTENING)
			return c;
		usleep(10000);
	}
	fail_msg("it does not listen: %s", s.last_error);
	return NULL;
}

/* --- tests */

static int define(virDomainPtr domain)
{
	virDomainPtr made =
		virDomainDefineXML(virDomainGetConnect(domain),
				   "<domain type='test'><name>a&lt;b</name><memory>1024</memory>"
				   "<uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid>"
				   "<os><type>hvm</type></os></domain>");

	return made ? virDomainFree(made) : -1;
}

static int undefine(virDomainPtr domain)
{
	virDomainPtr made = virDomainLookupByName(virDomainGetConnect(domain), "a<b");
	int r = made ? virDomainUndefine(made) : -1;

	if (made)
		virDomainFree(made);
	return r;
}

static int title(virDomainPtr domain)
{
	return virDomainSetMetadata(domain, VIR_DOMAIN_METADATA_TITLE, "T", NULL, NULL,
				    VIR_DOMAIN_AFFECT_LIVE);
}

static int element(virDomainPtr domain)
{
	return virDomainSetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, "<x/>", "x", "urn:x",
				    VIR_DOMAIN_AFFECT_LIVE);
}

static int reboot_it(virDomainPtr domain)
{
	return virDomainReboot(domain, 0);
}

static void actions(void **state)
{
	static const struct {
		int (*act)(virDomainPtr domain);
		const char *const records[4];
	} table[] = {
		{virDomainSuspend, {"lifecycle-suspended event paused"}},
		{virDomainResume, {"lifecycle-resumed event unpaused"}},
		{title, {"metadata-change event title"}},
		{element, {"metadata-change event element namespace=urn:x"}},
		{reboot_it, {NULL}},
		{define, {"lifecycle-defined event added"}},
		{undefine, {"lifecycle-undefined event removed"}},
		{virDomainDestroy, {"lifecycle-stopped event destroyed no-hook"}},
		{virDomainCreate, {"lifecycle-started event booted no-hook"}},
		{virDomainShutdown, {"lifecycle-stopped event shutdown no-hook"}},
		{virDomainCreate, {"lifecycle-started event booted no-hook"}},
	};
	virConnectPtr conn = virConnectOpen(URI);
	virDomainPtr domain = virDomainLookupByName(conn, "test");
	struct connection *c = start();
	struct connection_stats s;

	(void)state;
	assert_non_null(domain);
	EXPECT("listen begin - uri=" URI, "reconciled running unknown previous=unknown");
	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		assert_int_equal(table[i].act(domain), 0);
		if (table[i].records[0])
			expect(table[i].records);
	}
	connection_get_stats(c, &s);
	assert_int_equal(s.connects, 1);
	assert_int_equal(s.domains, 1);
	assert_true(s.events_registered >= 20);
	assert_true(connection_stop(c, WAIT_MS));
	EXPECT("listen end stopped uri=" URI);

	/* Nothing has changed; then something has, while nobody listened. */
	c = start();
	EXPECT("listen begin - uri=" URI);
	assert_true(connection_stop(c, WAIT_MS));
	EXPECT("listen end stopped uri=" URI);
	assert_int_equal(virDomainSuspend(domain), 0);
	c = start();
	EXPECT("listen begin - uri=" URI, "reconciled paused user previous=running");
	assert_true(connection_stop(c, WAIT_MS));
	EXPECT("listen end stopped uri=" URI);
	assert_int_equal(define(domain), 0);
	c = start();
	EXPECT("listen begin - uri=" URI, "reconciled shutoff unknown previous=unknown");
	assert_int_equal(undefine(domain), 0);
	EXPECT("lifecycle-undefined event removed");
	assert_true(connection_stop(c, WAIT_MS));
	EXPECT("listen end stopped uri=" URI);
	virDomainFree(domain);
	virConnectClose(conn);
}

static void drivers(void **state)
{
	static const struct {
		const char *uri, *driver;
	} table[] = {
		{"qemu:///system", "qemu"},
		{"qemu+unix:///system?socket=/a:b", "qemu"},
		{"lxc:///system", "lxc"},
		{"xen:///system", "libxl"},
		{"test:///default", "test"},
		{"", NULL},
		{"qemu", NULL},
		{"://x", NULL},
		{"../qemu:///system", NULL},
		{"qemu/x:///system", NULL},
	};
	char driver[64];

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		int r = uri_driver(table[i].uri, driver, sizeof(driver));

		assert_int_equal(r, table[i].driver ? 0 : -EINVAL);
		if (table[i].driver)
			assert_string_equal(driver, table[i].driver);
	}
}

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

#define UUID_A "0a5fdbd0-edaf-9455-926a-d65c16db1809"
#define UUID_B "c7a5fdbd-edaf-9455-926a-d65c16db1809"

static void states_on_disk(void **state)
{
	static const char *const damaged[] = {
		"",
		"virtspool-listen 2\nend 0\n",
		"virtspool-listen 1\n",
		"virtspool-listen 1\nend 1\n",
		"virtspool-listen 1\n" UUID_A " 1 1 1\nend 1\n",
		"virtspool-listen 1\n" UUID_A " 1 1 1 a\n",
		"virtspool-listen 1\nx 1 1 1 a\nend 1\n",
		"virtspool-listen 1\n" UUID_A " a 1 1 a\nend 1\n",
	};
	struct states k;
	struct domain_state *d;
	char path[4096], temporary[4096 + 4];

	(void)state;
	assert_int_equal(states_load(&k, "x:///y"), 0);
	assert_int_equal(k.n, 0);
	assert_non_null(states_put(&k, UUID_B, "b"));
	d = states_put(&k, UUID_A, " a\n%41\303\244");
	d->state = 5;
	d->persistent = true;
	assert_int_equal(states_save(&k), 0);
	assert_false(k.changed);
	snprintf(path, sizeof(path), "%s", k.path);
	states_release(&k);

	assert_int_equal(states_load(&k, "x:///y"), 0);
	assert_int_equal(k.n, 2);
	d = states_find(&k, UUID_A);
	assert_string_equal(d->name, " a\n%41\303\244");
	assert_int_equal(d->state, 5);
	assert_int_equal(d->id, -1);
	assert_true(d->persistent);
	states_remove(&k, d);
	assert_null(states_find(&k, UUID_A));
	assert_non_null(states_find(&k, UUID_B));
	states_release(&k);

	for (size_t i = 0; i < ELEMENTSOF(damaged); i++) {
		write_file(path, damaged[i]);
		assert_int_equal(states_load(&k, "x:///y"), 1);
		assert_int_equal(k.n, 0);
		states_release(&k);
	}

	/* what somebody else may have put there is not followed, nor waited for */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(states_load(&k, "x:///y"), 1);
	states_release(&k);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink("/dev/zero", path), 0);
	assert_int_equal(states_load(&k, "x:///y"), 1);
	(void)snprintf(temporary, sizeof(temporary), "%s.new", path);
	assert_int_equal(mkfifo(temporary, 0600), 0);
	assert_non_null(states_put(&k, UUID_A, "a"));
	assert_int_equal(states_save(&k), 0);
	states_release(&k);
	assert_int_equal(states_load(&k, "x:///y"), 0);
	assert_int_equal(k.n, 1);
	states_release(&k);
}

/* A hook's record ties itself to the API's event of the same domain, once. */
static void pairs(void **state)
{
	struct record r = {.driver = {"qemu", 4},
			   .object = {"web", 3},
			   .operation = {"started", 7},
			   .argc = 4};
	char *names[RECORDS_MAX], id[37], path[256];

	(void)state;
	assert_int_equal(writer_put(&r), 0);
	assert_int_equal(writer_put(&r), 0);
	assert_int_equal(correlate_take("lxc", r.object, "started", id), CORRELATE_NONE);
	assert_int_equal(correlate_take("qemu", r.object, "stopped", id), CORRELATE_NONE);
	assert_int_equal(correlate_take("qemu", (struct bytes){"we", 2}, "started", id),
			 CORRELATE_NONE);
	assert_int_equal(correlate_take("qemu", r.object, "started", id), CORRELATE_FOUND);
	assert_string_equal(id, r.stamp.id);
	assert_int_equal(correlate_take("qemu", r.object, "started", id), CORRELATE_NONE);
	r.origin = (struct bytes){"api", 3};
	assert_int_equal(writer_put(&r), 0);
	assert_int_equal(correlate_take("qemu", r.object, "started", id), CORRELATE_NONE);
	for (size_t i = names_of_spool(names); i-- > 0; free(names[i])) {
		snprintf(path, sizeof(path), "%s/spool/new/%s", base, names[i]);
		assert_int_equal(unlink(path), 0);
	}
}

/* What is newer than we are is told by its number. */
static void numbers(void **state)
{
	char buf[32];

	(void)state;
	event_table_state_word(77, buf, sizeof(buf));
	assert_string_equal(buf, "77");
	event_table_state_reason(VIR_DOMAIN_SHUTOFF, 99, buf, sizeof(buf));
	assert_string_equal(buf, "99");
	event_table_state_reason(77, 1, buf, sizeof(buf));
	assert_string_equal(buf, "1");
	event_table_state_reason(VIR_DOMAIN_SHUTOFF, VIR_DOMAIN_SHUTOFF_CRASHED, buf, sizeof(buf));
	assert_string_equal(buf, "crashed");
	assert_null(event_table_event_name(EVENT_TABLE_IDS_MAX));
	assert_null(event_table_event_name(-1));
	for (int id = 0; id < VIR_DOMAIN_EVENT_ID_LAST; id++)
		if (!event_table_event_name(id))
			fail_msg("event %d of this libvirt has no name", id);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(drivers),	  cmocka_unit_test(numbers),
		cmocka_unit_test(states_on_disk), cmocka_unit_test(pairs),
		cmocka_unit_test(actions),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
