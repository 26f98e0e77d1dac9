// One thread that spins and records its largest gap, N−1 that sleep: the pause
// as a program feels it. "ready ADDRESS"; each line of stdin prints the largest
// gap since the last one, in microseconds.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static volatile double gap;
static volatile int reset;

__attribute__((noinline, aligned(64))) static int answer(int x)
{
	__asm__ volatile("" ::: "memory");
	return x + 1;
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void *spin(void *arg)
{
	double last = now();
	for (;;) {
		double t = now();
		if (t - last > gap)
			gap = t - last;
		if (reset)
			gap = reset = 0;
		last = t;
		answer(0);
	}
	return NULL;
}

static void *rest(void *arg)
{
	for (;;)
		sleep(3600);
	return NULL;
}

int main(int argc, char **argv)
{
	int n = atoi(argv[1]);
	pthread_attr_t a;
	pthread_t t;
	pthread_attr_init(&a);
	pthread_attr_setstacksize(&a, 65536);
	for (int i = 2; i < n; i++)
		if (pthread_create(&t, &a, rest, NULL))
			return 2;
	if (n > 1)
		pthread_create(&t, &a, spin, NULL);
	printf("ready %p\n", (void *)answer);
	fflush(stdout);
	char line[16];
	while (fgets(line, sizeof line, stdin)) {
		printf("%.0f 0\n", gap);
		fflush(stdout);
		reset = 1;
	}
	return 0;
}
