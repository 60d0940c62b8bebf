/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * spawn - times programs called as libvirt calls a hook: posix_spawn, five arguments, a document on
 * a pipe, stdout and stderr on pipes that are read to their end, waitpid. Several programs are
 * called in turn, so that what the machine does meanwhile hits all of them alike.
 *
 *   spawn -n CALLS -j AT-A-TIME -d DOCUMENT PROGRAM...
 *
 * A PROGRAM is a path; it is called as PATH vm1 started begin -. Prints one line a program: its
 * path, and every call's microseconds.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROGRAMS_MAX 16

static char document[1 << 20];
static size_t document_size;
static unsigned calls = 200, at_a_time = 1;
static char **programs;
static unsigned n_programs;
static uint64_t *micros; /* [program][call] */
static pthread_barrier_t barrier;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Feeds stdin and reads the outputs until all three are closed, as virCommand does. */
static void converse(int in, int out, int err)
{
	struct pollfd p[3] = {{in, POLLOUT, 0}, {out, POLLIN, 0}, {err, POLLIN, 0}};
	size_t fed = 0;
	char buffer[4096];

	while (p[0].fd >= 0 || p[1].fd >= 0 || p[2].fd >= 0) {
		if (poll(p, 3, -1) < 0)
			die("poll");
		if (p[0].fd >= 0 && p[0].revents) {
			ssize_t n = write(in, document + fed, document_size - fed);

			fed += n > 0 ? (size_t)n : 0;
			if (n < 0 || fed == document_size) {
				close(in);
				p[0].fd = -1;
			}
		}
		for (int i = 1; i < 3; i++)
			if (p[i].fd >= 0 && p[i].revents &&
			    read(p[i].fd, buffer, sizeof(buffer)) <= 0) {
				close(p[i].fd);
				p[i].fd = -1;
			}
	}
}

static uint64_t call(const char *program)
{
	char *argv[] = {(char *)program, "vm1", "started", "begin", "-", NULL};
	static char *const environment[] = {
		"LC_ALL=C", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		NULL};
	static char *own[64];
	int in[2], out[2], err[2], status;
	posix_spawn_file_actions_t fa;
	uint64_t begin;
	size_t n = 0;
	pid_t pid;

	/* the spool's place comes through the environment here */
	for (size_t i = 0; environment[i]; i++)
		own[n++] = environment[i];
	for (char **e = environ; *e && n < 63; e++)
		if (strncmp(*e, "VIRTSPOOL_", 10) == 0 || strncmp(*e, "BENCH_", 6) == 0)
			own[n++] = *e;
	own[n] = NULL;
	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0)
		die("pipe2");
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, in[0], 0);
	posix_spawn_file_actions_adddup2(&fa, out[1], 1);
	posix_spawn_file_actions_adddup2(&fa, err[1], 2);
	begin = now_ns();
	if (posix_spawn(&pid, program, &fa, NULL, argv, own) != 0)
		die(program);
	posix_spawn_file_actions_destroy(&fa);
	close(in[0]);
	close(out[1]);
	close(err[1]);
	converse(in[1], out[0], err[0]);
	if (waitpid(pid, &status, 0) < 0 || status != 0) {
		fprintf(stderr, "spawn: %s failed\n", program);
		exit(1);
	}
	return (now_ns() - begin) / 1000;
}

static void *worker(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;

	for (unsigned p = 0; p < n_programs; p++) /* not counted: caches */
		(void)call(programs[p]);
	for (unsigned i = me; i < calls; i += at_a_time)
		for (unsigned p = 0; p < n_programs; p++) {
			pthread_barrier_wait(&barrier);
			micros[(size_t)p * calls + i] = call(programs[p]);
		}
	return NULL;
}

static void read_document(const char *path)
{
	FILE *f = fopen(path, "re");

	if (!f)
		die(path);
	document_size = fread(document, 1, sizeof(document), f);
	fclose(f);
}

int main(int argc, char **argv)
{
	pthread_t threads[64];
	int o;

	while ((o = getopt(argc, argv, "n:j:d:")) != -1) {
		if (o == 'n')
			calls = (unsigned)atoi(optarg);
		else if (o == 'j')
			at_a_time = (unsigned)atoi(optarg);
		else if (o == 'd')
			read_document(optarg);
		else
			return 2;
	}
	programs = argv + optind;
	n_programs = (unsigned)(argc - optind);
	if (n_programs == 0 || n_programs > PROGRAMS_MAX || at_a_time == 0 || at_a_time > 64)
		return 2;
	calls -= calls % at_a_time;
	micros = calloc((size_t)n_programs * calls, sizeof(*micros));
	signal(SIGPIPE, SIG_IGN);
	pthread_barrier_init(&barrier, NULL, at_a_time);
	for (unsigned t = 0; t < at_a_time; t++)
		pthread_create(&threads[t], NULL, worker, (void *)(uintptr_t)t);
	for (unsigned t = 0; t < at_a_time; t++)
		pthread_join(threads[t], NULL);
	for (unsigned p = 0; p < n_programs; p++) {
		printf("%s", programs[p]);
		for (unsigned i = 0; i < calls; i++)
			printf(" %lu", (unsigned long)micros[(size_t)p * calls + i]);
		putchar('\n');
	}
	return 0;
}
