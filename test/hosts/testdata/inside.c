/* inside THREADS: while a guard goes in and out there are always threads in the guarded
 * function, in what it calls, and on their way in and out: some for as long as it takes
 * to count to a number, others until a line comes on stdin. */
#include "host.h"
#include <pthread.h>

static volatile int release;
static uint64_t waiting;

__attribute__((noinline, noclone)) static int spin(int rounds)
{
	for (volatile int i = 0; i < rounds; i++)
		;
	return rounds;
}

__attribute__((noinline, noclone)) int guarded(int n, const char *text)
{
	int spun = spin(n % 5 == 0 ? 2000 : 1);
	if (text[0] == 'w') {
		count(&waiting);
		for (int now = release; release == now;)
			spun = spin(10);
	}
	return n * 3 + text[0] + (spun > 0);
}

static void *caller(void *start)
{
	for (unsigned i = (unsigned)(uintptr_t)start;; i++)
		call(guarded, i);
	return 0;
}

static void *waiter(void *k)
{
	int n = (int)(uintptr_t)k;
	for (;;)
		verdict(guarded(n, "wait"), n * 3 + 'w' + 1, 1);
	return 0;
}

int main(int argc, char **argv)
{
	(void)argc;
	pthread_t t;
	for (int i = 0; i < atoi(argv[1]); i++)
		if (pthread_create(&t, 0, caller, (void *)(uintptr_t)(i * 1000)) || pthread_create(&t, 0, waiter, (void *)(uintptr_t)i))
			return 1;
	while (__atomic_load_n(&waiting, __ATOMIC_RELAXED) < (uint64_t)atoi(argv[1]))
		usleep(1000);
	ready();
	for (char line[64]; fgets(line, sizeof line, stdin);) {
		release++;
		fputs(line, stdout);
		fflush(stdout);
	}
}
