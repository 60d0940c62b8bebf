/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The guests that run on a host: what each record says of its guest, and the table as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "spooler/base/util.h"
#include "spooler/daemon/boot-report.h"
#include "spooler/daemon/running-table.h"

#define DOCUMENT(uuid) "<domain type='kvm'><name>x</name><uuid>" uuid "</uuid></domain>"
#define UUID_A "11111111-edaf-4455-926a-d65c16db1809"
#define UUID_B "22222222-edaf-4455-926a-d65c16db1809"

static struct spool_id id_of(unsigned n)
{
	struct spool_id id;
	char name[UUID_TEXT];

	(void)snprintf(name, sizeof(name), "0199%04x-0000-7000-8000-000000000001", n);
	assert_true(spool_id_parse(name, &id));
	return id;
}

static struct record record_of(const char *operation, const char *suboperation)
{
	return (struct record){.driver = bytes_of("qemu"),
			       .object = bytes_of("vm1"),
			       .operation = bytes_of(operation),
			       .suboperation = bytes_of(suboperation),
			       .document = bytes_of(DOCUMENT(UUID_A))};
}

static void apply(struct running_table *t, unsigned n, struct record r)
{
	struct spool_id id = id_of(n);

	running_table_apply(t, &id, &r);
}

static void what_each_record_says(void **state)
{
	enum { NOTHING, RUNS, ENDED };
	static const struct {
		const char *operation, *suboperation, *driver, *origin;
		unsigned flags;
		int says;
	} table[] = {
		{"prepare", "begin", "qemu", "", 0, RUNS},
		{"start", "begin", "qemu", "", 0, RUNS},
		{"started", "begin", "lxc", "", 0, RUNS},
		{"migrate", "begin", "qemu", "", 0, RUNS},
		{"restore", "begin", "qemu", "", 0, RUNS},
		{"attach", "begin", "qemu", "", 0, RUNS},
		{"reconnect", "begin", "qemu", "", 0, RUNS},
		{"stopped", "end", "qemu", "", 0, ENDED},
		{"release", "end", "qemu", "", 0, ENDED},
		{"something-new", "begin", "qemu", "", 0, NOTHING},
		{"started", "begin", "network", "", 0, NOTHING},
		{"stopped", "end", "network", "", 0, NOTHING},
		{"start", "-", "daemon", "", 0, NOTHING},
		/* the listener's count where no hook was called */
		{"lifecycle-started", "booted", "qemu", "api", 0, NOTHING},
		{"lifecycle-stopped", "shutdown", "qemu", "api", RECORD_TOLD_BY_HOOK, NOTHING},
		{"lifecycle-started", "booted", "qemu", "api", RECORD_NO_HOOK, RUNS},
		{"lifecycle-stopped", "shutdown", "qemu", "api", RECORD_NO_HOOK, ENDED},
		{"lifecycle-suspended", "paused", "qemu", "api", RECORD_NO_HOOK, NOTHING},
		{"reconciled", "running", "qemu", "api", RECORD_NO_HOOK, RUNS},
		{"reconciled", "paused", "qemu", "api", RECORD_NO_HOOK, RUNS},
		{"reconciled", "shutoff", "qemu", "api", RECORD_NO_HOOK, ENDED},
		{"reconciled", "absent", "qemu", "api", RECORD_NO_HOOK, ENDED},
		{"reconciled", "shutoff", "qemu", BOOT_REPORT_ORIGIN, RECORD_NO_HOOK, ENDED},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(table); i++)
		for (int ran = 0; ran < 2; ran++) {
			struct running_table t = {0};
			struct record r = record_of(table[i].operation, table[i].suboperation);

			r.driver = bytes_of(table[i].driver);
			r.origin = bytes_of(table[i].origin);
			r.flags = table[i].flags;
			if (ran)
				apply(&t, 1, record_of("started", "begin"));
			apply(&t, 2, r);
			if (t.n != (table[i].says == NOTHING ? (size_t)ran : table[i].says == RUNS))
				fail_msg("%s of '%s', origin '%s': %zu guests run",
					 table[i].operation, table[i].driver, table[i].origin, t.n);
			running_table_clear(&t);
		}
}

static void older_records_say_nothing(void **state)
{
	struct running_table t = {0};
	struct spool_id seen = id_of(9);
	struct record report = record_of("reconciled", "shutoff"), other;

	(void)state;
	apply(&t, 9, record_of("started", "begin"));
	apply(&t, 8, record_of("stopped", "end"));
	assert_int_equal(t.n, 1);
	assert_int_equal(spool_id_compare(&t.seen, &seen), 0);

	/* A report is above all of its boot, and below all of the next one. */
	report.origin = bytes_of(BOOT_REPORT_ORIGIN);
	other = record_of("started", "begin");
	other.document = bytes_of(DOCUMENT(UUID_B));
	apply(&t, 10, other);
	apply(&t, 12, report);
	seen = id_of(10);
	assert_int_equal(spool_id_compare(&t.seen, &seen), 0);
	assert_int_equal(t.n, 1);
	assert_string_equal(running_table_any(&t)->uuid, UUID_B);

	other.document = bytes_of("no document");
	apply(&t, 13, other);
	assert_int_equal(t.n, 1);
	running_table_remove(&t, running_table_any(&t));
	assert_null(running_table_any(&t));
}

static void as_text_and_back(void **state)
{
	static const char *const names[] = {"vm1", "a\n\"%41\\ \303\244\xff", ""};
	struct running_table t = {.boot = "0123456789abcdef0123456789abcdef"}, u = {0};
	char *text, *again;

	(void)state;
	for (unsigned i = 0; i < ELEMENTSOF(names); i++) {
		struct record r = record_of("started", "begin");
		char document[128];

		(void)snprintf(document, sizeof(document),
			       DOCUMENT("%08x-edaf-4455-926a-d65c16db1809"), i);
		r.document = bytes_of(document);
		r.object = bytes_of(names[i]);
		apply(&t, i + 1, r);
	}
	text = running_table_text(&t);
	assert_non_null(text);
	assert_true(running_table_parse(&u, text, strlen(text)));
	assert_int_equal(u.n, ELEMENTSOF(names));
	assert_string_equal(u.boot, t.boot);
	assert_int_equal(spool_id_compare(&u.seen, &t.seen), 0);
	again = running_table_text(&u);
	assert_string_equal(again, text);
	running_table_clear(&u);

	/* Each shorter text is damaged, and leaves nothing behind. */
	for (size_t size = 0; size < strlen(text); size++) {
		u = (struct running_table){0};
		assert_false(running_table_parse(&u, text, size));
		assert_int_equal(u.n, 0);
		assert_string_equal(u.boot, "");
	}
	free(text);
	free(again);
	running_table_clear(&t);
}

static void damaged_texts(void **state)
{
#define GUEST(uuid, name)                                                                               \
	"{\"uuid\": \"" uuid                                                                            \
	"\", \"id\": \"01990001-0000-7000-8000-000000000001\", \"driver\": \"qemu\", \"name\": \"" name \
	"\"}"
#define TABLE(boot, seen, guests)                                                                  \
	"{\"boot\": \"" boot "\", \"seen\": \"" seen "\", \"guests\": " guests "}"
	static const char *const texts[] = {
		"",
		"null",
		"[]",
		"{}",
		TABLE("b", "", "{}"),
		TABLE("b", "no id", "[]"),
		TABLE("0123456789abcdef0123456789abcdef0", "", "[]"),
		TABLE("b", "", "[1]"),
		TABLE("b", "", "[" GUEST("short", "n") "]"),
		TABLE("b", "", "[" GUEST(UUID_A, "n%") "]"),
		TABLE("b", "", "[" GUEST(UUID_A, "n%zz") "]"),
		TABLE("b", "", "[" GUEST(UUID_A, "n") ", " GUEST(UUID_A, "m") "]"),
	};
	static const char good[] =
		TABLE("b", "", "[" GUEST(UUID_A, "n") ", " GUEST(UUID_B, "m") "]");
	struct running_table t = {0};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
		t = (struct running_table){0};
		if (running_table_parse(&t, texts[i], strlen(texts[i])) || t.n > 0)
			fail_msg("taken: %s", texts[i]);
	}
	t = (struct running_table){0};
	assert_true(running_table_parse(&t, good, strlen(good)));
	assert_int_equal(t.n, 2);
	running_table_clear(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_each_record_says),
		cmocka_unit_test(older_records_say_nothing),
		cmocka_unit_test(as_text_and_back),
		cmocka_unit_test(damaged_texts),
	};

	return cmocka_run_group_tests_name("running-table", tests, NULL, NULL);
}
