/* execs CALLS WRONG REJECTED PASSED: replaces itself by itself five to fifty times a second; the
 * counts go on. It is linked so that they always lie at one address. */
#include "host.h"
#include <pthread.h>
#include <time.h>

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void *caller(void *start)
{
	for (unsigned i = (unsigned)(uintptr_t)start;; i++)
		call(guarded, i);
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t *all = (uint64_t *)&stats, begin = now();
	pthread_t t;
	for (int i = 1; i < argc && i <= 4; i++)
		all[i - 1] = strtoull(argv[i], 0, 10);
	if (argc < 5)
		ready();
	if (pthread_create(&t, 0, caller, (void *)1000)) /* exec ends it, wherever it is */
		return 1;
	for (unsigned i = 0;; i++) {
		call(guarded, i);
		if (i % 256 == 0 && now() - begin > (20 + begin % 180) * 1000000) {
			char n[4][24], *next[] = {argv[0], n[0], n[1], n[2], n[3], 0};
			for (int k = 0; k < 4; k++)
				snprintf(n[k], sizeof n[k], "%llu", (unsigned long long)all[k]);
			execv("/proc/self/exe", next);
			return 1;
		}
	}
}
