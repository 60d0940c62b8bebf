/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fuzz-listener - any bytes as virtspool-listen's file of domains' states, and any text as a
 * libvirt URI. A file that is whole comes out as it was when it is written and read again.
 *
 *	clang -fsanitize=fuzzer,address,undefined -I. tests/fuzz/fuzz-listener.c spooler/listener/{states,uri}.c hook/spool.c ...
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "spooler/listener/states.h"
#include "spooler/listener/uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool read_text(struct states *k, const void *text, size_t size)
{
	FILE *f = size > 0 ? fmemopen((void *)text, size, "r") : NULL;
	bool whole = f && states_parse(k, f);

	if (f)
		(void)fclose(f);
	return whole;
}

static void check_same(const struct states *a, const struct states *b)
{
	if (a->n != b->n)
		abort();
	for (size_t i = 0; i < a->n; i++) {
		const struct domain_state *x = &a->list[i], *y = &b->list[i];

		if (strcmp(x->uuid, y->uuid) != 0 || strcmp(x->name, y->name) != 0 ||
		    x->state != y->state || x->id != y->id || x->persistent != y->persistent ||
		    (i > 0 && strcmp(x[-1].uuid, x->uuid) >= 0))
			abort();
	}
}

static void check_file(const uint8_t *data, size_t size)
{
	struct states read = {0}, again = {0};
	char *text = NULL;
	size_t n = 0;

	if (read_text(&read, data, size)) {
		FILE *f = open_memstream(&text, &n);

		if (!f || states_print(&read, f) < 0 || fclose(f) != 0 ||
		    !read_text(&again, text, n))
			abort();
		check_same(&read, &again);
	}
	free(text);
	states_release(&read);
	states_release(&again);
}

static void check_uri(const uint8_t *data, size_t size)
{
	char *uri = malloc(size + 1), driver[16];

	if (!uri)
		return;
	if (size > 0)
		memcpy(uri, data, size);
	uri[size] = '\0';
	if (uri_driver(uri, driver, sizeof(driver)) == 0 &&
	    (!driver[0] ||
	     strspn(driver, "abcdefghijklmnopqrstuvwxyz0123456789") != strlen(driver)))
		abort();
	free(uri);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 64 * 1024)
		return 0;
	check_file(data, size);
	check_uri(data, size);
	return 0;
}
