/* Linked to a program that has states (tracee's victim.c): a thread that calls the
 * guarded function, checks every result, and counts. Says where all of it is before
 * main does anything. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "guarded.h"

GUARDED(guarded, 2);

extern _Atomic uint64_t rounds[64]; /* of the program's threads */

static struct {
	_Atomic uint64_t calls, wrong, rejected, passed, children, badchildren, early;
} stats;

static void call(int n)
{
	int got = guarded(n);
	if (n < 0 && got == -7777)
		atomic_fetch_add(&stats.rejected, 1);
	else if (got != 2 * n + 1)
		atomic_fetch_add(&stats.wrong, 1);
	else if (n < 0)
		atomic_fetch_add(&stats.passed, 1);
	atomic_fetch_add(&stats.calls, 1);
}

static void *caller(void *arg)
{
	(void)arg;
	for (;;) {
		for (int i = 0; i < 1000; i++)
			call(i % 8 ? i : -i - 1);
		nanosleep(&(struct timespec){0, 500000}, NULL);
	}
	return NULL;
}

__attribute__((constructor)) static void begin(void)
{
	pthread_t t;
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	pthread_create(&t, NULL, caller, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	printf("exe=%p lib=0x0 stats=%p rounds=%p\n", (void *)guarded, (void *)&stats, (void *)rounds);
	fflush(stdout);
}
