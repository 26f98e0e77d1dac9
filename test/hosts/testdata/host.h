/* What every host has: a function to be guarded, calls of it whose results are
 * checked, and the counts of them, which the test reads from memory. No system call
 * is made between two reports, so that a host may be under any filter. */
#ifndef HOST_H
#define HOST_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { REJECTED = -7777 };

#ifdef __cplusplus
extern "C" {
#endif
int guarded(int n, const char *text);
#ifdef __cplusplus
}
#endif

static struct stats {
	uint64_t calls, wrong, rejected, passed;
} stats;

static inline void count(uint64_t *n) { __atomic_fetch_add(n, 1, __ATOMIC_RELAXED); }

/* verdict counts a call's result: what is harmless must give the answer, what is
 * not the answer or the rejection. */
static inline void verdict(int result, int answer, int harmless)
{
	if (result != answer && (harmless || result != REJECTED))
		count(&stats.wrong);
	if (!harmless)
		count(result == REJECTED ? &stats.rejected : &stats.passed);
	count(&stats.calls);
}

static inline int answer(int n, const char *text) { return n * 3 + text[0] + 1; }

/* call makes one call, of which every third is not harmless. */
static inline void call(int (*f)(int, const char *), unsigned i)
{
	int n = i % 3 == 1 ? -(int)(i % 1000) - 1 : (int)(i % 1000);
	const char *text = i % 6 == 2 ? "!" : "text";
	verdict(f(n, text), answer(n, text), n >= 0 && text[0] != '!');
}

static inline void ready(void)
{
	char line[64];
	alarm(1800); /* who outlives its test does not compute for ever */
	int n = snprintf(line, sizeof line, "ready %p\n", (void *)&stats);
	if (write(1, line, n) != n)
		exit(1);
}

#endif
