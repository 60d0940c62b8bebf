/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * standalone - runs a libFuzzer entry over files, or, with -r N, also over N random variations of
 * each: what a compiler without libFuzzer can do. Without arguments, as `make check` runs it,
 * fuzz-NAME goes over tests/fuzz/corpus-NAME.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SIZE_MAX_READ (1024 * 1024)

static size_t vary(uint8_t *data, size_t size)
{
	for (long i = random() % 8; i >= 0 && size > 0; i--) {
		size_t at = (size_t)random() % size;

		switch (random() % 4) {
		case 0:
			data[at] ^= (uint8_t)(1 << random() % 8);
			break;
		case 1:
			data[at] = (uint8_t)random();
			break;
		case 2:
			size = at;
			break;
		case 3:
			memmove(data, data + at, size - at);
			size -= at;
			break;
		}
	}
	return size;
}

/* Each run gets a copy without a byte to spare, so that a sanitizer sees what reads beyond. */
static void run(const uint8_t *data, size_t size, long variations)
{
	for (long i = 0; i <= variations; i++) {
		uint8_t *copy = malloc(size ? size : 1);
		size_t n = size;

		memcpy(copy, data, size);
		if (i > 0)
			n = vary(copy, size);
		LLVMFuzzerTestOneInput(copy, n);
		free(copy);
	}
}

static int run_file(const char *path, long variations)
{
	uint8_t *data = malloc(SIZE_MAX_READ);
	FILE *f = fopen(path, "rb");

	if (!f) {
		perror(path);
		free(data);
		return 1;
	}
	run(data, fread(data, 1, SIZE_MAX_READ, f), variations);
	(void)fclose(f);
	free(data);
	return 0;
}

/* One TAP line for each file of the corpus. */
static int run_corpus(const char *program)
{
	const char *name = strrchr(program, '/'), *srcdir = getenv("srcdir");
	char directory[4096], path[8192];
	struct dirent *e;
	int n = 0;
	DIR *d;

	name = name ? name + 1 : program;
	if (strncmp(name, "fuzz-", 5) == 0)
		name += 5;
	snprintf(directory, sizeof(directory), "%s/tests/fuzz/corpus-%s", srcdir ? srcdir : ".",
		 name);
	d = opendir(directory);
	if (!d) {
		perror(directory);
		return 1;
	}
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", directory, e->d_name);
		printf("%sok %d - %s\n", run_file(path, 2000) ? "not " : "", n + 1, e->d_name);
		n++;
	}
	(void)closedir(d);
	printf("1..%d\n", n);
	return 0;
}

int main(int argc, char **argv)
{
	long variations = 0;
	int first = 1, r = 0;

	if (argc == 1)
		return run_corpus(argv[0]);
	if (argc > 2 && strcmp(argv[1], "-r") == 0) {
		variations = atol(argv[2]);
		first = 3;
	}
	for (int i = first; i < argc; i++)
		r |= run_file(argv[i], variations);
	return r;
}
