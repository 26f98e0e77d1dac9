/* tabled THREADS: threads that call by the function's name and by a pointer to it. Under
 * control-flow integrity these are two ways: the pointer leads through a jump table, in which
 * another function has an entry, too. */
#include "host.h"
#include <pthread.h>

typedef int function(int, const char *);

__attribute__((noinline)) static int other(int n, const char *text) { return n - text[0]; }

static function *volatile first, *volatile second;

static void *caller(void *start)
{
	for (unsigned i = (unsigned)(uintptr_t)start;; i++) {
		call(guarded, i);
		call(first, i);
		if (second((int)i, "x") != (int)i - 'x')
			count(&stats.wrong);
	}
	return 0;
}

int main(int argc, char **argv)
{
	int threads = argc > 1 ? atoi(argv[1]) : 1;
	first = guarded;
	second = other;
	for (int i = 1; i < threads; i++) {
		pthread_t t;
		if (pthread_create(&t, 0, caller, (void *)(uintptr_t)(i * 1000)))
			return 1;
	}
	ready();
	caller(0);
}
